"""
Kills workers that hang.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rt_twisted.workers.process import ProcessState, WorkerProcess

TICK = 0.5  # seconds between two checks

_log = Logger()
_checking = _log.failureHandler("while checking for workers that hang")


class Watchdog:
    """
    Kills workers that are up but send nothing, although they report once a second.

    Such a worker is blocked, often by application code, and serves none of its subscribers.

    Only time in which a report could have been received counts. After the parent was
    stopped, or its machine suspended, one check is late, by however much: it counts as
    two ticks, and the waiting reports are read before the next check.

    Args:
        clock: the reactor.
        workers: all of them.
        timeout: returns the seconds without a report after which a worker is killed;
            0 for never.
    """

    def __init__(
        self, clock: Any, workers: Sequence[WorkerProcess], timeout: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._workers = workers
        self._timeout = timeout
        self._checked_at = 0.0
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Begin the periodic check.
        """
        self._checked_at = self._clock.seconds()
        self._loop.start(TICK, now=False)

    def stop(self) -> None:
        """
        End the periodic check; no worker is killed afterwards.
        """
        if self._loop.running:
            self._loop.stop()

    def _check(self) -> None:
        with _checking:
            now = self._clock.seconds()
            # The clock may be set back, too.
            passed = max(0.0, min(now - self._checked_at, 2 * TICK))
            self._checked_at = now
            timeout = self._timeout()
            for worker in self._workers:
                if worker.state is ProcessState.UP:
                    worker.silence += passed
                    if 0 < timeout < worker.silence:
                        worker.kill_hung()
