"""
Messages that were delivered while the history file could not be written.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from rt_twisted.brokers.idempotency import MAX_KEYS
from rt_twisted.brokers.sqlite.database import KeyUse
from rt_twisted.model.message import Message
from rt_twisted.model.retention import OVERHEAD

MAX_UNWRITTEN_BYTES = 64 << 20  # of messages kept for a file that cannot be written


class UnwrittenMessages:
    """
    Messages and idempotency keys that are to be written once the file can be.

    Attributes:
        lost_offset: of the last message that was dropped, as there were more than
            `MAX_UNWRITTEN_BYTES`; 0 if none was.
    """

    __slots__ = ("_bytes", "_keys", "_messages", "lost_offset")

    def __init__(self) -> None:
        self.lost_offset = 0
        self._messages: deque[Message] = deque()
        self._keys: list[KeyUse] = []
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, messages: Iterable[Message], keys: Iterable[KeyUse]) -> None:
        """
        Keep *messages* and *keys*; drop the oldest above the bounds.
        """
        for message in messages:
            self._messages.append(message)
            self._bytes += len(message.data) + OVERHEAD
        while self._bytes > MAX_UNWRITTEN_BYTES:
            message = self._messages.popleft()
            self._bytes -= len(message.data) + OVERHEAD
            self.lost_offset = message.position.offset
        self._keys += keys
        del self._keys[:-MAX_KEYS]

    def snapshot(self) -> tuple[list[Message], list[KeyUse]]:
        """
        Return copies of the messages and keys, in order.
        """
        return list(self._messages), list(self._keys)

    def clear(self) -> None:
        """
        Drop everything: it is in the file, or lost with it.
        """
        self._messages.clear()
        self._keys.clear()
        self._bytes = self.lost_offset = 0
