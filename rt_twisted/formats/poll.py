"""
Answers to polls: what a reader is sent until there is something to answer with,
and the body that is made of it.

A poll's frames are shared with all who wait for the same, as any other
format's. They are kept apart by what ends them, so that an answer can hold as
many as its client takes, and say how far it reaches.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.formats.sse import CONTENT_TYPE, HEARTBEAT, EventStream
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay

_MESSAGE = b'{"id": '
_CURSOR = b'{"position": '
_GAP = b'{"gap": '
_RETRY = b'{"retry": '


@dataclass(frozen=True, slots=True)
class PollBody:
    """
    What came for a reader, as far as one answer takes it.

    Args:
        body: of the answer.
        position: up to here; where the next poll begins. "" if the frames do
            not say.
        has_content: whether there is a message, or a gap, or the server's word to go.
    """

    body: bytes
    position: str
    has_content: bool


def message_json(message: Message) -> bytes:
    """
    *message* as a JSON object: `id`, `channel`, `event` if there is one, and
    `data`; or `base64` for bytes that are not UTF-8. No line end is in it.
    """
    fields = {"id": str(message.position), "channel": message.channel}
    if message.event is not None:
        fields["event"] = message.event
    try:
        fields["data"] = message.data.decode()
    except UnicodeDecodeError:
        fields["base64"] = b64encode(message.data).decode()
    return _encode(fields)


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class JsonPoll:
    """
    One object: `messages`, `position`, `gap`, and `retry` (ms) if the server
    wants to be left alone for a while.
    """

    content_type = "application/json"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        A line for the gap, one for each message, and one for the cursor.
        """
        gap = [] if replay.complete else [self.gap(replay.position)]
        return [*gap, *replay.messages, self.cursor(replay.position)]

    def encode(self, message: Message) -> bytes:
        """
        A line; see `describe`.
        """
        return message_json(message) + b"\n"

    def cursor(self, position: Position) -> bytes:
        """
        A line of the position.
        """
        return _line({"position": str(position)})

    def gap(self, position: Position) -> bytes:
        """
        A line that says so.
        """
        return _line({"gap": str(position)})

    def end(self, retry: int) -> bytes:
        """
        A line with the time; nothing for 0.
        """
        return _line({"retry": retry}) if retry else b""

    def build_body(self, frames: bytes, most: int, count: int = 0) -> PollBody:
        """
        Make a body of *frames*.

        Args:
            frames: all that was sent to the reader so far, whole.
            most: bytes of messages, of which there is one in any case; what is
                left out comes again by its position.
            count: messages, 0 for as many as come.
        """
        messages: list[bytes] = []
        position, gap, retry = b'""', b"", b""
        for line in frames.splitlines():
            if line.startswith(_MESSAGE):
                most -= len(line)
                if messages and (most < 0 or len(messages) == count):
                    break
                messages.append(line)
                position = line[len(_MESSAGE) : line.index(b",")]
            elif line.startswith(_CURSOR):
                position = line[len(_CURSOR) : -1]
            elif line.startswith(_GAP):
                gap = line
            elif line.startswith(_RETRY):
                retry = b', "retry": ' + line[len(_RETRY) : -1]
        body = b'{"messages": [%s], "position": %s, "gap": %s%s}\n' % (
            b",\n".join(messages),
            position,
            b"true" if gap else b"false",
            retry,
        )
        return PollBody(body, position[1:-1].decode(), bool(messages or gap or retry))


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class EventPoll:
    """
    Events, as `EventStream` has them: for clients that read event streams by
    polling.
    """

    content_type = CONTENT_TYPE
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        As a stream begins, the cursor behind it.
        """
        return _EVENTS.start(replay)

    def encode(self, message: Message) -> bytes:
        """
        One event.
        """
        return _EVENTS.encode(message)

    def cursor(self, position: Position) -> bytes:
        """
        An `id` alone.
        """
        return _EVENTS.cursor(position)

    def gap(self, position: Position) -> bytes:
        """
        An event of type `gap`.
        """
        return _EVENTS.gap(position)

    def end(self, retry: int) -> bytes:
        """
        `retry`; nothing for 0.
        """
        return _EVENTS.end(retry)

    def build_body(self, frames: bytes, most: int, count: int = 0) -> PollBody:
        """
        As `JsonPoll.build_body`.
        """
        kept: list[bytes] = []
        position, messages, has_content = b"", 0, False
        for block in frames.split(b"\n\n")[:-1]:
            rest, _, last = block.removeprefix(HEARTBEAT).rpartition(b"\n")
            if last.startswith(b"id: "):
                if rest:
                    most -= len(block)
                    if messages and (most < 0 or messages == count):
                        break
                    messages += 1
                position = last[4:]
            has_content = has_content or bool(rest) or last.startswith(b"retry: ")
            kept.append(block + b"\n\n")
        return PollBody(b"".join(kept), position.decode(), has_content)


_EVENTS = EventStream()


def _encode(fields: Mapping[str, object]) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode(errors="replace")


def _line(fields: Mapping[str, object]) -> bytes:
    return _encode(fields) + b"\n"
