"""
The hub: all channels of this node, and the subscribers that join and leave them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IBroker, IReceiver
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.http.stream_handle import StreamEntry
from rt_twisted.hub.admission import Admission
from rt_twisted.hub.broker_capabilities import BrokerCapabilities
from rt_twisted.hub.catchup import CatchUp
from rt_twisted.hub.channel import Channel
from rt_twisted.hub.channel_table import ChannelTable
from rt_twisted.hub.expirations import Expirations
from rt_twisted.hub.fanout import Fanout
from rt_twisted.hub.grant_holders import GrantHolder, GrantHolders
from rt_twisted.hub.heartbeats import Heartbeats
from rt_twisted.hub.limits import HubLimits, SlowConsumerPolicy
from rt_twisted.hub.live_memory import LiveMemory
from rt_twisted.hub.live_streams import LiveStreams
from rt_twisted.hub.statistics import HubStatistics
from rt_twisted.hub.stream_counts import StreamCounts
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.internal_channels import INTERNAL
from rt_twisted.model.message import (
    Draft,
    Mark,
    Message,
    Position,
    PublishResult,
    Since,
    Sync,
)
from rt_twisted.model.retention import Retention

_log = Logger()
_sweeping = _log.failureHandler("while sweeping channels and subscribers")
# Attributes of an Enum class are slow to look up.
_NO_MARK = Mark.NONE
_SYNC = SlowConsumerPolicy.SYNC


@implementer(IReceiver)
class Hub:
    """
    All channels of this node.

    Args:
        broker: gives messages their positions and carries them between nodes.
        clock: the reactor.
        retention: of each channel.
        limits: of subscribers, memory and rates.
    """

    def __init__(
        self,
        broker: IBroker,
        clock: IReactorTime,
        retention: Retention,
        limits: HubLimits,
    ) -> None:
        self._broker = broker
        self.capabilities = BrokerCapabilities(broker)
        self._clock = clock
        self._limits = limits
        head = broker.position()
        self._started = clock.seconds()
        self._head = head  # all messages up to here are received
        self._subscribers = 0
        self._addresses: Counter[str] = Counter()
        self._uncounted: set[Subscriber] = set()  # joined, and not in the counts and limits yet
        self._behind: set[Subscriber] = set()
        self._skipping: set[Subscriber] = set()  # have skipped once; logged then
        self._heartbeats = Heartbeats(limits.heartbeat, head)
        self._expirations = Expirations(clock)
        self.holders = GrantHolders(clock)
        self.admission = Admission(clock, limits.join_rate, limits.join_queue)
        self._stopping = False
        self._sweep_loop = LoopingCall(self._sweep_once)
        self._sweep_loop.clock = clock
        self.metrics = Metrics()
        self._streams = StreamCounts()
        self._fanout = Fanout(clock, self.metrics)
        self._live_memory = LiveMemory(retention, limits.live_memory)
        self._channels = ChannelTable(
            retention, limits.history_bytes, head, self._on_channel_dropped, self._live_memory
        )
        self.statistics = HubStatistics(self._channels)
        self.live = LiveStreams(
            broker, clock, self._channels, self._live_memory, lambda: self._limits
        )
        self._catchup = CatchUp(
            broker,
            clock,
            self._channels,
            self._fanout,
            self.metrics,
            self.position,
            limits.replay_bytes,
            self._streams,
        )
        broker.attach(self)

    # Publishing.

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Hand *drafts* to the broker; see `IBroker.publish`.
        """
        return self._broker.publish(drafts)

    def drop_history(self, channel: str) -> None:
        """
        Drop what this node retains of *channel* from before the gap that a deletion causes, which
        is reported here if the broker does not.

        Call `BrokerCapabilities.forget` first, and then this on all nodes.
        """
        if not self.capabilities.reports_deletion:
            self.missed(channel, self._head)
        found = self._channels.get(channel)
        if found is not None:
            self._channels.drop_missed(found)

    def receive(self, message: Message) -> None:
        position = message.position
        if position.epoch != self._head.epoch:
            # This node has received nothing of the new log before this message.
            self._begin_log(Position(position.epoch, position.offset - 1))
        now = self._clock.seconds()
        mark = _NO_MARK if message.event is None else message.mark
        channel = self._channels.append(message, mark, now)
        self._head = position
        if mark is _NO_MARK:
            if message.channel not in INTERNAL:
                self.metrics.published += 1
        else:
            self.metrics.live_units += 1
            self.metrics.live_received_bytes += len(message.data)
        # While something is undelivered, all that follows is too: a subscriber that joins
        # now receives it by the next flush and not by replay, so that all is in order.
        patterns = channel.patterns
        if (
            channel.subscribers
            or self._fanout.dirty
            or (patterns and any(pattern.subscribers for pattern in patterns))
        ):
            self._fanout.add(channel, message, now)
            for pattern in patterns:
                self._fanout.add(pattern, message, now)

    def reached(self, position: Position) -> None:
        if position.epoch != self._head.epoch:
            self._begin_log(position)
        elif position.offset > self._head.offset:
            self._head = position

    def missed(self, channel: Selector, position: Position) -> None:
        self.reached(position)
        found = self._channels.get(channel)
        channels = [found] if found is not None else []
        if isinstance(channel, str):
            channels += self._channels.patterns.matching(channel)
        for one in channels:
            one.miss(position)
        if channels:
            self._fanout.add_gap(channels, position)

    def _begin_log(self, head: Position) -> None:
        """
        Begin another log, of which all after *head* will be received.
        """
        known = bool(self._head.epoch)
        self._head = head
        if known:
            self._fanout.add_gap(self._channels, head)
        self._channels.restart(head)

    @property
    def subscribers(self) -> int:
        """
        Return the number of subscribers connected to this node.
        """
        return self._subscribers

    def subscribers_of(self, channel: str) -> int:
        """
        Return the number of subscribers of *channel* connected to this node.

        Those of patterns that match it are included; one that has both counts twice.
        """
        found = self._channels.get(channel)
        if found is None:
            count, patterns = 0, self._channels.patterns.matching(channel)
        else:
            count, patterns = found.subscribers, found.patterns
        for pattern in patterns:
            count += pattern.subscribers
        return count

    def why_not_ready(self) -> str:
        """
        Return one word for why new clients should not be sent to this node; "" if it is
        ready.
        """
        if self._stopping:
            return "stopping"
        return "" if self.capabilities.is_ready() else "broker"

    # Joining and leaving.

    def admit(self, address: str) -> None:
        """
        Check that one more subscriber from *address* is allowed.

        Raises:
            HttpError: 503 when the daemon is full or stopping, 429 when the address has
                as many subscribers as one address may have.
        """
        limits = self._limits
        if self._stopping:
            raise HttpError(503, "the server is stopping", retry=self.admission.spread_retry(2))
        if limits.subscribers and self._subscribers >= limits.subscribers:
            raise HttpError(503, "too many subscribers", retry=self.admission.spread_retry(10))
        if (
            limits.subscribers_per_address
            and self._addresses[address] >= limits.subscribers_per_address
        ):
            raise HttpError(429, "too many subscribers from your address", retry=10)

    def when_subscribed(self, names: Sequence[Selector]) -> Deferred[None] | None:
        """
        Subscribe this node to the channels *names* before a client joins them.

        A client whose stream begins when the broker delivers to this node receives all that
        is published after it has read the first byte.

        Returns:
            None if the broker delivers all of them, or is not available. Otherwise a Deferred
            that fires when it does, or after SUBSCRIBE_SECONDS.
        """
        for name in names:
            channel = self._channels.get(name)
            if channel is None or not channel.subscribed:
                is_ready = self.capabilities.is_ready()
                return self._catchup.when_subscribed(names) if is_ready else None
        return None

    def join(
        self,
        subscriber: Subscriber,
        names: Sequence[Selector],
        since: Since | None,
        head: bytes = b"",
        counted: bool = True,
        format: IFormat | None = None,
        entry: StreamEntry | None = None,
    ) -> None:
        """
        Replay to *subscriber* what *since* selects of the channels *names*, then deliver
        what they receive, without loss or repeat in between.

        Args:
            subscriber: a new one; the hub has it until it leaves.
            names: channels and patterns; distinct. None if `add_channels` follows. A message
                of two of them is delivered once. Only one channel with `Sync` or with the
                policy SYNC, and the subscriber's format then provides `ISyncFormat`.
            since: None for the live stream alone.
            head: bytes to be written in front, such as HTTP headers.
            counted: whether it counts as a subscriber, in the limits and in the
                metrics; if not, it does from `count_subscriber` on.
            format: replaces the subscriber's format in a replay that is written
                before this returns; see `add_channels`.
            entry: the stream's line in the access log, written when the subscriber leaves.
        """
        if isinstance(since, Sync) or subscriber.backlog_limits.policy is _SYNC:
            single = not names or (len(names) == 1 and isinstance(names[0], str))
            if not single or ISyncFormat(format or subscriber.format, None) is None:
                raise ValueError("Sync needs one channel and a format with resync points")
        if counted:
            self._count(subscriber)
        else:
            self._uncounted.add(subscriber)
        if entry is not None:
            self._streams.begin(subscriber, entry, self._clock.seconds())
        self._heartbeats.add(subscriber)
        self._catchup.subscribe(subscriber, names, since, head, format)

    def count_subscriber(self, subscriber: Subscriber) -> None:
        """
        Count *subscriber*, which joined uncounted, from now on.

        The caller must `admit` it first.
        """
        if subscriber in self._uncounted:
            self._uncounted.remove(subscriber)
            self._count(subscriber)

    def _count(self, subscriber: Subscriber) -> None:
        self._subscribers += 1
        self._addresses[subscriber.address] += 1
        self.metrics.joined += 1

    def all_subscribers(self) -> Iterator[Subscriber]:
        """
        Iterate over all subscribers of this process.
        """
        return iter(self._heartbeats)

    def set_grant(
        self,
        subscriber: Subscriber,
        grant: Any,
        left: float,
        end: Callable[[], object] | None = None,
        drop: Callable[[Sequence[Selector]], object] | None = None,
    ) -> None:
        """
        Note the grant of *subscriber*, which has joined, and end it when the grant does.

        Args:
            subscriber: of the client.
            grant: the client's; replaces an earlier one.
            left: seconds until its end; see `Expirations.set_end`.
            end: disconnects the client; None for `Subscriber.end`.
            drop: see `GrantHolder`.
        """
        if subscriber in self._heartbeats:
            self.holders.add(subscriber, GrantHolder(grant, self._clock.seconds(), end, drop))
            self._expirations.set_end(subscriber, left, end)

    def drop_grant(self, subscriber: Subscriber) -> None:
        """
        Forget the grant of *subscriber*, whose client has another connection now.
        """
        self.holders.discard(subscriber)
        self._expirations.discard(subscriber)

    def add_channels(
        self,
        subscriber: Subscriber,
        names: Sequence[Selector],
        since: Since | None = None,
        head: bytes = b"",
        format: IFormat | None = None,
    ) -> None:
        """
        Join *subscriber*, which has joined the hub, to the channels *names* too.

        *head* is written first, then `format.start` of the replay that *since* selects. A
        subscriber that has left meanwhile is ignored: callers may learn of that later.

        *format* replaces the subscriber's format in a replay that is written before
        this returns. A replay that waits for the broker has the subscriber's format.
        """
        if subscriber in self._heartbeats:  # one that has left would never be removed again
            self._catchup.subscribe(subscriber, names, since, head, format)

    def remove_channels(self, subscriber: Subscriber, names: Sequence[Selector]) -> None:
        """
        Remove *subscriber* from the channels *names*. Messages of a flush in progress may
        still be delivered.
        """
        self._catchup.unsubscribe(subscriber, names)

    def move_live(self, subscriber: Subscriber, name: str, last: Message | None) -> None:
        """
        Let *subscriber* of one live channel go on with the live channel *name*.

        Not during a flush that delivers to it; see `call_after_flush`. A subscriber that has
        left is ignored.

        Args:
            subscriber: has joined the hub; its format provides `ISyncFormat`.
            name: of the channel.
            last: the last unit that it was sent: it goes on at the next resync point by
                `ISyncFormat.resumed`, as if the units of one channel followed those of the
                other. None to begin by `IFormat.start`, as a new subscriber does.
        """
        if subscriber in self._heartbeats:
            self._catchup.move(subscriber, name, last)

    def call_after_flush(self, call: Callable[[], object]) -> None:
        """
        Call *call* when all subscribers have received what the flushes that have begun deliver.
        """
        if self._fanout.is_flushing:
            self._fanout.call_after_flush(call)
        else:
            call()

    def last_unit(self, subscriber: Subscriber) -> Message | None:
        """
        Return the last unit that *subscriber* of one live channel was sent, as far as is known.
        """
        for channel in subscriber.channels:
            if channel.live is not None:
                unit: Message | None = channel.live.last_sent(subscriber)
                return unit
        return None

    def park_live(self, subscriber: Subscriber, last: Message | None) -> None:
        """
        Send *subscriber* of one live channel nothing until the next resync point.

        Args:
            subscriber: the subscriber.
            last: the last unit that it was sent.
        """
        if subscriber in self._heartbeats:
            for channel in subscriber.channels:
                channel.park(subscriber, last)

    def stream_ended(self, subscriber: Subscriber, last: Message | None) -> None:
        subscriber.end_after_backlog()

    def leave(self, subscriber: Subscriber, reason: DisconnectReason) -> None:
        if subscriber in self._uncounted:
            self._uncounted.remove(subscriber)
        else:
            self._subscribers -= 1
            self._addresses[subscriber.address] -= 1
            if not self._addresses[subscriber.address]:
                del self._addresses[subscriber.address]
            self.metrics.closed[reason.value] += 1
        self._heartbeats.discard(subscriber)
        self._expirations.discard(subscriber)
        self.holders.discard(subscriber)
        self._skipping.discard(subscriber)
        self._catchup.remove_subscriber(subscriber)
        self._streams.end(subscriber, self._clock.seconds(), reason)

    def seconds(self) -> float:
        return self._clock.seconds()

    def position(self) -> Position:
        """
        Return the end of the log, as far as this node knows.
        """
        return self._head

    def _on_channel_dropped(self, channel: Channel) -> None:
        self._catchup.on_channel_dropped(channel)

    def fell_behind(self, subscriber: Subscriber) -> None:
        self._behind.add(subscriber)

    def caught_up(self, subscriber: Subscriber) -> None:
        self._behind.discard(subscriber)

    def skipped(self, subscriber: Subscriber) -> None:
        if subscriber.backlog_limits.policy is SlowConsumerPolicy.NEWEST:
            self._count_skip(subscriber, "gets only the newest pictures")
        else:
            self.metrics.gaps += 1

    def parked(self, subscriber: Subscriber) -> None:
        self._count_skip(subscriber, "skips to later keyframes")
        if len(subscriber.channels) == 1:
            self._fanout.park(subscriber)
        else:
            subscriber.drop(DisconnectReason.BEHIND)

    def _count_skip(self, subscriber: Subscriber, consequence: str) -> None:
        self.metrics.skips += 1
        if subscriber not in self._skipping:
            self._skipping.add(subscriber)
            _log.info(
                "a viewer of {channel} is too slow and {consequence} {address}",
                channel=", ".join([str(channel.name) for channel in subscriber.channels]),
                consequence=consequence,
                address=f"({subscriber.address or _peer_of(subscriber)})",
            )

    # Start and stop.

    def start(self) -> None:
        """
        Start the sweep, once per second: heartbeats, stall timeouts, retention, samples.
        """
        self._started = self._clock.seconds()
        self.metrics.sample(self._started)
        head = self._broker.position()
        if head != self._head:  # a broker may know its log only after its start
            self.reached(head)
        self._sweep_loop.start(1.0, now=False)

    def reconfigure(self, retention: Retention, limits: HubLimits) -> None:
        """
        Use other limits. Connected subscribers stay, also above the new limits.
        """
        self._limits = limits
        self._catchup.reconfigure(limits.replay_bytes)
        self._channels.reconfigure(retention, limits.history_bytes)
        self._live_memory.reconfigure(retention, limits.live_memory)
        self.capabilities.reconfigure(retention)
        self.admission.reconfigure(limits.join_rate, limits.join_queue)
        self._heartbeats = self._heartbeats.reconfigure(limits.heartbeat, self._head)

    def stop(self, retry: int) -> None:
        """
        Disconnect all subscribers, and refuse new ones.

        Each is asked to reconnect after *retry* to twice *retry* ms, each at another time.
        """
        self._stopping = True
        if self._sweep_loop.running:
            self._sweep_loop.stop()
        self.live.publishers.stop()
        self._fanout.flush_now()
        self.admission.stop(retry / 1000)
        share = retry / max(1, self._subscribers)
        for index, subscriber in enumerate(tuple(self._heartbeats)):
            subscriber.end(DisconnectReason.SHUTDOWN, retry + int(index * share))
        self.live.end_searches()

    def current_metrics(self) -> Metrics:
        """
        Return the metrics as they are now; their `channels` are those with subscribers.
        """
        metrics = self.metrics
        metrics.channels = {
            str(channel.name): channel.subscribers
            for channel in self._channels
            if channel.subscribers and channel.name not in INTERNAL
        }
        metrics.patterns = len(self._channels.patterns)
        metrics.subscribers = self._subscribers
        metrics.subscribers_limit = self._limits.subscribers
        metrics.behind = len(self._behind)
        metrics.joining = len(self._catchup.pending_subscriptions)
        metrics.broker_away = int(not self.capabilities.is_ready())
        metrics.broker_refuses = int(self.capabilities.is_refusing())
        metrics.waiting_bytes = sum([subscriber.backlog_bytes for subscriber in self._behind])
        metrics.history_bytes = self._channels.bytes
        metrics.live_bytes = self._live_memory.bytes
        metrics.live_publishers = len(self.live.publishers)
        live = map(self._channels.get, self._live_memory)
        metrics.live_viewers = sum([one.subscribers for one in live if one is not None])
        now = self._clock.seconds()
        metrics.uptime = now - self._started
        metrics.refresh(now)
        return metrics

    # The sweep.

    def _sweep_once(self) -> None:
        for work in (
            self._send_heartbeats,
            self._check_expirations,
            self._check_stalled,
            self._sweep_channels,
            self.live.check,
            self._sample_metrics,
        ):
            with _sweeping:
                work()

    def _sweep_channels(self) -> None:
        self._channels.sweep(self._clock.seconds(), self._limits.linger)

    def _sample_metrics(self) -> None:
        self.metrics.sample(self._clock.seconds())

    def _send_heartbeats(self) -> None:
        # A cursor means "everything up to here": during a flush, that is not true yet for
        # all subscribers.
        head = None if self._fanout.busy else self._head
        self._heartbeats.send(head, self._behind, self._catchup.pending_subscriptions)

    def _check_expirations(self) -> None:
        head = None if self._fanout.busy else self._head
        self._expirations.check(head, self._catchup.pending_subscriptions)

    def _check_stalled(self) -> None:
        now = self._clock.seconds()
        for subscriber in tuple(self._behind):
            if now - subscriber.stalled_since > subscriber.backlog_limits.seconds:
                subscriber.on_stall_timeout()


def _peer_of(subscriber: Subscriber) -> str:
    """
    Return the address of the other end of a connection: of a proxy, if there is one.
    """
    return str(getattr(subscriber.transport.getPeer(), "host", "no address"))
