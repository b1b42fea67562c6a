"""
The hub's numbers for Prometheus.
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
from zope.interface import implementer

from rt_twisted import __version__
from rt_twisted.actions.stats import NO_STORE, check_most, check_observer
from rt_twisted.counts import BOUNDS, ChannelCounts, Histogram
from rt_twisted.house import House
from rt_twisted.interfaces import IAction, IExchange, Match

if TYPE_CHECKING:
    from prometheus_client import Metric

    from rt_twisted.hub import Hub

LONGEST = 200  # characters of a channel's name in a label; settings may allow longer ones


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Metrics:
    """
    `metrics`: what Prometheus scrapes (text format 0.0.4), for who may see the
    numbers; the key goes as `Authorization: Bearer` or `?key=`.

    Args:
        house: the daemon.
        channels: how many have series of their own, those with the most
            readers; the others are summed. Clients choose names, and each is a
            series that Prometheus keeps.
    """

    house: House
    channels: int = 100

    bare: ClassVar[str] = "channels"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_most(self.channels)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer, to who may see it.
        """
        check_observer(self.house, exchange)
        body = generate_latest(Numbers(self.house.hub, self.channels))
        exchange.answer(200, body, CONTENT_TYPE_PLAIN_0_0_4, NO_STORE)


class Numbers(Collector):
    """
    What the hub counts, as Prometheus wants it; nothing is counted twice.

    Args:
        hub: whose numbers.
        channels: how many have series of their own.
    """

    def __init__(self, hub: Hub, channels: int) -> None:
        self._hub = hub
        self._channels = channels

    def collect(self) -> Iterator[Metric]:
        """
        All metrics as they stand now.
        """
        n = self._hub.numbers()
        shown, others = self._hub.busiest(self._channels)
        yield InfoMetricFamily("realtime", "What runs here.", {"version": __version__})
        yield _gauge("realtime_uptime_seconds", "Since the start.", n.uptime)
        yield _total("process_cpu_seconds", "User and system time.", n.cpu_seconds)
        yield _gauge("process_resident_memory_bytes", "Memory held.", n.memory_bytes)

        yield _gauge("realtime_readers", "Readers connected now.", n.readers)
        yield _gauge("realtime_readers_limit", "Readers allowed at once.", n.readers_limit)
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
        statuses = {str(status): count for status, count in n.requests.items()}
        yield _totals("realtime_http_requests", "Responses begun.", "status", statuses)
        yield _histogram("realtime_fanout_seconds", n.fanout)

        yield _gauge("realtime_channels", "Channels with readers.", len(n.channels))
        yield _by_channel(shown)
        yield _messages_by_channel(shown)
        yield _gauge(
            "realtime_other_channels_readers",
            "Subscriptions to channels without series.",
            others.readers,
        )


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
    readers: Counter[str] = Counter()
    for channel in shown:
        readers[label(channel.name)] += channel.readers
    for name, count in readers.items():
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
