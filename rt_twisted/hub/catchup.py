"""
The way into channels: what a reader that joins is told first, and what it has to
wait for until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import attrgetter
from typing import Any
from weakref import WeakValueDictionary

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.brokers.interfaces import IBroker, IHistory
from rt_twisted.hub.channel import Channel, ChannelTable
from rt_twisted.hub.fanout import Fanout
from rt_twisted.hub.replay_frames import ReplayFrames, shared_frames
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Message, Newest, Position, Replay, Since

_log = Logger()
_subscribed = attrgetter("subscribed")


class PendingSubscription:
    """
    A reader on its way into channels, for which something has to be waited.

    Args:
        reader: which.
        channels: that it does not hear yet.
        since: what it shall be told of them first.
        head: bytes to be written in front of that.
    """

    __slots__ = ("asked", "channels", "head", "since", "subscriber")

    def __init__(
        self,
        subscriber: Subscriber,
        channels: tuple[Channel, ...],
        since: Since | None,
        head: bytes,
    ) -> None:
        self.subscriber = subscriber
        self.channels = channels
        self.since = since
        self.head = head
        self.asked: Deferred[Replay] | None = None  # what the archive was, if it was


class CatchUp:
    """
    Lets readers into channels: when the broker hears them, when what they ask
    for is found, here or in the broker's archive, and when they have been told
    what comes before it.

    Args:
        broker: is asked for channels, and for its history if it has one.
        clock: the reactor.
        channels: of this node.
        turns: what is still to be told.
        counts: of replays and gaps.
        head: everything up to there is received.
        replay_bytes: replayed to one reader.
    """

    def __init__(
        self,
        broker: IBroker,
        clock: IReactorTime,
        channels: ChannelTable,
        fanout: Fanout,
        metrics: Metrics,
        head: Callable[[], Position],
        replay_bytes: int,
    ) -> None:
        self.replay_bytes = replay_bytes
        self.waiting: dict[Subscriber, list[PendingSubscription]] = {}
        self._broker = broker
        self._history: Any = IHistory(broker, None)
        self._clock = clock
        self._channels = channels
        self._fanout = fanout
        self._metrics = metrics
        self._head = head
        self._frames = shared_frames()
        # What the archive was asked for, while it is sent: many may ask for the same.
        self._fetched: WeakValueDictionary[Position, Message] = WeakValueDictionary()

    def enter(
        self,
        subscriber: Subscriber,
        names: Sequence[str],
        since: Since | None,
        head: bytes,
        format: IFormat | None = None,
    ) -> None:
        """
        Let *reader* hear the channels *names*, as soon as that can be, and tell
        it first what *since* asks for, with *head* in front. Channels that it
        hears, or is about to, are left out. *format* replaces the subscriber's in a
        replay that is written before this returns.
        """
        if subscriber.channels or subscriber in self.waiting:
            here = {channel.name for channel in subscriber.channels}
            for pending in self.waiting.get(subscriber, ()):
                here.update([channel.name for channel in pending.channels])
            names = [name for name in names if name not in here]
        try:
            channels = self._request(names)
        except Exception:
            subscriber.drop(DisconnectReason.LOST)  # the broker's fault; it may come back
            raise
        if all(map(_subscribed, channels)):
            replay = self._recall(channels, since)
            if self._suffices(replay, channels, since) and not self._is_between(subscriber):
                self._start(subscriber, channels, replay, head, format or subscriber.format)
                return
        if not subscriber.channels:
            subscriber.write(head)
            head = b""
        if subscriber.closed:
            return
        self._wait(PendingSubscription(subscriber, channels, since, head))

    def remove(self, subscriber: Subscriber, names: Iterable[str]) -> None:
        """
        Let *reader* hear the channels *names* no more, nor be about to.
        """
        names = frozenset(names)
        self._seat(subscriber, tuple([c for c in subscriber.channels if c.name not in names]))
        for pending in tuple(self.waiting.get(subscriber, ())):
            left = tuple([c for c in pending.channels if c.name not in names])
            if left != pending.channels:
                # Anew: an answer that is on its way is about the others, too.
                self._withdraw(pending)
                self._wait(PendingSubscription(subscriber, left, pending.since, pending.head))

    def leave(self, subscriber: Subscriber) -> None:
        """
        *reader* is gone.
        """
        for pending in tuple(self.waiting.get(subscriber, ())):
            self._withdraw(pending)
        self._seat(subscriber, ())

    def forgotten(self, channel: Channel) -> None:
        """
        *channel* is: the broker need not send it any more.
        """
        if channel.requested:
            self._broker.unsubscribe(channel.name)

    def _wait(self, pending: PendingSubscription) -> None:
        self.waiting.setdefault(pending.subscriber, []).append(pending)
        for channel in pending.channels:
            if not channel.waiting:
                channel.waiting = set()
            channel.waiting.add(pending)
        self._go_on(pending)

    def _withdraw(self, pending: PendingSubscription) -> None:
        for channel in pending.channels:
            channel.waiting.discard(pending)
        waiting = self.waiting[pending.subscriber]
        waiting.remove(pending)
        if not waiting:
            del self.waiting[pending.subscriber]
        if pending.asked is not None:
            # While the broker is away, who comes and goes shall not be kept there.
            pending.asked.cancel()

    def _waits(self, pending: PendingSubscription) -> bool:
        return pending in self.waiting.get(pending.subscriber, ())

    def _go_on(self, pending: PendingSubscription) -> None:
        """
        Take *joining* as far as it comes now.
        """
        if not self._waits(pending) or not all(map(_subscribed, pending.channels)):
            return
        replay = self._recall(pending.channels, pending.since)
        if self._suffices(replay, pending.channels, pending.since):
            if self._is_between(pending.subscriber):
                self._fanout.call_after_flush(partial(self._go_on, pending))
            else:
                self._finish(pending, replay)
            return
        # Not in our memory, perhaps in the broker's. What is received
        # meanwhile goes to our own history; the two meet when it answers.
        names = [channel.name for channel in pending.channels]
        asked: Deferred[Replay] = self._history.after(names, pending.since)
        pending.asked = asked
        asked.addCallbacks(
            self._recalled, self._not_recalled, (pending,), errbackArgs=(pending,)
        ).addErrback(self._unexpected, pending)

    def _suffices(self, replay: Replay, channels: Sequence[Channel], since: Since | None) -> bool:
        """
        Whether nobody can remember more than *replay* has.
        """
        if self._history is None or since is None or not channels:
            return True
        if isinstance(since, Newest):
            found = replay.messages
            if len(found) < since.count:
                return False
            # Of a channel that is heard only now others may know newer ones.
            return not found or all(c.history.covers(found[0].position) for c in channels)
        return isinstance(since, After) and replay.complete

    def _recalled(self, replay: Replay, pending: PendingSubscription) -> None:
        if not self._waits(pending):
            return
        ours = self._recall(pending.channels, After(replay.position))
        if self._is_between(pending.subscriber):
            self._fanout.call_after_flush(partial(self._recalled, replay, pending))
            return
        complete = replay.complete and ours.complete
        fetched = tuple([self._fetched.setdefault(m.position, m) for m in replay.messages])
        self._finish(pending, Replay(fetched + ours.messages, complete, ours.position))

    def _not_recalled(self, failure: Failure, pending: PendingSubscription) -> None:
        if not failure.check(Unavailable, CancelledError):
            _log.failure("while asking the broker for its history", failure)
        if not self._waits(pending):
            return
        # Of what we did not hear ourselves nobody could tell; that may reach beyond where
        # the turn to come begins.
        self._fanout.close()
        ours = self._recall(pending.channels, pending.since)
        self._recalled(Replay(ours.messages, False, ours.position), pending)

    def _unexpected(self, failure: Failure, pending: PendingSubscription) -> None:
        _log.failure("while a reader joined", failure)
        pending.subscriber.drop(DisconnectReason.LOST)

    def _is_between(self, subscriber: Subscriber) -> bool:
        """
        Whether *reader* is still to be told of its channels what comes before
        a replay of others.
        """
        return self._fanout.running and bool(subscriber.channels)

    def _finish(self, pending: PendingSubscription, replay: Replay) -> None:
        self._withdraw(pending)
        subscriber = pending.subscriber
        self._start(subscriber, pending.channels, replay, pending.head, subscriber.format)

    def _start(
        self,
        subscriber: Subscriber,
        channels: tuple[Channel, ...],
        replay: Replay,
        head: bytes,
        format: IFormat,
    ) -> None:
        replay = _fitted(replay, self.replay_bytes)
        self._seat(subscriber, subscriber.channels + channels)
        if not replay.complete:
            self._metrics.gaps += 1
        self._metrics.delivered += len(replay.messages)
        items = (head, *format.start(replay))
        subscriber.write_replay(ReplayFrames(format, items, self._frames))

    def _seat(self, subscriber: Subscriber, channels: tuple[Channel, ...]) -> None:
        """
        Have *reader* hear *channels* and nothing else.
        """
        before = subscriber.channels
        was_mixed, mixed = len(before) > 1, len(channels) > 1
        left: Iterable[Channel] = before
        new: Iterable[Channel] = channels
        if before and channels and was_mixed is mixed:  # it may stay where it is
            here, requested = set(before), set(channels)
            left = [channel for channel in before if channel not in requested]
            new = [channel for channel in channels if channel not in here]
        now = self._clock.seconds() if before else 0.0
        for channel in left:
            channel.remove(subscriber, was_mixed, now)
        for channel in new:
            channel.add(subscriber, mixed)
        subscriber.channels = channels
        for channel in left:
            if not channel.subscribers:
                self._channels.left(channel)

    def _recall(self, channels: Sequence[Channel], since: Since | None) -> Replay:
        """
        What our own memory holds, up to the messages that are told to everybody
        in the turn to come: the reader hears those with the others.
        """
        fanout = self._fanout
        fanout.close_gap()
        first = fanout.pending_from()
        if first is not None and isinstance(since, After) and _is_since(since.position, first):
            # From the answer to its own publish, say: it must not be told all of the turn.
            fanout.close()
            first = None
        upto = self._head() if first is None else Position(first.epoch, first.offset - 1)
        if since is None:
            return Replay((), True, upto)
        found, complete = self._channels.recall(channels, since, self._clock.seconds())
        if isinstance(since, After) and since.position.offset > self._head().offset:
            complete = False  # from a future that a restart took back
        told = [message for message in found if message.position.offset <= upto.offset]
        return Replay(tuple(told), complete, upto)

    def _request(self, names: Sequence[str]) -> tuple[Channel, ...]:
        """
        The channels *names*, and the broker is asked for them.
        """
        now = self._clock.seconds()
        channels = tuple([self._channels.open(name, now) for name in names])
        for channel in channels:
            if not channel.requested:
                channel.requested = True
                subscribed = self._broker.subscribe(channel.name)
                subscribed.addCallbacks(self._on_subscribed, self._on_subscribe_failed, (channel,))
        return channels

    def _on_subscribed(self, position: Position, channel: Channel) -> None:
        channel.subscribed = True
        self._channels.begin(channel, position)
        for pending in tuple(channel.waiting):
            self._go_on(pending)

    def _on_subscribe_failed(self, failure: Failure) -> None:
        _log.failure("while subscribing", failure)


def _fitted(replay: Replay, most: int) -> Replay:
    """
    The newest of *replay* in *most* bytes, the very newest in any case. What is
    left out is a gap.
    """
    left = most
    for index in range(len(replay.messages) - 1, -1, -1):
        left -= len(replay.messages[index].data)
        if left < 0 and index < len(replay.messages) - 1:
            return Replay(replay.messages[index + 1 :], False, replay.position)
    return replay


def _is_since(position: Position, first: Position) -> bool:
    return position.epoch == first.epoch and position.offset >= first.offset
