"""
What `--check` says about settings that are valid, and may not do what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from rt_twisted.brokers import EMBEDDED
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.codecs.route_lines import BUILT_IN, parse_line, split_word

EXPECTED = ("/healthz", "/readyz", "/metrics", "/realtime.js")  # paths that others rely on
APPLICATIONS = ("http", "uwsgi", "wsgi")  # actions whose responses are an application's
_AUTHORIZE = re.compile(r"[:,]authorize=([^,\s]+)")
_LOCAL = frozenset(("127.0.0.1", "localhost", "::1", "0.0.0.0", "::"))


def notes(options: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield one sentence for each such setting.
    """
    keys = options["token-key"] or options["token-jwks"]
    admin = options["admin-key"] or any("admin" in line.split() for line in options["route"])
    if keys and admin and options["broker"] in EMBEDDED and not options["history-file"]:
        yield "revoked tokens are valid again after a restart: set history-file, or use redis"
    if any(_leads_back(url, options) for url in _asked(options)):
        yield "authorize leads back to this daemon: name the URL of the application"
    yield from _without_application(options)
    missing = [path for path in EXPECTED if not _is_routed(path, options["route"])]
    if missing:
        yield (
            f"own routes replace the built-in ones, so these have none: {', '.join(missing)}; "
            f"route = {BUILT_IN} adds them"
        )


def _without_application(options: Mapping[str, Any]) -> Iterator[str]:
    """
    Yield a sentence if there are lines about responses of an application, but no application,
    and one if a line tests for a type that no browser accepts.
    """
    lines = [line for line in options["route"] if line.strip() != BUILT_IN]
    parsed = [parse_line(*split_word(line)) for line in lines]
    words = sorted(
        {
            split_word(line)[0]
            for line, one in zip(lines, parsed, strict=True)
            if one.is_about_responses
        }
    )
    served = any(one.may_serve and one.action in APPLICATIONS for one in parsed)
    if words and not served and not options.get("upstream"):
        yield (
            f"{', '.join(words)}: no effect, as no route leads to an application by "
            f"{', '.join(f'{word}:' for word in APPLICATIONS)}"
        )
    texts = " ".join(lines)
    if ";event/stream" in texts and ";text/event-stream" not in texts:
        yield (
            "a line tests for the type event/stream, which browsers do not accept: responses of "
            "the type text/event-stream are not handed over"
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


def _asked(options: Mapping[str, Any]) -> Iterator[HttpUrl]:
    """
    Yield the URLs of the setting `authorize`, and of `authorize=` in route lines.
    """
    found = [options["authorize"] or "", *_AUTHORIZE.findall("\n".join(options["route"]))]
    for text in filter(None, found):
        with suppress(ValueError):  # it has variables, or is reported as malformed
            yield HttpUrl.parse(text)


def _leads_back(url: HttpUrl, options: Mapping[str, Any]) -> bool:
    if url.socket:
        return any(f"unix:{url.socket}" in text for text in options["endpoint"])
    if url.host not in _LOCAL:
        return False
    ports = [part for text in options["endpoint"] for part in text.split(":")]
    return url.port == options["port"] or str(url.port) in ports
