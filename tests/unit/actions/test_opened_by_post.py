"""
Streams and polls that are opened by POST, with long lists of channels in the body.
"""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.query import FORM, MAX_FIELDS, parse_fields, parse_query
from rt_twisted.model.message import Draft
from tests.defaults import make_http_limits
from tests.unit.http.clients import Caller, Place, post

JSON = "application/json"
NAMES = [f"channel-with-a-long-name-{number:03}" for number in range(100)]


def call(place: Place, path: str, body: bytes, kind: str, more: bytes = b"") -> Caller:
    headers = b"Content-Type: %s\r\n%s" % (kind.encode(), more)
    return place.call(post(body, path.encode(), headers))


@pytest.fixture
def place() -> Place:
    """
    Return a server whose clients request channels, with one message in the last channel.
    """
    limits = make_http_limits(line=200, body=100_000)
    lines = ("^/sse$ sse", "^/stream$ stream", "^/poll$ poll")
    place = Place(*lines, reactor=Clock(), limits=limits)
    place.hub.publish([Draft(NAMES[-1], b"hello")])
    place.clock.advance(0)
    return place


@pytest.mark.parametrize("path", ["/sse", "/stream", "/poll"])
@pytest.mark.parametrize("kind", [FORM, JSON, "application/ld+json", "gzip"])
def test_a_hundred_channels(place: Place, path: str, kind: str) -> None:
    """
    A body may be a form or JSON, also compressed; replay and names work as in a URL.
    """
    body = json.dumps({"channels": NAMES, "history": 5}).encode()
    more = b""
    if kind == FORM:
        body = "&".join([*(f"channels[]={name}" for name in NAMES), "history=5"]).encode()
    elif kind == "gzip":
        kind, body, more = JSON, gzip.compress(body), b"Content-Encoding: gzip\r\n"
    caller = call(place, path, body, kind, more)
    place.clock.advance(0)
    place.context.reactor.advance(0)
    place.hub.publish([Draft(NAMES[50], b"live")])
    place.clock.advance(0)
    written = caller.written()

    assert written.startswith(b"HTTP/1.1 200 OK")
    assert b"hello" in written
    if path != "/poll":
        assert b"live" in written


def test_the_body_comes_before_the_url(place: Place) -> None:
    """
    The fields of the body override those of the URL; without a body the URL has all.
    """
    for path, body in (
        ("/sse?history=1&channels=x", NAMES[-1]),
        (f"/sse?channels={NAMES[-1]}", ""),
    ):
        caller = call(place, path, f"channels={body}&history=1".encode() if body else b"", FORM)
        assert (b"hello" in caller.written()) is bool(body)
        assert caller.streams


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", JSON, 400),
        (b"{}", JSON, 400),
        (b"[]", JSON, 400),
        (b"{", JSON, 400),
        (b'{"channels": {}}', JSON, 400),
        (b'{"channels": [["a"]]}', JSON, 400),
        (b'{"channels": "a b"}', JSON, 400),
        (b'{"channels": "\\ud800"}', JSON, 400),
        (b'{"channels": "a", "since": "nonsense"}', JSON, 400),
        (b'{"channels": "\xff"}', JSON, 400),
        (b"channels=a", "text/plain", 415),
        (b"channels=a", "", 415),
        (b"channels=%ff", FORM, 400),
        (b"channels=" + b",".join(b"c%d" % n for n in range(101)), FORM, 400),
        (b"&" * MAX_FIELDS, FORM, 400),
        (b"x" * ((2 << 20) + 1), FORM, 413),
    ],
)
def test_rejected_bodies(place: Place, body: bytes, kind: str, status: int) -> None:
    """
    A body has the same limits as a URL, except for its length.
    """
    [answer] = call(place, "/sse", body, kind).responses()

    assert answer.status == status


def test_pages_of_other_origins_may_post(place: Place) -> None:
    """
    A preflight request, which JSON needs, is answered with POST and the content type.
    """
    headers = b"Origin: https://a.example\r\nAccess-Control-Request-Method: POST\r\n"
    [answer] = place.call(b"OPTIONS /sse HTTP/1.1\r\nHost: a\r\n%s\r\n" % headers).responses()

    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "Content-Type" in answer.headers["access-control-allow-headers"]


def test_brackets_in_a_url(place: Place) -> None:
    """
    PHP and Rails write lists as `channels[]=a`.
    """
    for name in ("channels[]", "channels%5B%5D", "channel[0]"):
        query = f"/stream?{name}=x&{name}={NAMES[-1]}&history=1"
        caller = place.call(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % query.encode())
        assert b"hello" in caller.written()


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": "x", "b": 1, "c": 1.5, "d": True, "e": None}, "a=x&b=1&c=1.5&d=true"),
        ({"a": ["x", 1, False]}, "a=x&a=1&a=false"),
        ({"a": []}, ""),
    ],
)
def test_json_values_are_read_as_in_a_query(value: Any, expected: str) -> None:
    """
    Numbers and booleans are read as in a URL; null is empty.
    """
    found = {name: given for name, given in fields(value).items() if given}

    assert found == parse_query(expected)


def fields(value: Any) -> dict[str, list[str]]:
    return parse_fields(JSON, json.dumps(value).encode())


@given(st.binary(max_size=60), st.sampled_from([FORM, JSON, "text/json", "", "x"]))
def test_any_body_has_fields_or_is_an_error(body: bytes, kind: str) -> None:
    """
    Any bytes are parsed, or rejected with the codec's error.
    """
    try:
        found = parse_fields(kind, body)
    except RemoteProtocolError as error:
        assert error.status in (400, 415)
        return
    assert all(type(value) is str for values in found.values() for value in values)
