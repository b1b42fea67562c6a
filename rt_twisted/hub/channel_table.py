"""
The channels and patterns of this node by name, within a bound of memory.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.channel import Channel, by_offset
from rt_twisted.hub.live_memory import LiveMemory
from rt_twisted.hub.patterns import PatternTable, covers_pattern, note_message, replay_pattern
from rt_twisted.model.internal_channels import INTERNAL
from rt_twisted.model.message import After, Mark, Message, Newest, Position, Within
from rt_twisted.model.retention import History, Retention

CHANNEL_OVERHEAD = 1024  # bytes an empty channel takes (measured: about 1,000)
MAX_UNUSED = 10_000  # open channels without subscribers and messages
MAX_UNUSED_PATTERNS = 1000  # each costs the broker a step for each message of others
EVICT_TO = 0.95  # of the limit: evict a little more, so that the next message need not
_NO_MARK = Mark.NONE  # attributes of an Enum class are slow to look up


class ChannelTable:
    """
    All channels and patterns by name, within a bound of memory.

    The start position of a channel that is dropped becomes the floor: a channel of any
    name that is opened later has every message after that, and none before.

    Args:
        retention: of each channel.
        limit: bytes for all but live streams. The history of the channels that were published to
            longest ago is dropped first.
        floor: the position after which channels that are opened now have every message.
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
        self.patterns = PatternTable()
        # No subscribers, no messages.
        self._unused: OrderedDict[Selector, None] = OrderedDict()
        self._unused_patterns: OrderedDict[Selector, None] = OrderedDict()
        self._unswept: list[Selector] = []
        self.bytes = 0

    def __iter__(self) -> Iterator[Channel]:
        """
        Iterate over all channels and patterns, with and without subscribers.
        """
        return chain(self._channels.values(), self.patterns)

    def newest_first(self) -> Iterator[Channel]:
        """
        Iterate over all patterns, then all channels, those that were published to last first.

        Channels of the daemon itself are left out.
        """
        named = [one for one in reversed(self._channels.values()) if one.name not in INTERNAL]
        return chain(self.patterns, named)

    def get(self, name: Selector) -> Channel | None:
        """
        Return the channel or pattern *name*, if it is open.
        """
        return self._channels.get(name) if isinstance(name, str) else self.patterns.get(name)

    def open(self, name: Selector, now: float) -> Channel:
        """
        Return the channel or pattern *name*; create it if need be, at *now* (seconds).
        """
        if not isinstance(name, str):
            pattern = self.patterns.get(name)
            if pattern is None:
                history = History(self._retention, self._floor)
                pattern = self.patterns.open(name, history, self._channels)
                pattern.idle_since = now
            return pattern
        found = self._channels.get(name)
        if found is None:
            found = self._channels[name] = Channel(name, History(self._retention, self._floor))
            found.idle_since = now
            self.patterns.on_channel_opened(found, name)
        return found

    def on_last_subscriber_left(self, channel: Channel) -> None:
        """
        Bound the channels without messages and subscribers, and the patterns without
        subscribers.

        Subscribers can invent names: of channels that were never published to, MAX_UNUSED
        are kept open, and of patterns MAX_UNUSED_PATTERNS.
        """
        unused, limit = self._unused, MAX_UNUSED
        if channel.matched is not None:
            unused, limit = self._unused_patterns, MAX_UNUSED_PATTERNS
        if not len(channel.history) and not channel.undelivered:
            unused[channel.name] = None
            unused.move_to_end(channel.name)
            if len(unused) > limit:
                name, _ = unused.popitem(last=False)
                oldest = self.get(name)
                if oldest is not None and oldest.is_idle and not len(oldest.history):
                    self._drop(oldest)

    def append(self, message: Message, mark: Mark, now: float) -> Channel:
        """
        Append *message*, received at *now* (seconds), and evict what is over the limit.

        Args:
            message: the newest of all.
            mark: of the message.
            now: the time.

        Returns:
            The message's channel.
        """
        name = message.channel
        channel = self._channels.get(name) or self.open(name, now)
        self._channels.move_to_end(name)
        channel.received_count += 1
        channel.last_position = message.position
        if channel.patterns:
            note_message(channel, message.position)
        if mark is not _NO_MARK or (channel.live is not None and name in self._live):
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
        live = channel.live or channel.begin_live()
        live.received_at = now
        if mark is Mark.END:
            self.end_live(channel)

    def end_live(self, channel: Channel) -> None:
        """
        Drop the messages of *channel*, whose live stream is over, and retain those that follow
        as in any other channel.
        """
        self._live.remove(str(channel.name))
        channel.history.reconfigure(self._retention)
        channel.begin_live().received_at = None

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
        if position.epoch == start_position.epoch:
            if position.offset <= start_position.offset:
                return
            earliest = min(
                [one.history.start_position.offset for one in channel.patterns if one.subscribed],
                default=position.offset,
            )
            if earliest < position.offset:  # it was received before, by a pattern
                channel.miss(Position(position.epoch, max(earliest, start_position.offset)))
                return
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
        self.patterns.restart(floor)

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
        patterns: list[Channel] = []
        for channel in channels:
            if channel.matched is not None:
                patterns.append(channel)
                continue
            history = channel.history
            self.expire(channel, now)
            if isinstance(since, After):
                complete = complete and history.covers(since.position)
                found += history.after(since.position)
            elif isinstance(since, Newest):
                found += history.newest(since.count)
            else:
                found += history.within(now - since.seconds)
        if patterns:  # which may match each other's channels, and those that are named
            by_position = {message.position.offset: message for message in found}
            for pattern in patterns:
                messages, whole = replay_pattern(pattern, since, now, self.expire)
                by_position.update({message.position.offset: message for message in messages})
                complete = complete and whole
            found = list(by_position.values())
        if len(channels) > 1:
            found.sort(key=by_offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        return found, complete

    def covers(self, channels: Sequence[Channel], position: Position) -> bool:
        """
        Return whether all messages of *channels* after *position* are retained.
        """
        return all(
            covers_pattern(channel, position)
            if channel.matched is not None
            else channel.history.covers(position)
            for channel in channels
        )

    def sweep(self, now: float, linger: float) -> None:
        """
        Expire old messages of a sixtieth of the channels, and drop those of them that have
        had no messages and no subscribers for *linger* seconds. Called once per second.
        """
        if not self._unswept:
            self._unswept = [channel.name for channel in self]
        share = max(100, len(self._channels) // 60)
        names, self._unswept = self._unswept[-share:], self._unswept[:-share]
        for name in names:
            channel = self.get(name)
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
            self._live.expire(str(channel.name), now)
            return
        history = channel.history
        before = history.bytes or -CHANNEL_OVERHEAD
        history.expire(now)
        self.bytes += (history.bytes or -CHANNEL_OVERHEAD) - before

    def drop_missed(self, channel: Channel) -> None:
        """
        Drop the messages of *channel* up to its start position; of a live stream all.
        """
        if channel.name in self._live:
            self._live.clear(str(channel.name))
            return
        history = channel.history
        before = history.bytes or -CHANNEL_OVERHEAD
        history.drop_missed()
        self.bytes += (history.bytes or -CHANNEL_OVERHEAD) - before

    def _evict(self, published: Channel) -> None:
        for name, channel in tuple(islice(self._channels.items(), 100)):
            if name in self._live:
                self._channels.move_to_end(name)
            elif channel is published or not channel.is_idle:
                self._clear_history(channel)
                self._channels.move_to_end(name)
            else:
                self._drop(channel)
            if self.bytes < self._limit * EVICT_TO:
                return

    def _clear_history(self, channel: Channel) -> None:
        if channel.name in self._live:
            self._live.clear(str(channel.name))
            return
        if channel.history.bytes:
            self.bytes -= channel.history.bytes + CHANNEL_OVERHEAD
        channel.history.clear()

    def _drop(self, channel: Channel) -> None:
        name = channel.name
        if not isinstance(name, str):
            self.patterns.close(name, self._channels)
            self._unused_patterns.pop(name, None)
            self._on_dropped(channel)
            return
        del self._channels[name]
        self._unused.pop(name, None)
        self._clear_history(channel)
        if name in self._live:
            self._live.remove(name)
        self.patterns.on_channel_dropped(channel, name)
        start_position = channel.history.start_position
        if start_position.offset > self._floor.offset:
            self._floor = start_position
        self._on_dropped(channel)
