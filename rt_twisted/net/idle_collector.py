"""
Python's garbage collector, at times when no client waits.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from time import perf_counter
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

# Messages are freed by reference counts; the collector only finds cycles. A look at 10,000
# young objects takes some milliseconds, and finds nearly all: connections leave no cycles when
# they end.
YOUNG_OBJECTS = 10_000
NEVER = 1 << 30  # young collections until Python itself collects what is older
CHECK_SECONDS = 0.25
QUIET_SECONDS = 1.0  # without work, before a full collection
QUIET_SHARE = 20  # times the last one took: a short quiet is likely to end soon
PAUSE_SECONDS = 60.0  # between two full collections
PAUSE_SHARE = 200  # times the last one took: half a percent of the time
MEMORY_GROWTH = 2  # times the memory after the last one: collect although clients wait
MEMORY_SPARE = 64 << 20  # bytes that it may grow besides

_log = Logger()
_collecting = _log.failureHandler("while collecting garbage")


class IdleCollector(Service):
    """
    Leaves only young objects to Python's own collector, and runs it for all others when the
    daemon is idle.

    With 10,000 channels a collection of all objects holds the reactor for 50 ms, and one of the
    second generation with Python's ways as long. What exists at the start is never looked at.

    If the daemon is never idle, garbage could pile up: all objects are collected when the memory
    has doubled, too.

    Args:
        clock: the reactor.
        work: returns a number that changes while clients are served.
        memory: returns the memory of the process in bytes.
        collect: as `gc.collect`.
    """

    def __init__(
        self,
        clock: Any,
        work: Callable[[], int],
        memory: Callable[[], int],
        collect: Callable[[], object] = gc.collect,
    ) -> None:
        self._clock = clock
        self._work = work
        self._memory = memory
        self._collect = collect
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock
        self._last_work = 0
        self._quiet_since = 0.0
        self._collected_at = 0.0
        self._took = 0.0  # seconds, by the last full collection
        self._memory_then = 0  # after it

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        gc.collect()
        gc.freeze()  # modules and settings stay for good
        gc.set_threshold(YOUNG_OBJECTS, NEVER, NEVER)
        self._quiet_since = self._collected_at = self._clock.seconds()
        self._memory_then = self._memory()
        self._loop.start(CHECK_SECONDS, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    def _check(self) -> None:
        with _collecting:
            now = self._clock.seconds()
            work = self._work()
            if work != self._last_work:
                self._last_work = work
                self._quiet_since = now
            # Python counts its young collections since the last full one.
            if not gc.get_count()[1] or now - self._collected_at < self._pause():
                return
            quiet = now - self._quiet_since
            if quiet >= max(QUIET_SECONDS, QUIET_SHARE * self._took):
                self._collect_all(now)
            elif self._memory() > MEMORY_GROWTH * self._memory_then + MEMORY_SPARE:
                self._collect_all(now)
                _log.info(
                    "collected garbage in {seconds:.2f} s while clients were served, "
                    "as the memory had doubled",
                    seconds=self._took,
                )

    def _pause(self) -> float:
        return max(PAUSE_SECONDS, PAUSE_SHARE * self._took)

    def _collect_all(self, now: float) -> None:
        began = perf_counter()
        self._collect()
        self._took = perf_counter() - began
        self._collected_at = now
        self._memory_then = self._memory()
