"""
The loop that tells readers what their channels received.

What is received within one turn of the reactor is told together: one write per
reader, however many messages. A turn over many readers is cut into slices,
between which the reactor does other work; the next turn waits for it, so that
no reader ever hears things out of order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from rt_twisted.hub.channel import Channel, by_offset
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber, broadcast
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position

_log = Logger()
_delivering = _log.failureHandler("while telling readers")

SLICE = 0.008  # seconds a turn may hold the reactor; others shall not wait 20 ms
CHUNK = 64  # readers between two looks at the clock: about half a millisecond of send(2)

Bundle = tuple[IFormat, Sequence[Message], tuple[Subscriber, ...]]
Frame = tuple[bytes, tuple[Subscriber, ...]]


class Fanout:
    """
    What is received and not told yet, and the turns that are being told.

    Args:
        clock: the reactor.
        counts: of deliveries, gaps, and how long turns take.
    """

    def __init__(self, clock: IReactorTime, metrics: Metrics) -> None:
        self.dirty: list[Channel] = []  # with pending messages, in order of the first
        self._clock = clock
        self._metrics = metrics
        self._first = 0.0  # when the first of what is pending was received
        self._gapped: list[Channel] = []  # that missed something before what is pending
        self._gap_position = Position("", 0)  # up to where
        self._closed: deque[Iterator[None]] = deque()  # turns in order, the first being told
        self._due = False  # a slice is on its way
        self._after_flush: list[Callable[[], object]] = []

    @property
    def busy(self) -> bool:
        """
        Whether some readers may not have heard yet what others have.
        """
        return bool(self._closed or self.dirty or self._gapped)

    @property
    def running(self) -> bool:
        """
        Whether a turn is being told, or is to be, that is closed to who joins now.
        """
        return bool(self._closed)

    def add(self, channel: Channel, message: Message, now: float) -> None:
        """
        Let *message*, received *now* (seconds), be told to the readers that
        *channel* has when the turn begins.
        """
        if not channel.pending:
            if not self.dirty:
                self._first = now
            self.dirty.append(channel)
        channel.pending.append(message)
        if not self._due:
            self._schedule()

    def gap(self, channels: Iterable[Channel], position: Position) -> None:
        """
        Let the readers of *channels* be told, behind what is pending and before
        what comes next, that something up to *position* is missing.
        """
        if self.dirty:
            self.close()
        self._gapped += [channel for channel in channels if channel.subscribers]
        self._gap_position = position
        if self._gapped and not self._due:
            self._schedule()

    def pending_from(self) -> Position | None:
        """
        The first position that will be told to everybody in the turn to come.
        """
        return self.dirty[0].pending[0].position if self.dirty else None

    def close(self) -> None:
        """
        What is pending is for those who listen by now, and for nobody else.
        """
        self._close()
        if self._closed and not self._due:
            self._schedule()

    def _close(self) -> None:
        if self._gapped:
            self._closed.append(_deliver(self._gaps(self._take_gaps())))
        if self.dirty:
            self._closed.append(_deliver(self._messages(self._take_pending(), self._first)))

    def close_gap(self) -> None:
        """
        A gap that is not told yet is not for who joins now.
        """
        if self._gapped:
            self.close()

    def flush(self) -> None:
        """
        Tell everything, without a pause.
        """
        self._close()
        while self._closed:
            with _delivering:
                for _ in self._closed.popleft():
                    pass

    def call_after_flush(self, call: Callable[[], object]) -> None:
        """
        Call *call* when the turns are told that are closed now.
        """
        self._after_flush.append(call)

    def _schedule(self) -> None:
        self._due = True
        self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        self._due = False
        until = self._clock.seconds() + SLICE
        if not self._closed:
            self._close()
        with _delivering:
            while self._closed:
                for _ in self._closed[0]:
                    if self._clock.seconds() > until:
                        self._schedule()
                        return
                self._closed.popleft()
        if not self._closed:
            calls, self._after_flush = self._after_flush, []
            for call in calls:
                with _delivering:
                    call()
        if self.busy and not self._due:
            self._schedule()

    def _take_gaps(self) -> tuple[Position, dict[IFormat, set[Subscriber]]]:
        subscribers: dict[IFormat, set[Subscriber]] = {}
        for channel in self._gapped:
            for groups in (channel.single, channel.mixed):
                for format, group in groups.items():
                    subscribers.setdefault(format, set()).update(group)
        self._gapped = []
        return self._gap_position, subscribers

    def _gaps(self, taken: tuple[Position, dict[IFormat, set[Subscriber]]]) -> Iterator[Frame]:
        position, groups = taken
        for format, subscribers in groups.items():
            self._metrics.gaps += len(subscribers)
            # With a cursor: who comes back afterwards has heard of the gap.
            yield format.gap(position) + format.cursor(position), tuple(subscribers)

    def _take_pending(self) -> list[Bundle]:
        """
        Everything pending, with everybody who shall hear it.
        """
        dirty, self.dirty = self.dirty, []
        bundles: list[Bundle] = []
        several: dict[Subscriber, list[Channel]] = {}
        for channel in dirty:
            for format, subscribers in channel.single.items():
                bundles.append((format, channel.pending, tuple(subscribers)))
            for format, subscribers in channel.mixed.items():
                if len(dirty) == 1:
                    bundles.append((format, channel.pending, tuple(subscribers)))
                    continue
                for subscriber in subscribers:
                    several.setdefault(subscriber, []).append(channel)
        alike: dict[tuple[Any, ...], list[Subscriber]] = {}
        for subscriber, channels in several.items():
            alike.setdefault((subscriber.format, *channels), []).append(subscriber)
        for (format, *channels), group in alike.items():
            messages = [message for channel in channels for message in channel.pending]
            messages.sort(key=by_offset)
            bundles.append((format, messages, tuple(group)))
        for channel in dirty:
            channel.pending = []
        return bundles

    def _messages(self, bundles: Sequence[Bundle], since: float) -> Iterator[Frame]:
        """
        What came *since*, as each format has it.
        """
        metrics = self._metrics
        for format, messages, subscribers in bundles:
            try:
                if len(messages) == 1:
                    frame = format.encode(messages[0])
                else:
                    frame = b"".join(map(format.encode, messages))
            except Exception:
                # Somebody's own format. Nobody may miss a message unsaid:
                # who comes back is told, or fails in the open.
                _log.failure("{codec} cannot encode a message", codec=format)
                for subscriber in subscribers:
                    subscriber.drop(DisconnectReason.LOST)
                continue
            metrics.delivered += len(messages) * len(subscribers)
            yield frame, subscribers
        if bundles:
            metrics.fanout.observe(self._clock.seconds() - since)


def _deliver(frames: Iterator[Frame]) -> Iterator[None]:
    """
    Write each frame to its readers; a pause after each bunch of them.
    """
    since_pause = 0
    for frame, subscribers in frames:
        for first in range(0, len(subscribers), CHUNK):
            chunk = subscribers[first : first + CHUNK]
            try:
                broadcast(chunk, frame)
            except Exception:
                _log.failure("while telling readers")
                for subscriber in chunk:  # they resume, and miss nothing
                    subscriber.drop(DisconnectReason.LOST)
            since_pause += len(chunk)
            if since_pause >= CHUNK:
                since_pause = 0
                yield
