"""
The channels of this node: their retained messages, and their subscribers by format.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

from rt_twisted.hub.live_channel import LiveState, Wait
from rt_twisted.hub.live_memory import LiveMemory
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Mark, Message, Newest, Position, Within
from rt_twisted.model.retention import History, Retention

CHANNEL_OVERHEAD = 1024  # bytes an empty channel takes (measured: about 1,000)
MAX_UNUSED = 10_000  # open channels without subscribers and messages
EVICT_TO = 0.95  # of the limit: evict a little more, so that the next message need not


class Channel:
    """
    A name, its history, and its subscribers by format.

    Subscribers of several channels are kept apart: their frames may have to be merged
    with those of their other channels.
    """

    __slots__ = (
        "history",
        "idle_since",
        "last_position",
        "live",
        "multi_channel",
        "name",
        "pending_subscriptions",
        "received_count",
        "requested",
        "single_channel",
        "subscribed",
        "subscribers",
        "undelivered",
    )

    def __init__(self, name: str, history: History) -> None:
        self.name = name
        self.history = history
        self.single_channel: dict[IFormat, set[Subscriber]] = {}
        self.multi_channel: dict[IFormat, set[Subscriber]] = {}
        self.live: LiveState | None = None  # with subscribers that wait for a resync point
        self.subscribers = 0  # in all of these
        self.undelivered: list[Message] = []  # received, and not in a flush yet
        self.idle_since = math.inf  # when the last subscriber left
        self.requested = False  # subscribe() was called on the broker
        self.subscribed = False  # and has succeeded
        self.pending_subscriptions: Any = ()  # a set if there are some: it saves memory
        self.received_count = 0  # since it was opened
        self.last_position: Position | None = None  # of the newest of them

    @property
    def is_idle(self) -> bool:
        """
        Return whether the channel has no subscribers, no pending subscriptions and no
        undelivered messages, which a subscriber that joins now would receive.
        """
        return not (self.subscribers or self.pending_subscriptions or self.undelivered)

    def add(self, subscriber: Subscriber, several: bool) -> None:
        """
        Deliver what is received from now on to *subscriber*, which has *several* channels
        or only this one.
        """
        groups = self.multi_channel if several else self.single_channel
        groups.setdefault(subscriber.format, set()).add(subscriber)
        self.subscribers += 1
        self.idle_since = math.inf

    def remove(self, subscriber: Subscriber, several: bool, now: float) -> None:
        """
        Undo `add`, at *now* (seconds).
        """
        if self.live is None or not self.live.remove(subscriber):
            self._remove_from_group(subscriber, several)
        self.subscribers -= 1
        if not self.subscribers:
            self.idle_since = now

    def begin_live(self) -> LiveState:
        """
        Return what the channel keeps for subscribers that begin at resync points.
        """
        if self.live is None:
            self.live = LiveState()
        return self.live

    def add_waiting(self, subscriber: Subscriber) -> None:
        """
        Begin the stream of *subscriber* at the next resync point.
        """
        self.begin_live().add(subscriber, Wait(started=False))
        self.subscribers += 1
        self.idle_since = math.inf

    def miss(self, position: Position) -> None:
        """
        Note that messages up to *position* were not received.
        """
        self.history.miss(position)
        if self.live is not None:
            self.live.searched = False

    def park(self, subscriber: Subscriber, last: Message | None) -> None:
        """
        Send *subscriber* nothing until the next resync point; *last* was its last message.
        """
        live = self.begin_live()
        if not live.waits(subscriber):
            self._remove_from_group(subscriber, several=False)
        live.add(subscriber, Wait(True, last))

    def end_waiting(self, subscriber: Subscriber, format: IFormat) -> None:
        """
        Deliver what is received from now on to *subscriber*, which has waited, in *format*.
        """
        assert self.live is not None
        self.live.remove(subscriber)
        subscriber.format = format
        self.single_channel.setdefault(format, set()).add(subscriber)

    def _remove_from_group(self, subscriber: Subscriber, several: bool) -> None:
        groups = self.multi_channel if several else self.single_channel
        group = groups[subscriber.format]
        group.remove(subscriber)
        if not group:
            del groups[subscriber.format]


class ChannelTable:
    """
    All channels by name, within a bound of memory.

    A channel that is dropped leaves its start position behind: a channel of any name
    that is opened later has every message after that, and none before.

    Args:
        retention: of each channel.
        limit: bytes for all but live streams. The history of the channels that were published to
            longest ago is dropped first.
        floor: where the log is now.
        on_dropped: called with each channel that is dropped.
        live: appends to the histories of live streams, which have a bound of their own.
    """

    def __init__(
        self,
        retention: Retention,
        limit: int,
        floor: Position,
        on_dropped: Callable[[Channel], None],
        live: LiveMemory,
    ) -> None:
        self._retention = retention
        self._limit = limit
        self._floor = floor
        self._on_dropped = on_dropped
        self._live = live
        self._channels: OrderedDict[str, Channel] = OrderedDict()  # by last message
        self._unused: OrderedDict[str, None] = OrderedDict()  # no subscribers, no messages
        self._unswept: list[str] = []
        self.bytes = 0

    def __iter__(self) -> Iterator[Channel]:
        """
        Iterate over all channels, with and without subscribers.
        """
        return iter(self._channels.values())

    def newest_first(self) -> Iterator[Channel]:
        """
        Iterate over all channels, those that were published to last first.
        """
        return reversed(self._channels.values())

    def get(self, name: str) -> Channel | None:
        """
        Return the channel *name*, if it is open.
        """
        return self._channels.get(name)

    def open(self, name: str, now: float) -> Channel:
        """
        Return the channel *name*; create it if need be, at *now* (seconds).
        """
        channel = self._channels.get(name)
        if channel is None:
            channel = self._channels[name] = Channel(name, History(self._retention, self._floor))
            channel.idle_since = now
        return channel

    def on_last_subscriber_left(self, channel: Channel) -> None:
        """
        Bound the channels without messages and subscribers.

        Subscribers can invent names: of channels that were never published to, MAX_UNUSED
        are kept open.
        """
        if not len(channel.history) and not channel.undelivered:
            self._unused[channel.name] = None
            self._unused.move_to_end(channel.name)
            if len(self._unused) > MAX_UNUSED:
                name = next(iter(self._unused))
                del self._unused[name]
                oldest = self._channels.get(name)
                if oldest is not None and oldest.is_idle and not len(oldest.history):
                    self._drop(oldest)

    def append(self, message: Message, now: float) -> Channel:
        """
        Append *message*, received at *now* (seconds), and evict what is over the limit.

        Returns:
            The message's channel.
        """
        channel = self.open(message.channel, now)
        self._channels.move_to_end(message.channel)
        channel.received_count += 1
        channel.last_position = message.position
        mark = message.mark
        if mark is not Mark.NONE or (channel.live is not None and channel.name in self._live):
            self._append_live(channel, message, mark, now)
            return channel
        history = channel.history
        before = history.bytes or -CHANNEL_OVERHEAD
        history.append(message, now)
        self.bytes += (history.bytes or -CHANNEL_OVERHEAD) - before
        if self.bytes > self._limit:
            self._evict(channel)
        return channel

    def _append_live(self, channel: Channel, message: Message, mark: Mark, now: float) -> None:
        if message.channel not in self._live:
            self._clear_history(channel)
        self._live.append(channel.history, message, mark, now)
        channel.begin_live().received_at = now

    def reconfigure(self, retention: Retention, limit: int) -> None:
        """
        Use other bounds.
        """
        self._retention = retention
        self._limit = limit
        for channel in self._channels.values():
            if channel.name in self._live:
                continue
            before = channel.history.bytes or -CHANNEL_OVERHEAD
            channel.history.reconfigure(retention)
            self.bytes += (channel.history.bytes or -CHANNEL_OVERHEAD) - before

    def on_subscribed(self, channel: Channel, position: Position) -> None:
        """
        Note that the broker delivers *channel* from *position* on: the history has every
        message after it, or after its own start position if that is earlier in this log.
        """
        history = channel.history
        start_position = history.start_position
        if position.epoch != start_position.epoch or position.offset > start_position.offset:
            self._clear_history(channel)
            history.restart(position)

    def restart(self, floor: Position) -> None:
        """
        Clear all histories: another log begins, of which all after *floor* is received.
        """
        self._floor = floor
        for channel in self._channels.values():
            self._clear_history(channel)
            channel.history.restart(floor)
            if channel.live is not None:
                channel.live.searched = False

    def replay(
        self, channels: Sequence[Channel], since: After | Newest | Within, now: float
    ) -> tuple[list[Message], bool]:
        """
        Return the retained messages of *channels* that *since* selects, in order.

        Returns:
            The messages, and whether all after *since* are retained. That is always so
            for `Newest` and `Within`, which select among retained messages.
        """
        found: list[Message] = []
        complete = True
        for channel in channels:
            history = channel.history
            self.expire(channel, now)
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

    def sweep(self, now: float, linger: float) -> None:
        """
        Expire old messages of a sixtieth of the channels, and drop those of them that have
        had no messages and no subscribers for *linger* seconds. Called once per second.
        """
        if not self._unswept:
            self._unswept = list(self._channels)
        share = max(100, len(self._channels) // 60)
        names, self._unswept = self._unswept[-share:], self._unswept[:-share]
        for name in names:
            channel = self._channels.get(name)
            if channel is None:
                continue
            self.expire(channel, now)
            if channel.is_idle and not len(channel.history) and now - channel.idle_since > linger:
                self._drop(channel)

    def expire(self, channel: Channel, now: float) -> None:
        """
        Drop the messages of *channel* that are too old at *now* (seconds).
        """
        if channel.name in self._live:
            self._live.expire(channel.name, now)
            return
        history = channel.history
        before = history.bytes or -CHANNEL_OVERHEAD
        history.expire(now)
        self.bytes += (history.bytes or -CHANNEL_OVERHEAD) - before

    def _evict(self, published: Channel) -> None:
        for channel in tuple(islice(self._channels.values(), 100)):
            if channel.name in self._live:
                self._channels.move_to_end(channel.name)
            elif channel is published or not channel.is_idle:
                self._clear_history(channel)
                self._channels.move_to_end(channel.name)
            else:
                self._drop(channel)
            if self.bytes < self._limit * EVICT_TO:
                return

    def _clear_history(self, channel: Channel) -> None:
        if channel.name in self._live:
            self._live.clear(channel.name)
            return
        if channel.history.bytes:
            self.bytes -= channel.history.bytes + CHANNEL_OVERHEAD
        channel.history.clear()

    def _drop(self, channel: Channel) -> None:
        del self._channels[channel.name]
        self._unused.pop(channel.name, None)
        self._clear_history(channel)
        if channel.name in self._live:
            self._live.remove(channel.name)
        start_position = channel.history.start_position
        if start_position.offset > self._floor.offset:
            self._floor = start_position
        self._on_dropped(channel)


def by_offset(message: Message) -> int:
    """
    Return the offset of *message*, as a sort key.
    """
    return message.position.offset
