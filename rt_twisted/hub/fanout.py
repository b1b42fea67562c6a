"""
Fan-out: delivers what channels received to their subscribers.

All messages received within one reactor iteration are delivered in one flush: one
write per subscriber, however many messages. A flush over many subscribers yields to
the reactor in slices. The next flush waits for it, so that each subscriber receives
messages in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rt_twisted.hub.channel import Channel, by_offset
from rt_twisted.hub.live_bundles import live_bundles, park_all
from rt_twisted.hub.live_channel import LiveStep
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber, broadcast
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position

_log = Logger()
_delivering = _log.failureHandler("while delivering messages")

SLICE_SECONDS = 0.008  # of a flush before it yields: other work must not wait 20 ms
CHUNK_SIZE = 64  # subscribers between two reads of the clock: about 0.5 ms of send(2)
MERGE_SIZE = 4096  # subscriptions that are merged between two reads of the clock: about 0.5 ms

# One format's part of a flush: its messages, its subscribers, and the step of a live
# stream that changes them, such as a keyframe at which waiting subscribers begin.
Bundle = tuple[IFormat, Sequence[Message], tuple[Subscriber, ...], LiveStep | None]
Frame = tuple[bytes, tuple[Subscriber, ...]]
PAUSE: Frame = (b"", ())  # for another read of the clock

# Of a channel that shares subscribers with others: its subscribers, and its messages.
Shared = tuple[Channel, tuple[Subscriber, ...], Sequence[Message]]


class Fanout:
    """
    Messages that were received and not delivered yet, and the flushes in progress.

    Args:
        clock: the reactor.
        metrics: counts deliveries and gaps, and measures how long flushes take.
    """

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self.dirty: list[Channel] = []  # with undelivered messages, in order of the first
        self._clock = clock
        self._metrics = metrics
        self._first_received = 0.0  # when the first undelivered message was received
        self._gapped: list[Channel] = []  # that missed messages before the undelivered ones
        self._gap_position = Position("", 0)  # where the gap ends
        self._flushes: deque[Iterator[None]] = deque()  # in order; the first is in progress
        self._scheduled = False  # a slice is due
        self._after_flush: list[Callable[[], object]] = []
        self._step: LiveStep | None = None  # of the bundle that is being delivered

    @property
    def busy(self) -> bool:
        """
        Return whether some subscribers may not have received what others have.
        """
        return bool(self._flushes or self.dirty or self._gapped)

    @property
    def is_flushing(self) -> bool:
        """
        Return whether a flush has not ended whose subscribers are chosen already.
        """
        return bool(self._flushes)

    def add(self, channel: Channel, message: Message, now: float) -> None:
        """
        Deliver *message*, received at *now* (seconds), to the subscribers that *channel*
        has when the flush begins.
        """
        undelivered = channel.undelivered
        if undelivered:
            undelivered.append(message)
        else:
            if not self.dirty:
                self._first_received = now
            self.dirty.append(channel)
            channel.undelivered = [message]
        if not self._scheduled:
            self._schedule()

    def add_gap(self, channels: Iterable[Channel], position: Position) -> None:
        """
        Send the subscribers of *channels* a gap up to *position*, after all that was
        received before and before all that is received later.
        """
        if self.dirty:
            self.start_flush()
        self._gapped += [channel for channel in channels if channel.subscribers]
        self._gap_position = position
        if self._gapped and not self._scheduled:
            self._schedule()

    def park(self, subscriber: Subscriber) -> None:
        """
        Send *subscriber*, which refused a frame of the bundle that is being delivered, nothing
        until the next resync point of its channel.
        """
        step = self._step
        [channel] = subscriber.channels
        channel.park(subscriber, None if step is None else step.previous)

    def first_undelivered(self) -> Position | None:
        """
        Return the first position that the next flush delivers to all subscribers.
        """
        undelivered = self.dirty[0].undelivered if self.dirty else None
        return undelivered[0].position if undelivered else None

    def start_flush(self) -> None:
        """
        Deliver what is undelivered to the present subscribers, and not to later ones.
        """
        self._start_flush()
        if self._flushes and not self._scheduled:
            self._schedule()

    def _start_flush(self) -> None:
        if self._gapped:
            self._flushes.append(_deliver(self._gap_frames(self._take_gaps())))
        if self.dirty:
            bundles, shared = self._take_undelivered()
            self._flushes.append(
                _deliver(self._message_frames(bundles, shared, self._first_received))
            )

    def start_gap_flush(self) -> None:
        """
        Send gaps that are not sent yet to the present subscribers, and not to later ones.
        """
        if self._gapped:
            self.start_flush()

    def flush_now(self) -> None:
        """
        Deliver everything without yielding to the reactor.
        """
        self._start_flush()
        while self._flushes:
            with _delivering:
                for _ in self._flushes.popleft():
                    pass

    def call_after_flush(self, call: Callable[[], object]) -> None:
        """
        Call *call* when the flushes that have begun are finished.
        """
        self._after_flush.append(call)

    def _schedule(self) -> None:
        self._scheduled = True
        self._clock.callLater(0, self._run_slice)

    def _run_slice(self) -> None:
        self._scheduled = False
        until = self._clock.seconds() + SLICE_SECONDS
        if not self._flushes:
            self._start_flush()
        with _delivering:
            while self._flushes:
                for _ in self._flushes[0]:
                    if self._clock.seconds() > until:
                        self._schedule()
                        return
                self._flushes.popleft()
        if not self._flushes:
            calls, self._after_flush = self._after_flush, []
            for call in calls:
                with _delivering:
                    call()
        if self.busy and not self._scheduled:
            self._schedule()

    def _take_gaps(self) -> tuple[Position, dict[IFormat, set[Subscriber]]]:
        subscribers: dict[IFormat, set[Subscriber]] = {}
        for channel in self._gapped:
            if channel.live is not None:
                self._metrics.gaps += park_all(channel, channel.live)
            for groups in (channel.single_channel, channel.multi_channel):
                for format, group in groups.items():
                    subscribers.setdefault(format, set()).update(group)
        self._gapped = []
        return self._gap_position, subscribers

    def _gap_frames(
        self, taken: tuple[Position, dict[IFormat, set[Subscriber]]]
    ) -> Iterator[Frame]:
        position, groups = taken
        for format, subscribers in groups.items():
            self._metrics.gaps += len(subscribers)
            # With a cursor: a subscriber that reconnects later knows of the gap already.
            frame = format.gap(position) + format.cursor(position)
            if frame:
                yield frame, tuple(subscribers)

    def _take_undelivered(self) -> tuple[list[Bundle], list[Shared]]:
        """
        Take all undelivered messages, with the subscribers that will receive them.

        Returns:
            The bundles of subscribers of one channel, and what is to be merged for those that
            may have several.
        """
        dirty, self.dirty = self.dirty, []
        bundles: list[Bundle] = []
        to_merge: list[Shared] = []
        # Whether a subscriber may be in the groups of two of them. A channel without
        # subscribers is here for the patterns that match it.
        shared = len([channel for channel in dirty if channel.multi_channel]) > 1
        for channel in dirty:
            messages = channel.undelivered or ()
            if channel.live is not None:
                bundles += live_bundles(channel, channel.live, messages)
            else:
                for format, subscribers in channel.single_channel.items():
                    bundles.append((format, messages, tuple(subscribers), None))
            for format, subscribers in channel.multi_channel.items():
                if shared:
                    to_merge.append((channel, tuple(subscribers), messages))
                else:
                    bundles.append((format, messages, tuple(subscribers), None))
            channel.undelivered = None
        return bundles, to_merge

    def _message_frames(
        self, bundles: Sequence[Bundle], shared: Sequence[Shared], since: float
    ) -> Iterator[Frame]:
        """
        Encode the messages of each bundle once per format.

        Args:
            bundles: the messages and their subscribers.
            shared: is merged to more bundles.
            since: when the first of the messages was received (seconds).
        """
        metrics = self._metrics
        for bundle in chain(bundles, _merged(shared)):
            if bundle is None:
                yield PAUSE
                continue
            format, messages, subscribers, step = bundle
            self._step = step
            try:
                if step is not None:
                    subscribers = step.resume(subscribers)
                    frame = step.encode(format, messages)
                elif len(messages) == 1:
                    frame = format.encode(messages[0])
                else:
                    frame = b"".join(map(format.encode, messages))
            except Exception:
                # A format of a plug-in. No message may be lost silently: subscribers
                # that reconnect get it by replay, or fail visibly.
                _log.failure("{encoder} cannot encode a message", encoder=format)
                for subscriber in subscribers:
                    subscriber.drop(DisconnectReason.LOST)
                continue
            if frame:  # text formats encode the messages of live streams as b""
                if step is None:
                    metrics.delivered += len(messages) * len(subscribers)
                else:
                    metrics.live_delivered += len(messages) * len(subscribers)
                yield frame, subscribers
            if step is not None and step.ends:
                for subscriber in subscribers:
                    subscriber.observer.stream_ended(subscriber, step.unit)
        if bundles or shared:
            metrics.fanout.observe(self._clock.seconds() - since)


def _merged(shared: Sequence[Shared]) -> Iterator[Bundle | None]:
    """
    Yield the bundles of subscribers that may have several channels, each with the messages of
    all of them in order; and None from time to time.

    With 5,000 subscribers of 100 channels each, this takes 50 ms.
    """
    by_subscriber: dict[Subscriber, list[Channel]] = {}
    undelivered: dict[Channel, Sequence[Message]] = {}
    for channel, subscribers, of_channel in shared:
        undelivered[channel] = of_channel
        for first in range(0, len(subscribers), MERGE_SIZE):
            for subscriber in subscribers[first : first + MERGE_SIZE]:
                by_subscriber.setdefault(subscriber, []).append(channel)
            yield None
    merged: dict[tuple[Any, ...], list[Subscriber]] = {}
    for number, (subscriber, channels) in enumerate(by_subscriber.items(), 1):
        merged.setdefault((subscriber.format, *channels), []).append(subscriber)
        if number % CHUNK_SIZE == 0:
            yield None
    for (format, *channels), group in merged.items():
        messages = [message for channel in channels for message in undelivered[channel]]
        messages.sort(key=by_offset)
        if any(channel.matched is not None for channel in channels):
            messages = _without_repeats(messages)
        yield format, messages, tuple(group), None


def _without_repeats(messages: Sequence[Message]) -> list[Message]:
    """
    Return *messages*, in order, each once: a pattern has those of its channels too.
    """
    return list({message.position.offset: message for message in messages}.values())


def _deliver(frames: Iterator[Frame]) -> Iterator[None]:
    """
    Write each frame to its subscribers; yield after each chunk of them.
    """
    since_pause = 0
    for frame, subscribers in frames:
        if not subscribers:
            yield
            continue
        chunks: Iterable[tuple[Subscriber, ...]] = (subscribers,)
        if len(subscribers) > CHUNK_SIZE:
            starts = range(0, len(subscribers), CHUNK_SIZE)
            chunks = [subscribers[first : first + CHUNK_SIZE] for first in starts]
        for chunk in chunks:
            try:
                broadcast(chunk, frame)
            except Exception:
                _log.failure("while delivering messages")
                for subscriber in chunk:  # they reconnect and resume without loss
                    subscriber.drop(DisconnectReason.LOST)
            since_pause += len(chunk)
            if since_pause >= CHUNK_SIZE:
                since_pause = 0
                yield
