"""
Numbers for messages of a plain `PUBLISH`, which reach all nodes without one.

For each channel one node numbers them under a lease, which the scripts check; the others
keep what they receive until they see its number. If that does not come, one of them takes
the lease. Everything that the former owner numbered is seen before, so that no message is
numbered twice or left out.
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

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.copies import CopyNames, encode
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.publisher import BATCH, BATCH_BYTES, OVERHEAD, Call
from rt_twisted.brokers.redis.scripts import ACQUIRE, NUMBER, RELEASE
from rt_twisted.codecs.wildcards import Wildcard

LEASE_TIMEOUT = 1.0  # seconds that the owner of a lease has to number a message
MAX_PENDING_BYTES = 64 << 20  # of plain messages that wait for their numbers
MAX_CHANNELS = 10_000  # with plain messages; the one longest without a message is forgotten


class LeaseState(Enum):
    """
    The node that numbers a channel's messages.
    """

    ANOTHER = "another node, or none"
    REQUESTED = "this node has requested the lease"
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
    A channel with plain messages.
    """

    channel: str
    lease: LeaseState = LeaseState.ANOTHER
    owned_elsewhere: bool = False  # known to be
    maybe_ours: bool = False  # redis may have the lease in this node's name
    waiting: deque[PlainMessage] = field(default_factory=deque)


class Sequencer:
    """
    Gives every plain message one number.

    Args:
        clock: the reactor.
        call: runs a script.
        bounds: returns the bounds of the channels' history, as scripts take them.
        barriers: tell when all that other nodes have numbered is seen.
        node: the name of this node.
        copies: the names of plain copies.
        on_copy_denied: called with the reason when redis denies one.
    """

    def __init__(
        self,
        clock: Any,
        call: Call,
        bounds: Callable[[], tuple[int, int, int]],
        barriers: Barriers,
        node: str,
        copies: CopyNames,
        on_copy_denied: Callable[[str], None],
    ) -> None:
        self._clock = clock
        self._call = call
        self._bounds = bounds
        self._barriers = barriers
        self._node = node
        self._copies = copies
        self._on_copy_denied = on_copy_denied
        self._session = 0
        self._open = False
        self._stopping = False
        # The channel that is longest without a message comes first.
        self._channels: dict[str, PlainChannel] = {}
        self._pending_bytes = 0
        self._scheduled = False
        self._to_number: list[tuple[PlainChannel, PlainMessage]] = []  # at the next flush
        self._gaps_due: set[str] = set()  # channels that may have lost messages
        self._gaps_running = 0  # scripts that report them
        self._to_acquire: dict[PlainChannel, bool] = {}  # whether from another owner too

    def on_plain(self, channel: str, data: bytes) -> None:
        """
        Take a plain message from the pub/sub connection.
        """
        source = self._channels.pop(channel, None) or PlainChannel(channel)
        self._channels[channel] = source
        message = PlainMessage(data, self._clock.seconds())
        source.waiting.append(message)
        self._pending_bytes += len(data) + OVERHEAD
        if source.lease is LeaseState.OURS:
            self._number(source, message)
        elif source.lease is LeaseState.ANOTHER and not source.owned_elsewhere:
            self._request_lease(source, take=False)
        if self._pending_bytes > MAX_PENDING_BYTES:
            self._shed()
        if len(self._channels) > MAX_CHANNELS:
            oldest = next(iter(self._channels.values()))
            if oldest.waiting:
                self._lose(oldest)
            self.forget(oldest.channel)

    def on_numbered(self, channel: str, data: bytes) -> None:
        """
        Take a plain message that has a number now: it waits no longer.
        """
        source = self._channels.get(channel)
        if source is None:
            return
        for index, message in enumerate(source.waiting):
            if message.data == data:  # nearly always the first
                del source.waiting[index]
                self._pending_bytes -= len(data) + OVERHEAD
                return

    def drop(self, channel: str) -> None:
        """
        Drop what waits in *channel*: its numbers may have been missed. The caller reports a gap.
        """
        source = self._channels.get(channel)
        if source is not None:
            self._pending_bytes -= sum([len(each.data) + OVERHEAD for each in source.waiting])
            source.waiting.clear()

    def matching(self, pattern: Wildcard) -> list[str]:
        """
        Return the channels with plain messages that *pattern* matches.
        """
        return [channel for channel in self._channels if pattern.matches(channel)]

    def forget(self, channel: str) -> None:
        """
        Drop *channel* and its lease: this node is not subscribed to it any more.
        """
        self.drop(channel)
        source = self._channels.pop(channel, None)
        if source is not None and source.maybe_ours:
            self._release([channel], lossy=False)
            source.lease = LeaseState.ANOTHER

    def open(self) -> None:
        """
        Begin anew on a new pub/sub connection.

        In channels that were ours without it, messages are lost, unless another node has
        taken the lease.
        """
        self._open = True
        self._session += 1
        for source in self._channels.values():
            if source.maybe_ours:
                self._gaps_due.add(source.channel)
            source.lease, source.owned_elsewhere, source.maybe_ours = (
                LeaseState.ANOTHER,
                False,
                False,
            )
        self._to_number.clear()
        self._to_acquire.clear()
        self._report_gaps()
        for source in self._channels.values():
            if source.waiting:
                self._request_lease(source, take=False)

    def close(self) -> None:
        """
        Stop acquiring leases: the pub/sub connection is lost.
        """
        self._open = False

    def stop(self) -> None:
        """
        Release all leases, so that other nodes number the messages.
        """
        self._stopping = True
        ours = [source for source in self._channels.values() if source.lease is LeaseState.OURS]
        if self._open and ours:
            self._release([source.channel for source in ours], lossy=False)
        for source in ours:
            source.lease, source.owned_elsewhere = LeaseState.ANOTHER, True

    def check(self) -> None:
        """
        Take over leases whose owners do not number, and report gaps that are still due;
        called every CHECK_INTERVAL.
        """
        if not self._open or self._stopping:
            return
        if self._gaps_due and not self._gaps_running:
            self._report_gaps()
        # At random, so that the nodes do not all try in one moment.
        late = self._clock.seconds() - LEASE_TIMEOUT * random.uniform(1.0, 1.5)
        for source in self._channels.values():
            if (
                source.lease is LeaseState.ANOTHER
                and source.waiting
                and source.waiting[0].time < late
            ):
                self._request_lease(source, take=True)

    def _request_lease(self, source: PlainChannel, take: bool) -> None:
        if self._open and not self._stopping:
            source.lease = LeaseState.REQUESTED
            source.maybe_ours = True
            self._to_acquire[source] = take
            self._schedule()

    def _number(self, source: PlainChannel, message: PlainMessage) -> None:
        self._to_number.append((source, message))
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._open:
            return
        to_number, self._to_number = self._to_number, []
        to_acquire, self._to_acquire = self._to_acquire, {}
        for take in (False, True):
            sources = [source for source, taking in to_acquire.items() if taking is take]
            for start in range(0, len(sources), BATCH):
                self._spawn(self._acquire(sources[start : start + BATCH], take))
        batch: list[tuple[PlainChannel, PlainMessage]] = []
        size = 0
        for each in to_number:
            if batch and (len(batch) >= BATCH or size + len(each[1].data) > BATCH_BYTES):
                self._spawn(self._number_batch(batch))
                batch, size = [], 0
            batch.append(each)
            size += len(each[1].data)
        if batch:
            self._spawn(self._number_batch(batch))

    def _spawn(self, coroutine: Any) -> None:
        ensureDeferred(coroutine).addErrback(_ignore_redis_errors)

    async def _acquire(self, sources: Sequence[PlainChannel], take: bool) -> None:
        session = self._session
        token, reached = self._barriers.expect()
        names = [encode(source.channel) for source in sources]
        age = int(LEASE_TIMEOUT * 1000) if take else -1
        try:
            granted = await self._call(ACQUIRE, self._node, token, self._token(), age, *names)
            await reached  # now all is seen that other nodes have numbered
        except (RedisUnavailable, ResponseError):
            reached.addErrback(lambda _: None)
            if session == self._session:
                for source in sources:  # tried again when a message has waited too long
                    source.lease, source.owned_elsewhere = LeaseState.ANOTHER, True
            raise
        if session == self._session:
            for source, ours in zip(sources, granted, strict=True):
                self._on_lease(source, bool(ours))

    def _on_lease(self, source: PlainChannel, ours: bool) -> None:
        source.owned_elsewhere = not ours
        source.maybe_ours = ours
        source.lease = LeaseState.ANOTHER
        if ours and self._channels.get(source.channel) is source and not self._stopping:
            source.lease = LeaseState.OURS
            for message in source.waiting:
                self._number(source, message)

    async def _number_batch(self, batch: Sequence[tuple[PlainChannel, PlainMessage]]) -> None:
        session = self._session
        arguments = [
            argument
            for source, message in batch
            for argument in (
                encode(source.channel),
                message.data,
                self._copies.of_plain(source.channel),
            )
        ]
        try:
            denied, *offsets = await self._call(NUMBER, *self._bounds(), self._token(), *arguments)
        except (RedisUnavailable, ResponseError):
            if session == self._session:
                for source, _ in batch:  # requested again when a message has waited too long
                    source.lease, source.owned_elsewhere = LeaseState.ANOTHER, True
            raise
        if denied:
            self._on_copy_denied(denied.decode(errors="replace"))
        if session == self._session:
            for (source, _), offset in zip(batch, offsets, strict=True):
                if not offset and source.lease is LeaseState.OURS:
                    # The lease has run out, or another node has taken it.
                    source.lease, source.owned_elsewhere = LeaseState.ANOTHER, False
                    self._request_lease(source, take=False)

    def _release(self, channels: Iterable[str], lossy: bool) -> Deferred[Any]:
        names = [encode(channel) for channel in channels]
        done: Deferred[Any] = self._call(RELEASE, *self._bounds(), self._node, int(lossy), *names)
        return done.addErrback(_ignore_redis_errors)

    def _report_gaps(self) -> None:
        """
        Make redis append a gap to the channels where one is due, unless another node
        numbers them: that node has received what this one has not.
        """
        due = list(self._gaps_due)
        for start in range(0, len(due), BATCH):
            channels = due[start : start + BATCH]
            self._gaps_running += 1
            self._release(channels, lossy=True).addCallback(self._on_gaps_reported, channels)

    def _on_gaps_reported(self, count: int | None, channels: Sequence[str]) -> None:
        self._gaps_running -= 1
        if count is not None:
            self._gaps_due.difference_update(channels)

    def _token(self) -> str:
        return f"{self._node}:{self._session}"

    def _shed(self) -> None:
        """
        Drop half of what waits, from the channels that are longest without a message.
        """
        for source in tuple(self._channels.values()):
            if self._pending_bytes <= MAX_PENDING_BYTES // 2:
                return
            if source.waiting:
                self._lose(source)

    def _lose(self, source: PlainChannel) -> None:
        self.drop(source.channel)
        self._gaps_due.add(source.channel)
        if source.lease is LeaseState.OURS:  # the gap ends the lease
            source.lease, source.owned_elsewhere = LeaseState.ANOTHER, False


def _ignore_redis_errors(failure: Failure) -> None:
    """
    Ignore that redis is away: the broker has logged it, and `open` begins anew.
    """
    failure.trap(RedisUnavailable, ResponseError)
