"""
Responses to long polls: the frames collected for a subscriber, and the body made of them.

Frames are shared by all polls of the same format. Each frame is recognizable by its end,
so that a response can hold as many as its client accepts, and name their position.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.eventsource import CONTENT_TYPE
from rt_twisted.formats.json_messages import encode_object, message_json
from rt_twisted.formats.sse import HEARTBEAT, EventStream
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

_MESSAGE = b'{"id": '
_CURSOR = b'{"position": '
_GAP = b'{"gap": '
_RETRY = b'{"retry": '


@dataclass(frozen=True, slots=True)
class PollBody:
    """
    The body of one response to a poll.

    Args:
        body: its bytes.
        position: from which the next poll continues; "" if no frame names one.
        has_content: whether it holds a message, a gap or a retry delay.
    """

    body: bytes
    position: str
    has_content: bool


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class JsonPoll:
    """
    Responses that are one JSON object.

    It has `messages`, `position`, `gap`, and `retry` (ms) if the server asks the client
    to wait. Each frame is one line.
    """

    content_type = "application/json"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        gap = [] if replay.complete else [self.gap(replay.position)]
        return [*gap, *replay.messages, self.cursor(replay.position)]

    def encode(self, message: Message) -> bytes:
        return message_json(message) + b"\n" if message.mark is Mark.NONE else b""

    def cursor(self, position: Position) -> bytes:
        return _line({"position": str(position)})

    def gap(self, position: Position) -> bytes:
        return _line({"gap": str(position)})

    def end(self, retry: int) -> bytes:
        return _line({"retry": retry}) if retry else b""

    def build_body(self, frames: bytes, max_bytes: int, max_count: int = 0) -> PollBody:
        """
        Build the body of one response.

        Args:
            frames: all whole frames for the subscriber so far.
            max_bytes: bytes of messages; the first is included whatever its size. The next
                poll replays the messages that are left out.
            max_count: messages; 0 for no limit.
        """
        messages: list[bytes] = []
        position, gap, retry = b'""', b"", b""
        for line in frames.splitlines():
            if line.startswith(_MESSAGE):
                max_bytes -= len(line)
                if messages and (max_bytes < 0 or len(messages) == max_count):
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
    Responses that are events, as of `EventStream`, for clients that poll an event stream.
    """

    content_type = CONTENT_TYPE
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return _EVENTS.start(replay)

    def encode(self, message: Message) -> bytes:
        return _EVENTS.encode(message)

    def cursor(self, position: Position) -> bytes:
        return _EVENTS.cursor(position)

    def gap(self, position: Position) -> bytes:
        return _EVENTS.gap(position)

    def end(self, retry: int) -> bytes:
        return _EVENTS.end(retry)

    def build_body(self, frames: bytes, max_bytes: int, max_count: int = 0) -> PollBody:
        """
        Build the body of one response, as `JsonPoll.build_body`.
        """
        kept: list[bytes] = []
        position, messages, has_content = b"", 0, False
        for block in frames.split(b"\n\n")[:-1]:
            rest, _, last = block.removeprefix(HEARTBEAT).rpartition(b"\n")
            if last.startswith(b"id: "):
                if rest:
                    max_bytes -= len(block)
                    if messages and (max_bytes < 0 or messages == max_count):
                        break
                    messages += 1
                position = last[4:]
            has_content = has_content or bool(rest) or last.startswith(b"retry: ")
            kept.append(block + b"\n\n")
        return PollBody(b"".join(kept), position.decode(), has_content)


_EVENTS = EventStream()


def _line(fields: Mapping[str, object]) -> bytes:
    return encode_object(fields) + b"\n"
