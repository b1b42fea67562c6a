"""
Requests and data that follow an unanswered request on one connection.
"""

from __future__ import annotations

from typing import Any

from twisted.python.failure import Failure

from rt_twisted.model.errors import HttpError
from tests.unit.http.clients import Place, chunked, get

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
