"""
Messages of a plain `PUBLISH`, which come to all nodes without a number.

For each channel one node has the right to number them (a lease, which the
scripts check); the others keep what they hear until they see its number. If
that does not come, one of them takes the lease: what the former owner numbered
is seen before, so that nothing is numbered twice or left out.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.python.failure import Failure
from txredisapi import ResponseError

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import RedisUnavailable
from rt_twisted.brokers.redis.publisher import BATCH, BATCH_BYTES, OVERHEAD, Call, encode
from rt_twisted.brokers.redis.scripts import ACQUIRE, NUMBER, RELEASE

PATIENCE = 1.0  # seconds an owner has to number a message
PENDING = 64 << 20  # bytes that wait for their numbers
CHANNELS = 10_000  # of which it is known that plain messages come


class LeaseState(Enum):
    """
    Who numbers a channel's messages.
    """

    ANOTHER = "another node, or nobody"
    ASKED = "we have asked"
    OURS = "this node"


@dataclass(slots=True, eq=False)
class PlainMessage:
    """
    A plain message without a number.
    """

    data: bytes
    time: float


@dataclass(slots=True, eq=False)
class PlainChannel:
    """
    A channel that plain messages come to.
    """

    channel: str
    right: LeaseState = LeaseState.ANOTHER
    known: bool = False  # that another node has the lease
    held: bool = False  # the lease may be in our name, as far as we know
    waiting: deque[PlainMessage] = field(default_factory=deque)


class Sequencer:
    """
    Sees that every plain message gets one number.

    Args:
        clock: the reactor.
        call: runs a script.
        bounds: of the channels' history, as scripts take them.
        marks: say when all that others have numbered is seen.
        node: the name of this one.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, int, int]],
        barriers: Barriers,
        node: str,
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._barriers = barriers
        self._node = node
        self._session = 0
        self._open = False
        self._stopping = False
        self._sources: dict[str, PlainChannel] = {}  # the one longest without a message first
        self._bytes = 0
        self._due = False
        self._ready: list[tuple[PlainChannel, PlainMessage]] = []  # to be numbered in this turn
        self._owed: set[str] = set()  # channels of which something may be lost, unsaid yet
        self._paying = 0  # answers to that which are awaited
        self._wanting: dict[PlainChannel, bool] = {}  # leases to be asked for, perhaps taken

    # What the ear hears.

    def heard(self, channel: str, data: bytes) -> None:
        """
        A plain message came.
        """
        source = self._sources.pop(channel, None) or PlainChannel(channel)
        self._sources[channel] = source
        waiting = PlainMessage(data, self._clock.seconds())
        source.waiting.append(waiting)
        self._bytes += len(data) + OVERHEAD
        if source.right is LeaseState.OURS:
            self._number(source, waiting)
        elif source.right is LeaseState.ANOTHER and not source.known:
            self._want(source, take=False)
        if self._bytes > PENDING:
            self._shed()
        if len(self._sources) > CHANNELS:
            oldest = next(iter(self._sources.values()))
            if oldest.waiting:
                self._lose(oldest)
            self.forget(oldest.channel)

    def seen(self, channel: str, data: bytes) -> None:
        """
        A message came with its number.
        """
        source = self._sources.get(channel)
        if source is None:
            return
        for index, waiting in enumerate(source.waiting):
            if waiting.data == data:  # nearly always the first
                del source.waiting[index]
                self._bytes -= len(data) + OVERHEAD
                return

    def drop(self, channel: str) -> None:
        """
        Nobody knows any more whether what waits there has a number; its readers
        are told of a gap.
        """
        source = self._sources.get(channel)
        if source is not None:
            self._bytes -= sum([len(waiting.data) + OVERHEAD for waiting in source.waiting])
            source.waiting.clear()

    def forget(self, channel: str) -> None:
        """
        Nobody wants to hear *channel* any more.
        """
        self.drop(channel)
        source = self._sources.pop(channel, None)
        if source is not None and source.held:
            self._give_up([channel], lossy=False)
            source.right = LeaseState.ANOTHER

    # Life.

    def open(self) -> None:
        """
        The ear hears again. Channels that were ours while it did not: what came
        meanwhile is lost, unless somebody else has taken the lease.
        """
        self._open = True
        self._session += 1
        for source in self._sources.values():
            if source.held:
                self._owed.add(source.channel)
            source.right, source.known, source.held = LeaseState.ANOTHER, False, False
        self._ready.clear()
        self._wanting.clear()
        self._pay()
        for source in self._sources.values():
            if source.waiting:
                self._want(source, take=False)

    def close(self) -> None:
        """
        It does not.
        """
        self._open = False

    def stop(self) -> None:
        """
        Leave the work to others.
        """
        self._stopping = True
        ours = [source for source in self._sources.values() if source.right is LeaseState.OURS]
        if self._open and ours:
            self._give_up([source.channel for source in ours], lossy=False)
        for source in ours:
            source.right, source.known = LeaseState.ANOTHER, True

    def look(self) -> None:
        """
        Now and then: take over what its owner does not number, and say what is
        still to be said of losses.
        """
        if not self._open or self._stopping:
            return
        if self._owed and not self._paying:
            self._pay()
        # Not all nodes in one moment.
        late = self._clock.seconds() - PATIENCE * random.uniform(1.0, 1.5)
        for source in self._sources.values():
            if (
                source.right is LeaseState.ANOTHER
                and source.waiting
                and source.waiting[0].time < late
            ):
                self._want(source, take=True)

    # Work.

    def _want(self, source: PlainChannel, take: bool) -> None:
        if self._open and not self._stopping:
            source.right = LeaseState.ASKED
            source.held = True
            self._wanting[source] = take
            self._schedule()

    def _number(self, source: PlainChannel, waiting: PlainMessage) -> None:
        self._ready.append((source, waiting))
        self._schedule()

    def _schedule(self) -> None:
        if not self._due:
            self._due = True
            self._clock.callLater(0, self._work)

    def _work(self) -> None:
        self._due = False
        if not self._open:
            return
        ready, self._ready = self._ready, []
        wanting, self._wanting = self._wanting, {}
        for take in (False, True):
            sources = [source for source, taking in wanting.items() if taking is take]
            for start in range(0, len(sources), BATCH):
                self._spawn(self._acquire(sources[start : start + BATCH], take))
        batch: list[tuple[PlainChannel, PlainMessage]] = []
        size = 0
        for one in ready:
            if batch and (len(batch) >= BATCH or size + len(one[1].data) > BATCH_BYTES):
                self._spawn(self._number_all(batch))
                batch, size = [], 0
            batch.append(one)
            size += len(one[1].data)
        if batch:
            self._spawn(self._number_all(batch))

    def _spawn(self, work: Any) -> None:
        ensureDeferred(work).addErrback(_not_done)

    async def _acquire(self, sources: Sequence[PlainChannel], take: bool) -> None:
        session = self._session
        token, reached = self._barriers.expect()
        names = [encode(source.channel) for source in sources]
        age = int(PATIENCE * 1000) if take else -1
        try:
            granted = await self._call(ACQUIRE, self._node, token, self._token(), age, *names)
            await reached  # all that others have numbered is seen now
        except (RedisUnavailable, ResponseError):
            reached.addErrback(lambda _: None)
            if session == self._session:
                for source in sources:  # tried again when something has waited too long
                    source.right, source.known = LeaseState.ANOTHER, True
            raise
        if session == self._session:
            for source, one in zip(sources, granted, strict=True):
                self._granted(source, bool(one))

    def _granted(self, source: PlainChannel, ours: bool) -> None:
        source.known = not ours
        source.held = ours
        source.right = LeaseState.ANOTHER
        if ours and self._sources.get(source.channel) is source and not self._stopping:
            source.right = LeaseState.OURS
            for waiting in source.waiting:
                self._number(source, waiting)

    async def _number_all(self, batch: Sequence[tuple[PlainChannel, PlainMessage]]) -> None:
        session = self._session
        arguments = [
            argument
            for source, waiting in batch
            for argument in (encode(source.channel), waiting.data)
        ]
        try:
            answer = await self._call(NUMBER, *self._bounds(), self._token(), *arguments)
        except (RedisUnavailable, ResponseError):
            if session == self._session:
                for source, _ in batch:  # it is asked for again when it has waited too long
                    source.right, source.known = LeaseState.ANOTHER, True
            raise
        if session == self._session:
            for (source, _), offset in zip(batch, answer, strict=True):
                if not offset and source.right is LeaseState.OURS:
                    # The lease has run out, or another node has taken it.
                    source.right, source.known = LeaseState.ANOTHER, False
                    self._want(source, take=False)

    def _give_up(self, channels: Iterable[str], lossy: bool) -> Deferred[Any]:
        names = [encode(channel) for channel in channels]
        done: Deferred[Any] = self._call(RELEASE, *self._bounds(), self._node, int(lossy), *names)
        return done.addErrback(_not_done)

    def _pay(self) -> None:
        """
        Have the channels get a gap that are owed one, unless another node
        numbers them: it has heard what we have not.
        """
        owed = list(self._owed)
        for start in range(0, len(owed), BATCH):
            some = owed[start : start + BATCH]
            self._paying += 1
            self._give_up(some, lossy=True).addCallback(self._paid, some)

    def _paid(self, count: int | None, channels: Sequence[str]) -> None:
        self._paying -= 1
        if count is not None:
            self._owed.difference_update(channels)

    def _token(self) -> str:
        return f"{self._node}:{self._session}"

    def _shed(self) -> None:
        """
        Give up half of what waits, where nothing was heard for longest.
        """
        for source in tuple(self._sources.values()):
            if self._bytes <= PENDING // 2:
                return
            if source.waiting:
                self._lose(source)

    def _lose(self, source: PlainChannel) -> None:
        self.drop(source.channel)
        self._owed.add(source.channel)
        if source.right is LeaseState.OURS:  # the gap ends the lease
            source.right, source.known = LeaseState.ANOTHER, False


def _not_done(failure: Failure) -> None:
    """
    Without redis nothing can be done; what waits is looked at when it is back.
    The broker has said what there is to say.
    """
    failure.trap(RedisUnavailable, ResponseError)
