"""
Calls from the thread of an application into the reactor.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


def call_reactor(reactor: Any, call: Callable[[], _T]) -> _T:
    """
    Run *call* in the reactor's thread, and return what it returns, or raise what it raises.
    """
    done: Future[_T] = Future()

    def run() -> None:
        try:
            done.set_result(call())
        except BaseException as error:
            done.set_exception(error)

    reactor.callFromThread(run)
    return done.result()
