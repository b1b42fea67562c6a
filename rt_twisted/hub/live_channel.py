"""
What a channel keeps for subscribers that can begin only at resync points.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Replay


@dataclass(frozen=True, slots=True)
class Wait:
    """
    How a subscriber waits for a resync point.

    Args:
        started: whether it was sent the beginning of the stream.
        last: the last message that was sent or queued for it; None if none is known.
    """

    started: bool
    last: Message | None = None


class LiveState:
    """
    The subscribers of one channel that wait for a resync point, and the state they need.

    Attributes:
        awaiting: the subscribers, by format; each format has at least one.
        last: the newest message that a flush has taken.
        unit: the newest unit that a flush has taken.
        received_at: when the last message was received (seconds); None before the first, and
            after the end of the stream.
        searched: whether the broker's history has no head that precedes what we received.
    """

    __slots__ = ("awaiting", "last", "received_at", "searched", "unit")

    def __init__(self) -> None:
        self.awaiting: dict[IFormat, dict[Subscriber, Wait]] = {}
        self.last: Message | None = None
        self.unit: Message | None = None
        self.received_at: float | None = None
        self.searched = False

    def add(self, subscriber: Subscriber, wait: Wait) -> None:
        """
        Let *subscriber* wait, or replace how it waits.
        """
        self.awaiting.setdefault(subscriber.format, {})[subscriber] = wait

    def remove(self, subscriber: Subscriber) -> bool:
        """
        Return whether *subscriber* waits; it does not any more.
        """
        group = self.awaiting.get(subscriber.format)
        if group is None or subscriber not in group:
            return False
        del group[subscriber]
        if not group:
            del self.awaiting[subscriber.format]
        return True

    def last_sent(self, subscriber: Subscriber) -> Message | None:
        """
        Return the last unit that *subscriber* was sent; None if none is known.
        """
        wait = self.awaiting.get(subscriber.format, {}).get(subscriber)
        return self.unit if wait is None else wait.last

    def waits(self, subscriber: Subscriber) -> bool:
        """
        Return whether *subscriber* waits for a resync point.
        """
        return subscriber in self.awaiting.get(subscriber.format, ())


@dataclass(frozen=True, slots=True)
class LiveStep:
    """
    What a flush does for one group of subscribers beside sending messages.

    Args:
        live: of their channel.
        previous: the last message that they were sent before; None if there is none.
        starts: whether their stream begins with these messages.
        resumes: whether they were parked until now.
        ends: whether their streams end after these messages.
        unit: the last unit that they were sent, if they end.
    """

    live: LiveState
    previous: Message | None
    starts: bool = False
    resumes: bool = False
    ends: bool = False
    unit: Message | None = None

    def resume(self, subscribers: Sequence[Subscriber]) -> tuple[Subscriber, ...]:
        """
        Resume *subscribers*, and return those that take part.

        One that an earlier flush has parked again meanwhile waits for a later message.
        """
        if not self.resumes:
            return tuple(subscribers)
        kept = [subscriber for subscriber in subscribers if not self.live.waits(subscriber)]
        for subscriber in kept:
            subscriber.resume()
        return tuple(kept)

    def encode(self, format: IFormat, messages: Sequence[Message]) -> bytes:
        """
        Return the frame of *messages* in *format*.
        """
        if not self.starts or not messages:
            return b"".join(map(format.encode, messages))
        items = format.start(Replay(tuple(messages), True, messages[-1].position))
        return b"".join([i if isinstance(i, bytes) else format.encode(i) for i in items])
