"""
Who listens here: readers join, hear, and leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import nlargest
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.admission import Admission
from rt_twisted.channels import Channel, Channels
from rt_twisted.counts import ChannelCounts, Counts
from rt_twisted.entrance import Entrance
from rt_twisted.heartbeats import Heartbeats
from rt_twisted.history import Keep
from rt_twisted.interfaces import (
    IBroker,
    ILimited,
    IReady,
    IReceiver,
    IRefusing,
    Refusal,
)
from rt_twisted.message import Draft, Message, Position, Since
from rt_twisted.subscriber import Cause, Subscriber
from rt_twisted.turns import Turns

_log = Logger()
_sweeping = _log.failureHandler("while sweeping")
_heard = attrgetter("heard")


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the hub allows; 0 means no limit of ours.

    Args:
        readers: connected at once.
        readers_per_address: of those, from one address.
        history_bytes: kept for replay in all channels; what was published to
            longest ago is forgotten first.
        replay_bytes: replayed to one reader.
        linger: seconds the broker is still asked for a channel after its last
            reader left.
        heartbeat: seconds between two heartbeats of a reader; 0 for none.
        join_rate: new readers per second.
        join_queue: new readers that may wait for that; 0 for none.
    """

    readers: int = 0
    readers_per_address: int = 0
    history_bytes: int = 256 << 20
    replay_bytes: int = 8 << 20
    linger: float = 60.0
    heartbeat: float = 30.0
    join_rate: int = 0
    join_queue: int = 0


@implementer(IReceiver)
class Hub:
    """
    All channels of this node.

    Args:
        broker: gives messages their positions and carries them.
        clock: the reactor.
        keep: what each channel remembers.
        limits: what is allowed.
    """

    def __init__(
        self, broker: IBroker, clock: IReactorTime, keep: Keep = Keep(), limits: Limits = Limits()
    ) -> None:
        self._broker = broker
        self._there: Any = IReady(broker, None)
        self._refusing: Any = IRefusing(broker, None)
        self._limited: Any = ILimited(broker, None)
        self._clock = clock
        self._limits = limits
        head = broker.position()
        self._started = clock.seconds()
        self._head = head  # everything up to here is received
        self._readers = 0
        self._addresses: Counter[str] = Counter()
        self._uncounted: set[Subscriber] = set()  # joined, and no subscribers yet
        self._behind: set[Subscriber] = set()
        self._heartbeats = Heartbeats(limits.heartbeat, head)
        self.admission = Admission(clock, limits.join_rate, limits.join_queue)
        self._stopping = False
        self._sweep = LoopingCall(self._swept)
        self._sweep.clock = clock
        self.counts = Counts()
        self._turns = Turns(clock, self.counts)
        self._channels = Channels(keep, limits.history_bytes, head, self._forgotten)
        self._entrance = Entrance(
            broker,
            clock,
            self._channels,
            self._turns,
            self.counts,
            self.position,
            limits.replay_bytes,
        )
        broker.attach(self)

    # Publishing.

    def publish(self, drafts: Sequence[Draft]) -> Deferred[list[Position]]:
        """
        Hand *drafts* to the broker; see `IBroker.publish`.
        """
        return self._broker.publish(drafts)

    def check_channel(self, name: str) -> None:
        """
        Accept the channel *name*, or refuse it if the broker cannot carry it.

        Raises:
            Refusal: 400; see `ILimited.check_channel`.
        """
        if self._limited is not None:
            self._limited.check_channel(name)

    def receive(self, message: Message) -> None:
        """
        See `IReceiver.receive`.
        """
        position = message.position
        if position.epoch != self._head.epoch:
            # What the new log held before, nobody here has seen.
            self._begin(Position(position.epoch, position.offset - 1))
        now = self._clock.seconds()
        channel = self._channels.append(message, now)
        self._head = position
        self.counts.published += 1
        # Once something is pending, all that follows is: who joins now is told
        # of it in the turn to come, not by replay, and hears all in order.
        if channel.readers or self._turns.marked:
            self._turns.add(channel, message, now)

    def reached(self, position: Position) -> None:
        """
        See `IReceiver.reached`.
        """
        if position.epoch != self._head.epoch:
            self._begin(position)
        elif position.offset > self._head.offset:
            self._head = position

    def missed(self, channel: str, position: Position) -> None:
        """
        See `IReceiver.missed`.
        """
        self.reached(position)
        found = self._channels.get(channel)
        if found is not None:
            found.history.miss(position)
            self._turns.gap((found,), position)

    def _begin(self, head: Position) -> None:
        """
        Another log begins, heard whole after *head*.
        """
        known = bool(self._head.epoch)
        self._head = head
        if known:
            self._turns.gap(self._channels, head)
        self._channels.restart(head)

    @property
    def readers(self) -> int:
        """
        How many are connected to this node.
        """
        return self._readers

    def readers_of(self, channel: str) -> int:
        """
        How many readers of *channel* are connected to this node.
        """
        found = self._channels.get(channel)
        return found.readers if found is not None else 0

    def why_not_ready(self) -> str:
        """
        One word for why nobody should be sent here now; "" if all is well.
        """
        if self._stopping:
            return "stopping"
        return "" if self._is_broker_there() else "broker"

    def _is_broker_there(self) -> bool:
        return self._there is None or bool(self._there.ready())

    def _does_broker_refuse(self) -> bool:
        return self._refusing is not None and bool(self._refusing.refuses())

    # Joining and leaving.

    def admit(self, address: str) -> None:
        """
        Check that one more reader from *address* is allowed.

        Raises:
            Refusal: 503 when the daemon is full or stopping, 429 when the
                address has its share.
        """
        limits = self._limits
        if self._stopping:
            raise Refusal(503, "the server is stopping", retry=self.admission.later(2))
        if limits.readers and self._readers >= limits.readers:
            raise Refusal(503, "too many readers", retry=self.admission.later(10))
        if limits.readers_per_address and self._addresses[address] >= limits.readers_per_address:
            raise Refusal(429, "too many readers from your address", retry=10)

    def join(
        self,
        reader: Subscriber,
        names: Sequence[str],
        since: Since | None,
        head: bytes = b"",
        counted: bool = True,
    ) -> None:
        """
        Replay to *reader* what *since* asks for of the channels *names*, then
        tell it what they receive, without loss or repeat in between.

        Args:
            reader: new; it belongs to the hub until it leaves.
            names: distinct, at least one.
            since: None for the live stream alone.
            head: bytes to be written in front, such as HTTP headers.
            counted: whether it counts as a subscriber, in the limits and in the
                numbers; if not, it does from `count` on.
        """
        if counted:
            self._count_in(reader)
        else:
            self._uncounted.add(reader)
        self._heartbeats.add(reader)
        self._entrance.enter(reader, names, since, head)

    def count(self, reader: Subscriber) -> None:
        """
        Count *reader*, which joined uncounted, as a subscriber from now on. It is
        for the caller to `admit` it before.
        """
        if reader in self._uncounted:
            self._uncounted.remove(reader)
            self._count_in(reader)

    def _count_in(self, reader: Subscriber) -> None:
        self._readers += 1
        self._addresses[reader.address] += 1
        self.counts.joined += 1

    def add(
        self,
        reader: Subscriber,
        names: Sequence[str],
        since: Since | None = None,
        head: bytes = b"",
    ) -> None:
        """
        Let *reader*, which has joined, hear the channels *names* too. *head* is
        written first, then `format.start` of what *since* asks for of them. One
        that has left meanwhile, which whoever speaks for it may hear of later, hears
        nothing.
        """
        if reader in self._heartbeats:  # nobody would ever take another out of them
            self._entrance.enter(reader, names, since, head)

    def remove(self, reader: Subscriber, names: Sequence[str]) -> None:
        """
        Let *reader* hear the channels *names* no more. What is being told may
        still come.
        """
        self._entrance.remove(reader, names)

    def leave(self, reader: Subscriber, cause: Cause) -> None:
        """
        *reader* is gone; called by itself.
        """
        if reader in self._uncounted:
            self._uncounted.remove(reader)
        else:
            self._readers -= 1
            self._addresses[reader.address] -= 1
            if not self._addresses[reader.address]:
                del self._addresses[reader.address]
            self.counts.closed[cause.value] += 1
        self._heartbeats.discard(reader)
        self._entrance.leave(reader)

    def seconds(self) -> float:
        """
        The time (`Audience.seconds`).
        """
        return self._clock.seconds()

    def position(self) -> Position:
        """
        The end of the log, as far as this node knows.
        """
        return self._head

    def _forgotten(self, channel: Channel) -> None:
        self._entrance.forgotten(channel)

    def fell_behind(self, reader: Subscriber) -> None:
        """
        Watch *reader* (`Audience.fell_behind`).
        """
        self._behind.add(reader)

    def caught_up(self, reader: Subscriber) -> None:
        """
        Stop watching it.
        """
        self._behind.discard(reader)

    def skipped(self, reader: Subscriber) -> None:
        """
        Count a gap.
        """
        self.counts.gaps += 1

    # Life.

    def start(self) -> None:
        """
        Begin the sweep: once a second heartbeats, patience, forgetting.
        """
        self._started = self._clock.seconds()
        self.counts.note(self._started)
        head = self._broker.position()
        if head != self._head:  # a broker may know its log only once it is started
            self.reached(head)
        self._sweep.start(1.0, now=False)

    def adopt(self, keep: Keep, limits: Limits) -> None:
        """
        Go on with other limits. Readers that are here stay, also over them.
        """
        self._limits = limits
        self._entrance.replay_bytes = limits.replay_bytes
        self._channels.adopt(keep, limits.history_bytes)
        if hasattr(self._broker, "adopt"):  # it keeps history itself
            self._broker.adopt(keep)
        self.admission.adopt(limits.join_rate, limits.join_queue)
        self._heartbeats = self._heartbeats.adopt(limits.heartbeat, self._head)

    def stop(self, retry: int) -> None:
        """
        Tell every reader to come back after *retry* to twice *retry* ms, each
        at another time, and hang up. Nobody joins any more.
        """
        self._stopping = True
        if self._sweep.running:
            self._sweep.stop()
        self._turns.flush()
        self.admission.stop(retry / 1000)
        share = retry / max(1, self._readers)
        for index, reader in enumerate(tuple(self._heartbeats)):
            reader.end(Cause.SHUTDOWN, retry + int(index * share))

    def numbers(self) -> Counts:
        """
        The counts as they stand now; the channels are those with readers.
        """
        counts = self.counts
        counts.channels = {
            channel.name: channel.readers for channel in self._channels if channel.readers
        }
        counts.readers = self._readers
        counts.readers_limit = self._limits.readers
        counts.behind = len(self._behind)
        counts.joining = len(self._entrance.waiting)
        counts.broker_away = int(not self._is_broker_there())
        counts.broker_refuses = int(self._does_broker_refuse())
        counts.waiting_bytes = sum([reader.waiting for reader in self._behind])
        counts.history_bytes = self._channels.bytes
        now = self._clock.seconds()
        counts.uptime = now - self._started
        counts.look(now)
        return counts

    def busiest(self, most: int) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        The *most* channels with the most readers, among equals those published
        to last; and all others as one without a name.
        """
        channels = list(self._channels.newest_first())
        shown = nlargest(most, channels, key=attrgetter("readers"))
        others = ChannelCounts(
            "",
            sum([channel.readers for channel in channels]) - sum([c.readers for c in shown]),
            sum([channel.messages for channel in channels]) - sum([c.messages for c in shown]),
            channels=len(channels) - len(shown),
        )
        return [_count(channel) for channel in shown], others

    def count_channel(self, name: str) -> ChannelCounts:
        """
        The numbers of one channel; zeros if this node knows none of that name.
        """
        channel = self._channels.get(name)
        return _count(channel) if channel is not None else ChannelCounts(name, 0, 0)

    # Once a second.

    def _swept(self) -> None:
        for work in (self._beat, self._check_patience, self._visit, self._note):
            with _sweeping:
                work()

    def _visit(self) -> None:
        self._channels.visit(self._clock.seconds(), self._limits.linger)

    def _note(self) -> None:
        self.counts.note(self._clock.seconds())

    def _beat(self) -> None:
        # A cursor says "everything up to here": while a turn is being told,
        # that is not true yet for everybody.
        head = None if self._turns.busy else self._head
        self._heartbeats.beat(head, self._behind, self._entrance.waiting)

    def _check_patience(self) -> None:
        now = self._clock.seconds()
        for reader in tuple(self._behind):
            if now - reader.stuck_since > reader.patience.seconds:
                reader.too_late()


def _count(channel: Channel) -> ChannelCounts:
    position = str(channel.last) if channel.last is not None else ""
    return ChannelCounts(channel.name, channel.readers, channel.messages, position)
