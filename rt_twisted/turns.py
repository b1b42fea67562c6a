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

from rt_twisted.channels import Channel, by_offset
from rt_twisted.counts import Counts
from rt_twisted.interfaces import IFormat
from rt_twisted.message import Message, Position
from rt_twisted.subscriber import Cause, Subscriber, write_all

_log = Logger()
_telling = _log.failureHandler("while telling readers")

SLICE = 0.008  # seconds a turn may hold the reactor; others shall not wait 20 ms
BUNCH = 64  # readers between two looks at the clock: about half a millisecond of send(2)

Bundle = tuple[IFormat, Sequence[Message], tuple[Subscriber, ...]]
Frame = tuple[bytes, tuple[Subscriber, ...]]


class Turns:
    """
    What is received and not told yet, and the turns that are being told.

    Args:
        clock: the reactor.
        counts: of deliveries, gaps, and how long turns take.
    """

    def __init__(self, clock: IReactorTime, counts: Counts) -> None:
        self.marked: list[Channel] = []  # with pending messages, in order of the first
        self._clock = clock
        self._counts = counts
        self._first = 0.0  # when the first of what is pending was received
        self._holed: list[Channel] = []  # that missed something before what is pending
        self._hole = Position("", 0)  # up to where
        self._closed: deque[Iterator[None]] = deque()  # turns in order, the first being told
        self._due = False  # a slice is on its way
        self._afterwards: list[Callable[[], object]] = []

    @property
    def busy(self) -> bool:
        """
        Whether some readers may not have heard yet what others have.
        """
        return bool(self._closed or self.marked or self._holed)

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
            if not self.marked:
                self._first = now
            self.marked.append(channel)
        channel.pending.append(message)
        if not self._due:
            self._schedule()

    def gap(self, channels: Iterable[Channel], position: Position) -> None:
        """
        Let the readers of *channels* be told, behind what is pending and before
        what comes next, that something up to *position* is missing.
        """
        if self.marked:
            self.close()
        self._holed += [channel for channel in channels if channel.readers]
        self._hole = position
        if self._holed and not self._due:
            self._schedule()

    def pending_from(self) -> Position | None:
        """
        The first position that will be told to everybody in the turn to come.
        """
        return self.marked[0].pending[0].position if self.marked else None

    def close(self) -> None:
        """
        What is pending is for those who listen by now, and for nobody else.
        """
        self._close()
        if self._closed and not self._due:
            self._schedule()

    def _close(self) -> None:
        if self._holed:
            self._closed.append(_tell(self._gaps(self._take_holes())))
        if self.marked:
            self._closed.append(_tell(self._messages(self._take_pending(), self._first)))

    def close_gap(self) -> None:
        """
        A gap that is not told yet is not for who joins now.
        """
        if self._holed:
            self.close()

    def flush(self) -> None:
        """
        Tell everything, without a pause.
        """
        self._close()
        while self._closed:
            with _telling:
                for _ in self._closed.popleft():
                    pass

    def afterwards(self, call: Callable[[], object]) -> None:
        """
        Call *call* when the turns are told that are closed now.
        """
        self._afterwards.append(call)

    def _schedule(self) -> None:
        self._due = True
        self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        self._due = False
        until = self._clock.seconds() + SLICE
        if not self._closed:
            self._close()
        with _telling:
            while self._closed:
                for _ in self._closed[0]:
                    if self._clock.seconds() > until:
                        self._schedule()
                        return
                self._closed.popleft()
        if not self._closed:
            calls, self._afterwards = self._afterwards, []
            for call in calls:
                with _telling:
                    call()
        if self.busy and not self._due:
            self._schedule()

    def _take_holes(self) -> tuple[Position, dict[IFormat, set[Subscriber]]]:
        readers: dict[IFormat, set[Subscriber]] = {}
        for channel in self._holed:
            for groups in (channel.single, channel.mixed):
                for format, group in groups.items():
                    readers.setdefault(format, set()).update(group)
        self._holed = []
        return self._hole, readers

    def _gaps(self, taken: tuple[Position, dict[IFormat, set[Subscriber]]]) -> Iterator[Frame]:
        position, groups = taken
        for format, readers in groups.items():
            self._counts.gaps += len(readers)
            # With a cursor: who comes back afterwards has heard of the gap.
            yield format.gap(position) + format.cursor(position), tuple(readers)

    def _take_pending(self) -> list[Bundle]:
        """
        Everything pending, with everybody who shall hear it.
        """
        marked, self.marked = self.marked, []
        bundles: list[Bundle] = []
        several: dict[Subscriber, list[Channel]] = {}
        for channel in marked:
            for format, readers in channel.single.items():
                bundles.append((format, channel.pending, tuple(readers)))
            for format, readers in channel.mixed.items():
                if len(marked) == 1:
                    bundles.append((format, channel.pending, tuple(readers)))
                    continue
                for reader in readers:
                    several.setdefault(reader, []).append(channel)
        alike: dict[tuple[Any, ...], list[Subscriber]] = {}
        for reader, channels in several.items():
            alike.setdefault((reader.format, *channels), []).append(reader)
        for (format, *channels), group in alike.items():
            messages = [message for channel in channels for message in channel.pending]
            messages.sort(key=by_offset)
            bundles.append((format, messages, tuple(group)))
        for channel in marked:
            channel.pending = []
        return bundles

    def _messages(self, bundles: Sequence[Bundle], since: float) -> Iterator[Frame]:
        """
        What came *since*, as each format has it.
        """
        counts = self._counts
        for format, messages, readers in bundles:
            try:
                if len(messages) == 1:
                    frame = format.encode(messages[0])
                else:
                    frame = b"".join(map(format.encode, messages))
            except Exception:
                # Somebody's own format. Nobody may miss a message unsaid:
                # who comes back is told, or fails in the open.
                _log.failure("{codec} cannot encode a message", codec=format)
                for reader in readers:
                    reader.drop(Cause.LOST)
                continue
            counts.delivered += len(messages) * len(readers)
            yield frame, readers
        if bundles:
            counts.fanout.observe(self._clock.seconds() - since)


def _tell(frames: Iterator[Frame]) -> Iterator[None]:
    """
    Write each frame to its readers; a pause after each bunch of them.
    """
    since_pause = 0
    for frame, readers in frames:
        for first in range(0, len(readers), BUNCH):
            bunch = readers[first : first + BUNCH]
            try:
                write_all(bunch, frame)
            except Exception:
                _log.failure("while telling readers")
                for reader in bunch:  # they resume, and miss nothing
                    reader.drop(Cause.LOST)
            since_pause += len(bunch)
            if since_pause >= BUNCH:
                since_pause = 0
                yield
