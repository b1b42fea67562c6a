"""
The jitter buffer: the order of RTP packets.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.media.rtp.jitter_buffer import MAX_HELD, JitterBuffer
from rt_twisted.media.rtp.packet import RtpPacket

GAP = -1


def ordered(*numbers: int, step: int = 0) -> list[int]:
    """
    Return the sequence numbers in the order in which they come out; GAP for a gap.
    """
    buffer = JitterBuffer()
    found: list[int] = []
    for index, number in enumerate(numbers):
        packet = RtpPacket(96, False, number & 0xFFFF, 0, 1, b"")
        for each in buffer.feed(packet, index * step):
            found.append(GAP if each is None else each.sequence)
    return found


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((1, 2, 3), [1, 2, 3]),
        ((1, 3, 2, 4), [1, 2, 3, 4]),
        ((1, 2, 2, 1, 3), [1, 2, 3]),
        ((65534, 65535, 0, 1), [65534, 65535, 0, 1]),
        ((65535, 1, 0, 2), [65535, 0, 1, 2]),
        ((1, 40000, 2, 3), [1, 2, 3]),
        ((1, 40000, 40001, 40002), [1, GAP, 40001, 40002]),
    ],
)
def test_order(numbers: tuple[int, ...], expected: list[int]) -> None:
    """
    Late packets are put in order, duplicates left out, and a jump must be confirmed.
    """
    assert ordered(*numbers) == expected


def test_a_lost_packet_is_waited_for_by_time() -> None:
    """
    200 ms, then those behind it come.
    """
    assert ordered(1, 3, 4, step=150_000) == [1]
    assert ordered(1, 3, 4, 5, step=150_000) == [1, GAP, 3, 4, 5]


def test_a_lost_packet_is_waited_for_by_count() -> None:
    """
    MAX_HELD packets, then those behind it come.
    """
    found = ordered(1, *range(3, MAX_HELD + 4))
    assert found[:3] == [1, GAP, 3]
    assert len(found) == MAX_HELD + 3


@given(st.lists(st.integers(0, 65535), max_size=300), st.integers(0, 100_000))
def test_each_packet_comes_once_at_most(numbers: list[int], step: int) -> None:
    """
    Whatever the numbers are.
    """
    found = [number for number in ordered(*numbers, step=step) if number != GAP]
    for number in set(found):
        assert found.count(number) <= numbers.count(number)
