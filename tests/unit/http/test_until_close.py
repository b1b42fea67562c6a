"""
Bodies without length that run until the client closes, on routes for live publishers.
"""

from __future__ import annotations

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

from tests.unit.http.clients import byte_wise, get, post, status_of
from tests.unit.http.live import ChunkSink, live_place

BODY = b"\0\x1a\r\n\r\nGET / HTTP/1.1\r\n\r\n\xff"
HEADS = [
    b"PUT /live HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /live HTTP/1.0\r\n\r\n",
    b"SOURCE /live HTTP/1.0\r\nIce-Name: x\r\n\r\n",
    b"SOURCE /live ICE/1.0\r\n\r\n",
    b"SOURCE /live HTTP/1.1\r\nHost: a\r\n\r\n",
]


@pytest.mark.parametrize("split", ["one", "bytes", "head first"])
@pytest.mark.parametrize("head", HEADS)
def test_all_bytes_behind_the_head_are_the_body(head: bytes, split: str) -> None:
    """
    The body begins behind the head, wherever the bytes are split, and ends with the client's
    sending side. The response is still sent.
    """
    place, waiting = live_place()
    data = head + BODY
    caller = place.call(
        *{"one": [data], "bytes": byte_wise(data), "head first": [head, BODY]}[split]
    )
    exchange, sink = waiting[0], ChunkSink()
    assert exchange.length is None
    exchange.receive(sink)
    assert (sink.body, sink.events[-1]) == (BODY, BODY)
    caller.send(b"more")
    caller.wire.protocol.readConnectionLost()
    assert sink.events[-2:] == [b"more", "end"]
    exchange.answer(200, b"ok")

    assert status_of(caller) == 200
    assert not caller.open


def test_an_end_waits_while_the_body_is_paused() -> None:
    """
    A client may close its sending side while the body is paused: nothing is lost.
    """
    place, waiting = live_place()
    caller = place.call(HEADS[0])
    exchange = waiting[0]
    sink = ChunkSink(then=exchange.pause)
    exchange.receive(sink)
    caller.send(b"a" * 70_000)
    caller.send(b"b" * 10)
    assert caller.wire.producerState == "paused"
    caller.wire.protocol.readConnectionLost()
    for _ in range(2):
        exchange.resume()
    exchange.resume()

    assert sink.body == b"a" * 70_000 + b"b" * 10
    assert sink.events[-1] == "end"


@pytest.mark.parametrize(
    ("reason", "end"), [(ConnectionDone(), "end"), (ConnectionLost(), "lost ConnectionLost")]
)
def test_the_end_of_a_connection(reason: Exception, end: str) -> None:
    """
    A connection that ends cleanly, as TLS does, ends the body; one that breaks loses it.
    """
    place, waiting = live_place()
    caller = place.call(HEADS[0] + b"a")
    sink = ChunkSink()
    waiting[0].receive(sink)
    caller.wire.protocol.connectionLost(Failure(reason))

    assert sink.events == [b"a", end]


def test_100_continue_is_sent_when_the_body_is_received() -> None:
    """
    A publisher that waits for 100 Continue gets it when its key has been checked.
    """
    place, waiting = live_place()
    head = b"PUT %s HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n"
    caller = place.call(head % b"/live")
    assert caller.written() == b""
    waiting[0].receive(ChunkSink())
    assert caller.written() == b"HTTP/1.1 100 Continue\r\n\r\n"

    refused = place.call(head % b"/live/no")
    assert status_of(refused) == 401


@pytest.mark.parametrize("timeout", [0, 5])
def test_silence_ends_the_body(timeout: float) -> None:
    """
    A publisher that sends nothing for the timeout gets 408.
    """
    place, waiting = live_place()
    caller = place.call(HEADS[3] + b"a")
    sink = ChunkSink()
    waiting[0].receive(sink, timeout)
    place.wait((timeout or 60) + 2)

    assert sink.events == [b"a", "lost 408"]
    assert status_of(caller) == 408


@pytest.mark.parametrize("path", [b"/echo", b"/nowhere", b"/publish"])
def test_other_routes_refuse_such_a_body(path: bytes) -> None:
    """
    On any other route a body without length is none, and bytes behind the head are malformed.
    """
    place, waiting = live_place()
    caller = place.call(b"POST %s HTTP/1.1\r\nHost: a\r\n\r\n\0\1\2" % path)
    place.wait(10)

    assert caller.responses()[-1].status == 400
    assert not caller.open
    assert waiting == []


@pytest.mark.parametrize(
    "head",
    [
        b"PUT /live HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        b"GET /live HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_an_empty_body_is_empty(head: bytes) -> None:
    """
    A request with Content-Length: 0 has no body, and GET has none; the connection stays open.
    """
    place, waiting = live_place()
    caller = place.call(head)
    assert waiting[0].length == 0
    waiting[0].answer(200)
    caller.send(get())

    assert [answer.status for answer in caller.responses()] == [200, 200]


def test_behind_another_request_there_is_no_such_body() -> None:
    """
    A request that is received before the response to another one cannot have such a body.
    """
    place, waiting = live_place()
    caller = place.call(get(b"/late"), HEADS[0])
    place.waiting[0].answer(200)

    assert waiting[0].length == 0
    waiting[0].answer(200)
    assert [answer.status for answer in caller.responses()] == [200, 200]


def test_behind_a_body_there_is_no_such_body() -> None:
    """
    A request that came in one segment with the body of another one has no such body, and the
    bytes behind it are malformed; so it is behind a GET that ends the segment.
    """
    place, waiting = live_place()
    caller = place.call(post(b"x")[:-1], b"x" + HEADS[0] + b"\0\1")
    assert waiting[0].length == 0
    waiting[0].answer(200)
    assert [answer.status for answer in caller.responses()] == [200, 200, 400]

    other = place.call(post(b"x"), get() + HEADS[0] + get())
    assert waiting[1].length == 0
    waiting[1].answer(200)
    assert [answer.status for answer in other.responses()] == [200] * 4


@pytest.mark.parametrize(
    "head",
    [
        b"PUT /live/no HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PUT /live/no HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"PUT /live/no HTTP/1.1\r\nHost: a\r\nContent-Length: 99999\r\n\r\n",
    ],
)
def test_a_refused_publisher_is_disconnected(head: bytes) -> None:
    """
    A publisher that is refused gets the response, and is disconnected within a second although it
    goes on sending.
    """
    place, _ = live_place()
    caller = place.call(head)
    for _ in range(9):
        caller.send(b"1\r\na\r\n")
        place.clock.advance(0.1)

    assert status_of(caller) == 401
    assert caller.wire.aborted
    caller.hang_up()
    assert not place.server.connections
