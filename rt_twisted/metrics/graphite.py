"""
The hub's numbers in Graphite: what they are called there, and what is sent.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from operator import itemgetter, sub
from typing import Any

from twisted.application.service import MultiService
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.metrics.carbon import WAYS, Sample
from rt_twisted.metrics.interfaces import IExporter, MetricValues
from rt_twisted.metrics.metrics import by_class, quantile

LONGEST = 200  # letters; a file name has 255 bytes, and whisper adds to it
MOST_CHANNELS = 1000  # each is a file on carbon's disk, and clients choose their names
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}  # of the fan-out

TOTALS = (
    "readers",
    "joining",
    "behind",
    "waiting_bytes",
    "history_bytes",
    "websockets",
    "inbound_bytes",
    "joined",
    "published",
    "delivered",
    "gaps",
    "websocket_frames",
    "websocket_messages",
    "inbound_dropped",
    "memory_bytes",
    "broker_away",
    "broker_refuses",
)
_FIELDS = {"readers": "subscribers"}  # names of fields that differ from the name on the wire
SECONDS = ("uptime", "cpu_seconds")

_UNSAFE = re.compile(r"[^A-Za-z0-9_:@-]")
_PATH = re.compile(r"[A-Za-z0-9_:@-]+(\.[A-Za-z0-9_:@-]+)*")
_log = Logger()
_exporting = _log.failureHandler("while exporting to carbon")


def component(name: str) -> str:
    """
    One component of a carbon path from any text: clients choose channels' names.

    1 to LONGEST of ASCII letters, digits, "-", "_", ":" and "@"; "_" for any other.
    "-" stands for a first "_", with which the daemon's own names begin. Different
    texts may give the same component.
    """
    safe = _UNSAFE.sub("_", name[:LONGEST])
    return safe if safe and safe[0] != "_" else "-" + safe[1:]


@implementer(IExporter)
class GraphiteExporter(MultiService):
    """
    Sends numbers to carbon while it runs as a service.

    The MOST_CHANNELS channels with the most readers are shown, those with the same
    component as their sum; the readers of all others are summed as `_other`.
    A channel that carbon saw and whose last reader left is a zero, once.

    Rates and the fan-out's quantiles are those of the time since the export before.

    Args:
        reactor: connects, resolves names and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: where carbon takes what *protocol* brings.
        path: in front of every name; up to LONGEST characters, a last dot is ignored.
        protocol: "udp", "tcp" or "pickle".
        node: tells daemons apart that share a path: one component after it.

    Raises:
        ValueError: one sentence about the wrong argument.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, path: str, protocol: str, node: str = ""
    ) -> None:
        MultiService.__init__(self)
        path = path.removesuffix(".")
        if protocol not in WAYS:
            raise ValueError(f"graphite's protocol is udp, tcp or pickle, not {protocol!r}")
        if not host or not 0 < port < 65536:
            raise ValueError(f"graphite needs a host and a port, not {host!r} and {port}")
        if len(path) > LONGEST or not _PATH.fullmatch(path):
            raise ValueError(f"graphite's path is words with dots between, not {path!r}")
        self._prefix = f"{path}.{component(node)}." if node else f"{path}."
        self._seen: dict[str, str] = {}  # channel -> component, as carbon last saw them
        self._growth = _Growth()
        self._carbon = WAYS[protocol](reactor, host, port)
        MultiService.addService(self, self._carbon)

    def export(self, numbers: MetricValues, now: float) -> None:
        """
        See `IExporter.export`. Never raises; what carbon lacks is logged.
        """
        if not self.running:
            return
        with _exporting:
            biggest = nlargest(MOST_CHANNELS, numbers.channels.items(), key=itemgetter(1))
            shown = {channel: component(channel) for channel, _ in biggest}
            values: dict[str, float] = dict(self._channels(numbers, shown))
            values.update(_daemon(numbers))
            values.update(self._growth.since_last(numbers))
            samples: list[Sample] = [(self._prefix + name, n) for name, n in values.items()]
            if self._carbon.send(samples, int(now)):
                self._seen = shown

    def _channels(self, numbers: MetricValues, shown: Mapping[str, str]) -> Counter[str]:
        values: Counter[str] = Counter()
        for channel, name in (self._seen | dict(shown)).items():
            if channel in shown or channel not in numbers.channels:
                values[name] += numbers.channels.get(channel, 0)
        values["_other"] = sum(numbers.channels.values()) - values.total()
        return values


def _daemon(numbers: MetricValues) -> Iterator[Sample]:
    """
    How the daemon is, and its totals.
    """
    yield "_daemon.channels", len(numbers.channels)
    for total in TOTALS:
        yield f"_daemon.{total}", getattr(numbers, _FIELDS.get(total, total))
    for total in SECONDS:
        yield f"_daemon.{total}", round(getattr(numbers, total), 3)
    yield "_daemon.turns", sum(numbers.fanout.buckets)
    yield from _sums("closed", numbers.closed)
    yield from _sums("requests", by_class(numbers.requests))
    for kind, reasons in numbers.refused.items():
        yield from _sums(f"refused.{kind}", reasons)


def _sums(name: str, metrics: Mapping[str, int]) -> Iterator[Sample]:
    sums: Counter[str] = Counter()
    for key, count in metrics.items():
        sums[f"_daemon.{name}.{component(key)}"] += count
    return iter(sums.items())


class _Growth:
    """
    What came since the last look.
    """

    def __init__(self) -> None:
        self._uptime = 0.0
        self._totals: Mapping[str, float] = {}
        self._buckets: Sequence[int] = ()

    def since_last(self, numbers: MetricValues) -> Iterator[Sample]:
        """
        Growth a second of the totals, and the fan-out's quantiles in seconds; none of
        these if nothing was told.
        """
        seconds = numbers.uptime - self._uptime
        totals = {
            "joined": numbers.joined,
            "left": sum(numbers.closed.values()),
            "published": numbers.published,
            "delivered": numbers.delivered,
            "requests": sum(numbers.requests.values()),
            "cpu": numbers.cpu_seconds,
        }
        buckets = tuple(numbers.fanout.buckets)
        new = tuple(map(sub, buckets, self._buckets)) if self._buckets else buckets
        if seconds > 0:
            for name, total in totals.items():
                rate = (total - self._totals.get(name, 0)) / seconds
                yield f"_daemon.rates.{name}", round(rate, 3)
        for name, share in QUANTILES.items():
            value = quantile(new, share)
            if value is not None:
                yield f"_daemon.fanout_seconds.{name}", round(value, 6)
        self._uptime, self._totals, self._buckets = numbers.uptime, totals, buckets
