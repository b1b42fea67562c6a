"""
How messages look to the readers of a websocket: by themselves, or with channel
and position as JSON (docs/websocket.md).
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.websocket import (
    PING,
    CloseCode,
    DeflateParameters,
    close_frame,
    data_frame,
    is_text,
)
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay

encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class RawFrames:
    """
    A frame is a message, and nothing else is said: no position, no gap.

    Args:
        deflate: agreed with the readers; None for nothing.
        binary: all messages go in binary frames; else those that are valid
            UTF-8 go in text frames, and all others in binary ones.
    """

    deflate: DeflateParameters | None = None
    binary: bool = False

    content_type = ""
    heartbeat = PING

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        What was missed.
        """
        return replay.messages

    def encode(self, message: Message) -> bytes:
        """
        The message's own bytes in a frame.
        """
        data = message.data
        return data_frame(data, self.binary or not is_text(data), self.deflate)

    def cursor(self, position: Position) -> bytes:
        """
        Nothing, but the heartbeat goes on.
        """
        return PING

    def gap(self, position: Position) -> bytes:
        """
        Nothing: every frame is a message.
        """
        return b""

    def end(self, retry: int) -> bytes:
        """
        A close frame, 1001.
        """
        return _goodbye(retry)


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class JsonFrames:
    """
    A frame is a JSON object that says what it is.

    Args:
        deflate: agreed with the readers; None for nothing.
    """

    deflate: DeflateParameters | None = None

    content_type = ""
    heartbeat = PING

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        Perhaps a gap, what was missed, and the position.
        """
        gap = [] if replay.complete else [self.gap(replay.position)]
        return [*gap, *replay.messages, self._position(replay.position)]

    def encode(self, message: Message) -> bytes:
        """
        Channel, position, event type if it has one, and the data: text, or
        base64 for bytes that are not UTF-8.
        """
        data = message.data
        said = {
            "type": "message",
            "channel": message.channel,
            "position": str(message.position),
        }
        if message.event is not None:
            said["event"] = message.event
        if is_text(data):
            said["data"] = data.decode()
        else:
            said["base64"] = b64encode(data).decode()
        return self.encode_object(said)

    def cursor(self, position: Position) -> bytes:
        """
        The position, and a ping.
        """
        return self._position(position) + PING

    def gap(self, position: Position) -> bytes:
        """
        Up to where messages are missing.
        """
        return self.encode_object({"type": "gap", "position": str(position)})

    def end(self, retry: int) -> bytes:
        """
        A close frame, 1001.
        """
        return _goodbye(retry)

    def encode_object(self, value: Mapping[str, object]) -> bytes:
        """
        The frame of any object.
        """
        return data_frame(encode_json(value).encode(errors="replace"), False, self.deflate)

    def _position(self, position: Position) -> bytes:
        return self.encode_object({"type": "position", "position": str(position)})


def _goodbye(retry: int) -> bytes:
    """
    When to come back stands in the reason, which browsers hand to the page.
    """
    return close_frame(CloseCode.GOING_AWAY, f"retry={retry}" if retry else "")
