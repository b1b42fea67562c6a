"""
The garbage collector runs when no client waits.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from twisted.internet.task import Clock

from rt_twisted.net.idle_collector import (
    CHECK_SECONDS,
    MEMORY_SPARE,
    NEVER,
    PAUSE_SECONDS,
    QUIET_SECONDS,
    IdleCollector,
)


class Collected:
    """
    A collector, and how often it has run.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.work = 0
        self.memory = 100 << 20
        self.runs = 0
        self.service = IdleCollector(
            self.clock, lambda: self.work, lambda: self.memory, self._collect
        )

    def _collect(self) -> None:
        self.runs += 1

    def pass_seconds(self, seconds: float, working: bool = False) -> None:
        """
        Let time pass, in which clients are served or not.
        """
        for _ in range(round(seconds / CHECK_SECONDS)):
            self.work += working
            self.clock.advance(CHECK_SECONDS)


@pytest.fixture
def collected() -> Iterator[Collected]:
    """
    Return a started collector, after enough new objects for a run.
    """
    thresholds = gc.get_threshold()
    found = Collected()
    found.service.startService()
    assert gc.get_threshold()[1:] == (NEVER, NEVER)
    kept = [[] for _ in range(30_000)]  # type: ignore[var-annotated]
    yield found
    del kept
    found.service.stopService()
    assert found.clock.getDelayedCalls() == []
    gc.unfreeze()
    gc.set_threshold(*thresholds)


def test_all_objects_are_collected_when_the_daemon_is_idle(collected: Collected) -> None:
    """
    Not while clients are served.
    """
    collected.pass_seconds(2 * PAUSE_SECONDS, working=True)
    assert collected.runs == 0
    collected.pass_seconds(QUIET_SECONDS + 2 * CHECK_SECONDS)

    assert collected.runs == 1


def test_runs_are_rare(collected: Collected) -> None:
    """
    However long nothing happens: a run needs new objects, and a minute since the last.
    """
    collected.pass_seconds(PAUSE_SECONDS - 1)
    assert collected.runs == 0
    collected.pass_seconds(10)
    assert collected.runs == 1
    collected.pass_seconds(PAUSE_SECONDS - 10)

    assert collected.runs == 1


def test_nothing_new_needs_no_run(collected: Collected) -> None:
    """
    A daemon that does nothing collects nothing.
    """
    gc.collect()
    collected.pass_seconds(2 * PAUSE_SECONDS)

    assert collected.runs == 0


def test_a_daemon_that_is_never_idle_collects_when_its_memory_has_doubled(
    collected: Collected,
) -> None:
    """
    Garbage cannot grow without bound.
    """
    collected.pass_seconds(2 * PAUSE_SECONDS, working=True)
    collected.memory = 2 * collected.memory + MEMORY_SPARE + 1
    collected.pass_seconds(1, working=True)
    assert collected.runs == 1
    collected.pass_seconds(2 * PAUSE_SECONDS, working=True)

    assert collected.runs == 1
