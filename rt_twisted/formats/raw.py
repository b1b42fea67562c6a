"""
Streams of bare messages, each between a prefix and a suffix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.model.interfaces import IEndingFormat
from rt_twisted.model.message import Mark, Message, Position, Replay


@implementer(IEndingFormat)
@dataclass(frozen=True, slots=True)
class Raw:
    """
    Encodes each message as its own bytes between *prefix* and *suffix*. Of live streams only
    the frames are sent, not the heads.

    The stream has no heartbeats, and reports neither positions nor gaps. It ends with a live
    stream.

    Args:
        content_type: of the whole stream.
        prefix: is put before each message.
        suffix: is put after each message.
    """

    content_type: str = "application/octet-stream"
    prefix: bytes = b""
    suffix: bytes = b""

    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return replay.messages

    def encode(self, message: Message) -> bytes:
        if message.mark is Mark.HEAD or message.mark is Mark.END:
            return b""
        return b"%b%b%b" % (self.prefix, message.data, self.suffix)

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""
