"""
Responses to refused requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.codecs.eventsource import CONTENT_TYPE, encode_retry
from rt_twisted.http import error_pages
from rt_twisted.http.error_pages import error_page
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

TEMPORARY = frozenset(
    (429, 502, 503, 504)
)  # statuses of refusals after which a client may try again
_TEXT = "text/plain; charset=utf-8"
_MEDIA_TYPE = CONTENT_TYPE.partition(";")[0]
_NO_STORE: Sequence[Header] = (("Cache-Control", "no-store, no-transform"),)


@dataclass(frozen=True, slots=True)
class RefusalResponse:
    """
    A response to a refused request.

    Args:
        status: of the response, not of the refusal.
        body: one line of text, a page, or an event stream that ends at once.
        content_type: of the body.
        headers: those of the refusal among them.
    """

    status: int
    body: bytes
    content_type: str
    headers: Sequence[Header]


def respond_to(exchange: IExchange, refusal: HttpError) -> RefusalResponse:
    """
    Return the response for *refusal*: its status and a line of text, or a page for a browser.

    The exception is an EventSource whose request is refused for now. It never
    reconnects after an error status (WHATWG HTML, 9.2.3), so it gets an event
    stream that names the time to reconnect and ends.
    """
    if refusal.status in TEMPORARY and _is_event_source(exchange):
        comment = b": %d %s\n" % (refusal.status, " ".join(refusal.reason.split()).encode())
        body = comment + encode_retry(round(1000 * _retry_seconds(refusal)))
        return RefusalResponse(200, body, CONTENT_TYPE, (*_NO_STORE, *refusal.headers))
    if refusal.body:
        kind = refusal.content_type
        return RefusalResponse(refusal.status, refusal.body, kind, refusal.headers)
    page = error_page(exchange, refusal)
    if page is not None:
        return RefusalResponse(
            refusal.status, page, error_pages.CONTENT_TYPE, (*error_pages.HEADERS, *refusal.headers)
        )
    text = f"{refusal.reason}\n".encode()
    return RefusalResponse(refusal.status, text, _TEXT, refusal.headers)


def _is_event_source(exchange: IExchange) -> bool:
    accept = exchange.header("accept") or ""
    return exchange.method == "GET" and _MEDIA_TYPE in accept.lower()


def _retry_seconds(refusal: HttpError) -> float:
    """
    Return the seconds after which to try again; 0 if the refusal names none.
    """
    if refusal.retry:
        return refusal.retry
    values = [value for name, value in refusal.headers if name.lower() == "retry-after"]
    return float(values[0]) if values and values[0].isdecimal() else 0.0
