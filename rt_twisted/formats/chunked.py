"""
The chunked transfer coding for streams (RFC 9112, 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """
    *data* as one chunk; nothing for nothing, as an empty chunk ends the body.
    """
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class Chunked:
    """
    Another format, each frame of it in a chunk of its own.
    """

    inner: IFormat

    @property
    def content_type(self) -> str:
        """
        The inner format's media type.
        """
        return str(self.inner.content_type)

    @property
    def heartbeat(self) -> bytes:
        """
        The inner format's heartbeat.
        """
        return chunk(self.inner.heartbeat)

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        """
        The inner format's first frames.
        """
        items: Sequence[bytes | Message] = self.inner.start(replay)
        return [chunk(item) if isinstance(item, bytes) else item for item in items]

    def encode(self, message: Message) -> bytes:
        """
        The inner format's frame.
        """
        return chunk(self.inner.encode(message))

    def cursor(self, position: Position) -> bytes:
        """
        The inner format's cursor.
        """
        return chunk(self.inner.cursor(position))

    def gap(self, position: Position) -> bytes:
        """
        The inner format's word about a gap.
        """
        return chunk(self.inner.gap(position))

    def end(self, retry: int) -> bytes:
        """
        The inner format's last bytes, and the end of the body.
        """
        return chunk(self.inner.end(retry)) + LAST_CHUNK
