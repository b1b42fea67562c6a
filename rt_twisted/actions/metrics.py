"""
The daemon's numbers for Prometheus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, ClassVar

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted import __version__
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.stats import check_most, check_observer
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.metrics import BOUNDS, ChannelCounts, Histogram
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery, WorkerMetrics

if TYPE_CHECKING:
    from prometheus_client import Metric

LONGEST = 200  # characters of a channel's name in a label; settings may allow longer ones


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class MetricsAction:
    """
    `metrics`: what Prometheus scrapes (text format 0.0.4), for who may see the
    numbers; the key goes as `Authorization: Bearer` or `?key=`.

    Args:
        house: the daemon.
        channels: how many have series of their own, those with the most
            readers; the others are summed. Clients choose names, and each is a
            series that Prometheus keeps.
    """

    context: ActionContext
    channels: int = 100

    bare: ClassVar[str] = "channels"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_most(self.channels)

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        """
        Answer, to who may see it.
        """
        check_observer(self.context, exchange)

        def answer(look: Snapshot) -> None:
            if not exchange.answered:
                body = generate_latest(MetricsCollector(look))
                exchange.answer(200, body, CONTENT_TYPE_PLAIN_0_0_4, NO_STORE)

        return self.context.snapshot(StatsQuery(max_channels=self.channels)).addCallback(answer)


class MetricsCollector(Collector):
    """
    What the daemon counts, as Prometheus wants it; nothing is counted twice.

    Args:
        look: at it.
    """

    def __init__(self, look: Snapshot) -> None:
        self._look = look

    def collect(self) -> Iterator[Metric]:
        """
        All metrics as they stand now.
        """
        n, shown, others = self._look.metrics, self._look.shown, self._look.others
        yield InfoMetricFamily("realtime", "What runs here.", {"version": __version__})
        yield _gauge("realtime_uptime_seconds", "Since the start.", n.uptime)
        yield _total("process_cpu_seconds", "User and system time.", n.cpu_seconds)
        yield _gauge("process_resident_memory_bytes", "Memory held.", n.memory_bytes)

        yield _gauge("realtime_readers", "Readers connected now.", n.subscribers)
        yield _gauge("realtime_readers_limit", "Readers allowed at once.", n.subscribers_limit)
        yield _gauge("realtime_readers_joining", "Readers waiting for the broker.", n.joining)
        yield _gauge("realtime_broker_up", "Whether it can be reached.", int(not n.broker_away))
        yield _gauge("realtime_broker_refuses", "Takes no messages.", int(bool(n.broker_refuses)))
        yield _gauge("realtime_readers_behind", "Readers with bytes waiting.", n.behind)
        yield _gauge("realtime_backlog_bytes", "Bytes that wait for them.", n.waiting_bytes)
        yield _total("realtime_readers_joined", "Readers that ever joined.", n.joined)
        yield _totals("realtime_readers_closed", "Readers gone.", "cause", n.closed)
        refused = n.refused
        yield _totals(
            "realtime_readers_refused", "Readers not let in.", "reason", refused["readers"]
        )
        yield _total("realtime_messages_published", "Messages received.", n.published)
        yield _total("realtime_messages_delivered", "Messages handed to readers.", n.delivered)
        yield _totals(
            "realtime_publishes_refused", "Publish requests.", "reason", refused["publishes"]
        )
        yield _total("realtime_gaps", "Times a reader was told of a gap.", n.gaps)
        yield _gauge("realtime_history_bytes", "Bytes kept for replay.", n.history_bytes)
        yield _gauge("realtime_websockets", "Websockets open now.", n.websockets)
        yield _total("realtime_websocket_frames", "Frames received.", n.websocket_frames)
        yield _total(
            "realtime_websocket_messages", "Clients' messages processed.", n.websocket_messages
        )
        yield _gauge("realtime_inbound_bytes", "Incomplete input.", n.inbound_bytes)
        yield _total("realtime_inbound_dropped", "Incomplete input refused.", n.inbound_dropped)
        statuses = {str(status): count for status, count in n.requests.items()}
        yield _totals("realtime_http_requests", "Responses begun.", "status", statuses)
        yield _histogram("realtime_fanout_seconds", n.fanout)

        yield _gauge(
            "realtime_channels", "Channels with readers.", self._look.channels_with_subscribers
        )
        yield _by_channel(shown)
        yield _messages_by_channel(shown)
        yield _gauge(
            "realtime_other_channels_readers",
            "Subscriptions to channels without series.",
            others.subscribers,
        )
        if self._look.workers:
            yield from _by_worker(self._look.workers)


def label(name: str) -> str:
    """
    A channel's name as a label: valid Unicode, at most LONGEST characters.
    Prometheus takes every character; what has a meaning in its text is escaped
    by its own library.
    """
    return name[:LONGEST].encode(errors="replace").decode()


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _total(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(name, text, value)


def _totals(name: str, text: str, key: str, values: Mapping[str, int]) -> Metric:
    family = CounterMetricFamily(name, text, labels=[key])
    for value, count in sorted(values.items()):
        family.add_metric([value], count)
    return family


def _histogram(name: str, histogram: Histogram) -> Metric:
    bounds = [*map(str, BOUNDS), "+Inf"]
    upto = accumulate(histogram.buckets)
    return HistogramMetricFamily(
        name,
        "From receipt of a turn's first message to its last reader written.",
        list(zip(bounds, upto, strict=True)),
        histogram.seconds,
    )


def _by_channel(shown: Iterable[ChannelCounts]) -> Metric:
    family = GaugeMetricFamily(
        "realtime_channel_readers", "Readers by channel.", labels=["channel"]
    )
    # Names that were cut may be alike; a series may be there once.
    subscribers: Counter[str] = Counter()
    for channel in shown:
        subscribers[label(channel.name)] += channel.subscribers
    for name, count in subscribers.items():
        family.add_metric([name], count)
    return family


def _messages_by_channel(shown: Iterable[ChannelCounts]) -> Metric:
    family = CounterMetricFamily(
        "realtime_channel_messages", "Messages by channel.", labels=["channel"]
    )
    messages: Counter[str] = Counter()
    for channel in shown:
        messages[label(channel.name)] += channel.messages
    for name, count in messages.items():
        family.add_metric([name], count)
    return family


def _by_worker(workers: Sequence[WorkerMetrics]) -> Iterator[Metric]:
    """
    Where an imbalance shows. The sums are those above: under names of their own these
    are not added to them by a query.
    """
    up = GaugeMetricFamily("realtime_worker_up", "Whether it counts.", labels=["worker"])
    restarts = CounterMetricFamily("realtime_worker_restarts", "Successors.", labels=["worker"])
    subscribers = GaugeMetricFamily("realtime_worker_readers", "Its readers.", labels=["worker"])
    cpu = CounterMetricFamily("realtime_worker_cpu_seconds", "Its time.", labels=["worker"])
    memory = GaugeMetricFamily("realtime_worker_memory_bytes", "Its memory.", labels=["worker"])
    for one in workers:
        which = [str(one.worker)]
        is_up = one.state == "up"
        up.add_metric(which, is_up)
        restarts.add_metric(which, one.restarts)
        if is_up:  # of others nothing is known; a counter that fell to 0 would be wrong
            subscribers.add_metric(which, one.metrics.subscribers)
            cpu.add_metric(which, one.metrics.cpu_seconds)
            memory.add_metric(which, one.metrics.memory_bytes)
    return iter((up, restarts, subscribers, cpu, memory))
