"""
Lists of allowed origins, and the `Origin` headers that they match (RFC 6454).
"""

from __future__ import annotations

import re
from functools import lru_cache

# The serialization of browsers (RFC 6454, 6.2). Pages from files have no host: some browsers
# and WebViews send `file://` for them, others `null`.
# Patterns for a whole top-level domain are refused: they would allow almost any page.
_HOST = r"[^\sA-Z/?#@*]+"
_ORIGIN = re.compile(
    rf"file://|[a-z][a-z0-9+.-]*://(?:{_HOST}|\*\.(?:{_HOST}\.{_HOST}|localhost(?::[0-9]+)?))"
)
_WILDCARD = "://*."
_SUBDOMAINS = r"://(?:[a-z0-9_-]+\.)+"


def is_origin(text: str) -> bool:
    """
    Return whether *text* is an origin, or a pattern such as `https://*.shop.example`.
    """
    return _ORIGIN.fullmatch(text) is not None


def matches_origin(origins: frozenset[str], origin: str) -> bool:
    """
    Return whether *origin* matches an entry of *origins*.

    `https://*.shop.example` matches every subdomain at any depth, but neither
    `https://shop.example` itself, nor another scheme or port. Runs in time linear
    in *origin*.

    Args:
        origins: origins and patterns that `is_origin` accepts. The keywords of
            settings, `*` and `same`, match only themselves.
        origin: an `Origin` header, which may be any text.
    """
    return _compiled(origins).fullmatch(origin) is not None


@lru_cache(maxsize=32)
def _compiled(origins: frozenset[str]) -> re.Pattern[str]:
    patterns = [
        re.escape(each).replace(re.escape(_WILDCARD), _SUBDOMAINS) for each in sorted(origins)
    ]
    return re.compile("|".join(patterns) if patterns else "(?!)")
