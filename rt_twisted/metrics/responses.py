"""
Count HTTP responses by status, and refused subscribers and publish requests by reason.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from rt_twisted.metrics.metrics import Metrics

# What a refused request counts as: values of an action's `counts_as`, keys of `Metrics.refused`.
SUBSCRIBERS = "readers"
PUBLISHES = "publishes"

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


class AnsweredRequest(Protocol):
    """
    The part of an exchange that decides how its response is counted.
    """

    method: str
    path: str
    refused: int  # status of the error it is answered with; 0 for none


class AccessLines(Protocol):
    """
    Writes the access log; see `ResponseLog`.
    """

    def __call__(self, exchange: Any, status: int, size: int) -> object:
        """
        Write the line of *exchange*.
        """

    def open_stream(self, exchange: Any, status: int, head: int) -> Any:
        """
        Return what writes the line of *exchange* at the end of its stream.
        """


class ResponseMetrics:
    """
    Counts each response when it begins, and passes it on to the access log; a `ResponseLog`.

    Args:
        find: returns the action for a method, a path and a request, with what matched;
            anything but a tuple if there is none.
        metrics: where responses are counted.
        log: the access log; None for none.
        audit: called with each exchange that an action refuses, and the status; None for no
            audit log.
    """

    def __init__(
        self,
        find: Callable[[str, str, Any], object],
        metrics: Metrics,
        log: AccessLines | None,
        audit: Callable[[Any, int], object] | None = None,
    ) -> None:
        self._find = find
        self._metrics = metrics
        self._log = log
        self._audit = audit

    def __call__(self, exchange: AnsweredRequest, status: int, size: int) -> None:
        """
        Count that *exchange* is answered with *status* and a body of *size* bytes.
        """
        self._metrics.requests[status] += 1
        if status >= 400 or exchange.refused:
            self._count_refused(exchange, status)
        if self._log is not None:
            self._log(exchange, status, size)

    def open_stream(self, exchange: AnsweredRequest, status: int, head: int) -> Any:
        """
        Count that *exchange* is answered with *status* and a stream; see `ResponseLog`.

        Returns:
            what writes its line when it ends; None without an access log.
        """
        self._metrics.requests[status] += 1
        return None if self._log is None else self._log.open_stream(exchange, status, head)

    def _count_refused(self, exchange: AnsweredRequest, status: int) -> None:
        # An EventSource that is refused for now gets a 200 (http/refusals.py).
        refused = exchange.refused or status
        found = self._find(exchange.method, exchange.path, exchange)
        if isinstance(found, tuple):
            count_refusal(self._metrics, getattr(found[0], "counts_as", ""), refused)
            if self._audit is not None:
                self._audit(exchange, refused)


def count_refusal(metrics: Metrics, counts_as: str, status: int) -> None:
    """
    Count a request that was refused with *status*.

    Args:
        metrics: where it is counted.
        counts_as: SUBSCRIBERS or PUBLISHES; anything else is not counted.
        status: HTTP status, also of refusals within another protocol.
    """
    reasons = metrics.refused.get(counts_as)
    if reasons is not None:
        reasons[REASONS.get(status, "other")] += 1
