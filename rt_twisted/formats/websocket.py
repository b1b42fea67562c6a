"""
Messages in websocket frames: bare, or in JSON objects with channel and position
(RFC 6455, 5; docs/websocket.md).
"""

from __future__ import annotations

import json
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
from rt_twisted.formats.json_messages import data_field
from rt_twisted.model.interfaces import IExpiringFormat, IFormat
from rt_twisted.model.message import EXPIRE, Mark, Message, Position, Replay

encode_json = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class RawFrames:
    """
    Encodes each message as one frame. Neither positions nor gaps are reported.

    Args:
        deflate: as negotiated with the subscribers; None for no compression.
        binary: send all messages in binary frames; if not, messages that are valid
            UTF-8 are sent in text frames and all others in binary frames. Frames of live
            streams are always binary.
    """

    deflate: DeflateParameters | None = None
    binary: bool = False

    content_type = ""
    heartbeat = PING

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return replay.messages

    def encode(self, message: Message) -> bytes:
        data, mark = message.data, message.mark
        if mark is Mark.HEAD or mark is Mark.END:
            return b""
        binary = self.binary or mark is Mark.UNIT or not is_text(data)
        return data_frame(data, binary, self.deflate)

    def cursor(self, position: Position) -> bytes:
        return PING

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return _close_frame(retry)


@implementer(IExpiringFormat)
@dataclass(frozen=True, slots=True)
class JsonFrames:
    """
    Encodes messages, positions and gaps as JSON objects with a `type`, one in each frame.

    A message has its data in `data`, or in `base64` if it is not UTF-8.

    Args:
        deflate: as negotiated with the subscribers; None for no compression.
    """

    deflate: DeflateParameters | None = None

    content_type = ""
    heartbeat = PING

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        gap = [] if replay.complete else [self.gap(replay.position)]
        return [*gap, *replay.messages, self._position(replay.position)]

    def encode(self, message: Message) -> bytes:
        if message.mark is not Mark.NONE:
            return b""
        fields = {
            "type": "message",
            "channel": message.channel,
            "position": str(message.position),
        }
        if message.event is not None:
            fields["event"] = message.event
        name, text = data_field(message)
        fields[name] = text
        return self.encode_object(fields)

    def cursor(self, position: Position) -> bytes:
        return self._position(position) + PING

    def gap(self, position: Position) -> bytes:
        return self.encode_object({"type": "gap", "position": str(position)})

    def expire(self, seconds: int, position: Position | None) -> bytes:
        return self.encode_object({"type": EXPIRE, "seconds": seconds})

    def end(self, retry: int) -> bytes:
        return _close_frame(retry)

    def encode_object(self, value: Mapping[str, object]) -> bytes:
        """
        Encode any JSON object as a text frame.
        """
        return data_frame(encode_json(value).encode(errors="replace"), False, self.deflate)

    def _position(self, position: Position) -> bytes:
        return self.encode_object({"type": "position", "position": str(position)})


def _close_frame(retry: int) -> bytes:
    """
    Encode a close frame whose reason, which browsers pass to the page, names the delay.
    """
    return close_frame(CloseCode.GOING_AWAY, f"retry={retry}" if retry else "")
