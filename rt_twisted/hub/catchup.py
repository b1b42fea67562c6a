"""
Catch-up: subscribes to channels, and replays missed messages before live ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.brokers.interfaces import IBroker, IHistory
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.channel import Channel
from rt_twisted.hub.channel_table import ChannelTable
from rt_twisted.hub.fanout import Fanout
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.live_channel import Wait
from rt_twisted.hub.local_replay import LocalReplay, newest_of
from rt_twisted.hub.replay_frames import ReplayFrames, shared_frames
from rt_twisted.hub.resync import from_resync_point
from rt_twisted.hub.stream_counts import StreamCounts
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.message import (
    NOWHERE,
    After,
    Mark,
    Message,
    Newest,
    Position,
    Replay,
    Since,
    Sync,
)

_log = Logger()
_subscribed = attrgetter("subscribed")
_SYNC = SlowConsumerPolicy.SYNC  # attributes of an Enum class are slow to look up

SYNC_MESSAGES = 4096  # of the broker's history, in which a resync point is searched
SUBSCRIBE_SECONDS = 1.0  # for which a client that is to join waits for the broker


class PendingSubscription:
    """
    A subscriber and channels that it has requested and does not receive yet.

    Args:
        subscriber: the subscriber.
        channels: that it waits for.
        since: what is replayed of them first.
        preamble: bytes written in front of the replay.
    """

    __slots__ = ("channels", "history_request", "preamble", "since", "subscriber")

    def __init__(
        self,
        subscriber: Subscriber,
        channels: tuple[Channel, ...],
        since: Since | None,
        preamble: bytes,
    ) -> None:
        self.subscriber = subscriber
        self.channels = channels
        self.since = since
        self.preamble = preamble
        self.history_request: Deferred[Replay] | None = None  # to the broker's history


class CatchUp:
    """
    Joins subscribers to channels without loss or repeat between replay and live stream.

    A subscription is pending until the broker delivers its channels, the replay is found
    in our own history or in the broker's, and the subscriber has received what precedes
    the replay.

    Args:
        broker: is subscribed to channels, and queried for its history if it has one.
        clock: the reactor.
        channels: of this node.
        fanout: delivers live messages.
        metrics: counts replayed messages and gaps.
        end_of_log: return the position up to which everything is received.
        replay_bytes: replayed to one subscriber.
        streams: counts the messages of streams that are logged.
    """

    def __init__(
        self,
        broker: IBroker,
        clock: IReactorTime,
        channels: ChannelTable,
        fanout: Fanout,
        metrics: Metrics,
        end_of_log: Callable[[], Position],
        replay_bytes: int,
        streams: StreamCounts,
    ) -> None:
        self._local = LocalReplay(channels, fanout, end_of_log, clock, replay_bytes)
        self.pending_subscriptions: dict[Subscriber, list[PendingSubscription]] = {}
        # Any: a broker that provides IPatterns takes patterns in place of channels.
        self._broker: Any = broker
        self._history: Any = IHistory(broker, None)
        self._clock = clock
        self._channels = channels
        self._fanout = fanout
        self._metrics = metrics
        self._streams = streams
        self._frames = shared_frames()
        self._awaited: dict[Channel, set[Deferred[None]]] = {}  # by clients that will join
        self._last_request: tuple[Channel, ...] = ()
        # The format and the replay of the last one that joined without messages, and its start.
        self._last_start: tuple[IFormat | None, Replay, bytes] = (
            None,
            Replay((), True, NOWHERE),
            b"",
        )
        # Messages of the broker's history while they are sent: equal replays share them.
        self._fetched: WeakValueDictionary[Position, Message] = WeakValueDictionary()

    def reconfigure(self, replay_bytes: int) -> None:
        """
        Replay at most *replay_bytes* to one subscriber from now on.
        """
        self._local.max_bytes = replay_bytes

    def when_subscribed(self, names: Sequence[Selector]) -> Deferred[None] | None:
        """
        Subscribe to the channels *names* at the broker; see `Hub.when_subscribed`.
        """
        channels = self._request(names)
        waits = [self._wait_for(channel) for channel in channels if not channel.subscribed]
        if not waits:
            for channel in channels:
                self._on_left(channel)  # unless the client joins
            return None
        all_subscribed = DeferredList(waits, consumeErrors=True)
        all_subscribed.addTimeout(SUBSCRIBE_SECONDS, self._clock)
        return all_subscribed.addCallback(lambda _: None)

    def _wait_for(self, channel: Channel) -> Deferred[None]:
        waiting = self._awaited.setdefault(channel, set())

        def cancel(wait: Deferred[None]) -> None:
            waiting.discard(wait)
            if not waiting and self._awaited.get(channel) is waiting:
                del self._awaited[channel]
            self._on_left(channel)

        wait: Deferred[None] = Deferred(cancel)
        waiting.add(wait)
        return wait

    def _end_wait(self, channel: Channel) -> bool:
        """
        Let the clients go on that wait for *channel*; return whether there were some.
        """
        waiting = self._awaited.pop(channel, ())
        for wait in waiting:
            wait.callback(None)
        return bool(waiting)

    def subscribe(
        self,
        subscriber: Subscriber,
        names: Sequence[Selector],
        since: Since | None,
        preamble: bytes,
        format: IFormat | None = None,
    ) -> None:
        """
        Join *subscriber* to the channels *names* as soon as possible, after the replay of
        what *since* selects, with *preamble* in front.

        Channels that it has, or has requested, are skipped. *format* replaces the
        subscriber's in a replay that is written before this returns.
        """
        if subscriber.channels or subscriber in self.pending_subscriptions:
            current = {channel.name for channel in subscriber.channels}
            for pending in self.pending_subscriptions.get(subscriber, ()):
                current.update([channel.name for channel in pending.channels])
            names = [name for name in names if name not in current]
        try:
            channels = self._request(names)
        except Exception:
            subscriber.drop(DisconnectReason.LOST)  # the broker failed; the client may reconnect
            raise
        if all(map(_subscribed, channels)):
            used = format or subscriber.format
            replay = self._local.replay(channels, since, used)
            if self._is_sufficient(replay, channels, since) and not self._must_wait_for_flush(
                subscriber
            ):
                self._join(subscriber, channels, since, replay, preamble, used)
                return
        if not subscriber.channels:
            subscriber.write(preamble)
            preamble = b""
        if subscriber.closed:
            return
        self._add_pending(PendingSubscription(subscriber, channels, since, preamble))

    def unsubscribe(self, subscriber: Subscriber, names: Iterable[Selector]) -> None:
        """
        Remove *subscriber* from the channels *names*, also where it is still pending.
        """
        names = frozenset(names)
        self._set_channels(
            subscriber, tuple([c for c in subscriber.channels if c.name not in names])
        )
        for pending in tuple(self.pending_subscriptions.get(subscriber, ())):
            kept = tuple([c for c in pending.channels if c.name not in names])
            if kept != pending.channels:
                # A new one: a running request covers the removed channels, too.
                self._remove_pending(pending)
                self._add_pending(
                    PendingSubscription(subscriber, kept, pending.since, pending.preamble)
                )
                for channel in pending.channels:
                    self._on_left(channel)

    def move(self, subscriber: Subscriber, name: str, last: Message | None) -> None:
        """
        Let *subscriber* of live channels go on with the live channel *name*; see `Hub.move_live`.
        """
        self.remove_subscriber(subscriber)
        if last is None:
            self.subscribe(subscriber, [name], Sync(), b"")
            return
        [channel] = self._request([name])
        channel.add_waiting(subscriber, Wait(True, last))
        subscriber.channels = (channel,)
        self._streams.moved(subscriber, (), (channel,))

    def remove_subscriber(self, subscriber: Subscriber) -> None:
        """
        Remove *subscriber* from all channels.
        """
        for pending in tuple(self.pending_subscriptions.get(subscriber, ())):
            self._remove_pending(pending)
            for channel in pending.channels:
                self._on_left(channel)
        self._set_channels(subscriber, ())

    def on_channel_dropped(self, channel: Channel) -> None:
        """
        Unsubscribe from *channel* at the broker: it is not open any more.
        """
        self._last_request = ()
        if channel.requested:
            self._broker.unsubscribe(channel.name)
        self._end_wait(channel)

    def _add_pending(self, pending: PendingSubscription) -> None:
        self.pending_subscriptions.setdefault(pending.subscriber, []).append(pending)
        for channel in pending.channels:
            if not channel.pending_subscriptions:
                channel.pending_subscriptions = set()
            channel.pending_subscriptions.add(pending)
        self._advance(pending)

    def _remove_pending(self, pending: PendingSubscription) -> None:
        for channel in pending.channels:
            channel.pending_subscriptions.discard(pending)
        waiting = self.pending_subscriptions[pending.subscriber]
        waiting.remove(pending)
        if not waiting:
            del self.pending_subscriptions[pending.subscriber]
        if pending.history_request is not None:
            # While the broker is unavailable, requests of closed clients must not pile up.
            pending.history_request.cancel()

    def _is_pending(self, pending: PendingSubscription) -> bool:
        return pending in self.pending_subscriptions.get(pending.subscriber, ())

    def _advance(self, pending: PendingSubscription) -> None:
        """
        Finish *pending* if possible; otherwise start what it has to wait for.
        """
        if not self._is_pending(pending) or not all(map(_subscribed, pending.channels)):
            return
        replay = self._local.replay(pending.channels, pending.since, pending.subscriber.format)
        if self._is_sufficient(replay, pending.channels, pending.since):
            if self._must_wait_for_flush(pending.subscriber):
                self._fanout.call_after_flush(partial(self._advance, pending))
            else:
                self._finish(pending, replay)
            return
        # Perhaps the broker's history has more. What is received meanwhile is in our own
        # history; the two are joined when the broker responds.
        names = [channel.name for channel in pending.channels]
        assert self._history is not None and pending.since is not None  # _is_sufficient
        since = pending.since
        requested = Newest(SYNC_MESSAGES) if isinstance(since, Sync) else since
        history_request = self._history.after(names, requested)
        pending.history_request = history_request
        history_request.addCallbacks(
            self._on_history, self._on_history_failed, (pending,), errbackArgs=(pending,)
        ).addErrback(self._on_unexpected_error, pending)

    def _is_sufficient(
        self, replay: Replay, channels: Sequence[Channel], since: Since | None
    ) -> bool:
        """
        Return whether *replay* is all that can be replayed; otherwise the broker is asked.
        """
        if self._history is None or since is None or not channels:
            return True
        if isinstance(since, Sync):
            [channel] = channels
            return bool(replay.messages) or (channel.live is not None and channel.live.searched)
        if isinstance(since, Newest):
            found = replay.messages
            if len(found) < since.count:
                return False
            # Of a channel that is new here other nodes may have newer messages.
            return not found or self._channels.covers(channels, found[0].position)
        return isinstance(since, After) and replay.complete

    def _on_history(self, replay: Replay, pending: PendingSubscription) -> None:
        if not self._is_pending(pending):
            return
        local = self._local.replay(
            pending.channels, After(replay.position), pending.subscriber.format
        )
        if self._must_wait_for_flush(pending.subscriber):
            self._fanout.call_after_flush(partial(self._on_history, replay, pending))
            return
        complete = replay.complete and local.complete
        messages = replay.messages + local.messages
        if isinstance(pending.since, Sync):
            messages = self._after_resync_point(messages if complete else (), pending)
            complete = True
        fetched = tuple([self._fetched.setdefault(m.position, m) for m in messages])
        self._finish(pending, Replay(fetched, complete, local.position))

    def _after_resync_point(
        self, messages: Sequence[Message], pending: PendingSubscription
    ) -> tuple[Message, ...]:
        """
        Return what of *messages*, the newest of a channel, *pending* begins with.
        """
        entries = ((0.0, message) for message in reversed(messages))
        format = ISyncFormat(pending.subscriber.format)
        found = from_resync_point(entries, format, 0.0, self._local.max_bytes)
        [channel] = pending.channels
        channel.begin_live().searched = not found
        return tuple(found)

    def _on_history_failed(self, failure: Failure, pending: PendingSubscription) -> None:
        if not failure.check(Unavailable, CancelledError):
            _log.failure("while reading the broker's history", failure)
        if not self._is_pending(pending):
            return
        # What this node did not receive itself is lost to the subscriber; that gap may
        # reach beyond the first undelivered message.
        self._fanout.start_flush()
        local = self._local.replay(pending.channels, pending.since, pending.subscriber.format)
        self._on_history(Replay(local.messages, False, local.position), pending)

    def _on_unexpected_error(self, failure: Failure, pending: PendingSubscription) -> None:
        _log.failure("while a subscriber joined its channels", failure)
        pending.subscriber.drop(DisconnectReason.LOST)

    def _must_wait_for_flush(self, subscriber: Subscriber) -> bool:
        """
        Return whether *subscriber* is still to receive messages of its channels that
        precede a replay of others.
        """
        return bool(subscriber.channels) and self._fanout.is_flushing

    def _finish(self, pending: PendingSubscription, replay: Replay) -> None:
        self._remove_pending(pending)
        subscriber = pending.subscriber
        self._join(
            subscriber, pending.channels, pending.since, replay, pending.preamble, subscriber.format
        )

    def _join(
        self,
        subscriber: Subscriber,
        channels: tuple[Channel, ...],
        since: Since | None,
        replay: Replay,
        preamble: bytes,
        format: IFormat,
    ) -> None:
        if isinstance(since, Sync) and not replay.messages:
            self._join_waiting(subscriber, channels[0], preamble)
            return
        if channels and subscriber.backlog_limits.policy is _SYNC:
            # For the timeline of subscribers that are parked later. Without subscribers
            # flushes have noted nothing.
            channels[0].begin_live().last = replay.messages[-1] if replay.messages else None
        if replay.messages:
            replay = newest_of(replay, self._local.max_bytes)
        self._set_channels(subscriber, subscriber.channels + channels)
        self._streams.replayed(subscriber, len(replay.messages))
        if not replay.complete:
            self._metrics.gaps += 1
        if not replay.messages:
            frame = preamble + self._empty_start(format, replay)
            if frame:
                subscriber.write(frame)
            return
        items = (preamble, *format.start(replay))
        if not any(message.mark is not Mark.NONE for message in replay.messages[:1]):
            self._metrics.delivered += len(replay.messages)
        elif len(items) > 1:  # the wait for the first message writes nothing
            self._metrics.live_delivered += len(replay.messages)
        subscriber.write_replay(ReplayFrames(format, items, self._frames))

    def _empty_start(self, format: IFormat, replay: Replay) -> bytes:
        """
        Return what *format* begins with if *replay* has no messages.

        It is the same for all that join before the next message, and encoded once for them.
        """
        known_format, known, start = self._last_start
        if (
            known_format is not format
            or known.position is not replay.position
            or known.complete is not replay.complete
        ):
            start = b"".join([item for item in format.start(replay) if isinstance(item, bytes)])
            self._last_start = format, replay, start
        return start

    def _join_waiting(self, subscriber: Subscriber, channel: Channel, preamble: bytes) -> None:
        channel.add_waiting(subscriber)
        subscriber.channels = (channel,)
        self._streams.moved(subscriber, (), (channel,))
        if preamble:
            subscriber.write(preamble)

    def _set_channels(self, subscriber: Subscriber, channels: tuple[Channel, ...]) -> None:
        """
        Make *channels* the subscriber's channels, in place of those it had.
        """
        before = subscriber.channels
        had_several, has_several = len(before) > 1, len(channels) > 1
        left: Iterable[Channel] = before
        new: Iterable[Channel] = channels
        if before and channels and had_several is has_several:  # it may stay where it is
            current, requested = set(before), set(channels)
            left = [channel for channel in before if channel not in requested]
            new = [channel for channel in channels if channel not in current]
        now = self._clock.seconds() if before else 0.0
        for channel in left:
            channel.remove(subscriber, had_several, now)
        for channel in new:
            channel.add(subscriber, has_several)
        subscriber.channels = channels
        self._streams.moved(subscriber, left, new)
        for channel in left:
            self._on_left(channel)

    def _on_left(self, channel: Channel) -> None:
        if not channel.subscribers and not channel.pending_subscriptions:
            self._channels.on_last_subscriber_left(channel)

    def _request(self, names: Sequence[Selector]) -> tuple[Channel, ...]:
        """
        Return the channels *names*; subscribe to them at the broker where needed.
        """
        now = self._clock.seconds()
        for name in names:
            if not isinstance(name, str) and self._channels.get(name) is None:
                # The next flush delivers to a new pattern what is received from now on only.
                self._fanout.start_flush()
                break
        channels = tuple([self._channels.open(name, now) for name in names])
        if channels == self._last_request:  # those that join one after the other share 48 bytes
            channels = self._last_request
        self._last_request = channels
        for channel in channels:
            if not channel.requested:
                channel.requested = True
                subscribed = self._broker.subscribe(channel.name)
                subscribed.addCallbacks(self._on_subscribed, self._on_subscribe_failed, (channel,))
        return channels

    def _on_subscribed(self, position: Position, channel: Channel) -> None:
        channel.subscribed = True
        self._channels.on_subscribed(channel, position)
        for pending in tuple(channel.pending_subscriptions):
            self._advance(pending)
        if self._end_wait(channel):
            self._on_left(channel)  # unless they have joined

    def _on_subscribe_failed(self, failure: Failure) -> None:
        _log.failure("while subscribing to a channel at the broker", failure)
