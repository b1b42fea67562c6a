"""
What several processes of one daemon count, as one.

A process tells a `Report`; of all of them comes a `Look`. Both travel as JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any

from rt_twisted.counts import ChannelCounts, Counts
from rt_twisted.message import Position

NOW = (
    "readers",
    "readers_limit",
    "joining",
    "behind",
    "waiting_bytes",
    "history_bytes",
    "websockets",
    "inbound_bytes",
    "memory_bytes",
    "broker_away",
    "broker_refuses",
)
GROWING = (
    "joined",
    "published",
    "delivered",
    "gaps",
    "websocket_frames",
    "websocket_messages",
    "inbound_dropped",
    "cpu_seconds",
)
PLAIN = (*NOW, *GROWING, "uptime")
NO_OTHERS = ChannelCounts("", 0, 0, channels=0)


@dataclass(frozen=True, slots=True)
class Question:
    """
    Which channels a look shall show.

    Args:
        names: these; none for the busiest.
        most: how many of the busiest.
        every: whether the readers of every channel are wanted too (`Counts.channels`).
    """

    names: Sequence[str] = ()
    most: int = 0
    every: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """
    The numbers of one process.

    Args:
        counts: `channels` need not be there.
        shown: its channels.
        others: the sum of those that are too many.
    """

    counts: Counts
    shown: Sequence[ChannelCounts] = ()
    others: ChannelCounts = NO_OTHERS


@dataclass(frozen=True, slots=True)
class WorkerCounts:
    """
    One worker in a look.

    Args:
        worker: its number, from 1 on.
        pid: its process; 0 if there is none.
        state: `up`, `silent` (it did not tell its numbers in time), `starting`,
            `stopping` or `down`.
        restarts: how often another process took its place.
        counts: zeros if it is not up.
    """

    worker: int
    pid: int
    state: str
    restarts: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Look:
    """
    The numbers of the whole daemon.

    Args:
        counts: the sum.
        with_readers: channels that have readers.
        shown: the channels asked for, those with the most readers first.
        others: the sum of all others.
        workers: each; none if the daemon is one process.
    """

    counts: Counts
    with_readers: int
    shown: Sequence[ChannelCounts]
    others: ChannelCounts
    workers: Sequence[WorkerCounts] = ()


def grow(total: Counts, part: Counts) -> None:
    """
    Add to *total* what only ever grows.
    """
    for name in GROWING:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.closed.update(part.closed)
    total.requests.update(part.requests)
    for kind, reasons in part.refused.items():
        total.refused[kind].update(reasons)
    total.fanout.buckets = [
        sum(pair) for pair in zip(total.fanout.buckets, part.fanout.buckets, strict=True)
    ]
    total.fanout.seconds += part.fanout.seconds


def add(total: Counts, part: Counts) -> None:
    """
    Add to *total* what *part* counts now, and what grows.
    """
    grow(total, part)
    for name in NOW:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for window, rates in part.rates.items():
        sums = total.rates.setdefault(window, {})
        for name, rate in rates.items():
            sums[name] = sums.get(name, 0.0) + rate


def bury(total: Counts, last: Counts) -> None:
    """
    Add to *total* what a process that is gone had counted. Its readers' connections
    are lost, so that whoever joined is still there or counted as gone.
    """
    grow(total, last)
    left = last.joined - last.closed.total()
    if left > 0:
        total.closed["lost"] += left


@dataclass(slots=True)
class Channels:
    """
    The channels of several processes.

    A message is heard by each process that has readers of its channel: readers
    are summed, of messages the largest number counts.
    """

    known: dict[str, ChannelCounts] = field(default_factory=dict)
    hidden: ChannelCounts = NO_OTHERS

    def add(self, report: Report) -> None:
        """
        Take the channels of one more process.
        """
        for one in report.shown:
            before = self.known.get(one.name)
            self.known[one.name] = _both(before, one) if before is not None else one
        self.hidden = _sum((self.hidden, report.others))

    def readers(self) -> dict[str, int]:
        """
        Of each channel that has some.
        """
        return {one.name: one.readers for one in self.known.values() if one.readers}

    def shown(self, question: Question) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        The channels *question* asks for, and the sum of all others.
        """
        if question.names:
            nothing = [ChannelCounts(name, 0, 0) for name in question.names]
            return [self.known.get(one.name, one) for one in nothing], self.hidden
        if not question.most:
            return [], _sum((*self.known.values(), self.hidden))
        shown = nlargest(question.most, self.known.values(), key=_rank)
        names = {one.name for one in shown}
        rest = [one for one in self.known.values() if one.name not in names]
        return shown, _sum((*rest, self.hidden))


def _rank(one: ChannelCounts) -> tuple[int, int]:
    return one.readers, Position.parse(one.position).offset


def _both(one: ChannelCounts, other: ChannelCounts) -> ChannelCounts:
    last = max(one.position, other.position, key=lambda text: Position.parse(text).offset)
    return ChannelCounts(
        one.name, one.readers + other.readers, max(one.messages, other.messages), last
    )


def _sum(all_of: Iterable[ChannelCounts]) -> ChannelCounts:
    readers = messages = channels = 0
    for one in all_of:
        readers += one.readers
        messages += one.messages
        channels += one.channels
    return ChannelCounts("", readers, messages, channels=channels)


# JSON.


def pack_report(report: Report) -> list[Any]:
    """
    *report* as JSON has it.
    """
    return [_pack_counts(report.counts), *_pack_channels(report.shown, report.others)]


def unpack_report(packed: Sequence[Any]) -> Report:
    """
    What `pack_report` made.
    """
    counts, shown, others = packed
    return Report(_unpack_counts(counts), *_unpack_channels(shown, others))


def pack_look(look: Look) -> list[Any]:
    """
    *look* as JSON has it.
    """
    workers = [
        [one.worker, one.pid, one.state, one.restarts, _pack_counts(one.counts)]
        for one in look.workers
    ]
    counts = _pack_counts(look.counts)
    channels = _pack_channels(look.shown, look.others)
    return [counts, look.counts.channels, look.with_readers, *channels, workers]


def unpack_look(packed: Sequence[Any]) -> Look:
    """
    What `pack_look` made.
    """
    counts, channels, with_readers, shown, others, workers = packed
    total = _unpack_counts(counts)
    total.channels = channels
    each = [
        WorkerCounts(worker, pid, state, restarts, _unpack_counts(its))
        for worker, pid, state, restarts, its in workers
    ]
    return Look(total, with_readers, *_unpack_channels(shown, others), each)


def _pack_counts(counts: Counts) -> list[Any]:
    return [
        [getattr(counts, name) for name in PLAIN],
        counts.closed,
        counts.requests,
        counts.refused,
        [counts.fanout.buckets, counts.fanout.seconds],
        counts.rates,
    ]


def _unpack_counts(packed: Sequence[Any]) -> Counts:
    plain, closed, requests, refused, (buckets, seconds), rates = packed
    counts = Counts(**dict(zip(PLAIN, plain, strict=True)))
    counts.closed = Counter(closed)
    counts.requests = Counter(_by_number(requests))  # JSON's names are text
    counts.refused = {kind: Counter(reasons) for kind, reasons in refused.items()}
    counts.fanout.buckets, counts.fanout.seconds = buckets, seconds
    counts.rates = _by_number(rates)
    return counts


def _by_number(named: Mapping[str, Any]) -> dict[int, Any]:
    return {int(name): value for name, value in named.items()}


def _pack_channels(shown: Iterable[ChannelCounts], others: ChannelCounts) -> list[Any]:
    return [
        [[one.name, one.readers, one.messages, one.position] for one in shown],
        [others.readers, others.messages, others.channels],
    ]


def _unpack_channels(
    shown: Iterable[Sequence[Any]], others: Sequence[int]
) -> tuple[list[ChannelCounts], ChannelCounts]:
    readers, messages, channels = others
    rest = ChannelCounts("", readers, messages, channels=channels)
    return [ChannelCounts(*one) for one in shown], rest
