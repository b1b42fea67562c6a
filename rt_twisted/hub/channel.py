"""
The channels of this node: what each remembers, and what is known of those
that are forgotten.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Message, Newest, Position, Since
from rt_twisted.model.retention import History, Retention

OVERHEAD = 1024  # bytes an empty channel takes (measured: about 1,000)
UNREAD = 10_000  # channels that nobody reads and that remember nothing, kept in hand
ROOM = 0.95  # of the limit is kept when it is reached, not to be there again at once


class Channel:
    """
    A name, its history, and its readers by format.

    Readers of several channels stand apart: what they are told may have to be
    merged with their other channels.
    """

    __slots__ = (
        "history",
        "idle_since",
        "last",
        "messages",
        "mixed",
        "name",
        "pending",
        "requested",
        "single",
        "subscribed",
        "subscribers",
        "waiting",
    )

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.history = history
        self.single: dict[IFormat, set[Subscriber]] = {}
        self.mixed: dict[IFormat, set[Subscriber]] = {}
        self.subscribers = 0  # in both
        self.pending: list[Message] = []  # received in this turn, not told yet
        self.idle_since = math.inf  # when the last reader left
        self.requested = False  # said to the broker
        self.subscribed = False  # and said by it
        self.waiting: Any = ()  # who is on the way in; a set where there is somebody
        self.messages = 0  # received since it was opened
        self.last: Position | None = None  # of the newest of them

    @property
    def is_idle(self) -> bool:
        """
        Whether nobody reads it, or is about to: who joins now hears what is pending.
        """
        return not (self.subscribers or self.waiting or self.pending)

    def add(self, subscriber: Subscriber, mixed: bool) -> None:
        """
        Let *reader* hear what is received from now on.
        """
        groups = self.mixed if mixed else self.single
        groups.setdefault(subscriber.format, set()).add(subscriber)
        self.subscribers += 1
        self.idle_since = math.inf

    def remove(self, subscriber: Subscriber, mixed: bool, now: float) -> None:
        """
        The opposite of `add`, at *now* (seconds).
        """
        groups = self.mixed if mixed else self.single
        group = groups[subscriber.format]
        group.remove(subscriber)
        if not group:
            del groups[subscriber.format]
        self.subscribers -= 1
        if not self.subscribers:
            self.idle_since = now


class ChannelTable:
    """
    All channels by name, within a bound of memory.

    A channel that is let go leaves its horizon behind: one that is opened
    later under any name has seen everything after that, and nothing before.

    Args:
        keep: what each remembers.
        limit: bytes for all; what was published to longest ago goes first.
        floor: where the log stands now.
        forgotten: is told of each channel that is let go.
    """

    def __init__(
        self,
        retention: Retention,
        limit: int,
        floor: Position,
        forgotten: Callable[[Channel], None],
    ) -> None:
        self._retention = retention
        self._limit = limit
        self._floor = floor
        self._forgotten = forgotten
        self._channels: OrderedDict[str, Channel] = OrderedDict()  # by last message
        self._empty: OrderedDict[str, None] = OrderedDict()  # unread, nothing remembered
        self._to_visit: list[str] = []
        self.bytes = 0

    def __iter__(self) -> Iterator[Channel]:
        """
        Each of them, also those that nobody reads.
        """
        return iter(self._channels.values())

    def newest_first(self) -> Iterator[Channel]:
        """
        Each of them, what was published to last first.
        """
        return reversed(self._channels.values())

    def get(self, name: str) -> Channel | None:
        """
        The channel, if there is one.
        """
        return self._channels.get(name)

    def open(self, name: str, now: float) -> Channel:
        """
        The channel; a new one if need be.
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, History(self._retention, self._floor))
            channel.idle_since = now
        return channel

    def left(self, channel: Channel) -> None:
        """
        Nobody reads *channel* any more. Readers make names up: only so many
        that were never published to are kept.
        """
        if not len(channel.history) and not channel.pending:
            self._empty[channel.name] = None
            self._empty.move_to_end(channel.name)
            if len(self._empty) > UNREAD:
                name = next(iter(self._empty))
                del self._empty[name]
                oldest = self._channels.get(name)
                if oldest is not None and oldest.is_idle and not len(oldest.history):
                    self._forget(oldest)

    def append(self, message: Message, now: float) -> Channel:
        """
        Remember *message*, which came at *now*; what is over the limit goes.

        Returns:
            its channel.
        """
        channel = self.open(message.channel, now)
        self._channels.move_to_end(message.channel)
        history = channel.history
        before = history.bytes or -OVERHEAD
        history.append(message, now)
        self.bytes += (history.bytes or -OVERHEAD) - before
        channel.messages += 1
        channel.last = message.position
        if self.bytes > self._limit:
            self._make_room(channel)
        return channel

    def reconfigure(self, retention: Retention, limit: int) -> None:
        """
        Go on with other bounds.
        """
        self._retention = retention
        self._limit = limit
        for channel in self._channels.values():
            before = channel.history.bytes or -OVERHEAD
            channel.history.reconfigure(retention)
            self.bytes += (channel.history.bytes or -OVERHEAD) - before

    def begin(self, channel: Channel, position: Position) -> None:
        """
        *channel* is heard: it has seen everything after *position*, or after
        its horizon, if that is earlier in this log.
        """
        history = channel.history
        start_position = history.start_position
        if position.epoch != start_position.epoch or position.offset > start_position.offset:
            self._empty_out(channel)
            history.restart(position)

    def restart(self, floor: Position) -> None:
        """
        Another log begins, seen whole after *floor*.
        """
        self._floor = floor
        for channel in self._channels.values():
            self._empty_out(channel)
            channel.history.restart(floor)

    def recall(
        self, channels: Sequence[Channel], since: Since, now: float
    ) -> tuple[list[Message], bool]:
        """
        What is remembered of *channels*, in order of position.

        Returns:
            the messages, and whether nothing after *since* is forgotten;
            always so for those who ask for what there is.
        """
        found: list[Message] = []
        complete = True
        for channel in channels:
            history = channel.history
            self._expire(history, now)
            if isinstance(since, After):
                complete = complete and history.covers(since.position)
                found += history.after(since.position)
            elif isinstance(since, Newest):
                found += history.newest(since.count)
            else:
                found += history.within(now - since.seconds)
        if len(channels) > 1:
            found.sort(key=by_offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        return found, complete

    def visit(self, now: float, linger: float) -> None:
        """
        Forget what is too old in a sixtieth of the channels, and those of them
        that have remembered nothing and been read by nobody for *linger* seconds.
        """
        if not self._to_visit:
            self._to_visit = list(self._channels)
        share = max(100, len(self._channels) // 60)
        names, self._to_visit = self._to_visit[-share:], self._to_visit[:-share]
        for name in names:
            channel = self._channels.get(name)
            if channel is None:
                continue
            self._expire(channel.history, now)
            if channel.is_idle and not len(channel.history) and now - channel.idle_since > linger:
                self._forget(channel)

    def _expire(self, history: History, now: float) -> None:
        before = history.bytes or -OVERHEAD
        history.expire(now)
        self.bytes += (history.bytes or -OVERHEAD) - before

    def _make_room(self, subscribed: Channel) -> None:
        for channel in tuple(islice(self._channels.values(), 100)):
            if channel is subscribed or not channel.is_idle:
                self._empty_out(channel)
                self._channels.move_to_end(channel.name)
            else:
                self._forget(channel)
            if self.bytes < self._limit * ROOM:
                return

    def _empty_out(self, channel: Channel) -> None:
        if channel.history.bytes:
            self.bytes -= channel.history.bytes + OVERHEAD
        channel.history.clear()

    def _forget(self, channel: Channel) -> None:
        del self._channels[channel.name]
        self._empty.pop(channel.name, None)
        self._empty_out(channel)
        start_position = channel.history.start_position
        if start_position.offset > self._floor.offset:
            self._floor = start_position
        self._forgotten(channel)


def by_offset(message: Message) -> int:
    """
    The order of the log, for sorting.
    """
    return message.position.offset
