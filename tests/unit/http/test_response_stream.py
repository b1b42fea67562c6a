"""
Tests of responses whose body follows piece by piece, and of bodies that are read as a file.
"""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.error import ConnectionLost

from rt_twisted.http.exchange import ON_DISK
from rt_twisted.http.head import ResponseHead
from rt_twisted.model.errors import HttpError
from tests.defaults import make_http_limits
from tests.unit.http.clients import Place, chunked, get, post
from tests.unit.http.h2_client import Client

HEAD = ResponseHead(200, [(b"X-App", b"a")], b"Fine")


class Recorder:
    """
    A push producer that records its calls.
    """

    def __init__(self) -> None:
        self.calls: list[str] = []

    def pauseProducing(self) -> None:
        self.calls.append("pause")

    def resumeProducing(self) -> None:
        self.calls.append("resume")

    def stopProducing(self) -> None:
        self.calls.append("stop")


@pytest.mark.parametrize(
    ("version", "length", "wire", "open"),
    [
        (b"1.1", None, b"transfer-encoding: chunked", True),
        (b"1.1", 6, b"content-length: 6", True),
        (b"1.0", None, b"connection: close", False),
    ],
)
def test_a_body_of_pieces(version: bytes, length: int | None, wire: bytes, open: bool) -> None:
    """
    A body arrives complete, in chunks where its length is not known, and old clients see its end
    by that of the connection.
    """
    place = Place()
    caller = place.call(get(b"/late", version=version))
    stream = place.waiting[0].stream(HEAD, length)
    stream.write(b"abc")
    stream.write(b"")
    stream.write(b"def")
    stream.finish()
    stream.write(b"more")

    (answer,) = caller.responses()
    assert (answer.status, answer.body, answer.headers["x-app"]) == (200, b"abcdef", "a")
    assert wire in caller.written().lower()
    assert caller.open is open


def test_headers_that_routes_change() -> None:
    """
    A header that is added replaces the type of the application, and one that is removed is not
    sent, whatever its case.
    """
    place = Place()
    caller = place.call(get(b"/late"))
    exchange = place.waiting[0]
    exchange.add_header("Content-Type", "text/x-other")
    exchange.add_header("X-More", "1")
    exchange.remove_header("x-app")
    head = ResponseHead(200, [(b"X-App", b"a"), (b"content-type", b"text/plain")], b"Fine")
    exchange.stream(head, 0).finish()

    (answer,) = caller.responses()
    assert answer.headers["content-type"] == "text/x-other"
    assert answer.headers["x-more"] == "1"
    assert "x-app" not in answer.headers


@pytest.mark.parametrize(("method", "status"), [(b"HEAD", 200), (b"GET", 204), (b"GET", 304)])
def test_responses_without_a_body(method: bytes, status: int) -> None:
    """
    HEAD, 204 and 304 have no body, whatever is written; the connection stays open.
    """
    place = Place()
    caller = place.call(get(b"/late").replace(b"GET", method) + get())
    stream = place.waiting[0].stream(ResponseHead(status, [], b""), None)
    stream.write(b"abc")
    stream.finish()

    first, second = caller.responses(method.decode())
    assert (first.status, first.body, second.status) == (status, b"", 200)


def test_a_body_keeps_the_length_that_was_declared() -> None:
    """
    A body that is too long is cut; one that is too short breaks the connection off.
    """
    place = Place()
    long, short = place.call(get(b"/late") + get()), place.call(get(b"/late"))
    for exchange in place.waiting:
        stream = exchange.stream(HEAD, 4)
        stream.write(b"abc")
        if exchange is place.waiting[0]:
            stream.write(b"def")
        stream.finish()

    assert [answer.body[:4] for answer in long.responses()] == [b"abcd", b'{"pa']
    assert short.wire.aborted


def test_a_client_that_disconnects_stops_the_producer() -> None:
    """
    The producer is stopped when the client disconnects, and registered no more when the response
    has ended.
    """
    place = Place()
    gone, done = place.call(get(b"/late")), place.call(get(b"/late"))
    first, second = Recorder(), Recorder()
    for exchange, producer in zip(place.waiting, (first, second), strict=True):
        stream = exchange.stream(HEAD, None)
        stream.register_producer(producer)
    stream.finish()
    gone.hang_up()
    done.hang_up()

    assert "stop" in first.calls
    assert second.calls == []
    with pytest.raises(ConnectionLost):
        place.waiting[0].stream(HEAD, None)


def test_a_broken_response() -> None:
    """
    A response that is aborted breaks the connection off.
    """
    place = Place()
    caller = place.call(get(b"/late"))
    stream = place.waiting[0].stream(HEAD, None)
    stream.write(b"abc")
    stream.abort()
    stream.finish()

    assert caller.wire.aborted
    assert b"0\r\n\r\n" not in caller.written()


def test_a_stream_by_http2() -> None:
    """
    By HTTP/2 there are no chunks, and the producer waits for the client's window.
    """
    place = Place()
    client = Client(place)
    received = client.ask("/late")
    stream = place.waiting[0].stream(HEAD, None)
    producer = Recorder()
    stream.register_producer(producer)
    stream.write(b"x" * 100_000)
    assert producer.calls == ["pause"]
    client.turn(20)
    assert producer.calls == ["pause", "resume"]
    stream.finish()
    client.turn()

    assert (received.status, len(received.body), received.ended) == (200, 100_000, True)
    assert producer.calls == ["pause", "resume"]


@pytest.mark.parametrize("size", [0, 5, ON_DISK + 1])
def test_a_body_as_a_file(size: int) -> None:
    """
    A body is read as a file from its start, with a length and in chunks.
    """
    place = Place(limits=make_http_limits())
    body = b"x" * size
    chunks = (b"%x" % size, body) if size else ()
    place.call(post(body, b"/late"))
    place.call(chunked(*chunks, b"0", b"", b"", path=b"/late"))
    for exchange in place.waiting:
        found: list[Any] = []
        exchange.spool(1 << 20).addCallback(found.append)
        with found[0] as file:
            assert file.read() == body


def test_a_file_has_a_limit() -> None:
    """
    A body over the limit is refused, before it is read if its length is known.
    """
    place = Place(limits=make_http_limits())
    place.call(post(b"", b"/late").replace(b"h: 0", b"h: 9"))
    place.call(chunked(b"9", b"x" * 9, b"", path=b"/late"))
    for exchange in place.waiting:
        failed: list[Any] = []
        exchange.spool(8).addErrback(failed.append)
        assert failed[0].check(HttpError)
        assert failed[0].value.status == 413


def test_a_file_of_a_client_that_disconnects() -> None:
    """
    A body that will never be complete fails.
    """
    place = Place(limits=make_http_limits())
    caller = place.call(post(b"", b"/late").replace(b"h: 0", b"h: 9"))
    failed: list[Any] = []
    place.waiting[0].spool(100).addErrback(failed.append)
    caller.hang_up()

    assert failed[0].check(ConnectionLost)
