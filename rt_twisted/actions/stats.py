"""
The action `stats`: the daemon's metrics as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Any, ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted import __version__
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.metrics import BOUNDS, ChannelCounts, by_class, quantile
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery, WorkerMetrics
from rt_twisted.model.errors import HttpError

QUANTILES = (0.5, 0.9, 0.99)


class StatsFormat(Enum):
    """
    Forms of the response of `stats`.
    """

    COUNTS = "counts"  # [[channel, readers], ...], as cyclone-sse
    FULL = "full"


def check_stats_key(context: ActionContext, exchange: IExchange) -> None:
    """
    Check that a request may read the metrics.

    It needs a key in `Authorization: Bearer` or `?key=`; if no key is set, it must come
    from this machine.

    Raises:
        HttpError: see `Keys.authorize`.
    """
    secret = exchange.query().get("key", [""])[-1]
    context.stats_keys.check(exchange, secret.encode(errors="replace"), ())


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StatsAction:
    """
    Answer with the metrics.

    `stats` is a JSON array of `[channel, subscribers]` for channels with subscribers.
    `stats:full`, or `?format=full`, is a JSON object with all metrics. `?channel=NAME`, which
    may be repeated, selects channels.

    Args:
        context: the hub and the settings.
        format: used if the request names none.
        channels: how many channels are shown in the full form; the others are summed.
    """

    context: ActionContext
    format: StatsFormat = StatsFormat.COUNTS
    channels: int = 100

    bare: ClassVar[str] = "format"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_channel_count(self.channels)

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        check_stats_key(self.context, exchange)
        query = exchange.query()
        names = query.get("channel", [])
        if names:
            names = self.context.names.check_all(names)
        if self._format_of(query) is StatsFormat.FULL:
            render: Callable[[Snapshot, Sequence[str]], Any] = self._full
            stats_query = StatsQuery(names, self.channels)
        else:
            render, stats_query = self._counts, StatsQuery(names, all_channels=not names)

        def answer(snapshot: Snapshot) -> None:
            if not exchange.answered:
                body = json.dumps(render(snapshot, names)).encode() + b"\n"
                exchange.answer(200, body, "application/json", NO_STORE)

        return self.context.snapshot(stats_query).addCallback(answer)

    def _format_of(self, query: Mapping[str, list[str]]) -> StatsFormat:
        text = query.get("format", [self.format.value])[-1]
        try:
            return StatsFormat(text)
        except ValueError:
            raise HttpError(400, "format is counts or full") from None

    def _counts(self, snapshot: Snapshot, names: Sequence[str]) -> list[tuple[str, int]]:
        if names:
            return sorted((one.name, one.subscribers) for one in snapshot.shown if one.subscribers)
        return sorted(snapshot.metrics.channels.items())

    def _full(self, snapshot: Snapshot, names: Sequence[str]) -> dict[str, Any]:
        n = snapshot.metrics
        position = self.context.hub.position()
        channels: dict[str, Any] = {"shown": [_channel(channel) for channel in snapshot.shown]}
        if not names:
            channels = {
                "with_readers": snapshot.channels_with_subscribers,
                **channels,
                "others": {
                    "channels": snapshot.others.channels,
                    "readers": snapshot.others.subscribers,
                    "messages": snapshot.others.messages,
                },
            }
        workers = (
            {"workers": [_worker(one) for one in snapshot.workers]} if snapshot.workers else {}
        )
        buckets = n.fanout.buckets
        return {
            "version": __version__,
            "uptime": round(n.uptime, 3),
            "epoch": position.epoch,
            "position": str(position),
            "broker": {"ready": not n.broker_away, "refuses": bool(n.broker_refuses)},
            "readers": {
                "now": n.subscribers,
                "joining": n.joining,
                "limit": n.subscribers_limit,
                "joined": n.joined,
                "closed": dict(n.closed),
                "refused": dict(n.refused["readers"]),
            },
            "messages": {
                "published": n.published,
                "delivered": n.delivered,
                "gaps": n.gaps,
                "skips": n.skips,
                "refused": dict(n.refused["publishes"]),
            },
            "backlog": {"readers": n.behind, "bytes": n.waiting_bytes},
            "history": {"bytes": n.history_bytes, "live": n.live_bytes},
            "live": {
                "publishers": n.live_publishers,
                "viewers": n.live_viewers,
                "units": n.live_units,
                "bytes": n.live_received_bytes,
                "delivered": n.live_delivered,
            },
            "patterns": n.patterns,
            "websockets": {
                "now": n.websockets,
                "frames": n.websocket_frames,
                "messages": n.websocket_messages,
            },
            "inbound": {"bytes": n.inbound_bytes, "dropped": n.inbound_dropped},
            "access": {
                "tokens": n.tokens_verified,
                "revocations": n.revocations,
                "jwks_age_seconds": round(n.jwks_age_seconds, 1),
                "questions": {
                    "asked": n.questions_asked,
                    "cached": n.questions_cached,
                    "failed": n.questions_failed,
                    "seconds": round(n.question_seconds, 6),
                },
            },
            "relay": {
                "requests": n.relayed,
                "seconds": round(n.relay_seconds, 6),
                "tunnels": n.relay_tunnels,
                "unreachable": n.relay_unreachable,
                "broken": n.relay_broken,
                "timeouts": n.relay_timeouts,
                "refused": n.relay_refused,
            },
            "uploads": {"files": n.uploads, "bytes": n.uploaded_bytes},
            "wsgi": {
                "busy": n.wsgi_busy,
                "queued": n.wsgi_queued,
                "websockets": n.wsgi_websockets,
                "requests": n.wsgi_requests,
                "failed": n.wsgi_failed,
                "refused": n.wsgi_refused,
                "timeouts": n.wsgi_timeouts,
                "seconds": round(n.wsgi_seconds, 6),
            },
            "handovers": {
                "line": n.handovers_by_line,
                "redirect": n.handovers_by_redirect,
                "grip": n.handovers_by_grip,
            },
            "requests": by_class(n.requests),
            "rates": {
                str(window): {name: round(rate, 3) for name, rate in rates.items()}
                for window, rates in n.rates.items()
            },
            "fanout": {
                "turns": sum(buckets),
                "seconds": round(n.fanout.seconds, 6),
                "quantiles": {str(share): quantile(buckets, share) for share in QUANTILES},
                "buckets": list(zip([*BOUNDS, "inf"], accumulate(buckets), strict=True)),
            },
            "process": {
                "cpu_seconds": round(n.cpu_seconds, 3),
                "memory_bytes": n.memory_bytes,
                "longest_hold_seconds": round(n.reactor_longest_hold_seconds, 6),
            },
            "channels": channels,
            **workers,
        }


def check_channel_count(channels: int) -> None:
    """
    Check an argument `channels`.

    Raises:
        ValueError: it is not from 0 to 10000.
    """
    if not 0 <= channels <= 10_000:
        raise ValueError("channels= must be from 0 to 10000")


def _channel(metrics: ChannelCounts) -> dict[str, Any]:
    return {
        "channel": metrics.name,
        "readers": metrics.subscribers,
        "messages": metrics.messages,
        "position": metrics.position,
    }


def _worker(one: WorkerMetrics) -> dict[str, Any]:
    n = one.metrics
    return {
        "worker": one.worker,
        "pid": one.pid,
        "state": one.state,
        "restarts": one.restarts,
        "uptime": round(n.uptime, 3),
        "readers": n.subscribers,
        "joined": n.joined,
        "published": n.published,
        "delivered": n.delivered,
        "backlog": {"readers": n.behind, "bytes": n.waiting_bytes},
        "cpu_seconds": round(n.cpu_seconds, 3),
        "memory_bytes": n.memory_bytes,
    }
