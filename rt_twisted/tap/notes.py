"""
What `--check` says about settings that are valid, and may not do what was meant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rt_twisted.brokers import EMBEDDED
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.codecs.route_lines import BUILT_IN, parse_line, split_word

EXPECTED = ("/healthz", "/readyz", "/metrics", "/realtime.js")  # paths that others rely on
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
    missing = [path for path in EXPECTED if not _is_routed(path, options["route"])]
    if missing:
        yield (
            f"own routes replace the built-in ones, so these have none: {', '.join(missing)}; "
            f"route = {BUILT_IN} adds them"
        )


def _is_routed(path: str, lines: Sequence[str]) -> bool:
    """
    Return whether one of the route *lines* may serve *path*; without lines all is built in.
    """
    parsed = [parse_line(*split_word(line)) for line in lines if line.strip() != BUILT_IN]
    return (
        len(parsed) == len(lines) - 1
        or not lines
        or any(line.may_serve and line.pattern.search(path) for line in parsed)
    )


def _leads_back(url: HttpUrl, options: Mapping[str, Any]) -> bool:
    if url.socket:
        return any(f"unix:{url.socket}" in text for text in options["endpoint"])
    if url.host not in _LOCAL:
        return False
    ports = [part for text in options["endpoint"] for part in text.split(":")]
    return url.port == options["port"] or str(url.port) in ports
