"""
Counts the responses of all connections, and who was refused why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rt_twisted.actions.publish import PublishAction
from rt_twisted.actions.sse import SseAction
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.server import AccessLog, HttpServer
from rt_twisted.metrics.metrics import Metrics

REFUSED: Mapping[type[Any], str] = {PublishAction: "publishes", SseAction: "readers"}
REASONS = {  # by status
    400: "malformed",
    401: "key",
    403: "forbidden",
    408: "slow",
    411: "size",
    413: "size",
    429: "address",
    503: "unavailable",  # full, stopping, or the broker is away
}


class ResponseMetrics:
    """
    What `Front` tells of every response that begins.

    Args:
        front: knows whose request it was.
        counts: where they are counted.
        log: is told of them too.
    """

    def __init__(self, server: HttpServer, metrics: Metrics, log: AccessLog | None) -> None:
        self._front = server
        self._metrics = metrics
        self._log = log

    def __call__(self, exchange: HttpExchange, status: int, size: int) -> None:
        """
        Count that *exchange* is answered with *status* and *size* bytes.
        """
        self._metrics.requests[status] += 1
        # An EventSource that is refused for now gets a 200 (front/refusals.py).
        refused = exchange.refused or status
        if refused >= 400:
            self._count_refusal(exchange, refused)
        if self._log is not None:
            self._log(exchange, status, size)

    def _count_refusal(self, exchange: HttpExchange, status: int) -> None:
        found = self._front.routes.find(exchange.method, exchange.path)
        kind = REFUSED.get(type(found[0])) if isinstance(found, tuple) else None
        if kind is not None:
            self._metrics.refused[kind][REASONS.get(status, "other")] += 1
