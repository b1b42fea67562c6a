"""
Event loop lag: how long the reactor is held between two polls for events. No client is served
meanwhile.
"""

from __future__ import annotations

import gc
import math
import sys
from collections.abc import Callable
from threading import Event, Thread, get_ident
from time import monotonic
from types import FrameType
from typing import Any

from twisted.application.service import Service
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rt_twisted.net.poll_loop import PollLoop

SLOW = 0.1  # seconds; a longer hold is logged
LOG_PAUSE = 10.0  # seconds between two log lines, at least
SAMPLE_SECONDS = 0.05  # between two looks of the thread that finds causes
MAX_FRAMES = 6  # functions that a log line names

_log = Logger()


class HoldWatch(Service):
    """
    Measures each hold of the reactor, and logs slow ones with their cause.

    A thread looks at the stack of the reactor's thread every SAMPLE_SECONDS, if a hold has
    lasted as long: the cause is what it sees last, unless it is the garbage collector.

    Reactors without a `PollLoop`, such as that of asyncio, are measured by how late a timer is.

    Args:
        reactor: the reactor; it gets a `PollLoop` if that is possible.
        on_hold: called with the seconds of each hold; must be cheap.
    """

    def __init__(self, reactor: Any, on_hold: Callable[[float], object]) -> None:
        self._on_hold = on_hold
        self._loop = PollLoop(reactor, self._on_turn) if PollLoop.is_possible(reactor) else None
        self._due = math.inf  # when the timer is, without a loop
        self._seen: tuple[float, str] = (0.0, "")  # the hold and the stack that the thread saw last
        self._collector = CollectorTimes()
        self._logged_at = -math.inf
        self._stopped = Event()
        self._timer = LoopingCall(self._on_tick)
        self._timer.clock = reactor

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._collector.start()
        if self._loop is not None:
            self._loop.start()
        else:
            self._due = monotonic() + SAMPLE_SECONDS
            self._timer.start(SAMPLE_SECONDS, now=False)
        self._stopped.clear()
        look = Thread(target=self._look, args=(get_ident(),), name="hold watch", daemon=True)
        look.start()

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        self._stopped.set()
        self._collector.stop()
        if self._loop is not None:
            self._loop.stop()
        elif self._timer.running:
            self._timer.stop()

    @property
    def _since(self) -> float:
        """
        When the hold began that lasts now; infinity while there is none.
        """
        # Without a loop: the timer is due when a hold that begins now must end.
        return self._due if self._loop is None else self._loop.since

    def _on_turn(self, seconds: float) -> None:
        self._on_hold(seconds)
        if seconds > SLOW:
            self._log_slow(seconds)

    def _on_tick(self) -> None:
        now = monotonic()
        self._on_turn(max(0.0, now - self._due))
        self._due = now + SAMPLE_SECONDS

    def _log_slow(self, seconds: float) -> None:
        now = monotonic()
        if now - self._logged_at < LOG_PAUSE:
            return
        self._logged_at = now
        _log.warn(
            "the reactor was held for {seconds:.2f} s: {cause}",
            seconds=seconds,
            cause=self._cause(seconds),
        )

    def _cause(self, seconds: float) -> str:
        collecting = self._collector.seconds_since(self._since)
        if collecting > seconds / 2:
            return f"the garbage collector took {collecting:.2f} s"
        began, stack = self._seen
        if began == self._since:
            return stack
        return "the cause is not known; the process may have been stopped, or had no processor"

    def _look(self, thread: int) -> None:
        """
        Store the stack of the reactor's *thread* while a hold lasts; runs in a thread.
        """
        while not self._stopped.wait(SAMPLE_SECONDS):
            since = self._since
            if monotonic() - since >= SAMPLE_SECONDS:
                frame = sys._current_frames().get(thread)
                if frame is not None and self._since == since:
                    self._seen = (since, describe_stack(frame))


class CollectorTimes:
    """
    Measures how long Python's garbage collector runs.
    """

    def __init__(self) -> None:
        self._began = 0.0
        self._runs: list[tuple[float, float]] = []  # the last ones: when, and for how long

    def start(self) -> None:
        """
        Begin to measure.
        """
        gc.callbacks.append(self._on_run)

    def stop(self) -> None:
        """
        End to measure.
        """
        gc.callbacks.remove(self._on_run)

    def seconds_since(self, moment: float) -> float:
        """
        Return how long the collector ran since *moment*, of `time.monotonic`.
        """
        return sum([seconds for began, seconds in self._runs if began >= moment])

    def _on_run(self, phase: str, info: dict[str, int]) -> None:
        now = monotonic()
        if phase == "start":
            self._began = now
        else:
            self._runs = [*self._runs[-9:], (self._began, now - self._began)]


def describe_stack(frame: FrameType) -> str:
    """
    Return the functions of a stack with their lines, the innermost first.
    """
    names: list[str] = []
    found: FrameType | None = frame
    while found is not None and len(names) < MAX_FRAMES:
        module = found.f_globals.get("__name__", "?")
        names.append(f"{module}.{found.f_code.co_qualname}:{found.f_lineno}")
        found = found.f_back
    return " < ".join(names)
