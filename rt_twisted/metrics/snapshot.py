"""
The metrics of several processes of one daemon, as one.

Each process sends a `WorkerReport`; the parent sums them to a `Snapshot`. Both are
sent as JSON.
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
    "patterns",
    "behind",
    "waiting_bytes",
    "history_bytes",
    "live_bytes",
    "live_publishers",
    "live_viewers",
    "websockets",
    "inbound_bytes",
    "memory_bytes",
    "relay_tunnels",
    "wsgi_busy",
    "wsgi_queued",
    "wsgi_websockets",
    "revocations",
    "broker_away",
    "broker_refuses",
)
COUNTERS = (
    "joined",
    "published",
    "delivered",
    "gaps",
    "skips",
    "live_units",
    "live_received_bytes",
    "live_delivered",
    "websocket_frames",
    "websocket_messages",
    "inbound_dropped",
    "tokens_verified",
    "questions_asked",
    "questions_cached",
    "questions_failed",
    "question_seconds",
    "relayed",
    "relay_seconds",
    "relay_unreachable",
    "relay_broken",
    "relay_timeouts",
    "relay_refused",
    "wsgi_requests",
    "wsgi_failed",
    "wsgi_refused",
    "wsgi_timeouts",
    "wsgi_seconds",
    "uploads",
    "uploaded_bytes",
    "handovers_by_line",
    "handovers_by_redirect",
    "handovers_by_grip",
    "cpu_seconds",
)
MAXIMA = ("reactor_longest_hold_seconds",)  # since the last export
AGES = ("jwks_age_seconds",)  # the oldest of all processes counts
FIELDS = (*GAUGES, *COUNTERS, *MAXIMA, *AGES, "uptime")
NO_OTHERS = ChannelCounts("", 0, 0, channels=0)


@dataclass(frozen=True, slots=True)
class StatsQuery:
    """
    Which channels a snapshot shows.

    Args:
        names: these; if empty, the busiest.
        max_channels: how many of the busiest.
        all_channels: whether the subscribers of every channel are needed too
            (`Metrics.channels`).
        export: whether the snapshot is exported, so that maxima begin anew.
    """

    names: Sequence[str] = ()
    max_channels: int = 0
    all_channels: bool = False
    export: bool = False


@dataclass(frozen=True, slots=True)
class WorkerReport:
    """
    The metrics of one process.

    Args:
        metrics: `channels` may be missing.
        shown: its channels.
        others: the sum of the channels that are not shown.
    """

    metrics: Metrics
    shown: Sequence[ChannelCounts] = ()
    others: ChannelCounts = NO_OTHERS


@dataclass(frozen=True, slots=True)
class WorkerMetrics:
    """
    The metrics of one worker in a snapshot.

    Args:
        worker: its number, from 1 on.
        pid: its process; 0 if there is none.
        state: `up`, `silent` (it did not send its report in time), `starting`,
            `stopping` or `down`.
        restarts: how often its process was replaced.
        metrics: zeros if it is not up.
    """

    worker: int
    pid: int
    state: str
    restarts: int
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The metrics of the whole daemon.

    Args:
        metrics: the sum.
        channels_with_subscribers: how many there are.
        shown: the requested channels, those with the most subscribers first.
        others: the sum of all others.
        workers: each worker; empty if the daemon is one process.
    """

    metrics: Metrics
    channels_with_subscribers: int
    shown: Sequence[ChannelCounts]
    others: ChannelCounts
    workers: Sequence[WorkerMetrics] = ()


def add_counters(total: Metrics, part: Metrics) -> None:
    """
    Add the counters of *part*, which only grow, to *total*.
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
    Add the counters and gauges of *part* to *total*.
    """
    add_counters(total, part)
    for name in GAUGES:
        setattr(total, name, getattr(total, name) + getattr(part, name))
    for name in AGES:
        setattr(total, name, max(getattr(total, name), getattr(part, name)))
    for window, rates in part.rates.items():
        sums = total.rates.setdefault(window, {})
        for name, rate in rates.items():
            sums[name] = sums.get(name, 0.0) + rate


def absorb_exited(total: Metrics, last: Metrics) -> None:
    """
    Add the counters of a process that exited to *total*.

    Its connections are lost, so that its subscribers count as lost.
    """
    add_counters(total, last)
    left = last.joined - last.closed.total()
    if left > 0:
        total.closed["lost"] += left


@dataclass(slots=True)
class ChannelMerge:
    """
    The channels of several processes.

    Each process with subscribers of a channel receives its messages: subscribers are
    summed, and of messages the largest number counts.
    """

    known: dict[str, ChannelCounts] = field(default_factory=dict)
    hidden: ChannelCounts = NO_OTHERS

    def add(self, report: WorkerReport) -> None:
        """
        Add the channels of one more process.
        """
        for one in report.shown:
            before = self.known.get(one.name)
            self.known[one.name] = _merge(before, one) if before is not None else one
        self.hidden = _sum((self.hidden, report.others))

    def subscribers(self) -> dict[str, int]:
        """
        Return the number of subscribers by channel, of channels that have some.
        """
        return {one.name: one.subscribers for one in self.known.values() if one.subscribers}

    def shown(self, query: StatsQuery) -> tuple[list[ChannelCounts], ChannelCounts]:
        """
        Return the channels that *query* selects, and the sum of all others.
        """
        if query.names:
            nothing = [ChannelCounts(name, 0, 0) for name in query.names]
            return [self.known.get(one.name, one) for one in nothing], self.hidden
        if not query.max_channels:
            return [], _sum((*self.known.values(), self.hidden))
        shown = nlargest(query.max_channels, self.known.values(), key=_rank)
        names = {one.name for one in shown}
        rest = [one for one in self.known.values() if one.name not in names]
        return shown, _sum((*rest, self.hidden))


def _rank(one: ChannelCounts) -> tuple[int, int]:
    return one.subscribers, Position.parse(one.position).offset


def _merge(one: ChannelCounts, other: ChannelCounts) -> ChannelCounts:
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
    Return *report* as JSON values.
    """
    return [_pack_metrics(report.metrics), *_pack_channels(report.shown, report.others)]


def unpack_report(packed: Sequence[Any]) -> WorkerReport:
    """
    Return the report that `pack_report` packed.
    """
    metrics, shown, others = packed
    return WorkerReport(_unpack_metrics(metrics), *_unpack_channels(shown, others))


def pack_snapshot(snapshot: Snapshot) -> list[Any]:
    """
    Return *snapshot* as JSON values.
    """
    workers = [
        [one.worker, one.pid, one.state, one.restarts, _pack_metrics(one.metrics)]
        for one in snapshot.workers
    ]
    metrics = _pack_metrics(snapshot.metrics)
    channels = _pack_channels(snapshot.shown, snapshot.others)
    return [
        metrics,
        snapshot.metrics.channels,
        snapshot.channels_with_subscribers,
        *channels,
        workers,
    ]


def unpack_snapshot(packed: Sequence[Any]) -> Snapshot:
    """
    Return the snapshot that `pack_snapshot` packed.
    """
    metrics, channels, channels_with_subscribers, shown, others, workers = packed
    total = _unpack_metrics(metrics)
    total.channels = channels
    each = [
        WorkerMetrics(worker, pid, state, restarts, _unpack_metrics(its))
        for worker, pid, state, restarts, its in workers
    ]
    return Snapshot(total, channels_with_subscribers, *_unpack_channels(shown, others), each)


def _pack_metrics(metrics: Metrics) -> list[Any]:
    return [
        [getattr(metrics, name) for name in FIELDS],
        metrics.closed,
        metrics.requests,
        metrics.refused,
        [metrics.fanout.buckets, metrics.fanout.seconds],
        metrics.rates,
    ]


def _unpack_metrics(packed: Sequence[Any]) -> Metrics:
    plain, closed, requests, refused, (buckets, seconds), rates = packed
    metrics = Metrics(**dict(zip(FIELDS, plain, strict=True)))
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
