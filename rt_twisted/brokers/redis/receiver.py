"""
The way of messages from redis to the hub: in order, each once.

After (re)connecting, live messages are buffered until the missed history is fetched;
both are then delivered in order, with a gap where something is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

from twisted.logger import Logger
from txredisapi import ResponseError

from rt_twisted.brokers.interfaces import IReceiver
from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import PubSubConnection, RedisUnavailable
from rt_twisted.brokers.redis.copies import ANNOUNCED
from rt_twisted.brokers.redis.entries import (
    GAP,
    PLAIN,
    ChannelSlice,
    Entry,
    merge,
    read_barrier,
    read_flags,
    read_live,
)
from rt_twisted.brokers.redis.history import ChannelQuery, RedisHistoryReader
from rt_twisted.brokers.redis.publisher import OVERHEAD
from rt_twisted.brokers.redis.sequencer import Sequencer
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.model.message import NOWHERE, Position

_log = Logger()

MAX_BUFFERED = 64 << 20  # bytes of live messages, while the missed history is fetched
MAX_FETCHED = 64 << 20  # bytes of missed history; the channels beyond get a gap

Buffered = Entry | tuple[str, bytes]  # numbered, or plain: channel and data


class RedisReceiver:
    """
    Delivers messages to the hub (`IPubSubListener` of the pub/sub connection).

    Args:
        barriers: those that this node waits for.
        subscriptions: which pub/sub name is which channel.
        history: fetches what was missed.
        sequencer: gets the plain messages.
        reconnect: called with a reason to connect anew, as the log is another one.
    """

    def __init__(
        self,
        barriers: Barriers,
        subscriptions: RedisSubscriptions,
        history: RedisHistoryReader,
        sequencer: Sequencer,
        reconnect: Callable[[str], None],
    ) -> None:
        self._barriers = barriers
        self._subscriptions = subscriptions
        self._history = history
        self._sequencer = sequencer
        self._reconnect = reconnect
        self._pubsub: PubSubConnection | None = None
        self._buffer: list[Buffered] | None = None  # while the missed history is fetched
        self._buffered_bytes = 0
        self._copy = b""  # the name of the next message, if that is a plain copy
        self.receiver: IReceiver
        self.head = NOWHERE  # the last position that the receiver has got
        self.newest = NOWHERE  # the highest position that is known to exist

    def note_position(self, position: Position) -> None:
        """
        Note that *position* was given to a message.
        """
        newest = self.newest
        if position.epoch != newest.epoch or position.offset > newest.offset:
            self.newest = position

    # Callbacks of the pub/sub connection.

    def on_unsubscribed(self, name: bytes) -> None:
        self._barriers.on_unsubscribed(name)

    def on_message(self, name: bytes, payload: bytes) -> None:  # the hot path
        copy, self._copy = self._copy, b""
        channel = self._subscriptions.numbered.get(name)
        if channel is not None:
            try:
                entry = read_live(channel, payload)
            except ValueError:
                _log.debug("{name} has no message of a node", name=name)
                return
            if entry.flags >= ANNOUNCED:
                self._copy = self._subscriptions.announced_copy(name, entry.flags)
            if self._buffer is not None:
                self._append(self._buffer, entry, len(payload))
                return
            if entry.message.position.epoch != self.head.epoch:
                return  # another program's; if there is another log, a barrier reports it
            if entry.flags & PLAIN:
                self._sequencer.on_numbered(channel, entry.message.data)
            self._deliver(entry)
            return
        if name == copy:
            return
        channel = self._subscriptions.plain.get(name)
        if channel is not None:
            if self._buffer is not None:
                self._append(self._buffer, (channel, payload), len(payload))
            else:
                self._sequencer.on_plain(channel, payload)
        elif name == self._barriers.control:
            self._on_barrier(payload)
        else:
            # Its channel is unsubscribed, but may be subscribed again before the copy arrives.
            self._copy = self._subscriptions.announced_copy(name, read_flags(payload))

    def _on_barrier(self, payload: bytes) -> None:
        try:
            position, token = read_barrier(payload)
        except ValueError:
            return
        head = self.head
        if position.epoch != self._history.epoch or (
            position.epoch == head.epoch and position.offset < head.offset
        ):
            self._reconnect("its log has changed")
            return
        if self._buffer is None:
            self._advance(position)
        self._barriers.on_token(token, position)

    def _append(self, buffer: list[Buffered], item: Buffered, size: int) -> None:
        buffer.append(item)
        self._buffered_bytes += size + OVERHEAD
        if self._buffered_bytes > MAX_BUFFERED and self._pubsub is not None:
            # What is buffered is fetched the next time.
            self._pubsub.abort("too many messages while the missed history is fetched")

    # Calls of the hub.

    def _deliver(self, entry: Entry) -> None:
        position = entry.message.position
        if position.offset <= self.head.offset:
            return
        self.head = position
        self.note_position(position)
        if entry.flags & GAP:
            self.receiver.missed(entry.message.channel, position)
        else:
            self.receiver.receive(entry.message)

    def _advance(self, position: Position) -> None:
        head = self.head
        self.note_position(position)
        if position.epoch != head.epoch or position.offset > head.offset:
            self.head = position
            self.receiver.reached(position)

    def _report_gap(self, offset: int, channel: str) -> None:
        self.head = Position(self.head.epoch, max(offset, self.head.offset))
        self.receiver.missed(channel, self.head)

    # A new connection.

    async def start(self, pubsub: PubSubConnection, start: Position) -> None:
        """
        Subscribe on *pubsub*, fetch what was missed, deliver it in order with what
        arrives meanwhile, and go live.

        If the log is another than before, the receiver gets its *start* first, and what
        was missed is all that the log has after it.

        Raises:
            RedisUnavailable: redis is away, or its log has changed meanwhile.
        """
        self._pubsub = pubsub
        self._buffer, self._buffered_bytes, self._copy = [], 0, b""
        if start.epoch != self.head.epoch:
            self._advance(start)
        pubsub.subscribe([self._barriers.control])
        new = await self._subscriptions.resubscribe(pubsub)
        slices, skipped = await self._fetch()
        position = await self._barriers.sync()
        buffer, self._buffer = self._buffer, None
        live = [item for item in buffer if isinstance(item, Entry)]
        live = [entry for entry in live if entry.message.position.epoch == position.epoch]
        merged, gaps = merge(live, slices, self.head)
        self._match_plain(buffer, slices, {*skipped, *(channel for _, channel in gaps)})
        left = deque(sorted(gaps))
        for entry in merged:
            while left and left[0][0] < entry.offset:
                self._report_gap(*left.popleft())
            if entry.message.channel not in skipped:
                self._deliver(entry)
        for gap in left:
            self._report_gap(*gap)
        self._advance(position)
        for channel in skipped:
            self._report_gap(position.offset, channel)
        self._subscriptions.confirm(new, self.head)

    def stop(self) -> None:
        """
        Drop what is buffered: the pub/sub connection is lost.
        """
        self._pubsub = None
        self._buffer = None

    async def _fetch(self) -> tuple[Mapping[str, ChannelSlice], set[str]]:
        """
        Return what the receiver has missed, and the channels that were skipped as there
        was too much.
        """
        head = self.head
        if not self._subscriptions.subscribed:
            return {}, set()
        queries = [
            ChannelQuery(channel, after=head.offset) for channel in self._subscriptions.subscribed
        ]
        try:
            result = await self._history.fetch(queries, "", MAX_FETCHED)
        except ResponseError as error:
            raise RedisUnavailable(str(error)) from None
        if result.position.epoch != head.epoch:
            raise RedisUnavailable("its log has changed")
        return result.slices, set(result.skipped)

    def _match_plain(
        self, buffer: Sequence[Buffered], slices: Mapping[str, ChannelSlice], lost: Iterable[str]
    ) -> None:
        """
        Pass plain messages and their numbers to the sequencer, in order.
        """
        live = {item.offset for item in buffer if isinstance(item, Entry)}
        for channel, part in slices.items():
            for entry in part.entries:
                if entry.flags & PLAIN and entry.offset not in live:
                    self._sequencer.on_numbered(channel, entry.message.data)
        for channel in lost:
            self._sequencer.drop(channel)
        for item in buffer:
            if not isinstance(item, Entry):
                self._sequencer.on_plain(*item)
            elif item.flags & PLAIN:
                self._sequencer.on_numbered(item.message.channel, item.message.data)
