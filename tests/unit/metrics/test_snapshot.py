"""
Metrics of several processes: packed for sending, and summed.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.metrics.metrics import BOUNDS, ChannelCounts, Histogram, Metrics
from rt_twisted.metrics.snapshot import (
    ChannelMerge,
    Snapshot,
    StatsQuery,
    WorkerMetrics,
    WorkerReport,
    absorb_exited,
    add,
    pack_report,
    pack_snapshot,
    unpack_report,
    unpack_snapshot,
)

totals = st.integers(0, 2**53)
tallies = st.dictionaries(st.sampled_from(("client", "lost", "behind")), totals, max_size=3)


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    """
    Draw metrics that a process may have.
    """
    made = Metrics(
        subscribers=draw(totals),
        subscribers_limit=draw(totals),
        behind=draw(totals),
        joined=draw(totals),
        published=draw(totals),
        delivered=draw(totals),
        gaps=draw(totals),
        uptime=1.5,
        cpu_seconds=0.25,
        memory_bytes=draw(totals),
    )
    made.closed = Counter(draw(tallies))
    made.requests = Counter(draw(st.dictionaries(st.integers(200, 599), totals, max_size=3)))
    made.refused["readers"].update(draw(tallies))
    made.rates = {10: {"joined": 1.25}, 60: {"joined": 0.5}}
    made.fanout.observe(0.003)
    made.fanout.observe(100)
    return made


def plain(metrics: Metrics) -> Any:
    """
    Return all values of *metrics*, to compare them.
    """
    report: Any = json.loads(json.dumps(pack_report(WorkerReport(metrics))))
    return report


names = st.text(max_size=5)
channels = st.lists(st.builds(ChannelCounts, names, totals, totals, st.just("e.7")), max_size=3)


@given(metrics(), channels)
def test_reports_survive_packing(sent: Metrics, shown: list[ChannelCounts]) -> None:
    """
    A report that was sent as JSON has every number and every name.
    """
    report = WorkerReport(sent, shown, ChannelCounts("", 1, 2, channels=3))
    packed = json.loads(json.dumps(pack_report(report)))
    again = unpack_report(packed)

    assert plain(again.metrics) == plain(sent)
    assert (again.shown, again.others) == (shown, report.others)
    assert again.metrics.requests == sent.requests


@given(metrics(), channels)
def test_snapshots_survive_packing(sent: Metrics, shown: list[ChannelCounts]) -> None:
    """
    A snapshot that was sent as JSON has its workers and the subscribers of all channels.
    """
    sent.channels = {one.name: one.subscribers for one in shown}
    worker = WorkerMetrics(2, 4711, "up", 3, Metrics(subscribers=5))
    snapshot = Snapshot(sent, 3, shown, ChannelCounts("", 0, 0, channels=0), [worker])
    again = unpack_snapshot(json.loads(json.dumps(pack_snapshot(snapshot))))

    assert plain(again.metrics) == plain(sent)
    assert again.metrics.channels == sent.channels
    assert (again.shown, again.channels_with_subscribers) == (shown, 3)
    (found,) = again.workers
    assert (found.worker, found.pid, found.state, found.restarts) == (2, 4711, "up", 3)
    assert plain(found.metrics) == plain(worker.metrics)


@given(st.lists(metrics(), max_size=3))
def test_metrics_are_summed(parts: list[Metrics]) -> None:
    """
    The sum has the counters, disconnect reasons, statuses, rates and durations of all parts.
    """
    total = Metrics()
    for part in parts:
        add(total, part)

    assert total.subscribers == sum(part.subscribers for part in parts)
    assert total.delivered == sum(part.delivered for part in parts)
    assert total.closed["lost"] == sum(part.closed["lost"] for part in parts)
    assert sum(total.fanout.buckets) == 2 * len(parts)
    assert total.rates.get(10, {}).get("joined", 0) == 1.25 * len(parts)


def test_counters_of_exited_workers_are_kept() -> None:
    """
    The counters stay; its subscribers are gone, and count as lost.
    """
    last = Metrics(subscribers=4, joined=10, delivered=50, memory_bytes=99)
    last.closed["client"] = 6
    total = Metrics()
    absorb_exited(total, last)

    assert (total.joined, total.delivered) == (10, 50)
    assert (total.subscribers, total.memory_bytes) == (0, 0)
    assert total.closed == {"client": 6, "lost": 4}


def test_channels_of_several_workers_are_merged() -> None:
    """
    Subscribers are summed; a message that two workers received counts once.
    """
    known = ChannelMerge()
    for shown in (
        [ChannelCounts("a", 3, 7, "e.9"), ChannelCounts("b", 0, 2, "e.2")],
        [ChannelCounts("a", 2, 5, "e.10"), ChannelCounts("c", 9, 1, "e.3")],
    ):
        known.add(WorkerReport(Metrics(), shown, ChannelCounts("", 1, 4, channels=2)))

    assert known.subscribers() == {"a": 5, "c": 9}
    shown, others = known.shown(StatsQuery(max_channels=2))
    assert shown == [ChannelCounts("c", 9, 1, "e.3"), ChannelCounts("a", 5, 7, "e.10")]
    assert others == ChannelCounts("", 2, 10, channels=5)
    assert known.shown(StatsQuery(["a", "no"]))[0] == [shown[1], ChannelCounts("no", 0, 0)]


def test_summed_histograms_have_all_buckets() -> None:
    """
    The histogram of a sum has as many buckets as its parts.
    """
    total = Metrics()
    add(total, Metrics(fanout=Histogram()))

    assert len(total.fanout.buckets) == len(BOUNDS) + 1
