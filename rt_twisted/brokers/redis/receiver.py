"""
What comes from redis, on its way to the receiver: in order, each once.

While an ear is new, what comes live is held back until the past is fetched;
both together are told in order, with a gap where something is forgotten.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.logger import Logger
from txredisapi import ResponseError

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import PubSubConnection, RedisUnavailable
from rt_twisted.brokers.redis.entries import (
    GAP,
    PLAIN,
    ChannelSlice,
    Entry,
    merge,
    read_live,
    read_mark,
)
from rt_twisted.brokers.redis.history import ChannelQuery, RedisHistoryReader
from rt_twisted.brokers.redis.publisher import OVERHEAD
from rt_twisted.brokers.redis.sequencer import Sequencer
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.model.message import NOWHERE, Position

_log = Logger()

HELD = 64 << 20  # bytes of live messages that wait while the past is fetched
FETCHED = 64 << 20  # bytes of the past; of channels beyond that a gap is told

Held = Entry | tuple[str, bytes]  # numbered, or plain: channel and data


class RedisReceiver:
    """
    Tells the receiver (`IListener` for an ear).

    Args:
        marks: those that were asked for.
        wishes: which names are which channel.
        archive: fetches the past.
        plain: what becomes of plain messages.
        renew: has another hello be said, for a reason.
    """

    def __init__(
        self,
        barriers: Barriers,
        wishes: RedisSubscriptions,
        archive: RedisHistoryReader,
        plain: Sequencer,
        renew: Callable[[str], None],
    ) -> None:
        self._barriers = barriers
        self._subscriptions = wishes
        self._history = archive
        self._plain = plain
        self._renew = renew
        self._ear: PubSubConnection | None = None
        self._held: list[Held] | None = None  # while the past is fetched
        self._held_bytes = 0
        self.receiver: Any = None
        self.head = NOWHERE  # what the receiver was told
        self.known = NOWHERE  # the highest position that is known to be given

    def learn(self, position: Position) -> None:
        """
        *position* was given.
        """
        known = self.known
        if position.epoch != known.epoch or position.offset > known.offset:
            self.known = position

    # What the ear hears.

    def ignored(self, name: bytes) -> None:
        """
        See `IListener.ignored`.
        """
        self._barriers.ignored(name)

    def heard(self, name: bytes, payload: bytes) -> None:
        """
        See `IListener.heard`. The hot path.
        """
        channel = self._subscriptions.numbered.get(name)
        if channel is not None:
            try:
                entry = read_live(channel, payload)
            except ValueError:
                _log.debug("somebody else publishes to {name}", name=name)
                return
            if self._held is not None:
                self._hold(self._held, entry, len(payload))
                return
            if entry.message.position.epoch != self.head.epoch:
                return  # somebody else's; if there is another log, a mark says so
            if entry.flags & PLAIN:
                self._plain.seen(channel, entry.message.data)
            self._tell(entry)
            return
        channel = self._subscriptions.plain.get(name)
        if channel is not None:
            if self._held is not None:
                self._hold(self._held, (channel, payload), len(payload))
            else:
                self._plain.heard(channel, payload)
        elif name == self._barriers.control:
            self._marked(payload)

    def _marked(self, payload: bytes) -> None:
        try:
            position, token = read_mark(payload)
        except ValueError:
            return
        head = self.head
        if position.epoch != self._history.epoch or (
            position.epoch == head.epoch and position.offset < head.offset
        ):
            self._renew("its log has changed")
            return
        if self._held is None:
            self._reach(position)
        self._barriers.came(token, position)

    def _hold(self, held: list[Held], what: Held, size: int) -> None:
        held.append(what)
        self._held_bytes += size + OVERHEAD
        if self._held_bytes > HELD and self._ear is not None:
            # What is held is fetched the next time.
            self._ear.abort("too much comes while the past is fetched")

    # What the receiver is told.

    def _tell(self, entry: Entry) -> None:
        position = entry.message.position
        if position.offset <= self.head.offset:
            return
        self.head = position
        self.learn(position)
        if entry.flags & GAP:
            self.receiver.missed(entry.message.channel, position)
        else:
            self.receiver.receive(entry.message)

    def _reach(self, position: Position) -> None:
        head = self.head
        self.learn(position)
        if position.epoch != head.epoch or position.offset > head.offset:
            self.head = position
            self.receiver.reached(position)

    def _miss(self, offset: int, channel: str) -> None:
        self.head = Position(self.head.epoch, max(offset, self.head.offset))
        self.receiver.missed(channel, self.head)

    # After an absence.

    async def begin(self, ear: PubSubConnection, start: Position) -> None:
        """
        Listen by *ear*, fetch what was missed, tell it in order with what came
        meanwhile, and go live. If the log is another than before, that is said
        first, and what was missed is all that it has after *start*.

        Raises:
            Away: redis is not there, or does not remember itself.
        """
        self._ear = ear
        self._held, self._held_bytes = [], 0
        if start.epoch != self.head.epoch:
            self._reach(start)
        ear.listen([self._barriers.control])
        new = await self._subscriptions.say_again(ear)
        trails, skipped = await self._fetch()
        position = await self._barriers.ask()
        held, self._held = self._held, None
        live = [one for one in held if isinstance(one, Entry)]
        live = [one for one in live if one.message.position.epoch == position.epoch]
        merged, holes = merge(live, trails, self.head)
        self._match_plain(held, trails, {*skipped, *(channel for _, channel in holes)})
        left = deque(sorted(holes))
        for entry in merged:
            while left and left[0][0] < entry.offset:
                self._miss(*left.popleft())
            if entry.message.channel not in skipped:
                self._tell(entry)
        for hole in left:
            self._miss(*hole)
        self._reach(position)
        for channel in skipped:
            self._miss(position.offset, channel)
        self._subscriptions.are_heard(new, self.head)

    def end(self) -> None:
        """
        The ear is lost.
        """
        self._ear = None
        self._held = None

    async def _fetch(self) -> tuple[Mapping[str, ChannelSlice], set[str]]:
        """
        What the receiver has missed; and the channels for which that is too much.
        """
        head = self.head
        if not self._subscriptions.heard:
            return {}, set()
        wants = [ChannelQuery(channel, after=head.offset) for channel in self._subscriptions.heard]
        try:
            result = await self._history.fetch(wants, "", FETCHED)
        except ResponseError as error:
            raise RedisUnavailable(str(error)) from None
        if result.position.epoch != head.epoch:
            raise RedisUnavailable("its log has changed")
        return result.slices, set(result.skipped)

    def _match_plain(
        self, held: Sequence[Held], trails: Mapping[str, ChannelSlice], lost: Iterable[str]
    ) -> None:
        """
        Which plain messages got their number meanwhile, in the order of things.
        """
        live = {one.offset for one in held if isinstance(one, Entry)}
        for channel, trail in trails.items():
            for entry in trail.entries:
                if entry.flags & PLAIN and entry.offset not in live:
                    self._plain.seen(channel, entry.message.data)
        for channel in lost:
            self._plain.drop(channel)
        for one in held:
            if not isinstance(one, Entry):
                self._plain.heard(*one)
            elif one.flags & PLAIN:
                self._plain.seen(one.message.channel, one.message.data)
