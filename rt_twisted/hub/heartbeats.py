"""
Heartbeats: keep proxies from closing idle streams, and advance Last-Event-ID.
"""

from __future__ import annotations

from collections.abc import Container, Iterator

from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Position


class Heartbeats:
    """
    All subscribers in buckets: each second one bucket is sent a heartbeat, so that
    each subscriber gets one per interval.

    Args:
        seconds: between two heartbeats of a subscriber; 0 for none.
        head: where the log is.
    """

    def __init__(self, seconds: float, head: Position) -> None:
        self._seconds = seconds
        self._current = 0  # index of the bucket written last
        self._next = 0  # index of the bucket for the next subscriber
        self._buckets: list[set[Subscriber]] = [set() for _ in range(max(1, round(seconds)))]
        self._cursors = [head] * len(self._buckets)  # that each bucket was last sent

    def __iter__(self) -> Iterator[Subscriber]:
        """
        Iterate over all subscribers.
        """
        for bucket in self._buckets:
            yield from bucket

    def __contains__(self, subscriber: Subscriber) -> bool:
        """
        Return whether *subscriber* was added.
        """
        return subscriber.bucket >= 0

    def add(self, subscriber: Subscriber) -> None:
        """
        Add *subscriber* to the next bucket.
        """
        subscriber.bucket = self._next
        self._buckets[self._next].add(subscriber)
        self._next = (self._next + 1) % len(self._buckets)

    def discard(self, subscriber: Subscriber) -> None:
        """
        Stop the heartbeats of *subscriber*.
        """
        self._buckets[subscriber.bucket].discard(subscriber)
        subscriber.bucket = -1

    def reconfigure(self, seconds: float, head: Position) -> Heartbeats:
        """
        Return this object if the interval is the same; otherwise a new one with the same
        subscribers.
        """
        if seconds == self._seconds:
            return self
        fresh = Heartbeats(seconds, head)
        for subscriber in self:
            fresh.add(subscriber)
        return fresh

    def send(
        self, head: Position | None, behind: Container[Subscriber], pending: Container[Subscriber]
    ) -> None:
        """
        Write to the subscribers of the next bucket; called once per second.

        Args:
            head: the position up to which all subscribers have received everything;
                None while there is no such position.
            behind: subscribers that are not written to.
            pending: subscribers whose cursor must not move yet.
        """
        if not self._seconds:
            return
        self._current = (self._current + 1) % len(self._buckets)
        moved = head is not None and self._cursors[self._current] != head
        if head is not None:
            self._cursors[self._current] = head
        frames: dict[IFormat, bytes] = {}
        for subscriber in tuple(self._buckets[self._current]):
            if subscriber in behind:
                continue
            format = subscriber.format
            frame = frames.get(format)
            if not subscriber.channels or subscriber in pending:
                frame = format.heartbeat
            elif frame is None:
                cursor = format.cursor(head) if moved and head is not None else b""
                frame = frames[format] = cursor or format.heartbeat
            if frame:
                subscriber.write(frame)
