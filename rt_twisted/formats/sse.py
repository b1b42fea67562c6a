"""
Server-sent events: the event stream format (WHATWG HTML, 9.2).

The format is UTF-8 text cut into lines. So of a message's bytes two things
cannot pass as they are: a CR or CR LF reaches the reader as LF, and bytes that
are not UTF-8 reach it as U+FFFD. Browsers would do both by themselves; doing
it here means that every client sees the same, and none can be crashed by a
publisher. Everything else arrives exactly: leading blanks, empty lines, NUL,
a byte order mark, an empty message.

`id` is the last field of an event. Some clients store the id when its line
arrives, not when the event is dispatched; if the connection is cut inside an
event that begins with its id, they resume behind a message they never got.

A comment has no empty line behind it, as some clients dispatch an empty event
for every empty line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import GAP, Message, Position, Replay

CONTENT_TYPE = "text/event-stream; charset=utf-8"
HEARTBEAT = b":\n"


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class EventStream:
    """
    Messages as events.

    Args:
        retry: milliseconds after which a cut-off reader shall come back;
            0 leaves it to the browser.
        padding: bytes of comment in front, for clients that hold back the
            start of a stream (Yaffle's `padding`, amvtek's `evs_preamble`).
        ids: whether events carry their position as `id`; without it no
            reader can resume.
    """

    retry: int = 0
    padding: int = 0
    ids: bool = True

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        A comment, `retry`, perhaps a gap, what was missed, and the cursor.

        The comment comes first so that a byte order mark in the first message
        is not taken for the stream's own (9.2.6 strips one).
        """
        parts = [b":%s\n" % (b" " * self.padding)]
        if self.retry:
            parts.append(self.end(self.retry))
        if not replay.complete:
            parts.append(self.gap(replay.position))
        items: list[bytes | Message] = [b"".join(parts), *replay.messages]
        if not replay.messages or replay.messages[-1].position != replay.position:
            items.append(self.cursor(replay.position))
        return items

    def encode(self, message: Message) -> bytes:
        """
        One event: `event` if the message has a type, `data` per line, then `id`.
        """
        data = message.data
        if not data.isascii():
            try:
                data.decode()
            except UnicodeDecodeError:
                data = data.decode(errors="replace").encode()
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" in data:
            data = data.replace(b"\n", b"\ndata: ")
        event = b""
        if message.event is not None:
            event = b"event: %s\n" % _one_line(message.event)
        if self.ids:
            position = message.position
            id = f"{position.epoch}.{position.offset}".encode()
            return b"%sdata: %s\nid: %s\n\n" % (event, data, id)
        return b"%sdata: %s\n\n" % (event, data)

    def cursor(self, position: Position) -> bytes:
        """
        An `id` without data: moves the last event ID, dispatches nothing (9.2.6).
        """
        return b"id: %s\n\n" % str(position).encode() if self.ids else b""

    def gap(self, position: Position) -> bytes:
        """
        An event of type `gap`; its data is JSON: {"position": where it ends}.

        It carries no `id`: a reader that is cut off right after it hears of
        the same gap again, instead of resuming behind it.
        """
        data = json.dumps({"position": str(position)}).encode()
        return b"event: %s\ndata: %s\n\n" % (GAP.encode(), data)

    def end(self, retry: int) -> bytes:
        """
        When to come back; 0 leaves it to the browser.
        """
        return b"retry: %d\n\n" % retry if retry else b""


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class RawEventStream:
    """
    Messages that are event stream text already, forwarded as they are.

    The publisher answers for whole events, ids and line ends; nothing of ours
    but comments, `retry` and the gap event comes in between.
    """

    retry: int = 0
    padding: int = 0

    content_type = CONTENT_TYPE
    heartbeat = HEARTBEAT

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        As `EventStream.start`, the messages verbatim and without a cursor.
        """
        nothing = Replay((), replay.complete, replay.position)
        first = EventStream(self.retry, self.padding, ids=False).start(nothing)
        return [first[0], *replay.messages]

    def encode(self, message: Message) -> bytes:
        """
        The message's own bytes.
        """
        return message.data

    def cursor(self, position: Position) -> bytes:
        """
        Nothing: the ids belong to the publisher.
        """
        return b""

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


def _one_line(text: str) -> bytes:
    # A type with a line end in it would become fields of its own.
    return text.encode(errors="replace").translate(_BLANKED)


_BLANKED = bytes(0x20 if byte in b"\r\n\0" else byte for byte in range(256))
