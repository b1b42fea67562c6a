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

from rt_twisted.metrics.metrics import ChannelCounts, Metrics
from rt_twisted.model.message import Position

GAUGES = (
    "subscribers",
    "subscribers_limit",
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
COUNTERS = (
    "joined",
    "published",
    "delivered",
    "gaps",
    "websocket_frames",
    "websocket_messages",
    "inbound_dropped",
    "cpu_seconds",
)
PLAIN = (*GAUGES, *COUNTERS, "uptime")
NO_OTHERS = ChannelCounts("", 0, 0, channels=0)


@dataclass(frozen=True, slots=True)
class StatsQuery:
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
class WorkerReport:
    """
    The numbers of one process.

    Args:
        counts: `channels` need not be there.
        shown: its channels.
        others: the sum of those that are too many.
    """

    metrics: Metrics
    shown: Sequence[ChannelCounts] = ()
    others: ChannelCounts = NO_OTHERS


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
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
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The numbers of the whole daemon.

    Args:
        counts: the sum.
        with_readers: channels that have readers.
        shown: the channels asked for, those with the most readers first.
        others: the sum of all others.
        workers: each; none if the daemon is one process.
    """

    metrics: Metrics
    channels_with_subscribers: int
    shown: Sequence[ChannelCounts]
    others: ChannelCounts
    workers: Sequence[WorkerMetrics] = ()


def add_counters(total: Metrics, part: Metrics) -> None:
    """
    Add to *total* what only ever grows.
    """
    for name in COUNTERS:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    total.closed.update(part.closed)
    total.requests.update(part.requests)
    for kind, reasons in part.refused.items():
        total.refused[kind].update(reasons)
    total.fanout.buckets = [
        sum(pair) for pair in zip(total.fanout.buckets, part.fanout.buckets, strict=True)
    ]
    total.fanout.seconds += part.fanout.seconds


def add(total: Metrics, part: Metrics) -> None:
    """
    Add to *total* what *part* counts now, and what grows.
    """
    add_counters(total, part)
    for name in GAUGES:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for window, rates in part.rates.items():
        sums = total.rates.setdefault(window, {})
        for name, rate in rates.items():
            sums[name] = sums.get(name, 0.0) + rate


def absorb_exited(total: Metrics, last: Metrics) -> None:
    """
    Add to *total* what a process that is gone had counted. Its readers' connections
    are lost, so that whoever joined is still there or counted as gone.
    """
    add_counters(total, last)
    left = last.joined - last.closed.total()
    if left > 0:
        total.closed["lost"] += left


@dataclass(slots=True)
class ChannelMerge:
    """
    The channels of several processes.

    A message is heard by each process that has readers of its channel: readers
    are summed, of messages the largest number counts.
    """

    known: dict[str, ChannelCounts] = field(default_factory=dict)
    hidden: ChannelCounts = NO_OTHERS

    def add(self, report: WorkerReport) -> None:
        """
        Take the channels of one more process.
        """
        for one in report.shown:
            before = self.known.get(one.name)
            self.known[one.name] = _both(before, one) if before is not None else one
        self.hidden = _sum((self.hidden, report.others))

    def subscribers(self) -> dict[str, int]:
        """
        Of each channel that has some.
        """
        return {one.name: one.subscribers for one in self.known.values() if one.subscribers}

    def shown(self, question: StatsQuery) -> tuple[list[ChannelCounts], ChannelCounts]:
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
    return one.subscribers, Position.parse(one.position).offset


def _both(one: ChannelCounts, other: ChannelCounts) -> ChannelCounts:
    last = max(one.position, other.position, key=lambda text: Position.parse(text).offset)
    return ChannelCounts(
        one.name, one.subscribers + other.subscribers, max(one.messages, other.messages), last
    )


def _sum(all_of: Iterable[ChannelCounts]) -> ChannelCounts:
    subscribers = messages = channels = 0
    for one in all_of:
        subscribers += one.subscribers
        messages += one.messages
        channels += one.channels
    return ChannelCounts("", subscribers, messages, channels=channels)


# JSON.


def pack_report(report: WorkerReport) -> list[Any]:
    """
    *report* as JSON has it.
    """
    return [_pack_counts(report.metrics), *_pack_channels(report.shown, report.others)]


def unpack_report(packed: Sequence[Any]) -> WorkerReport:
    """
    What `pack_report` made.
    """
    metrics, shown, others = packed
    return WorkerReport(_unpack_counts(metrics), *_unpack_channels(shown, others))


def pack_snapshot(look: Snapshot) -> list[Any]:
    """
    *look* as JSON has it.
    """
    workers = [
        [one.worker, one.pid, one.state, one.restarts, _pack_counts(one.metrics)]
        for one in look.workers
    ]
    metrics = _pack_counts(look.metrics)
    channels = _pack_channels(look.shown, look.others)
    return [metrics, look.metrics.channels, look.channels_with_subscribers, *channels, workers]


def unpack_snapshot(packed: Sequence[Any]) -> Snapshot:
    """
    What `pack_look` made.
    """
    metrics, channels, channels_with_subscribers, shown, others, workers = packed
    total = _unpack_counts(metrics)
    total.channels = channels
    each = [
        WorkerMetrics(worker, pid, state, restarts, _unpack_counts(its))
        for worker, pid, state, restarts, its in workers
    ]
    return Snapshot(total, channels_with_subscribers, *_unpack_channels(shown, others), each)


def _pack_counts(metrics: Metrics) -> list[Any]:
    return [
        [getattr(metrics, name) for name in PLAIN],
        metrics.closed,
        metrics.requests,
        metrics.refused,
        [metrics.fanout.buckets, metrics.fanout.seconds],
        metrics.rates,
    ]


def _unpack_counts(packed: Sequence[Any]) -> Metrics:
    plain, closed, requests, refused, (buckets, seconds), rates = packed
    metrics = Metrics(**dict(zip(PLAIN, plain, strict=True)))
    metrics.closed = Counter(closed)
    metrics.requests = Counter(_by_number(requests))  # JSON's names are text
    metrics.refused = {kind: Counter(reasons) for kind, reasons in refused.items()}
    metrics.fanout.buckets, metrics.fanout.seconds = buckets, seconds
    metrics.rates = _by_number(rates)
    return metrics


def _by_number(named: Mapping[str, Any]) -> dict[int, Any]:
    return {int(name): value for name, value in named.items()}


def _pack_channels(shown: Iterable[ChannelCounts], others: ChannelCounts) -> list[Any]:
    return [
        [[one.name, one.subscribers, one.messages, one.position] for one in shown],
        [others.subscribers, others.messages, others.channels],
    ]


def _unpack_channels(
    shown: Iterable[Sequence[Any]], others: Sequence[int]
) -> tuple[list[ChannelCounts], ChannelCounts]:
    subscribers, messages, channels = others
    rest = ChannelCounts("", subscribers, messages, channels=channels)
    return [ChannelCounts(*one) for one in shown], rest
