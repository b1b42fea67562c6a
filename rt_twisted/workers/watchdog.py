"""
Whether the workers still say something.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rt_twisted.workers.process import ProcessState, WorkerProcess

TICK = 0.5  # seconds between two looks

_log = Logger()
_looking = _log.failureHandler("while looking for silent workers")


class Watchdog:
    """
    Ends workers that are up and say nothing, although they report each second: they
    hang in somebody's code, and so do their readers.

    Only time counts in which we could have heard them. A parent that was stopped, or
    slept with its machine, finds one look too few, however long that was, and hears
    what was said meanwhile before the next.

    Args:
        clock: the reactor.
        berths: of the workers.
        patience: seconds that a worker may be silent; 0 for ever.
    """

    def __init__(
        self, clock: Any, berths: Sequence[WorkerProcess], patience: Callable[[], float]
    ) -> None:
        self._clock = clock
        self._berths = berths
        self._patience = patience
        self._looked = 0.0
        self._loop = LoopingCall(self._look)
        self._loop.clock = clock

    def start(self) -> None:
        """
        Begin to look.
        """
        self._looked = self._clock.seconds()
        self._loop.start(TICK, now=False)

    def stop(self) -> None:
        """
        Nobody is ended any more.
        """
        if self._loop.running:
            self._loop.stop()

    def _look(self) -> None:
        with _looking:
            now = self._clock.seconds()
            # Clocks may be set back, too.
            passed = max(0.0, min(now - self._looked, 2 * TICK))
            self._looked = now
            patience = self._patience()
            for berth in self._berths:
                if berth.state is ProcessState.UP:
                    berth.silence += passed
                    if 0 < patience < berth.silence:
                        berth.kill_hung()
