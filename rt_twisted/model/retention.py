"""
Retention: which messages of a channel are retained, and whether some are missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, takewhile

from rt_twisted.model.message import Message, Position

OVERHEAD = 256  # bytes of a retained message beside its data (measured: 230 to 260)


@dataclass(frozen=True, slots=True)
class Retention:
    """
    How much of each channel is retained. The first bound that is reached applies.

    Of live streams whole keyframe groups are retained, each a head and what follows it up to
    the next one; they have bounds of their own.

    Args:
        count: messages; 0 retains none.
        bytes: data and overhead together; a larger message is not retained at all.
        age: seconds.
        live_bytes: data and overhead of a live stream.
        live_seconds: since the head of its oldest group.
    """

    count: int
    bytes: int
    age: float
    live_bytes: int
    live_seconds: float


class History:
    """
    The newest messages of one channel, in order of position.

    Nothing is missing after its start position. Times are given by the caller; they must
    not go back.

    Args:
        retention: the bounds.
        start_position: the position after which this history has everything.
    """

    __slots__ = ("_entries", "_retention", "_start_position", "bytes")

    def __init__(self, retention: Retention, start_position: Position) -> None:
        self._retention = retention
        self._start_position = start_position
        self._entries: deque[tuple[float, Message]] = deque()
        self.bytes = 0

    def reconfigure(self, retention: Retention) -> None:
        """
        Use other bounds. What exceeds them is dropped now, or when it is too old.
        """
        self._retention = retention
        self._trim()

    @property
    def start_position(self) -> Position:
        """
        Return the position of the last message that was dropped or missed.
        """
        return self._start_position

    def __len__(self) -> int:
        return len(self._entries)

    def append(self, message: Message, now: float) -> None:
        """
        Add *message*, received at *now* (seconds), and drop what exceeds the bounds.
        """
        entries, retention = self._entries, self._retention
        entries.append((now, message))
        self.bytes += len(message.data) + OVERHEAD
        if len(entries) > retention.count or self.bytes > retention.bytes:
            self._trim()

    def expire(self, now: float) -> None:
        """
        Drop what is too old at *now*.
        """
        oldest = now - self._retention.age
        entries = self._entries
        while entries and entries[0][0] < oldest:
            self._drop_oldest()

    def drop(self, count: int) -> None:
        """
        Drop the *count* oldest messages.
        """
        for _ in range(count):
            self._drop_oldest()

    def clear(self) -> None:
        """
        Drop all messages.
        """
        self.drop(len(self._entries))

    def restart(self, start_position: Position) -> None:
        """
        Drop all messages: another log begins, received whole after *start_position*.
        """
        self.clear()
        self._start_position = start_position

    def miss(self, position: Position) -> None:
        """
        Note that messages up to *position* were not received. Retained ones stay.
        """
        self._start_position = position

    def drop_missed(self) -> None:
        """
        Drop what is retained from before the start position, as `miss` does not.
        """
        offset = self._start_position.offset
        while self._entries and self._entries[0][1].position.offset <= offset:
            self._drop_oldest()

    def covers(self, position: Position) -> bool:
        """
        Return whether all messages after *position* are retained.
        """
        return (
            position.epoch == self._start_position.epoch
            and position.offset >= self._start_position.offset
        )

    def after(self, position: Position) -> list[Message]:
        """
        Return the retained messages after *position*, in order; all of them for a position
        of another log.

        The cost depends on what is returned, not on what is retained.
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
        Return the last *count* retained messages, in order.
        """
        start = max(0, len(self._entries) - count)
        return [message for _, message in islice(self._entries, start, None)]

    def newest_first(self) -> Iterator[tuple[float, Message]]:
        """
        Iterate over the retained messages with the times when they were received (seconds),
        the newest first, as far as none is missing between them.
        """
        offset = self._start_position.offset
        return takewhile(lambda entry: entry[1].position.offset > offset, reversed(self._entries))

    def within(self, moment: float) -> list[Message]:
        """
        Return the retained messages received at *moment* (seconds) or later, in order.
        """
        return [message for when, message in self._entries if when >= moment]

    def _trim(self) -> None:
        retention = self._retention
        while len(self._entries) > retention.count or self.bytes > retention.bytes:
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        _, message = self._entries.popleft()
        self.bytes -= len(message.data) + OVERHEAD
        if message.position.offset > self._start_position.offset:  # it may be lower after miss()
            self._start_position = message.position
