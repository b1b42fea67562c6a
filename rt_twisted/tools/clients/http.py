"""
HTTP requests of the clients.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, quote, urlsplit

from rt_twisted.codecs.response import ReceivedHead
from rt_twisted.tools.clients.tokens import TokenSource

AGENT = "rt_twisted load"


def request(url: str, line: str, headers: Iterable[str]) -> bytes:
    """
    Encode the head of a request.

    Args:
        url: its host is the Host header.
        line: method and path.
        headers: those that differ between requests.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    lines = [f"{line} HTTP/1.1", f"Host: {host}", f"User-Agent: {AGENT}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def bearer(tokens: TokenSource | None) -> list[str]:
    """
    Return the header with the current token; empty if the subscriber has none.
    """
    return [] if tokens is None else [f"Authorization: Bearer {tokens.current()}"]


def path_for(url: str, names: Sequence[str]) -> str:
    """
    Return path and query to subscribe to the channels *names*; channels in *url* have precedence.
    """
    parts = urlsplit(url)
    query = parts.query
    if names and "channels" not in parse_qs(query):
        named = "channels=" + ",".join(quote(each, safe="") for each in names)
        query += ("&" if query else "") + named
    return f"{parts.path or '/'}{'?' if query else ''}{query}"


def retry_after(head: ReceivedHead) -> float | None:
    """
    Return the seconds in Retry-After; None without them.
    """
    wait = head.header("retry-after") or ""
    return float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
