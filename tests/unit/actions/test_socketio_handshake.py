"""
Tests of what is stored of a session's first request.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.socketio.handshake import Handshake


class HandshakeExchange:
    """
    The first request of a session.
    """

    address = "192.0.2.7"
    local = False
    path = "/socket.io/"
    query_string = "EIO=4&name=J%C3%BCrgen+M&name=two&empty=&bare"

    def __init__(self, **headers: str) -> None:
        self.headers = headers

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def test_an_application_sees_query_cookies_and_some_headers() -> None:
    """
    They have the same values as in the exchange.
    """
    request: Any = HandshakeExchange(cookie='a=1; b="two"; none', host="example.org", accept="*/*")
    handshake = Handshake.of(request)

    assert (handshake.address, handshake.local, handshake.path) == (
        "192.0.2.7",
        False,
        "/socket.io/",
    )
    assert handshake.query == {
        "EIO": ["4"],
        "name": ["Jürgen M", "two"],
        "empty": [""],
        "bare": [""],
    }
    assert handshake.cookies == {"a": "1", "b": "two"}
    assert handshake.headers == {"cookie": 'a=1; b="two"; none', "host": "example.org"}
    assert handshake.header("host") == "example.org"
    assert handshake.header("origin") is None
    assert handshake.header("accept") is None


def test_bytes_that_are_not_utf8_are_escaped() -> None:
    """
    The query is decoded as that of any exchange.
    """
    request: Any = HandshakeExchange()
    request.query_string = "name=%ff%fe"

    assert Handshake.of(request).query == {"name": ["\udcff\udcfe"]}


def test_without_an_application_only_credentials_are_stored() -> None:
    """
    Cookies are left out; headers that decide who may publish are stored.
    """
    shown = {
        "authorization": "Bearer x",
        "x-publish-key": "y",
        "host": "a",
        "origin": "http://a",
        "sec-fetch-site": "same-origin",
    }
    request: Any = HandshakeExchange(cookie="a=1", **shown)
    handshake = Handshake.of(request, CREDENTIAL_HEADERS)

    assert handshake.headers == shown
    assert handshake.cookies == {}


def test_a_handshake_may_be_empty() -> None:
    """
    Neither query nor headers are required.
    """
    request: Any = HandshakeExchange()
    request.query_string = ""
    handshake = Handshake.of(request)

    assert (handshake.query, handshake.cookies, handshake.headers) == ({}, {}, {})
