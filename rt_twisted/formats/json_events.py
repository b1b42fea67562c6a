"""
Server-sent events for programs: each message is a JSON object that names its
channel, and keeps bytes that are no text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.formats.poll import message_json
from rt_twisted.formats.sse import CONTENT_TYPE, HEARTBEAT, EventStream
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class JsonEventStream:
    """
    Events of one type; the message's own is in the object.

    Args:
        retry: as for `EventStream`.
        padding: likewise.
    """

    retry: int = 0
    padding: int = 0

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        As `EventStream.start`.
        """
        nothing = Replay((), replay.complete, replay.position)
        head = EventStream(self.retry, self.padding, ids=False).start(nothing)
        return [head[0], *replay.messages, self.cursor(replay.position)]

    def encode(self, message: Message) -> bytes:
        """
        One event: `data` in one line, then `id`.
        """
        return b"data: %s\nid: %s\n\n" % (message_json(message), str(message.position).encode())

    def cursor(self, position: Position) -> bytes:
        """
        As `EventStream.cursor`.
        """
        return EventStream().cursor(position)

    def gap(self, position: Position) -> bytes:
        """
        As `EventStream.gap`.
        """
        return EventStream().gap(position)

    def end(self, retry: int) -> bytes:
        """
        When to come back.
        """
        return EventStream().end(retry)
