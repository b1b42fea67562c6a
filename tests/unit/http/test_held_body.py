"""
A body that waits is delivered in order, with the ends of its chunks.
"""

from __future__ import annotations

from rt_twisted.http.held_body import BOUNDARY, HeldBody


def test_chunks_are_taken_one_by_one() -> None:
    """
    Bytes are taken up to the end of each chunk, and the rest without one.
    """
    held = HeldBody()
    held.add(b"ab")
    held.add(b"c")
    held.end_chunk()
    held.add(b"d")
    held.end_chunk()
    held.add(b"ef")
    assert bytes(held) == b"abcdef"
    assert len(held) == 6 + 2 * BOUNDARY

    assert held.take() == b"abc"
    held.end_chunk()
    assert [held.take() for _ in range(5)] == [None, b"d", None, b"ef", None]
    assert not held
    held.end_chunk()
    assert held.take() is None
    assert held.take() == b""


def test_all_is_taken_without_ends() -> None:
    """
    A receiver that does not ask for chunks gets one piece.
    """
    held = HeldBody()
    for _ in range(3):
        held.add(b"x")
        held.end_chunk()

    assert held.take() == b"x"
    assert held.take_all() == b"xx"
    assert not held
