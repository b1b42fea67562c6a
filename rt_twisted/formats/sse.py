"""
Server-sent events: the event stream format (WHATWG HTML, 9.2).

The format is UTF-8 text in lines, so two parts of a message cannot be sent unchanged:
CR and CR LF become LF, and bytes that are not UTF-8 become U+FFFD. Browsers would do
both; done here, every client receives the same, and no publisher can crash a client.
Everything else arrives unchanged: leading blanks, empty lines, NUL, a byte order mark, an
empty message.

`id` is the last field of an event. Some clients store the id when its line arrives, not
when the event is dispatched. If the connection were lost inside an event that begins with
its id, they would resume behind a message that they never received.

No empty line follows a comment, as some clients dispatch an empty event for every empty
line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.eventsource import CONTENT_TYPE, encode_retry
from rt_twisted.model.interfaces import IExpiringFormat
from rt_twisted.model.message import EXPIRE, GAP, Mark, Message, Position, Replay

HEARTBEAT = b":\n"
_CR, _LF = b"\r\n"  # `in` with bytes is slow, see `codecs.forms`


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class EventStream:
    """
    Encodes messages as events: `event` if there is a type, `data` for each line, then `id`.

    Args:
        retry: milliseconds after which a disconnected client reconnects; 0 leaves it
            to the client.
        padding: bytes of comment at the start, for clients that buffer the start of a
            stream (Yaffle's `padding`, amvtek's `evs_preamble`).
        ids: whether events carry their position as `id`; without it no client can
            resume.
    """

    retry: int = 0
    padding: int = 0
    ids: bool = True

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        # A comment comes first: clients strip a byte order mark at the start of the stream
        # (9.2.6), and the first message may begin with one.
        parts = [b":%s\n" % (b" " * self.padding)]
        if self.retry:
            parts.append(self.end(self.retry))
        if not replay.complete:
            parts.append(self.gap(replay.position))
        items: list[bytes | Message] = [b"".join(parts), *replay.messages]
        last = replay.messages[-1] if replay.messages else None
        if last is None or last.mark is not Mark.NONE or last.position != replay.position:
            items.append(self.cursor(replay.position))
        return items

    def encode(self, message: Message) -> bytes:
        event = b""
        if message.event is not None:
            if message.mark is not Mark.NONE:
                return b""
            event = b"event: %s\n" % _one_line(message.event)
        data = message.data
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                data = data.decode(errors="replace").encode()
        if _CR in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if _LF in data:
            data = data.replace(b"\n", b"\ndata: ")
        if self.ids:
            position = message.position
            id = f"{position.epoch}.{position.offset}".encode()
            return b"%sdata: %s\nid: %s\n\n" % (event, data, id)
        return b"%sdata: %s\n\n" % (event, data)

    def cursor(self, position: Position) -> bytes:
        # An `id` without data sets the last event ID and dispatches no event (9.2.6).
        return b"id: %s\n\n" % str(position).encode() if self.ids else b""

    def gap(self, position: Position) -> bytes:
        # Without an `id`: a subscriber that is disconnected right after the gap event
        # receives it again, instead of resuming behind the gap.
        data = json.dumps({"position": str(position)}).encode()
        return b"event: %s\ndata: %s\n\n" % (GAP.encode(), data)

    def expire(self, seconds: int, position: Position | None) -> bytes:
        fields = {"seconds": seconds, "position": str(position)}
        if position is None:
            del fields["position"]
        return b"event: %s\ndata: %s\n\n" % (EXPIRE.encode(), json.dumps(fields).encode())

    def end(self, retry: int) -> bytes:
        return encode_retry(retry)


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class RawEventStream:
    """
    Sends messages that already are event stream text, unchanged.

    The publisher is responsible for whole events, ids and line ends. Only comments,
    `retry` and gap events are inserted between messages.
    """

    retry: int = 0
    padding: int = 0

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        nothing = Replay((), replay.complete, replay.position)
        first = EventStream(self.retry, self.padding, ids=False).start(nothing)
        return [first[0], *replay.messages]

    def encode(self, message: Message) -> bytes:
        return message.data if message.mark is Mark.NONE else b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return EventStream().gap(position)

    def expire(self, seconds: int, position: Position | None) -> bytes:
        return EventStream().expire(seconds, position)

    def end(self, retry: int) -> bytes:
        return EventStream().end(retry)


def _one_line(text: str) -> bytes:
    # A line end within the type would start another field.
    return text.encode(errors="replace").translate(_BLANKED)


_BLANKED = bytes(0x20 if byte in b"\r\n\0" else byte for byte in range(256))
