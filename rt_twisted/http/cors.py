"""
Which pages of other origins may read responses (Fetch standard, 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from rt_twisted.codecs.origins import matches_origin

_REQUEST_HEADERS = (
    "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "If-None-Match",
    "Last-Event-ID", "X-Publish-Key", "X-Requested-With",
)  # fmt: skip
_EXPOSED = "ETag, Retry-After"
ALL = frozenset(("*",))
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110, 5.6.2
_MOST_NAMES = 100  # of headers that one preflight may ask for
_PREFLIGHT_AGE = 7200  # seconds; Chromium takes no more


@dataclass(frozen=True, slots=True)
class Cors:
    """
    An allow-list of origins.

    Args:
        origins: such as `https://example.org`; `*` stands for every origin.
        credentials: whether pages may send cookies; not to be had with `*`.
        allowed: request headers that pages may send, beside those that the daemon
            itself reads; `*` allows those that a preflight asks for.
        exposed: response headers that pages may read, beside `ETag` and
            `Retry-After`; `*` stands for all, and is not to be had with credentials.
    """

    origins: frozenset[str] = ALL
    credentials: bool = False
    allowed: frozenset[str] = ALL
    exposed: frozenset[str] = frozenset()
    _exposed: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials need a list of origins, '*' is not enough")
        if self.credentials and "*" in self.exposed:
            raise ValueError("credentials need a list of exposed-headers, '*' is not enough")
        names = ", ".join((_EXPOSED, *sorted(self.exposed)))
        line = f"Access-Control-Expose-Headers: {names}\r\n".encode("latin-1")
        object.__setattr__(self, "_exposed", line)

    def headers(self, origin: str | None) -> bytes:
        """
        Header lines for the response to a request from a page of *origin*;
        None for a request that is not from a page, or from one of ours.
        """
        if "*" in self.origins:
            lines = b"Access-Control-Allow-Origin: *\r\n"
            return lines if origin is None else lines + self._exposed
        if origin is None or not matches_origin(self.origins, origin):
            return b"Vary: Origin\r\n"
        lines = b"Vary: Origin\r\nAccess-Control-Allow-Origin: %s\r\n" % origin.encode("latin-1")
        if self.credentials:
            lines += b"Access-Control-Allow-Credentials: true\r\n"
        return lines + self._exposed

    def preflight(
        self, origin: str, methods: Collection[str], asked: str = ""
    ) -> list[tuple[str, str]]:
        """
        What the answer to a preflight has beside `headers`.

        Args:
            origin: of the page.
            methods: that the route has.
            asked: `Access-Control-Request-Headers`; names that cannot be a header's
                are left out.
        """
        if "*" not in self.origins and not matches_origin(self.origins, origin):
            return []
        return [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", ", ".join(self._allow(asked))),
            ("Access-Control-Max-Age", str(_PREFLIGHT_AGE)),
        ]

    def _allow(self, asked: str) -> list[str]:
        """
        Names of headers. `*` is never one of them: it does not stand for
        `Authorization`, and with credentials for nothing (Fetch standard, 3.2.5).
        """
        names = [name.strip() for name in asked.split(",", _MOST_NAMES)[:_MOST_NAMES]]
        more = names if "*" in self.allowed else sorted(self.allowed)
        usual = {name.lower() for name in _REQUEST_HEADERS}
        own = dict.fromkeys(
            name for name in more if _TOKEN.fullmatch(name) and name.lower() not in usual
        )
        return [*_REQUEST_HEADERS, *own]
