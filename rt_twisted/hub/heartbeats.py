"""
Signs of life: a proxy on the way shall not fall asleep, and a cursor not grow old.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Position


class Heartbeats:
    """
    All readers in buckets: each second is the turn of one of them, so that each
    reader has had its heartbeat when all had their turn.

    Args:
        seconds: between two heartbeats of a reader; 0 for none.
        head: where the log stands.
    """

    def __init__(self, seconds: float, head: Position) -> None:
        self._seconds = seconds
        self._turn = 0  # of which bucket
        self._next = 0  # bucket for who comes
        self._buckets: list[set[Subscriber]] = [set() for _ in range(max(1, round(seconds)))]
        self._heads = [head] * len(self._buckets)  # the cursor each was last sent

    def __iter__(self) -> Iterator[Subscriber]:
        """
        Every reader.
        """
        for bucket in self._buckets:
            yield from bucket

    def __contains__(self, subscriber: Subscriber) -> bool:
        """
        Whether *reader* is counted in.
        """
        return subscriber.bucket >= 0

    def add(self, subscriber: Subscriber) -> None:
        """
        Count *reader* in.
        """
        subscriber.bucket = self._next
        self._buckets[self._next].add(subscriber)
        self._next = (self._next + 1) % len(self._buckets)

    def discard(self, subscriber: Subscriber) -> None:
        """
        The opposite of `add`.
        """
        self._buckets[subscriber.bucket].discard(subscriber)
        subscriber.bucket = -1

    def reconfigure(self, seconds: float, head: Position) -> Heartbeats:
        """
        These, or new ones with the same readers, at *seconds*.
        """
        if seconds == self._seconds:
            return self
        fresh = Heartbeats(seconds, head)
        for subscriber in self:
            fresh.add(subscriber)
        return fresh

    def beat(
        self, head: Position | None, silent: Container[Subscriber], fresh: Container[Subscriber]
    ) -> None:
        """
        Write to those whose turn it is; called once a second.

        Args:
            head: everything up to here has been told to everybody; None while
                that is not so.
            silent: who is not written to.
            fresh: who has no cursor to be moved yet.
        """
        if not self._seconds:
            return
        self._turn = (self._turn + 1) % len(self._buckets)
        moved = head is not None and self._heads[self._turn] != head
        if head is not None:
            self._heads[self._turn] = head
        frames: dict[IFormat, bytes] = {}
        for subscriber in tuple(self._buckets[self._turn]):
            if subscriber in silent:
                continue
            format = subscriber.format
            if not subscriber.channels or subscriber in fresh:
                subscriber.write(format.heartbeat)
                continue
            frame = frames.get(format)
            if frame is None:
                cursor = format.cursor(head) if moved and head is not None else b""
                frame = frames[format] = cursor or format.heartbeat
            subscriber.write(frame)
