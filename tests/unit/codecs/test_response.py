"""
The parser for HTTP responses.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import MAX_HEAD_BYTES, ResponseReader

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize(
    ("wire", "body", "over", "keep"),
    [
        (CHUNKED, b"abcde", True, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", b"hi", True, True),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi",
            b"hi",
            True,
            False,
        ),
        (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", b"until the end", False, False),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + CHUNKED, b"abcde", True, True),
    ],
)
def test_bodies_are_decoded(wire: bytes, body: bytes, over: bool, keep: bool, size: int) -> None:
    """
    Chunks are decoded, the end is recognized, and interim responses are skipped.
    """
    subscriber = ResponseReader()
    found = b"".join(subscriber.feed(wire[i : i + size]) for i in range(0, len(wire), size))

    assert found == body
    assert subscriber.head is not None
    assert subscriber.head.status == 200
    assert (subscriber.complete, subscriber.keep_alive) == (over, keep)


def test_headers_are_found_by_name() -> None:
    """
    Names are in lower case; several headers of one name are one list.
    """
    subscriber = ResponseReader()
    subscriber.feed(b"HTTP/1.0 404 Gone\r\nVia: 1.0 a\r\nVIA: 1.1 b\r\nX-A: \r\n\r\n")

    assert subscriber.head is not None
    assert (subscriber.head.version, subscriber.head.status) == ("1.0", 404)
    assert subscriber.head.header("via") == "1.0 a, 1.1 b"
    assert subscriber.head.header("x-a") == ""
    assert subscriber.head.header("x-b") is None


@pytest.mark.parametrize(
    "wire",
    [
        b"hello\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES,
    ],
)
def test_invalid_responses_are_refused(wire: bytes) -> None:
    """
    Malformed responses and large heads raise RemoteProtocolError.
    """
    with pytest.raises(RemoteProtocolError):
        ResponseReader().feed(wire)


@given(st.lists(st.binary(), max_size=5))
def test_any_bytes_raise_only_remote_protocol_error(pieces: list[bytes]) -> None:
    """
    Any input of a server gives a response or RemoteProtocolError.
    """
    subscriber = ResponseReader()
    try:
        for piece in (b"HTTP/1.1 200 OK\r\n", *pieces):
            subscriber.feed(piece)
    except RemoteProtocolError:
        pass
