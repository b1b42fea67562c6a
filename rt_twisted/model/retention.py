"""
What a channel remembers, and whether it has forgotten.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import islice

from rt_twisted.model.message import Message, Position

OVERHEAD = 256  # bytes a kept message takes beside its data (measured: 230 to 260)


@dataclass(frozen=True, slots=True)
class Retention:
    """
    How much each channel remembers; whichever bound is met first counts.

    Args:
        count: messages; 0 remembers nothing.
        bytes: data and overhead together; a larger message is not kept at all.
        age: seconds.
    """

    count: int = 256
    bytes: int = 1 << 20
    age: float = 3600.0


class History:
    """
    The newest messages of one channel, in order of position.

    It knows its horizon: after that position nothing is missing. Times are
    given, never asked for; they must not go back.

    Args:
        keep: the bounds.
        horizon: the position after which this history has seen everything.
    """

    __slots__ = ("_entries", "_retention", "_start_position", "bytes")

    def __init__(self, retention: Retention, start_position: Position) -> None:
        self._retention = retention
        self._start_position = start_position
        self._entries: deque[tuple[float, Message]] = deque()
        self.bytes = 0

    def reconfigure(self, retention: Retention) -> None:
        """
        Go on with other bounds; what is over them is forgotten now, or when it
        is too old.
        """
        self._retention = retention
        self._trim()

    @property
    def start_position(self) -> Position:
        """
        The last position that is forgotten; nothing after it is.
        """
        return self._start_position

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, message: Message, now: float) -> None:
        """
        Remember *message*, which came at *now* (seconds), and forget what is
        over the bounds.
        """
        self._entries.append((now, message))
        self.bytes += len(message.data) + OVERHEAD
        self._trim()

    def expire(self, now: float) -> None:
        """
        Forget what is too old at *now*.
        """
        oldest = now - self._retention.age
        entries = self._entries
        while entries and entries[0][0] < oldest:
            self._forget()

    def clear(self) -> None:
        """
        Forget everything.
        """
        while self._entries:
            self._forget()

    def restart(self, start_position: Position) -> None:
        """
        Forget everything: another log begins, seen whole after *horizon*.
        """
        self.clear()
        self._start_position = start_position

    def miss(self, position: Position) -> None:
        """
        Something before or at *position* never came; what is kept stays.
        """
        self._start_position = position

    def covers(self, position: Position) -> bool:
        """
        Whether nothing after *position* is forgotten.
        """
        return (
            position.epoch == self._start_position.epoch
            and position.offset >= self._start_position.offset
        )

    def after(self, position: Position) -> list[Message]:
        """
        What is kept after *position*, in order; all of it for another log's.

        Costs what it returns, not what is kept.
        """
        found: list[Message] = []
        offset = position.offset if position.epoch == self._start_position.epoch else 0
        for _, message in reversed(self._entries):
            if message.position.offset <= offset:
                break
            found.append(message)
        found.reverse()
        return found

    def newest(self, count: int) -> list[Message]:
        """
        The last *count* messages that are kept, in order.
        """
        start = max(0, len(self._entries) - count)
        return [message for _, message in islice(self._entries, start, None)]

    def within(self, moment: float) -> list[Message]:
        """
        What came at *moment* (seconds) or later and is kept, in order.
        """
        return [message for when, message in self._entries if when >= moment]

    def _trim(self) -> None:
        retention = self._retention
        while len(self._entries) > retention.count or self.bytes > retention.bytes:
            self._forget()

    def _forget(self) -> None:
        _, message = self._entries.popleft()
        self.bytes -= len(message.data) + OVERHEAD
        if message.position.offset > self._start_position.offset:  # not so before a hole
            self._start_position = message.position
