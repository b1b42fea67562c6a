"""
Metrics in Prometheus' text format 0.0.4, by its own library.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from rt_twisted import __version__
from rt_twisted.metrics.metrics import BOUNDS, ChannelCounts, Histogram, Metrics
from rt_twisted.metrics.snapshot import Snapshot, WorkerMetrics

if TYPE_CHECKING:
    from prometheus_client import Metric

MAX_LABEL = 200  # characters of a channel's name in a label; settings may allow longer ones


def render(snapshot: Snapshot) -> bytes:
    """
    Return *snapshot* as the body of a response to a scrape.
    """
    return generate_latest(MetricsCollector(snapshot))


class MetricsCollector(Collector):
    """
    Convert a snapshot to Prometheus' metric families; nothing is counted a second time.

    Args:
        snapshot: of the daemon.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        """
        Yield every metric with its samples, as prometheus_client's registry asks for.
        """
        n, shown, others = self._snapshot.metrics, self._snapshot.shown, self._snapshot.others
        yield InfoMetricFamily("realtime", "Version of the daemon.", {"version": __version__})
        yield _gauge("realtime_uptime_seconds", "Seconds since the start.", n.uptime)
        yield _total("process_cpu_seconds", "User and system CPU time.", n.cpu_seconds)
        yield _gauge("process_resident_memory_bytes", "Resident memory.", n.memory_bytes)
        yield _gauge(
            "realtime_reactor_longest_hold_seconds",
            "Longest time without serving any client, since the scrape before.",
            n.reactor_longest_hold_seconds,
        )

        yield _gauge("realtime_readers", "Subscribers connected now.", n.subscribers)
        yield _gauge("realtime_readers_limit", "Maximum of subscribers.", n.subscribers_limit)
        yield _gauge("realtime_readers_joining", "Subscribers waiting for the broker.", n.joining)
        yield _gauge("realtime_patterns", "Patterns of channels that are subscribed.", n.patterns)
        yield _gauge(
            "realtime_broker_up", "Whether the broker is available.", int(not n.broker_away)
        )
        yield _gauge(
            "realtime_broker_refuses",
            "Whether the broker rejects messages.",
            int(bool(n.broker_refuses)),
        )
        yield _gauge("realtime_readers_behind", "Subscribers with a backlog.", n.behind)
        yield _gauge("realtime_backlog_bytes", "Bytes in backlogs.", n.waiting_bytes)
        yield _total("realtime_readers_joined", "Subscribers that joined.", n.joined)
        yield _totals(
            "realtime_readers_closed", "Subscribers that were disconnected.", "cause", n.closed
        )
        refused = n.refused
        yield _totals(
            "realtime_readers_refused",
            "Subscribers that were rejected.",
            "reason",
            refused["readers"],
        )
        yield _total("realtime_messages_published", "Messages received.", n.published)
        yield _total(
            "realtime_messages_delivered", "Messages delivered to subscribers.", n.delivered
        )
        yield _totals(
            "realtime_publishes_refused",
            "Publish requests that were rejected.",
            "reason",
            refused["publishes"],
        )
        yield _total("realtime_gaps", "Gaps reported to subscribers.", n.gaps)
        yield _total("realtime_skips", "Skips of viewers to a later keyframe.", n.skips)
        yield _gauge("realtime_history_bytes", "Bytes of retained messages.", n.history_bytes)
        yield _gauge("realtime_live_bytes", "Bytes of retained live streams.", n.live_bytes)
        yield _gauge("realtime_live_publishers", "Publishers of live streams.", n.live_publishers)
        yield _gauge("realtime_live_viewers", "Subscribers of live streams.", n.live_viewers)
        yield _total("realtime_live_units", "Heads and frames received.", n.live_units)
        yield _total("realtime_live_received_bytes", "Bytes of them.", n.live_received_bytes)
        yield _total("realtime_live_delivered", "Of them, delivered.", n.live_delivered)
        yield _gauge("realtime_websockets", "Websockets open now.", n.websockets)
        yield _total("realtime_websocket_frames", "Websocket frames received.", n.websocket_frames)
        yield _total(
            "realtime_websocket_messages",
            "Messages received from websocket clients.",
            n.websocket_messages,
        )
        yield _gauge("realtime_inbound_bytes", "Bytes of incomplete input.", n.inbound_bytes)
        yield _total(
            "realtime_inbound_dropped",
            "Incomplete requests and messages rejected.",
            n.inbound_dropped,
        )
        yield _total("realtime_tokens_verified", "Tokens verified.", n.tokens_verified)
        yield _total("realtime_questions_asked", "Answers of the application.", n.questions_asked)
        yield _total("realtime_questions_cached", "Answers without it.", n.questions_cached)
        yield _total("realtime_questions_failed", "Questions without answer.", n.questions_failed)
        yield _total("realtime_question_seconds", "Seconds until answers.", n.question_seconds)
        yield from _reverse_proxy_metrics(n)
        yield from _wsgi_metrics(n)
        yield _total("realtime_uploads", "Files uploaded.", n.uploads)
        yield _total("realtime_uploaded_bytes", "Bytes of them.", n.uploaded_bytes)
        handovers = {
            "line": n.handovers_by_line,
            "redirect": n.handovers_by_redirect,
            "grip": n.handovers_by_grip,
        }
        yield _totals("realtime_handovers", "Connections handed over.", "way", handovers)
        yield _gauge(
            "realtime_jwks_age_seconds",
            "Time since the oldest key set was fetched.",
            n.jwks_age_seconds,
        )
        yield _gauge("realtime_revocations", "Revoked tokens, of each process.", n.revocations)
        statuses = {str(status): count for status, count in n.requests.items()}
        yield _totals("realtime_http_requests", "Responses begun.", "status", statuses)
        yield _histogram("realtime_fanout_seconds", n.fanout)

        yield _gauge(
            "realtime_channels",
            "Channels with subscribers.",
            self._snapshot.channels_with_subscribers,
        )
        yield from _by_channel(shown)
        yield _gauge(
            "realtime_other_channels_readers",
            "Subscriptions to channels without series.",
            others.subscribers,
        )
        if self._snapshot.workers:
            yield from _by_worker(self._snapshot.workers)


def label(name: str) -> str:
    """
    Return a channel's name as a label: valid Unicode, at most MAX_LABEL characters.

    Prometheus accepts every character; its own library escapes those with a meaning.
    """
    return name[:MAX_LABEL].encode(errors="replace").decode()


def _reverse_proxy_metrics(n: Metrics) -> Iterator[Metric]:
    yield _gauge("realtime_relay_tunnels", "Websockets that are passed on.", n.relay_tunnels)
    yield _total("realtime_relay_requests", "Responses of applications elsewhere.", n.relayed)
    yield _total("realtime_relay_seconds", "Seconds until their heads.", n.relay_seconds)
    failures = {
        "unreachable": n.relay_unreachable,
        "broken": n.relay_broken,
        "timeout": n.relay_timeouts,
        "refused": n.relay_refused,
    }
    yield _totals("realtime_relay_failures", "Requests without response.", "cause", failures)


def _wsgi_metrics(n: Metrics) -> Iterator[Metric]:
    yield _gauge("realtime_wsgi_busy", "Threads that run a request.", n.wsgi_busy)
    yield _gauge("realtime_wsgi_queued", "Requests that wait for a thread.", n.wsgi_queued)
    yield _gauge("realtime_wsgi_websockets", "Threads that run a websocket.", n.wsgi_websockets)
    yield _total("realtime_wsgi_requests", "Requests to WSGI applications.", n.wsgi_requests)
    yield _total("realtime_wsgi_failed", "Exceptions of WSGI applications.", n.wsgi_failed)
    yield _total("realtime_wsgi_refused", "Requests without a thread.", n.wsgi_refused)
    yield _total("realtime_wsgi_timeouts", "Requests without a response.", n.wsgi_timeouts)
    yield _total("realtime_wsgi_seconds", "Seconds until responses ended.", n.wsgi_seconds)


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
        "From receipt of the first message of a flush to the last write.",
        list(zip(bounds, upto, strict=True)),
        histogram.seconds,
    )


def _by_channel(shown: Iterable[ChannelCounts]) -> Iterator[Metric]:
    """
    Return the subscribers and the messages of each channel.
    """
    # Truncated names may be equal; a series may occur once.
    subscribers: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    for channel in shown:
        name = label(channel.name)
        subscribers[name] += channel.subscribers
        messages[name] += channel.messages
    gauge = GaugeMetricFamily(
        "realtime_channel_readers", "Subscribers by channel.", labels=["channel"]
    )
    counter = CounterMetricFamily(
        "realtime_channel_messages", "Messages by channel.", labels=["channel"]
    )
    for name, count in subscribers.items():
        gauge.add_metric([name], count)
        counter.add_metric([name], messages[name])
    return iter((gauge, counter))


def _by_worker(workers: Sequence[WorkerMetrics]) -> Iterator[Metric]:
    """
    Return the metrics of each worker, which show imbalances.

    Their names differ from those of the sums, so that no query adds both.
    """
    up = GaugeMetricFamily("realtime_worker_up", "Whether the worker runs.", labels=["worker"])
    restarts = CounterMetricFamily(
        "realtime_worker_restarts", "Restarts of the worker.", labels=["worker"]
    )
    subscribers = GaugeMetricFamily(
        "realtime_worker_readers", "Subscribers of the worker.", labels=["worker"]
    )
    cpu = CounterMetricFamily(
        "realtime_worker_cpu_seconds", "CPU time of the worker.", labels=["worker"]
    )
    memory = GaugeMetricFamily(
        "realtime_worker_memory_bytes", "Memory of the worker.", labels=["worker"]
    )
    for one in workers:
        labels = [str(one.worker)]
        is_up = one.state == "up"
        up.add_metric(labels, is_up)
        restarts.add_metric(labels, one.restarts)
        if is_up:  # a stopped worker has no metrics; a counter that fell to 0 would be wrong
            subscribers.add_metric(labels, one.metrics.subscribers)
            cpu.add_metric(labels, one.metrics.cpu_seconds)
            memory.add_metric(labels, one.metrics.memory_bytes)
    return iter((up, restarts, subscribers, cpu, memory))
