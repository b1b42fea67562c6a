"""
Who listens here: readers join, hear, and leave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from heapq import nlargest
from operator import attrgetter
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.interfaces import (
    IBroker,
    ILimited,
    IReady,
    IReceiver,
    IReconfigurable,
    IRefusing,
)
from rt_twisted.hub.admission import Admission
from rt_twisted.hub.catchup import CatchUp
from rt_twisted.hub.channel import Channel, ChannelTable
from rt_twisted.hub.fanout import Fanout
from rt_twisted.hub.heartbeats import Heartbeats
from rt_twisted.hub.limits import HubLimits
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.metrics.metrics import ChannelCounts, Metrics
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, Message, Position, PublishResult, Since
from rt_twisted.model.retention import Retention

_log = Logger()
_sweeping = _log.failureHandler("while sweeping")
_subscribed = attrgetter("subscribed")


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
        self,
        broker: IBroker,
        clock: IReactorTime,
        retention: Retention = Retention(),
        limits: HubLimits = HubLimits(),
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
        self._subscribers = 0
        self._addresses: Counter[str] = Counter()
        self._uncounted: set[Subscriber] = set()  # joined, and no subscribers yet
        self._behind: set[Subscriber] = set()
        self._heartbeats = Heartbeats(limits.heartbeat, head)
        self.admission = Admission(clock, limits.join_rate, limits.join_queue)
        self._stopping = False
        self._sweep = LoopingCall(self._swept)
        self._sweep.clock = clock
        self.metrics = Metrics()
        self._fanout = Fanout(clock, self.metrics)
        self._channels = ChannelTable(retention, limits.history_bytes, head, self._forgotten)
        self._catchup = CatchUp(
            broker,
            clock,
            self._channels,
            self._fanout,
            self.metrics,
            self.position,
            limits.replay_bytes,
        )
        broker.attach(self)

    # Publishing.

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
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
        self.metrics.published += 1
        # Once something is pending, all that follows is: who joins now is told
        # of it in the turn to come, not by replay, and hears all in order.
        if channel.subscribers or self._fanout.dirty:
            self._fanout.add(channel, message, now)

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
            self._fanout.gap((found,), position)

    def _begin(self, head: Position) -> None:
        """
        Another log begins, heard whole after *head*.
        """
        known = bool(self._head.epoch)
        self._head = head
        if known:
            self._fanout.gap(self._channels, head)
        self._channels.restart(head)

    @property
    def subscribers(self) -> int:
        """
        How many are connected to this node.
        """
        return self._subscribers

    def subscribers_of(self, channel: str) -> int:
        """
        How many readers of *channel* are connected to this node.
        """
        found = self._channels.get(channel)
        return found.subscribers if found is not None else 0

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
            raise HttpError(503, "the server is stopping", retry=self.admission.spread_retry(2))
        if limits.subscribers and self._subscribers >= limits.subscribers:
            raise HttpError(503, "too many readers", retry=self.admission.spread_retry(10))
        if (
            limits.subscribers_per_address
            and self._addresses[address] >= limits.subscribers_per_address
        ):
            raise HttpError(429, "too many readers from your address", retry=10)

    def join(
        self,
        subscriber: Subscriber,
        names: Sequence[str],
        since: Since | None,
        head: bytes = b"",
        counted: bool = True,
        format: IFormat | None = None,
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
            format: replaces the subscriber's format in a replay that is written
                before this returns; see `add`.
        """
        if counted:
            self._count_in(subscriber)
        else:
            self._uncounted.add(subscriber)
        self._heartbeats.add(subscriber)
        self._catchup.enter(subscriber, names, since, head, format)

    def count_subscriber(self, subscriber: Subscriber) -> None:
        """
        Count *reader*, which joined uncounted, as a subscriber from now on. It is
        for the caller to `admit` it before.
        """
        if subscriber in self._uncounted:
            self._uncounted.remove(subscriber)
            self._count_in(subscriber)

    def _count_in(self, subscriber: Subscriber) -> None:
        self._subscribers += 1
        self._addresses[subscriber.address] += 1
        self.metrics.joined += 1

    def add_channels(
        self,
        subscriber: Subscriber,
        names: Sequence[str],
        since: Since | None = None,
        head: bytes = b"",
        format: IFormat | None = None,
    ) -> None:
        """
        Let *reader*, which has joined, hear the channels *names* too. *head* is
        written first, then `format.start` of what *since* asks for of them. One
        that has left meanwhile, which whoever speaks for it may hear of later, hears
        nothing.

        *format* replaces the subscriber's format in a replay that is written before
        this returns. A replay that waits for the broker has the subscriber's format.
        """
        if subscriber in self._heartbeats:  # nobody would ever take another out of them
            self._catchup.enter(subscriber, names, since, head, format)

    def remove_channels(self, subscriber: Subscriber, names: Sequence[str]) -> None:
        """
        Let *reader* hear the channels *names* no more. What is being told may
        still come.
        """
        self._catchup.remove(subscriber, names)

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        """
        *reader* is gone; called by itself.
        """
        if subscriber in self._uncounted:
            self._uncounted.remove(subscriber)
        else:
            self._subscribers -= 1
            self._addresses[subscriber.address] -= 1
            if not self._addresses[subscriber.address]:
                del self._addresses[subscriber.address]
            self.metrics.closed[cause.value] += 1
        self._heartbeats.discard(subscriber)
        self._catchup.leave(subscriber)

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
        self._catchup.forgotten(channel)

    def fell_behind(self, subscriber: Subscriber) -> None:
        """
        Watch *reader* (`Audience.fell_behind`).
        """
        self._behind.add(subscriber)

    def caught_up(self, subscriber: Subscriber) -> None:
        """
        Stop watching it.
        """
        self._behind.discard(subscriber)

    def skipped(self, subscriber: Subscriber) -> None:
        """
        Count a gap.
        """
        self.metrics.gaps += 1

    # Life.

    def start(self) -> None:
        """
        Begin the sweep: once a second heartbeats, patience, forgetting.
        """
        self._started = self._clock.seconds()
        self.metrics.sample(self._started)
        head = self._broker.position()
        if head != self._head:  # a broker may know its log only once it is started
            self.reached(head)
        self._sweep.start(1.0, now=False)

    def reconfigure(self, retention: Retention, limits: HubLimits) -> None:
        """
        Go on with other limits. Readers that are here stay, also over them.
        """
        self._limits = limits
        self._catchup.replay_bytes = limits.replay_bytes
        self._channels.reconfigure(retention, limits.history_bytes)
        if IReconfigurable.providedBy(self._broker):
            self._broker.reconfigure(retention)
        self.admission.reconfigure(limits.join_rate, limits.join_queue)
        self._heartbeats = self._heartbeats.reconfigure(limits.heartbeat, self._head)

    def stop(self, retry: int) -> None:
        """
        Tell every reader to come back after *retry* to twice *retry* ms, each
        at another time, and hang up. Nobody joins any more.
        """
        self._stopping = True
        if self._sweep.running:
            self._sweep.stop()
        self._fanout.flush()
        self.admission.stop(retry / 1000)
        share = retry / max(1, self._subscribers)
        for index, subscriber in enumerate(tuple(self._heartbeats)):
            subscriber.end(DisconnectReason.SHUTDOWN, retry + int(index * share))

    def current_metrics(self) -> Metrics:
        """
        The counts as they stand now; the channels are those with readers.
        """
        metrics = self.metrics
        metrics.channels = {
            channel.name: channel.subscribers for channel in self._channels if channel.subscribers
        }
        metrics.subscribers = self._subscribers
        metrics.subscribers_limit = self._limits.subscribers
        metrics.behind = len(self._behind)
        metrics.joining = len(self._catchup.waiting)
        metrics.broker_away = int(not self._is_broker_there())
        metrics.broker_refuses = int(self._does_broker_refuse())
        metrics.waiting_bytes = sum([subscriber.backlog_bytes for subscriber in self._behind])
        metrics.history_bytes = self._channels.bytes
        now = self._clock.seconds()
        metrics.uptime = now - self._started
        metrics.refresh(now)
        return metrics

    def busiest_channels(self, most: int) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        The *most* channels with the most readers, among equals those published
        to last; and all others as one without a name.
        """
        channels = list(self._channels.newest_first())
        shown = nlargest(most, channels, key=attrgetter("subscribers"))
        others = ChannelCounts(
            "",
            sum([channel.subscribers for channel in channels])
            - sum([c.subscribers for c in shown]),
            sum([channel.messages for channel in channels]) - sum([c.messages for c in shown]),
            channels=len(channels) - len(shown),
        )
        return [_count(channel) for channel in shown], others

    def channel_counts(self, name: str) -> ChannelCounts:
        """
        The numbers of one channel; zeros if this node knows none of that name.
        """
        channel = self._channels.get(name)
        return _count(channel) if channel is not None else ChannelCounts(name, 0, 0)

    # Once a second.

    def _swept(self) -> None:
        for work in (self._beat, self._check_stalled, self._visit, self._sample):
            with _sweeping:
                work()

    def _visit(self) -> None:
        self._channels.visit(self._clock.seconds(), self._limits.linger)

    def _sample(self) -> None:
        self.metrics.sample(self._clock.seconds())

    def _beat(self) -> None:
        # A cursor says "everything up to here": while a turn is being told,
        # that is not true yet for everybody.
        head = None if self._fanout.busy else self._head
        self._heartbeats.beat(head, self._behind, self._catchup.waiting)

    def _check_stalled(self) -> None:
        now = self._clock.seconds()
        for subscriber in tuple(self._behind):
            if now - subscriber.stalled_since > subscriber.backlog_limits.seconds:
                subscriber.on_stall_timeout()


def _count(channel: Channel) -> ChannelCounts:
    position = str(channel.last) if channel.last is not None else ""
    return ChannelCounts(channel.name, channel.subscribers, channel.messages, position)
