"""
The daemon's numbers: in cyclone-sse's shape, or all of them.
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
    What `stats` answers.
    """

    COUNTS = "counts"  # [[channel, readers], ...], as cyclone-sse
    FULL = "full"


def check_observer(context: ActionContext, exchange: IExchange) -> None:
    """
    Let pass who may see the numbers: by `Authorization: Bearer`, by `?key=`,
    or, if no key is set, from this machine.

    Raises:
        Refusal: see `Keys.authorize`.
    """
    secret = exchange.query().get("key", [""])[-1]
    context.stats_keys.check(exchange, secret.encode(errors="replace"), ())


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class StatsAction:
    """
    `stats`: a JSON array of `[channel, readers]`, channels with readers only.
    `stats:full`, or `?format=full`: a JSON object with everything that is
    counted. `?channel=NAME`, which may be repeated, asks for some channels.

    Args:
        house: the daemon.
        format: what is answered to who does not say.
        channels: how many are shown in full; the others are summed.
    """

    context: ActionContext
    format: StatsFormat = StatsFormat.COUNTS
    channels: int = 100

    bare: ClassVar[str] = "format"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_most(self.channels)

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        """
        Answer, to who may see it.
        """
        check_observer(self.context, exchange)
        query = exchange.query()
        names = query.get("channel", [])
        if names:
            names = self.context.names.check_all(names)
        if self._shape(query) is StatsFormat.FULL:
            say: Callable[[Snapshot, Sequence[str]], Any] = self._full
            question = StatsQuery(names, self.channels)
        else:
            say, question = self._metrics, StatsQuery(names, all_channels=not names)

        def answer(look: Snapshot) -> None:
            if not exchange.answered:
                said = json.dumps(say(look, names)).encode() + b"\n"
                exchange.answer(200, said, "application/json", NO_STORE)

        return self.context.snapshot(question).addCallback(answer)

    def _shape(self, query: Mapping[str, list[str]]) -> StatsFormat:
        text = query.get("format", [self.format.value])[-1]
        try:
            return StatsFormat(text)
        except ValueError:
            raise HttpError(400, "format is counts or full") from None

    def _metrics(self, look: Snapshot, names: Sequence[str]) -> list[tuple[str, int]]:
        if names:
            return sorted((one.name, one.subscribers) for one in look.shown if one.subscribers)
        return sorted(look.metrics.channels.items())

    def _full(self, look: Snapshot, names: Sequence[str]) -> dict[str, Any]:
        n = look.metrics
        position = self.context.hub.position()
        channels: dict[str, Any] = {"shown": [_channel(channel) for channel in look.shown]}
        if not names:
            channels = {
                "with_readers": look.channels_with_subscribers,
                **channels,
                "others": {
                    "channels": look.others.channels,
                    "readers": look.others.subscribers,
                    "messages": look.others.messages,
                },
            }
        workers = {"workers": [_worker(one) for one in look.workers]} if look.workers else {}
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
                "refused": dict(n.refused["publishes"]),
            },
            "backlog": {"readers": n.behind, "bytes": n.waiting_bytes},
            "history": {"bytes": n.history_bytes},
            "websockets": {
                "now": n.websockets,
                "frames": n.websocket_frames,
                "messages": n.websocket_messages,
            },
            "inbound": {"bytes": n.inbound_bytes, "dropped": n.inbound_dropped},
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
            },
            "channels": channels,
            **workers,
        }


def check_most(channels: int) -> None:
    """
    Raises:
        ValueError: so many channels cannot be shown.
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
