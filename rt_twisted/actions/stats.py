"""
The hub's numbers: in cyclone-sse's shape, or all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import accumulate
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted import __version__
from rt_twisted.counts import BOUNDS, ChannelCounts, by_class, quantile
from rt_twisted.house import House
from rt_twisted.interfaces import Header, IAction, IExchange, Match, Refusal

NO_STORE: Sequence[Header] = (("Cache-Control", "no-store"),)
QUANTILES = (0.5, 0.9, 0.99)


class Shape(Enum):
    """
    What `stats` answers.
    """

    COUNTS = "counts"  # [[channel, readers], ...], as cyclone-sse
    FULL = "full"


def check_observer(house: House, exchange: IExchange) -> None:
    """
    Let pass who may see the numbers: by `Authorization: Bearer`, by `?key=`,
    or, if no key is set, from this machine.

    Raises:
        Refusal: see `Keys.find`.
    """
    secret = exchange.query().get("key", [""])[-1]
    house.observers.check(exchange, secret.encode(errors="replace"), ())


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class Stats:
    """
    `stats`: a JSON array of `[channel, readers]`, channels with readers only.
    `stats:full`, or `?format=full`: a JSON object with everything that is
    counted. `?channel=NAME`, which may be repeated, asks for some channels.

    Args:
        house: the daemon.
        format: what is answered to who does not say.
        channels: how many are shown in full; the others are summed.
    """

    house: House
    format: Shape = Shape.COUNTS
    channels: int = 100

    bare: ClassVar[str] = "format"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_most(self.channels)

    def act(self, exchange: IExchange, match: Match) -> None:
        """
        Answer, to who may see it.
        """
        check_observer(self.house, exchange)
        query = exchange.query()
        names = query.get("channel", [])
        if names:
            names = self.house.names.check_all(names)
        said = self._full(names) if self._shape(query) is Shape.FULL else self._counts(names)
        exchange.answer(200, json.dumps(said).encode() + b"\n", "application/json", NO_STORE)

    def _shape(self, query: Mapping[str, list[str]]) -> Shape:
        text = query.get("format", [self.format.value])[-1]
        try:
            return Shape(text)
        except ValueError:
            raise Refusal(400, "format is counts or full") from None

    def _counts(self, names: Sequence[str]) -> list[tuple[str, int]]:
        hub = self.house.hub
        if names:
            pairs = [(name, hub.readers_of(name)) for name in names]
            return sorted(pair for pair in pairs if pair[1])
        return sorted(hub.numbers().channels.items())

    def _full(self, names: Sequence[str]) -> dict[str, Any]:
        hub = self.house.hub
        n = hub.numbers()
        position = hub.position()
        if names:
            channels: dict[str, Any] = {
                "shown": [_channel(hub.count_channel(name)) for name in names]
            }
        else:
            shown, others = hub.busiest(self.channels)
            channels = {
                "with_readers": len(n.channels),
                "shown": [_channel(channel) for channel in shown],
                "others": {
                    "channels": others.channels,
                    "readers": others.readers,
                    "messages": others.messages,
                },
            }
        buckets = n.fanout.buckets
        return {
            "version": __version__,
            "uptime": round(n.uptime, 3),
            "epoch": position.epoch,
            "position": str(position),
            "readers": {
                "now": n.readers,
                "limit": n.readers_limit,
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
        }


def check_most(channels: int) -> None:
    """
    Raises:
        ValueError: so many channels cannot be shown.
    """
    if not 0 <= channels <= 10_000:
        raise ValueError("channels= must be from 0 to 10000")


def _channel(counts: ChannelCounts) -> dict[str, Any]:
    return {
        "channel": counts.name,
        "readers": counts.readers,
        "messages": counts.messages,
        "position": counts.position,
    }
