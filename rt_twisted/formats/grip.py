"""
Streams that an application has begun and handed over by GRIP: what is published follows its
body, byte for byte.

A stream of the type `text/event-stream` resumes: an event that was published with the mark
POSITIONED gets its position as `id`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.formats.sse import EventStream
from rt_twisted.model.interfaces import IExpiringFormat, IFormat
from rt_twisted.model.message import Message, Position, Replay

POSITIONED = "grip-id"  # event type of messages that are events without ids of their own
_EVENTS = EventStream()


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class GripStream:
    """
    Sends messages unchanged. Reports neither positions nor gaps.

    Args:
        content_type: of the whole stream.
        heartbeat: the keep-alive that the application asks for; b"" for none.
    """

    content_type: str = "application/octet-stream"
    heartbeat: bytes = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return replay.messages

    def encode(self, message: Message) -> bytes:
        return message.data

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class GripEvents:
    """
    Sends messages that are event stream text, and reports gaps as `EventStream` does.

    Args:
        content_type: of the whole stream, with its parameters.
        heartbeat: see `GripStream`.
        positioned: whether the stream begins with a position, so that a client which has
            received no event resumes too.
    """

    content_type: str = EventStream.content_type
    heartbeat: bytes = EventStream.heartbeat
    positioned: bool = False

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        items: list[bytes | Message] = [] if replay.complete else [self.gap(replay.position)]
        items += replay.messages
        if self.positioned and not replay.messages:
            items.append(_EVENTS.cursor(replay.position))
        return items

    def encode(self, message: Message) -> bytes:
        data = message.data
        if message.event != POSITIONED:
            return data
        # The id is the last line of the event; see `EventStream`.
        return b"%sid: %s\n\n" % (data[:-1], str(message.position).encode())

    def cursor(self, position: Position) -> bytes:
        # Between events, an id would replace one of the application's own.
        return b""

    def gap(self, position: Position) -> bytes:
        return _EVENTS.gap(position)

    def expire(self, seconds: int, position: Position | None) -> bytes:
        return _EVENTS.expire(seconds, position)

    def end(self, retry: int) -> bytes:
        return _EVENTS.end(retry)


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class GripResponses:
    """
    Sends each message as a line, for a client that is answered with the first.
    """

    content_type = ""
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return replay.messages

    def encode(self, message: Message) -> bytes:
        return message.data + b"\n"

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""


def is_positionable(content: bytes) -> bool:
    """
    Return whether *content* is whole events of an event stream, without ids, and the last one
    has data: a client that has received this one has received all of them.
    """
    if not content.endswith(b"\n\n") or b"\r" in content:
        return False
    *others, last = content[:-2].split(b"\n\n")
    names = [line.partition(b":")[0] for event in (*others, last) for line in event.split(b"\n")]
    return b"id" not in names and (last.startswith(b"data") or b"\ndata" in last)
