"""
Bodies with a Content-Encoding.
"""

from __future__ import annotations

import gzip
import zlib
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.content_coding import (
    ACCEPT_ENCODING,
    MAX_MEMBERS,
    decode,
    decode_in_steps,
    read_codings,
)
from rt_twisted.codecs.errors import RemoteProtocolError
from tests.unit.http.clients import Place, post

compress = partial(gzip.compress, mtime=0)  # the same bytes in every process of a test run
BODY = b'{"channel": "a", "message": "hello"}'


def raw_deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(wbits=-15)
    return deflater.compress(data) + deflater.flush()


@pytest.mark.parametrize(
    ("header", "body"),
    [
        ("", BODY),
        ("identity", BODY),
        (" Identity , identity", BODY),
        ("gzip", compress(BODY)),
        ("GZIP", compress(BODY)),
        ("x-gzip", compress(BODY)),
        ("gzip", compress(BODY[:9]) + compress(b"") + compress(BODY[9:])),
        ("deflate", zlib.compress(BODY)),
        ("deflate", raw_deflate(BODY)),
        ("gzip, identity, deflate", zlib.compress(compress(BODY))),
        ("deflate,gzip", compress(zlib.compress(BODY))),
        ("gzip, gzip", compress(compress(BODY))),
    ],
)
def test_codings_are_decoded(header: str, body: bytes) -> None:
    """
    Several codings are decoded in reverse order; deflate with or without the zlib header.
    """
    assert decode(read_codings(header), body, 1000) == BODY


@pytest.mark.parametrize(
    ("header", "body", "status"),
    [
        ("br", b"", 415),
        ("zstd", b"", 415),
        ("gzip, br", b"", 415),
        ("gzip, gzip, gzip", b"", 415),
        ("nonsense" * 1000, b"", 415),
        ("gzip", BODY, 400),
        ("gzip", b"", 400),
        ("gzip", compress(BODY)[:-1], 400),
        ("gzip", compress(BODY)[:-8], 400),
        ("gzip", compress(BODY)[:-5] + bytes(5), 400),
        ("gzip", compress(BODY) + b"x", 400),
        ("gzip", compress(b"") * (MAX_MEMBERS + 1), 400),
        ("deflate", b"", 400),
        ("deflate", BODY, 400),
        ("deflate", zlib.compress(BODY) + b"x", 400),
        ("deflate", zlib.compress(BODY)[:-1], 400),
        ("gzip", compress(bytes(1001)), 413),
        ("gzip", compress(bytes(600)) * 2, 413),
        ("gzip", compress(bytes(5_000_000)), 413),
        ("gzip, gzip", compress(compress(bytes(5_000_000))), 413),
        ("deflate", zlib.compress(bytes(1001)), 413),
    ],
)
def test_unknown_malformed_and_large_bodies_are_refused(
    header: str, body: bytes, status: int
) -> None:
    """
    Other codings, malformed or truncated bodies, and bodies that are too large once
    decoded.
    """
    with pytest.raises(RemoteProtocolError) as raised:
        decode(read_codings(header), body, 1000)

    assert raised.value.status == status
    assert len(raised.value.reason) < 200


@given(st.binary(max_size=200), st.sampled_from(["gzip", "deflate", "deflate, gzip"]))
def test_any_bytes_give_a_body_or_an_error(body: bytes, header: str) -> None:
    """
    Any input gives a body or a RemoteProtocolError.
    """
    try:
        assert len(decode(read_codings(header), body, 1000)) <= 1000
    except RemoteProtocolError as error:
        assert error.status in (400, 413)


def test_publish_decodes_the_body() -> None:
    """
    The decoded bytes are published; an unknown coding is refused with the supported ones
    before the body is read.
    """
    place = Place()
    kind = b"Content-Type: application/json\r\nHost: localhost\r\nContent-Encoding: %s\r\n"
    good = post(compress(BODY), b"/publish", kind % b"gzip").replace(b"Host: a\r\n", b"")
    bad = post(b"", b"/publish", kind % b"br").replace(b"Host: a\r\n", b"")
    bad = bad.replace(b"h: 0", b"h: 9")
    local = "127.0.0.1"

    assert place.call(good, address=local).responses()[0].status == 200
    [message] = place.hub._channels.get("a").history.newest(9)  # type: ignore[union-attr]  # the channel exists
    assert message.data == b"hello"
    [refused] = place.call(bad, address=local).responses()
    assert (refused.status, refused.headers["accept-encoding"]) == (415, ACCEPT_ENCODING)


def test_missing_body_is_not_an_empty_message() -> None:
    """
    A plain body of no bytes is a message; a request without a body has none.
    """
    place = Place()
    request = b"POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    for line, status in (
        (b"Content-Length: 0\r\n", 200),
        (b"Content-Length: 0\r\nContent-Type: text/plain\r\n", 200),
        (b"Content-Length: 0\r\nContent-Type: application/json\r\n", 400),
        (b"Transfer-Encoding: chunked\r\n", 200),
        (b"", 400),
    ):
        end = b"0\r\n\r\n" if line[:1] == b"T" else b""
        caller = place.call(request % line + end, address="127.0.0.1")
        assert [answer.status for answer in caller.responses()] == [status]


def test_what_inflates_to_nothing_counts_too() -> None:
    """
    Members without content: each step says how much it has read.
    """
    body = gzip.compress(b"") * 90
    assert sum(decode_in_steps(["gzip"], body, 100)) == len(body)
