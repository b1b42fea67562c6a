"""
What a client accepts, and what it has already (RFC 9110, 12.5.3 and 13.1.2).
"""

from __future__ import annotations

import re

MAX_HEADER = 1000  # characters that are looked at

_CODING = re.compile(r"\s*([\w*-]+)\s*(?:;\s*q\s*=\s*([01](?:\.\d{0,3})?)\s*)?(?:,|$)")
_TAG = re.compile(r'(?:W/)?("[^"]*")')


def accepts_gzip(header: str | None) -> bool:
    """
    Return whether a client with this `Accept-Encoding` gets responses compressed by gzip.
    """
    quality = {
        name.lower(): float(given or 1)
        for name, given in _CODING.findall((header or "")[:MAX_HEADER])
    }
    return quality.get("gzip", quality.get("x-gzip", quality.get("*", 0.0))) > 0


def has_tag(header: str | None, *tags: str) -> bool:
    """
    Return whether a client with this `If-None-Match` has one of the entity tags *tags*.

    Args:
        header: its value; None if there is none.
        tags: with their quotes.
    """
    if header is None:
        return False
    if header.strip() == "*":
        return True
    return not set(tags).isdisjoint(_TAG.findall(header[:MAX_HEADER]))
