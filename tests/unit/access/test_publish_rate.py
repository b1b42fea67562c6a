"""
The rate of one publisher.
"""

from __future__ import annotations

import pytest

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.access.publish_rate import MAX_PUBLISHERS, PublishRate
from rt_twisted.model.errors import HttpError


class Limited:
    """
    A rate with a time that the test sets.
    """

    def __init__(self, rate: float) -> None:
        self.now = 0.0
        self.limit = PublishRate(lambda: self.now)
        self.limit.rate = rate

    def passes(self, permit: Key | Grant | None = None, address: str = "a", count: int = 1) -> bool:
        try:
            self.limit.consume(permit, address, count)
        except HttpError as error:
            assert error.status == 429
            assert 0 < error.retry < 100
            return False
        return True


def test_two_seconds_may_come_at_once() -> None:
    """
    Then no more than the rate.
    """
    limited = Limited(5)
    assert [limited.passes() for _ in range(11)] == [True] * 10 + [False]
    limited.now = 0.2
    assert [limited.passes() for _ in range(2)] == [True, False]
    limited.now = 100
    assert [limited.passes() for _ in range(11)].count(True) == 10


@pytest.mark.parametrize(
    ("first", "same", "other"),
    [
        ((Grant("mia"), "a"), (Grant("mia"), "b"), (Grant("eve"), "a")),
        ((Key.of("one"), "a"), (Key.of("one"), "b"), (Key.of("two"), "a")),
        ((None, "a"), (Grant(), "a"), (None, "b")),
        ((Key.of(""), "a"), (None, "a"), (Key.of(""), "b")),
        ((None, "2001:db8::1"), (None, "2001:db8::9:1"), (None, "2001:db8:0:1::1")),
    ],
)
def test_who_is_one_publisher(
    first: tuple[Key | Grant | None, str],
    same: tuple[Key | Grant | None, str],
    other: tuple[Key | Grant | None, str],
) -> None:
    """
    A `sub`, whatever its connections; else a key; else an address, of IPv6 its network (/64).
    """
    limited = Limited(1)
    assert limited.passes(*first, 2)
    assert not limited.passes(*same)
    assert limited.passes(*other)


def test_large_batches_are_paid_for_afterwards() -> None:
    """
    A batch above the burst passes, and the next one waits.
    """
    limited = Limited(1)
    assert limited.passes(count=10)
    limited.now = 8
    assert not limited.passes()
    limited.now = 12
    assert limited.passes()


def test_no_limit_and_bounded_memory() -> None:
    """
    0 counts nothing; the publisher of longest ago is forgotten.
    """
    limited = Limited(0)
    assert all(limited.passes() for _ in range(100))
    limited.limit.rate = 1
    for number in range(MAX_PUBLISHERS + 10):
        limited.passes(None, str(number))
    assert len(limited.limit._buckets) == MAX_PUBLISHERS
