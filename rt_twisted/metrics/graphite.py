"""
Exports the metrics to Graphite: the names of paths, and what is sent.
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

from rt_twisted.metrics.carbon import PROTOCOLS, Sample
from rt_twisted.metrics.interfaces import IExporter, MetricValues
from rt_twisted.metrics.metrics import WIRE_NAMES, by_class, quantile
from rt_twisted.metrics.snapshot import AGES, COUNTERS, GAUGES, MAXIMA
from rt_twisted.model.settings import ConfigError, GivenSettings

MAX_NAME = 200  # characters; a file name has 255 bytes, and whisper adds a suffix
MAX_CHANNELS = 1000  # each is a file on carbon's disk, and clients choose the names
QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}  # of the fan-out

_OTHERS = ("subscribers_limit", "cpu_seconds")  # not exported, or with SECONDS
FIELDS = tuple([name for name in (*GAUGES, *COUNTERS) if name not in _OTHERS])
SECONDS = ("uptime", "cpu_seconds", *MAXIMA, *AGES)

_UNSAFE = re.compile(r"[^A-Za-z0-9_:@-]")
_PATH = re.compile(r"[A-Za-z0-9_:@-]+(\.[A-Za-z0-9_:@-]+)*")
_log = Logger()
_exporting = _log.failureHandler("while exporting to carbon")


def build_exporter(reactor: Any, settings: GivenSettings) -> GraphiteExporter:
    """
    Build the exporter that the `export-` settings describe.

    Raises:
        ConfigError: which setting is wrong, and why.
    """
    for name in ("export-host", "export-port"):
        if not settings[name]:
            raise ConfigError("export", f"graphite needs {name}")
    try:
        return GraphiteExporter(
            reactor,
            settings["export-host"],
            settings["export-port"],
            settings["export-path"],
            settings["export-protocol"],
            settings["export-node"] or "",
        )
    except ValueError as error:
        raise ConfigError("export-path", str(error)) from None


def component(name: str) -> str:
    """
    Return one component of a carbon path for any text: clients choose channels' names.

    The result has 1 to MAX_NAME ASCII letters, digits, "-", "_", ":" and "@"; "_" replaces
    any other character. "-" replaces a leading "_", with which the daemon's own names
    begin. Different texts may give the same component.
    """
    safe = _UNSAFE.sub("_", name[:MAX_NAME])
    return safe if safe and safe[0] != "_" else "-" + safe[1:]


@implementer(IExporter)
class GraphiteExporter(MultiService):
    """
    Sends metrics to carbon while it runs as a service.

    The MAX_CHANNELS channels with the most subscribers are exported, those with the same
    component as their sum. The subscribers of all others are summed as `_other`. A
    channel that was exported and whose last subscriber left is exported as 0 once.

    Rates and the fan-out's quantiles cover the time since the export before.

    Args:
        reactor: connects, resolves names and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: of carbon, for *protocol*.
        path: prefix of every name; up to MAX_NAME characters, a trailing dot is ignored.
        protocol: "udp", "tcp" or "pickle".
        node: one component after the path, for daemons that share it; "" for none.

    Raises:
        ValueError: one sentence about the wrong argument.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, path: str, protocol: str, node: str = ""
    ) -> None:
        MultiService.__init__(self)
        path = path.removesuffix(".")
        if protocol not in PROTOCOLS:
            raise ValueError(f"graphite's protocol is udp, tcp or pickle, not {protocol!r}")
        if not host or not 0 < port < 65536:
            raise ValueError(f"graphite needs a host and a port, not {host!r} and {port}")
        if len(path) > MAX_NAME or not _PATH.fullmatch(path):
            raise ValueError(f"graphite's path is words with dots between, not {path!r}")
        self._prefix = f"{path}.{component(node)}." if node else f"{path}."
        self._exported: dict[str, str] = {}  # channel -> component, of the last export
        self._growth = _Growth()
        self._carbon = PROTOCOLS[protocol](reactor, host, port)
        MultiService.addService(self, self._carbon)

    def export(self, metrics: MetricValues, now: float) -> None:
        if not self.running:
            return
        with _exporting:
            biggest = nlargest(MAX_CHANNELS, metrics.channels.items(), key=itemgetter(1))
            shown = {channel: component(channel) for channel, _ in biggest}
            values: dict[str, float] = dict(self._channels(metrics, shown))
            values.update(_daemon(metrics))
            values.update(self._growth.since_last(metrics))
            samples: list[Sample] = [(self._prefix + name, n) for name, n in values.items()]
            if self._carbon.send(samples, int(now)):
                self._exported = shown

    def _channels(self, metrics: MetricValues, shown: Mapping[str, str]) -> Counter[str]:
        values: Counter[str] = Counter()
        for channel, name in (self._exported | dict(shown)).items():
            if channel in shown or channel not in metrics.channels:
                values[name] += metrics.channels.get(channel, 0)
        values["_other"] = sum(metrics.channels.values()) - values.total()
        return values


def _daemon(metrics: MetricValues) -> Iterator[Sample]:
    """
    Yield the metrics of the daemon, without those of channels.
    """
    yield "_daemon.channels", len(metrics.channels)
    for field in FIELDS:
        yield f"_daemon.{WIRE_NAMES.get(field, field)}", getattr(metrics, field)
    for field in SECONDS:
        yield f"_daemon.{field}", round(getattr(metrics, field), 3)
    yield "_daemon.turns", sum(metrics.fanout.buckets)
    yield from _sums("closed", metrics.closed)
    yield from _sums("requests", by_class(metrics.requests))
    for kind, reasons in metrics.refused.items():
        yield from _sums(f"refused.{kind}", reasons)


def _sums(name: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    sums: Counter[str] = Counter()
    for key, count in counts.items():
        sums[f"_daemon.{name}.{component(key)}"] += count
    return iter(sums.items())


class _Growth:
    """
    Growth of counters since the last export.
    """

    def __init__(self) -> None:
        self._uptime = 0.0
        self._totals: Mapping[str, float] = {}
        self._buckets: Sequence[int] = ()

    def since_last(self, metrics: MetricValues) -> Iterator[Sample]:
        """
        Yield the growth per second of the counters, and the fan-out's quantiles in seconds;
        no quantiles if nothing was delivered.
        """
        seconds = metrics.uptime - self._uptime
        totals = {
            "joined": metrics.joined,
            "left": sum(metrics.closed.values()),
            "published": metrics.published,
            "delivered": metrics.delivered,
            "requests": sum(metrics.requests.values()),
            "cpu": metrics.cpu_seconds,
        }
        buckets = tuple(metrics.fanout.buckets)
        new = tuple(map(sub, buckets, self._buckets)) if self._buckets else buckets
        if seconds > 0:
            for name, total in totals.items():
                rate = (total - self._totals.get(name, 0)) / seconds
                yield f"_daemon.rates.{name}", round(rate, 3)
        for name, share in QUANTILES.items():
            value = quantile(new, share)
            if value is not None:
                yield f"_daemon.fanout_seconds.{name}", round(value, 6)
        self._uptime, self._totals, self._buckets = metrics.uptime, totals, buckets
