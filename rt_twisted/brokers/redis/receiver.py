"""
The way of messages from redis to the hub: in order, each once.

After (re)connecting, live messages are buffered until the missed history is fetched;
both are then delivered in order, with a gap where something is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from twisted.logger import Logger

from rt_twisted.brokers.interfaces import IReceiver
from rt_twisted.brokers.redis.barriers import Barriers
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
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.history import RedisHistoryReader
from rt_twisted.brokers.redis.pattern_history import MAX_MATCHED
from rt_twisted.brokers.redis.publisher import OVERHEAD
from rt_twisted.brokers.redis.queries import ChannelQuery
from rt_twisted.brokers.redis.sequencer import Sequencer
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import NOWHERE, Position

if TYPE_CHECKING:
    from rt_twisted.brokers.redis.connections import PubSubConnection

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
        # Of the last numbered message that a pattern has received:
        self._by_pattern = b""  # the message, as each further pattern receives it again
        self._delivered = b""  # the same, if it was passed on
        self._announced = b""  # the name of its plain copy
        self._with_copy: set[bytes] = set()  # patterns that have received this copy
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
            self._on_numbered(name, channel, payload)
            return
        if name == copy:
            return
        channel = self._subscriptions.plain.get(name)
        if channel is not None:
            if self._subscriptions.takes_plain(channel, channel):
                self._on_plain(channel, payload)
        elif name == self._barriers.control:
            self._on_barrier(payload)
        else:
            # Its channel is unsubscribed, but may be subscribed again before the copy arrives.
            self._copy = self._subscriptions.announced_copy(name, read_flags(payload))

    def on_pattern_message(self, glob: bytes, name: bytes, payload: bytes) -> None:
        # A numbered message arrives once for each pattern, then so does its plain copy. Nothing
        # else comes between them.
        subscriptions = self._subscriptions
        if subscriptions.is_numbered(name):
            if payload != self._by_pattern:
                self._by_pattern = payload
                self._announced = subscriptions.announced_copy(name, read_flags(payload))
                self._with_copy.clear()
            if glob in subscriptions.numbered_globs and payload != self._delivered:
                self._delivered = payload
                copy = self._copy  # of a message that is received by its name
                self._on_numbered(name, subscriptions.numbered_channel(name), payload)
                self._copy = copy
            return
        if name == self._announced and glob not in self._with_copy:
            self._with_copy.add(glob)
            return
        self._announced = b""
        if glob in subscriptions.plain_globs:
            channel = subscriptions.plain_channel(glob, name)
            if channel is not None:
                self._on_plain(channel, payload)

    def _on_numbered(self, name: bytes, channel: str, payload: bytes) -> None:
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
        head = self.head
        if entry.message.position.epoch != head.epoch:
            return  # another program's; if there is another log, a barrier reports it
        if entry.message.position.offset <= head.offset:
            return  # it was received before, by another subscription that matches it
        if entry.flags & PLAIN:
            self._sequencer.on_numbered(channel, entry.message.data)
        self._deliver(entry)

    def _on_plain(self, channel: str, payload: bytes) -> None:
        if self._buffer is not None:
            self._append(self._buffer, (channel, payload), len(payload))
        else:
            self._sequencer.on_plain(channel, payload)

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

    def _report_gap(self, offset: int, channel: Selector) -> None:
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
        self._by_pattern = self._delivered = self._announced = b""
        if start.epoch != self.head.epoch:
            self._advance(start)
        pubsub.subscribe([self._barriers.control])
        new = await self._subscriptions.resubscribe(pubsub)
        slices, skipped, uncertain = await self._fetch()
        position = await self._barriers.sync()
        buffer, self._buffer = _without_copies(self._buffer), None
        live = [item for item in buffer if isinstance(item, Entry)]
        live = [entry for entry in live if entry.message.position.epoch == position.epoch]
        merged, gaps = merge(live, slices, self.head)
        lost = {*skipped, *[channel for _, channel in gaps]}
        for pattern in uncertain:
            lost.update(self._sequencer.matching(pattern))
        self._match_plain(buffer, slices, lost)
        left = deque(sorted(gaps))
        for entry in merged:
            while left and left[0][0] < entry.offset:
                self._report_gap(*left.popleft())
            if entry.message.channel not in skipped:
                self._deliver(entry)
        for gap in left:
            self._report_gap(*gap)
        self._advance(position)
        selectors: list[Selector] = [*skipped, *uncertain]
        for selector in selectors:
            self._report_gap(position.offset, selector)
        self._subscriptions.confirm(new, self.head)

    def stop(self) -> None:
        """
        Drop what is buffered: the pub/sub connection is lost.
        """
        self._pubsub = None
        self._buffer = None

    async def _fetch(self) -> tuple[Mapping[str, ChannelSlice], set[str], Sequence[Wildcard]]:
        """
        Return what the receiver has missed, the channels that were skipped as there
        was too much, and the patterns whose channels cannot all be found.
        """
        head = self.head
        if not self._subscriptions.subscribed:
            return {}, set(), ()
        names: dict[str, None] = {}
        patterns: list[Wildcard] = []
        for selector in self._subscriptions.subscribed:
            if isinstance(selector, str):
                names[selector] = None
            else:
                patterns.append(selector)
        uncertain: Sequence[Wildcard] = ()
        try:
            if patterns:
                changed = await self._history.patterns.changed_since(head.offset)
                matching = [n for n in changed.names if any(p.matches(n) for p in patterns)]
                names.update(dict.fromkeys(matching[-MAX_MATCHED:]))
                complete = changed.complete and len(matching) <= MAX_MATCHED
                if not complete or changed.floor > head.offset:
                    uncertain = patterns
            queries = [ChannelQuery(channel, after=head.offset) for channel in names]
            result = await self._history.fetch(queries, "", MAX_FETCHED)
        except ResponseError as error:
            raise RedisUnavailable(str(error)) from None
        if result.position.epoch != head.epoch:
            raise RedisUnavailable("its log has changed")
        return result.slices, set(result.skipped), uncertain

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


def _without_copies(buffer: Iterable[Buffered]) -> list[Buffered]:
    """
    Return *buffer* with each numbered message once: it arrives once for each subscription.
    """
    seen: set[Position] = set()
    left: list[Buffered] = []
    for item in buffer:
        if isinstance(item, Entry):
            if item.message.position in seen:
                continue
            seen.add(item.message.position)
        left.append(item)
    return left
