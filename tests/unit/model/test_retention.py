"""
Retention: what a history retains, and whether it reports what is missing.
"""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.model.message import Message, Position
from rt_twisted.model.retention import OVERHEAD, History, Retention
from tests.defaults import make_retention

START = Position("e", 0)
MUCH = make_retention(count=1000, bytes=1 << 30, age=1e9)


def message(offset: int, data: bytes = b"") -> Message:
    return Message("news", data, Position("e", offset))


def filled(retention: Retention, offsets: list[int]) -> History:
    history = History(retention, START)
    for offset in offsets:
        history.append(message(offset), float(offset))
    return history


def offsets(messages: list[Message]) -> list[int]:
    return [found.position.offset for found in messages]


def test_after_a_position_comes_the_rest() -> None:
    """
    The messages after a position come in order, without earlier ones.
    """
    history = filled(MUCH, [1, 4, 5, 9])

    assert offsets(history.after(Position("e", 4))) == [5, 9]
    assert offsets(history.after(Position("e", 3))) == [4, 5, 9]
    assert offsets(history.after(START)) == [1, 4, 5, 9]
    assert history.after(Position("e", 9)) == []


def test_a_position_of_another_log_gets_all_that_is_retained() -> None:
    """
    A position of another log is not covered.
    """
    history = filled(MUCH, [1, 2])

    assert offsets(history.after(Position("f", 1))) == [1, 2]
    assert not history.covers(Position("f", 1))


def test_count_is_a_bound() -> None:
    """
    The oldest are dropped first, and the start position is the newest of them.
    """
    history = filled(make_retention(count=2), [1, 2, 3])

    assert offsets(history.after(START)) == [2, 3]
    assert history.start_position == Position("e", 1)
    assert history.covers(Position("e", 1))
    assert not history.covers(START)


def test_bytes_are_a_bound() -> None:
    """
    Overhead counts; a message over the bound is not retained, and is a gap.
    """
    history = History(make_retention(bytes=2 * (OVERHEAD + 10)), START)
    for offset in (1, 2, 3):
        history.append(message(offset, b"0123456789"), 0.0)
    assert offsets(history.after(START)) == [2, 3]

    history.append(message(4, b"x" * 1000), 0.0)

    assert len(history) == history.bytes == 0
    assert not history.covers(Position("e", 3))
    assert history.covers(Position("e", 4))


def test_age_is_a_bound() -> None:
    """
    Messages that are too old are dropped by `expire`.
    """
    history = filled(make_retention(age=10), [1, 5, 12])

    history.expire(15.0)

    assert offsets(history.after(START)) == [5, 12]


def test_without_retention_nothing_is_covered() -> None:
    """
    Without history, only the position of the last message is covered.
    """
    history = filled(make_retention(count=0), [1, 2])

    assert history.after(START) == []
    assert not history.covers(Position("e", 1))
    assert history.covers(Position("e", 2))


def test_newest_and_within() -> None:
    """
    `newest` selects by count, `within` by the time of receipt.
    """
    history = filled(MUCH, [1, 2, 3])

    assert offsets(history.newest(2)) == [2, 3]
    assert offsets(history.newest(9)) == [1, 2, 3]
    assert history.newest(0) == []
    assert offsets(history.within(2.0)) == [2, 3]


def test_another_log_may_begin() -> None:
    """
    All old messages are dropped; positions from the new start position on are covered.
    """
    history = filled(MUCH, [1, 2])

    history.restart(Position("f", 6))

    assert len(history) == history.bytes == 0
    assert history.covers(Position("f", 6))
    assert not history.covers(Position("f", 5))
    assert not history.covers(Position("e", 2))


@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(0, 50), st.integers(0, 5)), max_size=40),
    st.builds(
        Retention,
        count=st.integers(0, 10),
        bytes=st.integers(0, 10 * OVERHEAD),
        age=st.integers(0, 20),
    ),
    st.integers(0, 100),
)
def test_complete_or_not_covered(
    steps: list[tuple[int, int, int]], retention: Retention, since: int
) -> None:
    """
    If a position is covered, every message after it is retained; the count of
    bytes is always that of retained messages.
    """
    history = History(retention, START)
    everything: list[Message] = []
    offset, now = 0, 0.0
    for gap, size, wait in steps:
        offset += gap
        now += wait
        everything.append(message(offset, b"x" * size))
        history.append(everything[-1], now)
        history.expire(now)

    found = history.after(Position("e", since))

    missed = [one for one in everything if one.position.offset > since]
    assert found == missed[len(missed) - len(found) :]
    assert history.covers(Position("e", since)) == (len(found) == len(missed))
    kept = history.newest(1000)
    assert history.bytes == sum(len(one.data) + OVERHEAD for one in kept)
    assert len(kept) <= retention.count
    assert history.bytes <= retention.bytes
