"""
Check what a subscriber receives.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum

from rt_twisted.model.message import Position
from rt_twisted.tools.cuttest.published import Published, Rank

MAX_MISSING = 10_000  # lost messages of a subscriber that are stored
MAX_GAPS = 64  # that are stored of a subscriber


class Fault(Enum):
    """
    Violations of the delivery guarantees.
    """

    LOST = "lost"  # and no gap reported it
    REPEATED = "repeated"
    DISORDERED = "out of order"
    STRAY = "of a channel not asked for"
    MISPLACED = "at another position than in its publisher's answer"


Finding = tuple[Fault, int, int]  # with channel and number of the message


@dataclass(frozen=True, slots=True)
class ReportedGap:
    """
    A gap that a subscriber received.

    Args:
        begin: the subscriber's position before it.
        end: messages up to this position may be missing.
        counts: messages published by then, per channel.
    """

    begin: Rank
    end: Rank
    counts: tuple[int, ...]


class Checker:
    """
    Check the messages of one subscriber.

    From its first position on it must receive each message of its channels once, in the order of
    positions over all channels.

    Args:
        channels: the indexes of its channels.
        published: all messages.
    """

    __slots__ = (
        "_begin",
        "_cursor",
        "_fresh",
        "_gaps",
        "_last",
        "_missing",
        "_next",
        "_published",
        "_reported_epochs",
        "channels",
        "delivered",
        "faults",
        "gaps",
        "reported_lost",
        "republished",
    )

    def __init__(self, channels: Sequence[int], published: Published) -> None:
        self.channels = channels
        self.delivered = 0  # each once
        self.reported_lost = 0  # not delivered, but a gap reported it
        self.republished = (
            0  # repeated as the log, and with it their keys, began anew; a gap reported it
        )
        self.gaps = 0
        self.faults: Counter[Fault] = Counter()
        self._published = published
        self._begin: Rank | None = None
        self._cursor: Rank = (0, 0)
        self._last: Rank = (-1, 0)  # of a message
        self._next: dict[int, int] = {}
        self._missing: set[tuple[int, int]] = set()
        self._gaps: deque[ReportedGap] = deque(maxlen=MAX_GAPS)
        self._fresh = False  # nothing was received since the last gap
        self._reported_epochs: set[int] = set()  # logs whose beginning a gap reported

    @property
    def started(self) -> bool:
        """
        Return whether the subscriber has a position, and messages are expected from then on.
        """
        return self._begin is not None

    def advance(self, position: Position) -> list[Finding]:
        """
        Record a new position of the subscriber.

        Returns:
            As `record`.
        """
        cursor = self._published.rank(position)
        self._fresh = self._fresh and cursor == self._cursor
        self._cursor = cursor
        if self._begin is None:
            self._start(self._cursor)
        return self._advance(cursor)

    def _start(self, begin: Rank) -> None:
        published = self._published
        self._begin = begin
        for channel in self.channels:
            number = published.accepted(channel)
            while number > published.first(channel) and self._after(channel, number - 1, begin):
                number -= 1
            self._next[channel] = number

    def gap(self, position: Position) -> None:
        """
        Record a gap up to *position*.
        """
        self.gaps += 1
        published = self._published
        begin, end = self._cursor, published.rank(position)
        if self._gaps and self._fresh:
            begin = self._gaps.pop().begin  # repeated, or a further one right behind
        if end[0] != begin[0]:
            self._reported_epochs.add(end[0])
        self._gaps.append(ReportedGap(begin, end, tuple(published.counts)))
        self._fresh = True

    def record(self, channel: int, number: int, position: Position) -> list[Finding]:
        """
        Record a received message.

        Returns:
            The faults, with the messages concerned; usually none.
        """
        rank = self._published.rank(position)
        if self._begin is None:
            self._start((rank[0], rank[1] - 1))
        expected = self._next.get(channel)
        if expected is None:
            return self._note(Fault.STRAY, channel, number)
        if number < expected:
            return self._on_old_number(channel, number, rank)
        faults = self._skip(channel, number)
        if self._last[0] == rank[0] and rank <= self._last:
            faults += self._note(Fault.DISORDERED, channel, number)
        known = self._published.position(channel, number)
        if known is not None and known.epoch == position.epoch and known != position:
            faults += self._note(Fault.MISPLACED, channel, number)
        self.delivered += 1
        self._next[channel] = number + 1
        self._last = self._cursor = rank
        self._fresh = False
        return faults + self._advance(rank)

    def _on_old_number(self, channel: int, number: int, rank: Rank) -> list[Finding]:
        if (channel, number) in self._missing:
            self._missing.remove((channel, number))
            self.faults[Fault.LOST] -= 1
            self.delivered += 1
            return self._note(Fault.DISORDERED, channel, number)
        # A server that lost its log may have lost the publisher's keys with it.
        known = self._published.position(channel, number)
        elsewhere = known is None or self._published.rank(known)[0] != rank[0]
        if rank[0] in self._reported_epochs and elsewhere:
            self.republished += 1
            return []
        return self._note(Fault.REPEATED, channel, number)

    def _advance(self, cursor: Rank) -> list[Finding]:
        """
        Report the messages up to *cursor* that have not arrived.
        """
        published, faults = self._published, []
        for channel, following in tuple(self._next.items()):
            number = following
            while (path := published.position(channel, number)) is not None:
                rank = published.rank(path)
                if rank[0] != cursor[0] or rank > cursor:
                    break
                number += 1
            faults += self._skip(channel, number)
        return faults

    def _skip(self, channel: int, number: int) -> list[Finding]:
        """
        Report the messages of *channel* before *number* that have not arrived.
        """
        faults = []
        for missed in range(self._next[channel], number):
            if self._is_missing(channel, missed):
                faults += self._note(Fault.LOST, channel, missed)
                if len(self._missing) < MAX_MISSING:
                    self._missing.add((channel, missed))
        self._next[channel] = number
        return faults

    def _note(self, fault: Fault, channel: int, number: int) -> list[Finding]:
        self.faults[fault] += 1
        return [(fault, channel, number)]

    def _is_missing(self, channel: int, number: int) -> bool:
        """
        Return whether a message was expected and not reported by a gap; count those reported.
        """
        if self._begin is not None and not self._after(channel, number, self._begin):
            return False
        if self._in_gap(channel, number):
            self.reported_lost += 1
            return False
        return True

    def _in_gap(self, channel: int, number: int) -> bool:
        position = self._published.position(channel, number)
        if position is None:
            return False
        rank = self._published.rank(position)
        for gap in self._gaps:
            if rank[0] == gap.end[0]:
                if gap.begin < rank <= gap.end:
                    return True
            elif number < gap.counts[channel] and rank > gap.begin:
                return True
        return False

    def _after(self, channel: int, number: int, rank: Rank) -> bool:
        position = self._published.position(channel, number)
        return position is not None and self._published.rank(position) > rank

    def next_number(self, channel: int) -> int:
        """
        Return the number of the first message of *channel* that has not been received.
        """
        return self._next.get(channel, self._published.accepted(channel))

    def is_waiting(self) -> bool:
        """
        Return whether an accepted message has not arrived yet.
        """
        return next(self._expected(), None) is not None

    def count_expected(self) -> int:
        """
        Return how many accepted messages have not arrived yet.
        """
        return sum(1 for _ in self._expected())

    def _expected(self) -> Iterator[tuple[int, int]]:
        if self._begin is None:
            return
        for channel, following in self._next.items():
            for number in range(following, self._published.accepted(channel)):
                after = self._after(channel, number, self._begin)
                if after and not self._in_gap(channel, number):
                    yield channel, number

    def close(self) -> list[Finding]:
        """
        Report all messages that have not arrived as lost.

        Returns:
            As `record`.
        """
        return [
            finding
            for channel, following in tuple(self._next.items())
            for finding in self._skip(channel, max(following, self._published.accepted(channel)))
        ]
