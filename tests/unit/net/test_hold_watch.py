"""
Holds of the reactor: how long they were, and why.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, globalLogPublisher
from zope.interface import implementer

from rt_twisted.net.hold_watch import SAMPLE_SECONDS, SLOW, HoldWatch, describe_stack

HELD = 1.5 * SLOW + 2 * SAMPLE_SECONDS  # seconds


@implementer(ILogObserver)
class Watched:
    """
    A reactor that is watched, and what was logged.
    """

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.holds: list[float] = []
        self.logged: list[LogEvent] = []
        self.watch = HoldWatch(reactor, self.holds.append)
        globalLogPublisher.addObserver(self)
        self.watch.startService()

    def stop(self) -> None:
        """
        End the watch.
        """
        self.watch.stopService()
        globalLogPublisher.removeObserver(self)

    def __call__(self, event: LogEvent) -> None:
        self.logged.append(event)

    @property
    def causes(self) -> list[str]:
        """
        The causes that were logged.
        """
        return [event["cause"] for event in self.logged if "cause" in event]


@pytest.fixture
def watched() -> Iterator[Watched]:
    """
    Return a watched reactor that has polled once.
    """
    found = Watched(EPollReactor())
    found.reactor.doIteration(0)
    found.holds.clear()
    yield found
    found.stop()
    close(found.reactor)


def close(reactor: Any) -> None:
    """
    Close the descriptors of a reactor that has not run.
    """
    reactor.removeAll()
    reactor.waker.connectionLost(None)
    reactor._poller.close()


def hold() -> None:
    """
    Hold the reactor.
    """
    time.sleep(HELD)


def test_the_time_between_two_polls_is_a_hold(watched: Watched) -> None:
    """
    The time in which the reactor waits for events is none.
    """
    time.sleep(0.02)
    watched.reactor.doIteration(0.05)
    watched.reactor.doIteration(0)

    assert len(watched.holds) == 2
    assert watched.holds[0] >= 0.02
    assert watched.holds[1] < 0.02
    assert watched.causes == []


def test_a_slow_hold_is_logged_with_the_functions_that_ran(watched: Watched) -> None:
    """
    The innermost function comes first; at most one hold is logged each ten seconds.
    """
    hold()
    watched.reactor.doIteration(0)
    hold()
    watched.reactor.doIteration(0)

    [cause] = watched.causes
    assert cause.startswith("tests.unit.net.test_hold_watch.hold:")
    assert "< tests.unit.net.test_hold_watch.test_a_slow_hold" in cause


def test_the_garbage_collector_is_named(watched: Watched, monkeypatch: Any) -> None:
    """
    If it ran for most of the hold.
    """
    on_run = gc.callbacks[-1]
    on_run("start", {})
    hold()
    on_run("stop", {})
    watched.reactor.doIteration(0)

    assert watched.causes[0].startswith("the garbage collector took ")


def test_the_turn_of_the_reactor_is_given_back() -> None:
    """
    A stopped watch leaves the reactor as it was.
    """
    reactor: Any = EPollReactor()
    before = reactor.doIteration
    watched = Watched(reactor)
    assert reactor.doIteration != before
    watched.stop()

    assert reactor.doIteration == before
    close(reactor)


def test_other_reactors_are_measured_by_a_timer() -> None:
    """
    A timer that is late was held.
    """
    watched = Watched(Clock())
    time.sleep(SAMPLE_SECONDS + 0.02)
    watched.reactor.advance(SAMPLE_SECONDS)
    watched.stop()

    assert len(watched.holds) == 1
    assert watched.holds[0] >= 0.02
    assert watched.reactor.getDelayedCalls() == []


def test_stacks_are_cut() -> None:
    """
    A log line names a few functions.
    """

    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else describe_stack(sys._getframe())

    assert deep(50).count(" < ") == 5
