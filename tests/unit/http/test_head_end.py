"""
The end of a head is found, however the bytes are split.
"""

from __future__ import annotations

import pytest

from rt_twisted.http.head_end import HeadEnd

HEAD = b"PUT / HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 26, 27, 28, 100])
def test_a_head_is_cut_off(size: int) -> None:
    """
    The pieces up to the empty line are the head, byte for byte.
    """
    data = HEAD + b"body\r\n\r\nmore"
    end, head = HeadEnd(), b""
    rest = b""
    for at in range(0, len(data), size):
        piece = data[at : at + size]
        if end.found:
            rest += piece
            continue
        begin, behind = end.cut(piece)
        assert begin + behind == piece
        head += begin
        rest += behind

    assert (head, rest) == (HEAD, b"body\r\n\r\nmore")


def test_each_head_is_cut_off() -> None:
    """
    A second head on the connection begins anew.
    """
    end = HeadEnd()
    assert end.cut(HEAD + HEAD) == (HEAD, HEAD)
    assert end.cut(HEAD[:-3]) == (HEAD[:-3], b"")
    assert not end.found
    assert end.cut(HEAD[-3:] + b"x") == (HEAD[-3:], b"x")
    assert end.found
