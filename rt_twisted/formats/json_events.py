"""
Server-sent events whose data is a JSON object, for programs.

The object names the message's channel, and holds data that is not UTF-8 in base64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.eventsource import CONTENT_TYPE
from rt_twisted.formats.json_messages import message_json
from rt_twisted.formats.sse import HEARTBEAT, EventStream
from rt_twisted.model.interfaces import IExpiringFormat
from rt_twisted.model.message import Mark, Message, Position, Replay


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class JsonEventStream:
    """
    Encodes all messages as events without a type; the message's event type is in the object.

    Args:
        retry: as for `EventStream`.
        padding: as for `EventStream`.
    """

    retry: int = 0
    padding: int = 0

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        nothing = Replay((), replay.complete, replay.position)
        head = EventStream(self.retry, self.padding, ids=False).start(nothing)
        return [head[0], *replay.messages, self.cursor(replay.position)]

    def encode(self, message: Message) -> bytes:
        if message.mark is not Mark.NONE:
            return b""
        return b"data: %s\nid: %s\n\n" % (message_json(message), str(message.position).encode())

    def cursor(self, position: Position) -> bytes:
        return EventStream().cursor(position)

    def gap(self, position: Position) -> bytes:
        return EventStream().gap(position)

    def expire(self, seconds: int, position: Position | None) -> bytes:
        return EventStream().expire(seconds, position)

    def end(self, retry: int) -> bytes:
        return EventStream().end(retry)
