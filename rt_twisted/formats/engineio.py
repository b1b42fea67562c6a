"""
The format of plain Engine.IO: each message as one packet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from zope.interface import implementer

from rt_twisted.codecs.engineio import EngineIOPacketType, encode_text
from rt_twisted.codecs.engineio_framing import SEPARATOR, Framing
from rt_twisted.codecs.websocket import is_text
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Mark, Message, Position, Replay


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class EngineIOMessages:
    """
    Encodes each message as an Engine.IO message. Neither positions nor gaps are reported.

    UTF-8 is sent as text, other data and frames of live streams as bytes. Text that contains
    SEPARATOR would be cut at it in polls, so it is sent as bytes on all transports.

    Formats that differ only in `welcome` and `quiet` are equal: they share encodings.

    Args:
        framing: how packets become bytes.
        binary: send all messages as bytes.
        welcome: whole frames, sent first to a subscriber that joins.
        quiet: send only the welcome to a subscriber that joins: no replay.
    """

    framing: Framing
    binary: bool = False
    welcome: bytes = field(default=b"", compare=False)
    quiet: bool = field(default=False, compare=False)

    content_type = ""  # sessions write their own responses
    heartbeat = b""  # sessions have pings

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return [self.welcome] if self.quiet else [self.welcome, *replay.messages]

    def encode(self, message: Message) -> bytes:
        data, mark = message.data, message.mark
        if mark is Mark.HEAD or mark is Mark.END:
            return b""
        if self.binary or mark is Mark.UNIT or SEPARATOR in data or not is_text(data):
            return self.framing.binary(data)
        return self.framing.text(encode_text(EngineIOPacketType.MESSAGE, data))

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return self.framing.end()
