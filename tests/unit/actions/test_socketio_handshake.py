"""
What is kept of a session's first request.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.actions.socketio.handshake import Handshake


class Request:
    """
    As much of an exchange as is kept.
    """

    address = "192.0.2.7"
    local = False
    path = "/socket.io/"
    query_string = "EIO=4&name=J%C3%BCrgen+M&name=two&empty=&bare"

    def __init__(self, **headers: str) -> None:
        self.headers = headers

    def header(self, name: str) -> str | None:
        return self.headers.get(name)


def test_what_an_application_finds() -> None:
    """
    The fields of the query, cookies, and some headers, as exchanges have them.
    """
    request: Any = Request(cookie='a=1; b="two"; none', host="example.org", accept="*/*")
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


def test_bytes_that_are_no_text() -> None:
    """
    Are told apart, as in any query.
    """
    request: Any = Request()
    request.query_string = "name=%ff%fe"

    assert Handshake.of(request).query == {"name": ["\udcff\udcfe"]}


def test_what_nobody_will_ask_for() -> None:
    """
    Is not kept; what decides who may publish is.
    """
    shown = {
        "authorization": "Bearer x",
        "x-publish-key": "y",
        "host": "a",
        "origin": "http://a",
        "sec-fetch-site": "same-origin",
    }
    request: Any = Request(cookie="a=1", **shown)
    handshake = Handshake.of(request, CREDENTIAL_HEADERS)

    assert handshake.headers == shown
    assert handshake.cookies == {}


def test_what_a_client_did_not_send() -> None:
    """
    Is not there, and no mistake.
    """
    request: Any = Request()
    request.query_string = ""
    handshake = Handshake.of(request)

    assert (handshake.query, handshake.cookies, handshake.headers) == ({}, {}, {})
