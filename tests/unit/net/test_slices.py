"""
Long work runs in slices.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.net.slices import SLICE, run_in_slices
from tests.turns import run_turn


def work(clock: Clock, steps: int, seconds: float) -> Generator[None, None, int]:
    """
    Take *seconds* for each step, and return their number.
    """
    for _ in range(steps):
        clock.rightNow += seconds
        yield
    return steps


def test_short_work_is_done_at_once() -> None:
    """
    What takes less than a slice has its result at once, and nothing is scheduled.
    """
    clock, results = Clock(), list[Any]()
    run_in_slices(clock, work(clock, 4, SLICE / 5)).addCallback(results.append)

    assert results == [4]
    assert not clock.getDelayedCalls()


def test_long_work_yields_to_the_reactor() -> None:
    """
    Each turn has one slice.
    """
    clock, results = Clock(), list[Any]()
    run_in_slices(clock, work(clock, 9, SLICE * 0.4)).addCallback(results.append)
    turns = 1
    while not results:
        run_turn(clock)
        turns += 1
        assert turns < 10

    assert (results, turns) == ([9], 4)


def test_an_error_in_a_later_slice_is_reported() -> None:
    """
    The Deferred fails with what the steps raise, in whichever turn.
    """
    clock = Clock()

    def steps() -> Generator[None, None, None]:
        yield from work(clock, 2, SLICE)
        raise ValueError("late")

    failures = list[Any]()
    run_in_slices(clock, steps()).addErrback(failures.append)
    clock.advance(0)

    with pytest.raises(ValueError, match="late"):
        failures[0].raiseException()
