"""
A thread that does one thing after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

CLOSE = 10.0  # seconds a disk may take to end what is under way when the daemon stops

T = TypeVar("T")


class Executor(Protocol):
    """
    Does one thing after the other, where blocking does no harm.
    """

    def do(self, work: Callable[[], T]) -> Deferred[T]:
        """
        Do *work* after all that was asked for before.

        Returns:
            what it returned, or raised; on the reactor's thread.
        """

    def stop(self) -> None:
        """
        Do what was asked for, then end. Blocks; no Deferred fires any more.
        """


class IoThread:
    """
    A thread.

    Args:
        reactor: where Deferreds fire.
        name: of the thread.
        between: is called after each work, for as long as that took, and on
            and on while nothing waits; until it returns False.
    """

    def __init__(self, reactor: Any, name: str, between: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._between = between
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def do(self, work: Callable[[], T]) -> Deferred[T]:
        """
        See `Work.do`.
        """
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                result: Any = work()
            except Exception:
                result = Failure()
            self._reactor.callFromThread(done.callback, result)

        self._queue.put(run)
        return done

    def stop(self) -> None:
        """
        See `Work.stop`.
        """
        self._queue.put(None)
        self._thread.join(CLOSE)

    def _run(self) -> None:
        while True:
            work = self._queue.get()
            if work is None:
                return
            start = monotonic()
            work()
            until = 2 * monotonic() - start
            while self._between() and (self._queue.empty() or monotonic() < until):
                pass
