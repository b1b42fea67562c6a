"""
Plain streams: the bytes of each message, with the prefix and suffix of the route.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.raw import Raw
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, Message, Position, Replay
from rt_twisted.routes import parse_route
from tests.fakes import started
from tests.unit.http.clients import Caller, Place, get
from tests.unit.http.h2_client import Client
from tests.unit.test_routes import CONTEXT

LINES = (
    "^/raw$ stream",
    r"^/lines$ stream:subscribe=news,suffix=\n,type=text/plain,history=3",
    "^/(a|b)$ stream:subscribe=news,prefix=${qs[name]}>$1:,suffix=;",
)


@pytest.fixture
def place() -> Place:
    return Place(*LINES)


def publish(place: Place, *data: bytes, channel: str = "news") -> None:
    place.hub.publish([Draft(channel, each) for each in data])
    place.wait(0)


def body(caller: Caller) -> bytes:
    """
    Return the decoded chunks that a stream has sent so far.
    """
    _, _, rest = caller.written().partition(b"\r\n\r\n")
    found = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return found


def test_bytes_pass_as_they_are(place: Place) -> None:
    """
    Any bytes are sent unchanged; the headers are sent before the first message.
    """
    subscriber = place.call(get(b"/raw?channels=news,sport"))
    assert b"200 OK" in subscriber.written()
    assert b"Content-Type: application/octet-stream\r\n" in subscriber.written()
    assert b"X-Accel-Buffering: no\r\n" in subscriber.written()
    publish(place, b"\x00\xff\r\n", b"", b"0\r\n\r\n")
    publish(place, b"sport", channel="sport")

    assert body(subscriber) == b"\x00\xff\r\n0\r\n\r\nsport"


@given(st.lists(st.binary(max_size=40), min_size=1), st.binary(max_size=3), st.binary(max_size=3))
def test_each_message_has_prefix_and_suffix(
    data: list[bytes], prefix: bytes, suffix: bytes
) -> None:
    """
    Replayed or live, chunked or not; nothing else is ever sent.
    """
    format = Raw("text/plain", prefix, suffix)
    messages = tuple(Message("a", each, Position("e", n)) for n, each in enumerate(data))
    replay = Replay(messages, False, Position("e", 99))

    verifyObject(IFormat, format)
    expected = b"".join(prefix + each + suffix for each in data)
    assert started(format, replay) == expected
    assert b"".join(map(format.encode, messages)) == expected
    framed = Chunked(format)
    for nothing in (
        framed.heartbeat,
        framed.cursor(replay.position),
        framed.gap(replay.position),
        started(framed, Replay((), True, replay.position)),
    ):
        assert nothing == b""
    assert framed.end(7) == b"0\r\n\r\n"


def test_lines(place: Place) -> None:
    """
    A line feed as suffix makes lines, with the route's type and history.
    """
    publish(place, b"zero", b"one", b"two", b"three")
    subscriber = place.call(get(b"/lines"))
    publish(place, b"four")

    assert b"Content-Type: text/plain\r\n" in subscriber.written()
    assert body(subscriber) == b"one\ntwo\nthree\nfour\n"
    all_of_it = place.call(get(b"/lines?since=e.0"))
    assert body(all_of_it) == b"zero\none\ntwo\nthree\nfour\n"


def test_prefix_and_suffix_may_depend_on_the_request(place: Place) -> None:
    """
    Variables work as in every argument, with any bytes, also those that are not text.
    """
    subscribers = [place.call(get(b"/a?name=x")), place.call(get(b"/b?name=%FF,y%0A"))]
    publish(place, b"hello")

    assert [body(subscriber) for subscriber in subscribers] == [b"x>a:hello;", b"\xff,y\n>b:hello;"]


def test_old_http(place: Place) -> None:
    """
    HTTP/1.0 has no chunks: the bytes are sent unframed until the connection closes.
    """
    subscriber = place.call(get(b"/lines", version=b"1.0"))
    publish(place, b"one")
    assert b"Connection: close\r\n" in subscriber.written()
    assert subscriber.written().endswith(b"\r\n\r\none\n")
    place.hub.stop(1000)
    assert subscriber.written().endswith(b"\r\n\r\none\n")
    assert not subscriber.open


def test_the_end_of_chunks(place: Place) -> None:
    """
    When the daemon stops, the chunked body is complete.
    """
    subscriber = place.call(get(b"/lines"))
    place.hub.stop(1000)

    assert subscriber.written().endswith(b"\r\n\r\n0\r\n\r\n")


def test_over_http_2(place: Place) -> None:
    """
    HTTP/2 sends the same bytes in DATA frames.
    """
    client = Client(place)
    subscriber = client.ask("/lines")
    publish(place, b"one", b"two")
    client.turn()

    assert subscriber.headers["content-type"] == "text/plain"
    assert subscriber.body == b"one\ntwo\n"
    assert not subscriber.ended


def test_head(place: Place) -> None:
    """
    A HEAD request does not join the hub.
    """
    head = place.call(b"HEAD /lines HTTP/1.1\r\nHost: a\r\n\r\n")

    assert b"Content-Type: text/plain\r\n" in head.written()
    assert place.hub.current_metrics().subscribers == 0
    assert head.open


@pytest.mark.parametrize("query", [b"", b"?channels=a*", b"?channels=a&since=x"])
def test_malformed_requests(place: Place, query: bytes) -> None:
    """
    Malformed requests are rejected as by `sse`.
    """
    assert b" 400 " in place.call(get(b"/raw" + query)).written()


@pytest.mark.parametrize(
    "line",
    [
        "^/ stream:subscribe=a*",
        "^/ stream:subscribe=a,history=-1",
        r"^/ stream:subscribe=a,type=text/plain\nX: y",
        "^/ stream:subscribe=a,prefix=$1",
        "^/ poll:subscribe=a*",
        "^/ poll:subscribe=a,history=-1",
        "^/ poll:subscribe=a,wait=-1",
        "^/ poll:subscribe=a,wait=nan",
    ],
)
def test_wrong_route_lines(line: str) -> None:
    """
    Wrong arguments are found at start.
    """
    with pytest.raises(ValueError, match=r"\w"):
        parse_route(line, CONTEXT)
