"""
The action `metrics`: the daemon's metrics for Prometheus.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.stats import check_channel_count, check_stats_key
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery
from rt_twisted.model.load_object import load_part

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_RENDER = "rt_twisted.actions.prometheus.render"  # loads Prometheus' library, with the first scrape


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class MetricsAction:
    """
    Answer a scrape in Prometheus' text format 0.0.4: `metrics`.

    The key is sent as `Authorization: Bearer` or `?key=`.

    Args:
        context: the hub and the settings.
        channels: how many channels have series of their own, those with the most
            subscribers; the others are summed. Clients choose names, and Prometheus
            stores a series for each.
    """

    context: ActionContext
    channels: int = 100

    bare: ClassVar[str] = "channels"
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_channel_count(self.channels)

    def act(self, exchange: IExchange, match: Match) -> Deferred[None]:
        check_stats_key(self.context, exchange)

        def answer(snapshot: Snapshot) -> None:
            if not exchange.answered:
                exchange.answer(200, load_part(_RENDER)(snapshot), CONTENT_TYPE, NO_STORE)
                snapshot.metrics.restart_maxima()

        query = StatsQuery(max_channels=self.channels, export=True)
        return self.context.snapshot(query).addCallback(answer)
