"""
Responses to refused requests.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from rt_twisted.http.refusals import respond_to
from rt_twisted.model.errors import HttpError


@dataclass
class Request:
    """
    The part of an exchange that decides how it is refused.
    """

    accept: str | None = "text/event-stream"
    method: str = "GET"

    def header(self, name: str) -> str | None:
        return self.accept if name == "accept" else None


@pytest.mark.parametrize("status", [429, 503])
def test_an_event_source_gets_a_stream_with_the_time_to_reconnect(status: int) -> None:
    """
    The response is a 200 whose stream ends after `retry`, in milliseconds.
    """
    exchange: Any = Request()

    response = respond_to(exchange, HttpError(status, "try\nlater", retry=1.5))

    assert response.status == 200
    assert response.content_type.startswith("text/event-stream")
    assert response.body == b": %d try later\nretry: 1500\n\n" % status
    assert ("Retry-After", "2") in response.headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (Request(), 400),
        (Request(), 403),
        (Request(accept=None), 503),
        (Request(accept="text/html"), 503),
        (Request(method="POST"), 503),
        (Request(method="HEAD"), 429),
    ],
)
def test_other_refusals_keep_their_status(request_: Any, status: int) -> None:
    """
    A stream is only for an EventSource, and only for statuses that are temporary.
    """
    response = respond_to(request_, HttpError(status, "no", retry=2))

    assert (response.status, response.body) == (status, b"no\n")
