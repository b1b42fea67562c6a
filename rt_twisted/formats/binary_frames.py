"""
Live streams in binary websocket messages (RFC 6455, 5.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.websocket import PING, CloseCode, close_frame, data_frame
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Message, Position, Replay


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class BinaryFrames:
    """
    Wraps what a container has for each message in one binary message, uncompressed.

    Args:
        inner: the container; it provides `ISyncFormat`.
    """

    inner: ISyncFormat

    content_type = ""
    heartbeat = PING

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        items: Sequence[bytes | Message] = self.inner.start(replay)
        return [_frame(item) if isinstance(item, bytes) else item for item in items]

    def encode(self, message: Message) -> bytes:
        return _frame(self.inner.encode(message))

    def cursor(self, position: Position) -> bytes:
        return PING

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return close_frame(CloseCode.GOING_AWAY, f"retry={retry}" if retry else "")

    def is_resync_point(self, message: Message) -> bool:
        return bool(self.inner.is_resync_point(message))

    def must_restart(self, message: Message) -> bool:
        return bool(self.inner.must_restart(message))

    def resumed(self, last: Message | None, first: Message) -> BinaryFrames:
        return BinaryFrames(ISyncFormat(self.inner.resumed(last, first)))


def _frame(data: bytes) -> bytes:
    return data_frame(data, True, None) if data else b""
