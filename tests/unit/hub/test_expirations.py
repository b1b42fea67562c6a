"""
Streams that end at a given time: the notice, the end, and what comes between.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.expirations import MARGIN, NOTICE, SPREAD, Expirations
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.message import Position

HEAD = Position("e", 7)


SSE = EventStream()


def notice(seconds: int, position: Position | None = HEAD) -> bytes:
    return SSE.expire(seconds, position)


@dataclass(eq=False)
class Listed:
    """
    A subscriber that records what happens to it.
    """

    format: Any = SSE
    frames: list[bytes] = field(default_factory=list)
    ended: float = 0.0
    clock: Clock = field(default_factory=Clock)

    def write(self, frame: bytes) -> None:
        self.frames.append(frame)

    def end(self, reason: DisconnectReason, retry: int) -> None:
        assert reason is DisconnectReason.EXPIRED
        assert 1000 <= retry < 2000
        self.ended = self.clock.seconds()


class Sweep:
    """
    Expirations that are checked each second, as by the hub.
    """

    def __init__(self, uniform: Callable[[float, float], float] = max) -> None:
        self.clock = Clock()
        self.clock.advance(100)
        self.expirations = Expirations(self.clock, uniform)
        self.head: Position | None = HEAD
        self.pending: set[Any] = set()

    def add(self, left: float, end: Callable[[], object] | None = None, **options: Any) -> Any:
        listed: Any = Listed(clock=self.clock, **options)
        self.expirations.set_end(listed, left, end)
        return listed

    def run(self, seconds: float) -> None:
        for _ in range(int(seconds)):
            self.clock.advance(1)
            self.expirations.check(self.head, self.pending)


def test_notice_then_end() -> None:
    """
    The notice comes 30 s before, the end before the time itself, never after it.
    """
    sweep = Sweep()
    listed = sweep.add(100)
    sweep.run(100 - NOTICE - 1)
    assert listed.frames == []
    sweep.run(2)
    assert listed.frames in ([notice(30)], [notice(29)])
    sweep.run(NOTICE)
    assert 200 - MARGIN - 1 <= listed.ended < 200
    assert len(sweep.expirations) == 0


@pytest.mark.parametrize("uniform", [min, max])
@pytest.mark.parametrize("left", [-5, 0, 0.4, 1, 1.7, 2.5, 3, 3.5, 5, 10, 30, 31, 60])
def test_ends_are_never_late(left: float, uniform: Callable[[float, float], float]) -> None:
    """
    A short time has a notice at once; a time in the past ends as soon as possible.
    """
    sweep = Sweep(uniform)
    listed = sweep.add(left)
    for _ in range(10 * int(max(4, left + 1))):
        sweep.clock.pump([0.01] * 10)
        if round(sweep.clock.seconds(), 3).is_integer():
            sweep.expirations.check(sweep.head, sweep.pending)
    assert len(listed.frames) == 1
    assert 100 < listed.ended <= 100 + (left if left > 0 else 2) + 0.001
    assert len(sweep.expirations) == 0 and not sweep.clock.getDelayedCalls()


def test_ends_are_spread() -> None:
    """
    Clients whose grants end together do not reconnect together.
    """
    times = iter([0.0, 0.25, 0.5, 0.75, 1.0])
    sweep = Sweep(lambda low, high: low + next(times) * (high - low))
    listed = [sweep.add(60) for _ in range(5)]
    sweep.run(60)
    ends = {each.ended for each in listed}
    assert len(ends) >= 4
    assert max(ends) - min(ends) <= min(SPREAD, NOTICE / 4) + 1


def test_thousands_that_end_in_the_same_second() -> None:
    """
    Each is notified first, then ended before its time; never more than a sixth in one second.
    """
    sweep = Sweep(Random(7).uniform)
    listed = [sweep.add(60 + number / 10_000) for number in range(10_000)]
    sweep.run(60)
    assert all(len(each.frames) == 1 for each in listed)
    ends = Counter(int(each.ended) for each in listed)
    assert max(ends) < 160 and sum(ends.values()) == 10_000
    assert max(ends.values()) < 10_000 / 6


def test_a_busy_reactor_is_no_reason_to_end_late() -> None:
    """
    A sweep that comes a second late has all ended in time; what it missed is not forgotten.
    """
    sweep = Sweep(max)
    listed = [sweep.add(40 + number / 10) for number in range(10)]
    sweep.run(36)
    sweep.clock.advance(1.9)
    sweep.expirations.check(HEAD, ())
    sweep.clock.advance(1.9)
    sweep.expirations.check(HEAD, ())
    assert all(100 < each.ended < 140 for each in listed)


def test_a_short_time_that_is_renewed() -> None:
    """
    The client gets another notice in time, and no end; one that leaves is forgotten.
    """
    sweep = Sweep()
    renewed, leaving = sweep.add(2), sweep.add(2)
    sweep.clock.advance(1)
    sweep.expirations.set_end(renewed, 100)
    sweep.expirations.discard(leaving)
    sweep.run(60)
    assert len(renewed.frames) == 1 and not renewed.ended and not leaving.ended


def test_a_later_end_replaces_the_first() -> None:
    """
    A renewed grant: no end, and another notice in time. Infinity is no end.
    """
    sweep = Sweep()
    listed = sweep.add(40)
    sweep.run(15)
    assert len(listed.frames) == 1
    sweep.expirations.set_end(listed, 100)
    sweep.run(60)
    assert len(listed.frames) == 1 and not listed.ended
    sweep.run(15)
    assert len(listed.frames) == 2
    sweep.expirations.set_end(listed, float("inf"))
    sweep.run(100)
    assert not listed.ended
    assert len(sweep.expirations) == 0


def test_those_that_leave_are_forgotten() -> None:
    """
    Before the notice and after it.
    """
    sweep = Sweep()
    first, second = sweep.add(40), sweep.add(20)
    sweep.run(5)
    sweep.expirations.discard(first)
    sweep.expirations.discard(second)
    sweep.expirations.discard(second)
    sweep.run(100)
    assert not first.ended and not second.ended
    assert len(sweep.expirations) == 0


def test_own_end() -> None:
    """
    A websocket closes in its own way.
    """
    ended: list[str] = []
    sweep = Sweep()
    listed = sweep.add(10, lambda: ended.append("closed"))
    sweep.run(10)
    assert ended == ["closed"] and not listed.ended


def test_formats_without_notices() -> None:
    """
    Plain bytes just end.
    """
    sweep = Sweep()
    listed = sweep.add(10, format=object())
    sweep.run(10)
    assert listed.frames == [] and listed.ended


def test_positions_in_notices_are_true() -> None:
    """
    During a flush the notice waits; one who still waits for messages gets no position.
    """
    sweep = Sweep()
    sweep.head = None
    listed, pending = sweep.add(20), sweep.add(20)
    sweep.pending.add(pending)
    sweep.run(5)
    assert listed.frames == []
    sweep.head = HEAD
    sweep.run(2)
    assert b'"e.7"' in listed.frames[0]
    assert b"position" not in pending.frames[0]
    sweep.head = None
    late = sweep.add(20)
    sweep.run(20)
    assert late.frames and late.ended


@pytest.mark.parametrize("left", [3.0, 3.5, 4.0, 5.3, 10.0, 40.0])
def test_ends_are_not_late_while_messages_are_sent(left: float) -> None:
    """
    A notice that waits for the flush of each sweep leaves time for the end.
    """
    sweep = Sweep()
    sweep.head = None
    sweep.clock.advance(0.75)
    begun, listed = sweep.clock.seconds(), sweep.add(left)
    sweep.clock.advance(0.05)
    for _ in range(int(left) + 3):
        sweep.clock.advance(1)
        sweep.expirations.check(sweep.head, sweep.pending)
    assert len(listed.frames) == 1
    assert begun < listed.ended <= begun + left


def test_many_ends_yield_to_the_reactor() -> None:
    """
    10,000 that end in one second are ended in slices.
    """
    sweep = Sweep()
    work: list[float] = []

    class Slow(Listed):
        def end(self, reason: DisconnectReason, retry: int) -> None:
            work.append(sweep.clock.seconds())
            sweep.clock.rightNow += 0.001  # the time that it takes

    for _ in range(100):
        listed: Any = Slow(clock=sweep.clock)
        sweep.expirations.set_end(listed, 3)
    sweep.clock.advance(1)
    sweep.expirations.check(HEAD, ())
    sweep.clock.advance(1)
    sweep.expirations.check(HEAD, ())
    first = len(work)
    assert 0 < first < 100
    for _ in range(100):
        sweep.clock.advance(0)
    assert len(work) == 100


def test_a_check_that_takes_longer_than_a_second() -> None:
    """
    Goes on in one slice per turn of the reactor, not in one more with each sweep.
    """
    sweep = Sweep()
    listed = [sweep.add(0) for _ in range(100)]
    seconds = sweep.clock.seconds

    def look() -> float:
        sweep.clock.rightNow += 0.001
        return seconds()

    sweep.clock.seconds = look  # type: ignore[method-assign]  # each look takes a millisecond
    for _ in range(5):
        sweep.clock.rightNow += 1
        sweep.expirations.check(sweep.head, sweep.pending)
        assert len(sweep.clock.getDelayedCalls()) == 1
    for _ in range(1000):
        sweep.clock.advance(0.01)
        if not sweep.clock.getDelayedCalls():
            sweep.clock.rightNow += 1
            sweep.expirations.check(sweep.head, sweep.pending)
    assert all(one.ended for one in listed)
