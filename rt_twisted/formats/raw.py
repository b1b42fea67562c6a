"""
Messages as bytes, and nothing else but what a route puts around them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class Raw:
    """
    Each message between *prefix* and *suffix*.

    There is no room for anything else: no heartbeat, no cursor, no word about
    a gap or the end.

    Args:
        content_type: of the whole stream.
        prefix: in front of each message.
        suffix: behind it.
    """

    content_type: str = "application/octet-stream"
    prefix: bytes = b""
    suffix: bytes = b""

    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        What was missed.
        """
        return replay.messages

    def encode(self, message: Message) -> bytes:
        """
        The message's own bytes.
        """
        return b"%b%b%b" % (self.prefix, message.data, self.suffix)

    def cursor(self, position: Position) -> bytes:
        """
        Nothing.
        """
        return b""

    def gap(self, position: Position) -> bytes:
        """
        Nothing.
        """
        return b""

    def end(self, retry: int) -> bytes:
        """
        Nothing.
        """
        return b""
