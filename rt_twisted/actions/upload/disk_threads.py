"""
Threads that write to the disk, so that the reactor never waits for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

MAX_THREADS = 8  # a disk that hangs delays uploads, and no names that are resolved

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DiskThreads:
    """
    The threads of all uploads of this process. They start when they are needed.

    Args:
        reactor: the reactor; they end with it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._pool = ThreadPool(0, MAX_THREADS, "uploads")
        self._pool.start()
        reactor.addSystemEventTrigger("during", "shutdown", self._pool.stop)

    def run(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> Deferred[_T]:
        """
        Call *function* in a thread; fires with what it returns, or fails with what it raises.
        """
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)
