"""
Requests, and what refuses them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from urllib.parse import parse_qs, quote, urlsplit

from rt_twisted.codecs.response import ResponseHead

AGENT = "rt_twisted load"


def request(url: str, line: str, headers: Iterable[str]) -> bytes:
    """
    The head of a request.

    Args:
        url: whose host it goes to.
        line: method and path.
        headers: without those that every request has.
    """
    host = urlsplit(url).netloc.rpartition("@")[2]
    lines = [f"{line} HTTP/1.1", f"Host: {host}", f"User-Agent: {AGENT}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def path_for(url: str, names: Sequence[str]) -> str:
    """
    What a reader of the channels called *names* asks for; a URL that names
    channels stays as it is.
    """
    parts = urlsplit(url)
    query = parts.query
    if names and "channels" not in parse_qs(query):
        named = "channels=" + ",".join(quote(each, safe="") for each in names)
        query += ("&" if query else "") + named
    return f"{parts.path or '/'}{'?' if query else ''}{query}"


def retry_after(head: ResponseHead) -> float | None:
    """
    What Retry-After says.
    """
    wait = head.header("retry-after") or ""
    return float(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None
