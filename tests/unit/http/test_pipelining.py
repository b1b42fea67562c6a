"""
Requests and data that follow an unanswered request on one connection.
"""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from rt_twisted.http.writer import MAX_HELD
from rt_twisted.model.errors import HttpError
from tests.unit.http.clients import Caller, Place, Wire, chunked, get, post, read_answers

WEBSOCKET = (
    b"Connection: upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)


def test_a_request_behind_a_stream_is_not_acted_on() -> None:
    """
    A stream takes the connection over: what was pipelined behind it is dropped.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/news") + get(b"/late"))

    place.waiting[0].answer(200)

    assert caller.streams
    assert len(place.waiting) == 1


def test_frames_behind_a_late_upgrade_belong_to_the_new_protocol() -> None:
    """
    Data behind an upgrade request is not parsed as HTTP while the request is unanswered.
    """
    frames = b"\x81\x80\x00\x00\x00\x00"
    place = Place()
    caller = place.call(get(b"/late", WEBSOCKET) + frames)
    assert caller.written() == b""

    handle = place.waiting[0].upgrade([("Upgrade", "websocket")])

    assert handle.rest == frames


def test_a_body_that_broke_before_it_was_read_fails_its_reader() -> None:
    """
    An action that reads a broken body late gets the error, and does not wait forever.
    """
    place = Place()
    place.call(chunked(b"zz", b"", path=b"/late"))
    errors: list[Any] = []

    place.waiting[0].read(10).addErrback(errors.append)

    assert isinstance(errors[0], Failure)
    assert errors[0].check(HttpError)


class SlowWire(Wire):
    """
    A transport that records each write, and has no room for more after the first one.
    """

    def __init__(self) -> None:
        super().__init__("127.0.0.1")
        self.writes: list[bytes] = []
        self.producer: Any
        self.full = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)  # type: ignore[no-untyped-call]  # Twisted's
        if self.full:
            self.producer.pauseProducing()


def slow_caller(place: Place) -> tuple[Caller, SlowWire]:
    caller, wire = place.call(), SlowWire()
    wire.protocol = place.server.buildProtocol(wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    wire.protocol.makeConnection(wire)
    caller.wire = wire
    return caller, wire


def publishing(message: bytes) -> bytes:
    request = post(message, b"/publish?channel=news", b"Content-Type: text/plain\r\n")
    return request.replace(b"Host: a", b"Host: localhost")


def test_responses_to_publish_requests_of_one_read_leave_together() -> None:
    """
    Sixteen pipelined publish requests are answered in order, by one write.
    """
    caller, wire = slow_caller(Place())

    caller.send(b"".join([publishing(b"%d" % number) for number in range(16)]))

    positions = [answer.json["position"] for answer in caller.responses(*["POST"] * 16)]
    assert positions == [f"e.{number}" for number in range(1, 17)]
    assert len(wire.writes) == 1


def test_joined_responses_are_bounded() -> None:
    """
    Responses that wait for others of the same read are sent when there are many of them.
    """
    caller, wire = slow_caller(Place())

    caller.send(publishing(b"x") * 200)

    assert len(caller.responses(*["POST"] * 200)) == 200
    assert 1 < len(wire.writes) < 20
    assert max(map(len, wire.writes)) < 2 * MAX_HELD


def test_a_stream_begins_behind_joined_responses() -> None:
    """
    A stream that is requested behind publish requests begins when their responses have been
    sent, and the requests behind a response that waits are answered in order.
    """
    place = Place()
    caller, wire = slow_caller(place)
    wire.full = True

    caller.send(publishing(b"1") * 2 + get(b"/echo") + get(b"/news"))

    assert len(read_answers(caller.written(), ["POST", "POST"])) == 2
    assert not caller.streams
    wire.producer.resumeProducing()
    assert len(read_answers(caller.written(), ["POST", "POST"])) == 3
    wire.full = False
    wire.producer.resumeProducing()
    assert caller.streams
    assert b"text/event-stream" in caller.written()


def test_the_last_of_joined_responses_closes_the_connection() -> None:
    """
    Joined responses are sent before the connection closes, also for malformed requests.
    """
    closing = publishing(b"1").replace(b"Host", b"Connection: close\r\nHost")
    for last in (closing, b"what is this\r\n\r\n"):
        caller, wire = slow_caller(Place())

        caller.send(publishing(b"1") + last)

        assert len(caller.responses("POST", "POST")) == 2
        assert wire.disconnecting
