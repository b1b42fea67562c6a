"""
What a reverse proxy passes on of requests and responses.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.forwarding import (
    Field,
    ForwardedClient,
    check_target,
    request_fields,
    response_fields,
    strip_prefix,
)
from rt_twisted.codecs.uwsgi import MAX_PACKET, encode_packet

CLIENT = ForwardedClient("192.0.2.1", "192.0.2.1", "http", b"a.example", trusted=False)
OWN: list[Field] = [
    (b"X-Forwarded-For", b"192.0.2.1"),
    (b"X-Real-IP", b"192.0.2.1"),
    (b"X-Forwarded-Proto", b"http"),
    (b"X-Forwarded-Host", b"a.example"),
]


@pytest.mark.parametrize(
    ("raw", "connection", "kept"),
    [
        ([(b"A", b"1"), (b"a", b"2")], None, [(b"A", b"1"), (b"a", b"2")]),
        ([(b"Cookie", b"a=1"), (b"cookie", b"b=2")], None, [(b"Cookie", b"a=1; b=2")]),
        ([(b"A", b"1"), (b"B", b"2")], b"B , x", [(b"A", b"1")]),
        ([(b"A_B", b"1"), (b"Grip-Sig", b"2"), (b"TE", b"x"), (b"Upgrade", b"y")], None, []),
        ([(b"X-Forwarded-For", b"10.0.0.1"), (b"Forwarded", b"for=x")], None, []),
        ([(b"Proxy", b"http://192.0.2.9")], None, []),  # HTTP_PROXY of an application by CGI
        ([(b"X-Real-IP", b"10.0.0.1"), (b"X-Forwarded-Port", b"1")], None, []),
        ([(b"Host", b"b"), (b"Content-Length", b"1"), (b"Expect", b"x")], None, []),
    ],
)
def test_request_headers(raw: list[Field], connection: bytes | None, kept: list[Field]) -> None:
    """
    Headers of one connection end here, and a client cannot name another address.
    """
    assert request_fields(raw, connection, CLIENT) == [*kept, *OWN]


def test_headers_of_a_trusted_proxy() -> None:
    """
    They are passed on, with the address of the proxy behind them.
    """
    client = replace(CLIENT, address="198.51.100.7", scheme="https", trusted=True, prefix="/a")
    raw = [
        (b"X-Forwarded-For", b"198.51.100.7"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Port", b"443"),
        (b"X-Forwarded-Prefix", b"/outer"),
        (b"Forwarded", b"for=198.51.100.7"),
    ]
    assert request_fields(raw, None, client) == [
        (b"X-Forwarded-Port", b"443"),
        (b"X-Forwarded-For", b"198.51.100.7, 192.0.2.1"),
        (b"X-Real-IP", b"198.51.100.7"),
        (b"X-Forwarded-Proto", b"https"),
        (b"X-Forwarded-Host", b"shop.example"),
        (b"X-Forwarded-Prefix", b"/outer/a"),
        (b"Forwarded", b"for=198.51.100.7, for=192.0.2.1"),
    ]


def test_response_headers() -> None:
    """
    Those of the connection, and those for the daemon, are left out.
    """
    fields = [
        (b"B", b"1"),
        (b"Connection", b"b, close"),
        (b"Content-Length", b"5"),
        (b"X-Accel-Redirect", b"/x"),
        (b"Grip-Hold", b"stream"),
        (b"X-Hold", b"1"),
        (b"Set-Cookie", b"c"),
    ]
    assert response_fields(fields, (b"x-hold",)) == [(b"Set-Cookie", b"c")]


@pytest.mark.parametrize(
    ("target", "prefix", "left"),
    [
        (b"/a/b?c", "/a", b"/b?c"),
        (b"/a", "/a", b"/"),
        (b"/a?c", "/a", b"/?c"),
        (b"/%61/b", "/a", b"/b"),
        (b"/ab", "/a", b"/ab"),
        (b"/a/b/c", "/a/b", b"/c"),
        (b"/", "/a", b"/"),
    ],
)
def test_prefixes(target: bytes, prefix: str, left: bytes) -> None:
    """
    Whole segments are removed, however they are encoded.
    """
    assert strip_prefix(target, prefix) == left


@given(st.binary(max_size=40))
def test_any_target(target: bytes) -> None:
    """
    A path that is accepted has no dot segments, whatever an application decodes.
    """
    with suppress(ValueError):
        check_target(b"/" + target)
        path = (b"/" + target).partition(b"?")[0]
        assert not {b".", b".."} & set(path.split(b"/"))
        assert b"%2e" not in path.lower()
        assert b"\\" not in path


def test_packets() -> None:
    """
    A head of four bytes, and the variables with their lengths.
    """
    packet = encode_packet([(b"A", b"bc"), (b"D", b"")], 5, 1)
    assert packet == b"\x05\x0c\x00\x01\x01\x00A\x02\x00bc\x01\x00D\x00\x00"
    encode_packet([(b"A", b"x" * (MAX_PACKET - 5))])
    with pytest.raises(ValueError, match="larger"):
        encode_packet([(b"A", b"x" * (MAX_PACKET - 4))])
