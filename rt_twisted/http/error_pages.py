"""
Small pages for people whose browser shows a refusal, instead of a line of text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from http import HTTPStatus

from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

CONTENT_TYPE = "text/html; charset=utf-8"
HEADERS: Sequence[Header] = (
    # Other clients get text for the same URL.
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
)
TEST_PAGE = "/try"

_PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body{{font:1rem/1.5 sans-serif;max-width:40rem;margin:10vh auto;padding:0 1rem}}</style>
<h1>{title}</h1>
<p>{reason}</p>
<p>{hint}</p>
<p><small>rt_twisted, a realtime server</small></p>
</html>
"""


def error_page(exchange: IExchange, refusal: HttpError) -> bytes | None:
    """
    Return a page about *refusal*, with a hint on how to go on.

    Returns:
        None if no browser shows the response, or if there is no hint for its status.
    """
    hint = _HINTS.get(refusal.status)
    if hint is None or not shows_pages(exchange):
        return None
    title = f"{refusal.status} {HTTPStatus(refusal.status).phrase}"
    reason = refusal.reason.rstrip(".")
    page = _PAGE.format(
        title=escape(title), reason=escape(f"{reason[:1].upper()}{reason[1:]}."),
        hint=hint(exchange, refusal),
    )  # fmt: skip
    return page.encode(errors="replace")


def shows_pages(exchange: IExchange) -> bool:
    """
    Return whether a browser shows the response to *exchange*: it asks for HTML before all else.
    """
    first = (exchange.header("accept") or "").partition(",")[0].partition(";")[0]
    scripted = exchange.header("x-requested-with") is not None
    return first.strip().lower() == "text/html" and not scripted


def _not_found(exchange: IExchange, refusal: HttpError) -> str:
    found = exchange.find("GET", TEST_PAGE)
    where = f"Routes are described in {_document('configuration.md')}."
    if found is None or not getattr(found[0], "is_test_page", False):
        return where
    # Relative, as a proxy may have removed the beginning of the path.
    up = "../" * (exchange.path.count("/") - 1)
    return f"<a href='{up}{TEST_PAGE[1:]}'>A page to try the server</a> is at {TEST_PAGE}. {where}"


def _not_allowed(exchange: IExchange, refusal: HttpError) -> str:
    allowed = [value for name, value in refusal.headers if name.lower() == "allow"]
    methods = f"This address accepts {escape(allowed[0])}. " if allowed else ""
    return f"{methods}Messages are published by POST: {_document('publishing.md')}."


def _websocket(exchange: IExchange, refusal: HttpError) -> str:
    scheme = "wss" if exchange.scheme == "https" else "ws"
    url = f"{scheme}://{exchange.header('host') or ''}{exchange.path}"
    return (
        f"A page opens it by <code>new WebSocket({escape(repr(url))})</code>: "
        f"{_document('websocket.md')}."
    )


def _unauthorized(exchange: IExchange, refusal: HttpError) -> str:
    return (
        "Programs send <code>Authorization: Bearer KEY</code>, with a key of the settings or a "
        f"token: {_document('access.md')}."
    )


def _document(name: str) -> str:
    return f"<code>docs/{name}</code>"


_HINTS: Mapping[int, Callable[[IExchange, HttpError], str]] = {
    401: _unauthorized,
    404: _not_found,
    405: _not_allowed,
    426: _websocket,
}
