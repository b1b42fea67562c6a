"""
A thread that runs one call after the other, for blocking input and output.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

CLOSE_SECONDS = 10.0  # for calls in progress when the daemon stops

T = TypeVar("T")


class Executor(Protocol):
    """
    Runs one call after the other, where blocking is allowed.
    """

    def submit(self, call: Callable[[], T]) -> Deferred[T]:
        """
        Run *call* after all that was submitted before.

        Returns:
            Fires on the reactor's thread with what *call* returned or raised.
        """

    def stop(self) -> None:
        """
        Run what was submitted, then end. Blocks; no Deferred fires any more.
        """


class IoThread:
    """
    An executor with a thread of its own.

    Args:
        reactor: where Deferreds fire.
        name: of the thread.
        idle_step: called after each call for at most as long as that call took, and
            repeatedly while none is queued; until it returns False.
    """

    def __init__(self, reactor: Any, name: str, idle_step: Callable[[], bool]) -> None:
        self._reactor = reactor
        self._idle_step = idle_step
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def submit(self, call: Callable[[], T]) -> Deferred[T]:
        done: Deferred[T] = Deferred()

        def run() -> None:
            try:
                result: Any = call()
            except Exception:
                result = Failure()
            self._reactor.callFromThread(done.callback, result)

        self._queue.put(run)
        return done

    def stop(self) -> None:
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while True:
            call = self._queue.get()
            if call is None:
                return
            start = monotonic()
            call()
            until = 2 * monotonic() - start
            while self._idle_step() and (self._queue.empty() or monotonic() < until):
                pass
