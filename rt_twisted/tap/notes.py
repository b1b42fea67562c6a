"""
What `--check` says about settings that are valid, and may not do what was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rt_twisted.brokers import EMBEDDED
from rt_twisted.codecs.http_url import HttpUrl

_LOCAL = frozenset(("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"))


def notes(options: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield one sentence for each such setting.
    """
    keys = options["token-key"] or options["token-jwks"]
    admin = options["admin-key"] or any("admin" in line.split() for line in options["route"])
    if keys and admin and options["broker"] in EMBEDDED and not options["history-file"]:
        yield "revoked tokens are valid again after a restart: set history-file, or use redis"
    if options["authorize"] and _leads_back(HttpUrl.parse(options["authorize"]), options):
        yield "authorize leads back to this daemon: name the URL of the application"


def _leads_back(url: HttpUrl, options: Mapping[str, Any]) -> bool:
    if url.socket:
        return any(f"unix:{url.socket}" in text for text in options["endpoint"])
    if url.host not in _LOCAL:
        return False
    ports = [part for text in options["endpoint"] for part in text.split(":")]
    return url.port == options["port"] or str(url.port) in ports
