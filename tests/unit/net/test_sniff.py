"""
The first bytes of a connection decide its protocol.
"""

from __future__ import annotations

import pytest

from rt_twisted.net.sniff import MAX_START, ConnectionStart
from tests.ingest import Shout


class Counting:
    """
    A protocol that counts how often it is asked.
    """

    def __init__(self, answer: bool | None) -> None:
        self.count = 0
        self._answer = answer

    def matches(self, start: bytes) -> bool | None:
        """
        Return the same for all bytes.
        """
        self.count += 1
        return self._answer


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\n", b"POST", b"PUT /a", b"HEAD", b"DELETE", b"PATCH", b"SOURCE"]
)
def test_common_methods_are_http(start: bytes) -> None:
    """
    No protocol is asked about a common method of HTTP.
    """
    protocol = Counting(True)
    assert ConnectionStart().feed(start, [protocol]) == (start, None)
    assert protocol.count == 0


def test_other_bytes_are_matched() -> None:
    """
    The first protocol that matches gets the bytes; if none does, they are HTTP.
    """
    none, shout = Counting(False), Shout()
    assert ConnectionStart().feed(b"SHOUT\nx", [none, shout]) == (b"SHOUT\nx", shout)
    assert ConnectionStart().feed(b"SHOVEL", [none, shout]) == (b"SHOVEL", None)
    assert ConnectionStart().feed(b"G", [shout]) == (b"G", None)


def test_undecided_bytes_wait() -> None:
    """
    Bytes that may be the beginning of a protocol wait for more, up to a bound.
    """
    shout, start = Shout(), ConnectionStart()
    for byte in (b"S", b"H", b"OU"):
        assert start.feed(byte, [shout]) == (b"", None)
    assert start.feed(b"T\n", [shout]) == (b"SHOUT\n", shout)

    start, waiting = ConnectionStart(), Counting(None)
    assert start.feed(b"x" * (MAX_START - 1), [waiting]) == (b"", None)
    assert start.feed(b"y", [waiting])[1] is None
    assert start.data == b""
