"""
The chunked transfer coding for streams (RFC 9112, 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from zope.interface import implementer

from rt_twisted.codecs.chunks import LAST_CHUNK, chunk
from rt_twisted.model.interfaces import IEndingFormat, IExpiringFormat, IFormat, ISyncFormat
from rt_twisted.model.message import Message, Position, Replay


@implementer(IFormat)
@dataclass(frozen=True, slots=True)
class Chunked:
    """
    Wraps each frame of another format in a chunk, and ends the body at `end`.
    """

    inner: IFormat
    _hash: int = field(init=False, repr=False, compare=False)  # needed for each new subscriber

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hash", hash(self.inner))

    def __hash__(self) -> int:
        return self._hash

    @property
    def content_type(self) -> str:
        return str(self.inner.content_type)

    @property
    def heartbeat(self) -> bytes:
        return chunk(self.inner.heartbeat)

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        items: Sequence[bytes | Message] = self.inner.start(replay)
        return [chunk(item) if isinstance(item, bytes) else item for item in items]

    def encode(self, message: Message) -> bytes:
        frame = self.inner.encode(message)
        return b"%x\r\n%s\r\n" % (len(frame), frame) if frame else b""  # as `chunk`

    def cursor(self, position: Position) -> bytes:
        return chunk(self.inner.cursor(position))

    def gap(self, position: Position) -> bytes:
        return chunk(self.inner.gap(position))

    def end(self, retry: int) -> bytes:
        return chunk(self.inner.end(retry)) + LAST_CHUNK

    def __conform__(self, interface: Any) -> Chunked | None:
        """
        Return this object, as zope.interface asks, for those of the interfaces beside `IFormat`
        that *inner* provides.
        """
        further = interface in (IEndingFormat, IExpiringFormat, ISyncFormat)
        return self if further and interface(self.inner, None) is not None else None

    def expire(self, seconds: int, position: Position | None) -> bytes:
        """
        Return what *inner* does, in a chunk; see `IExpiringFormat`.
        """
        return chunk(IExpiringFormat(self.inner).expire(seconds, position))

    def is_resync_point(self, message: Message) -> bool:
        """
        Return what *inner* does; see `ISyncFormat`.
        """
        return ISyncFormat(self.inner).is_resync_point(message)

    def must_restart(self, message: Message) -> bool:
        """
        Return what *inner* does; see `ISyncFormat`.
        """
        return ISyncFormat(self.inner).must_restart(message)

    def resumed(self, last: Message | None, first: Message) -> Chunked:
        """
        Return the format that *inner* does, in chunks; see `ISyncFormat`.
        """
        return Chunked(ISyncFormat(self.inner).resumed(last, first))
