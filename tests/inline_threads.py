"""
Threads of applications that run their jobs at once, for tests without threads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import Clock

from rt_twisted.actions.context import SharedState
from rt_twisted.actions.wsgi.action import ApplicationPools
from rt_twisted.actions.wsgi.threads import ApplicationThreads


class InlineThreads:
    """
    Runs a job within `submit`.
    """

    busy = queued = 0

    def submit(self, job: Callable[[], object]) -> bool:
        job()
        return True

    def withdraw(self, job: Callable[[], object]) -> bool:
        return False


class InlineReactor(Clock):
    """
    A clock that calls at once what a thread asks it to call.
    """

    def callFromThread(self, call: Callable[..., Any], *arguments: Any) -> None:
        call(*arguments)


def inline_state() -> SharedState:
    """
    Return the shared state of a process whose applications run at once.
    """
    shared = SharedState()
    threads = cast(ApplicationThreads, InlineThreads())
    shared.get(ApplicationPools, lambda: ApplicationPools(threads, threads))
    return shared
