"""
Which pages of other origins may read responses (Fetch standard, 3.2).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_REQUEST_HEADERS = (
    "Authorization, Cache-Control, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, "
    "X-Publish-Key, X-Requested-With"
)
_EXPOSED = b"Access-Control-Expose-Headers: ETag, Retry-After\r\n"
_PREFLIGHT_AGE = 7200  # seconds; Chromium takes no more


@dataclass(frozen=True, slots=True)
class Cors:
    """
    An allow-list of origins.

    Args:
        origins: such as `https://example.org`; `*` stands for every origin.
        credentials: whether pages may send cookies; not to be had with `*`.
    """

    origins: frozenset[str] = frozenset(("*",))
    credentials: bool = False

    def __post_init__(self) -> None:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials need a list of origins, '*' is not enough")

    def headers(self, origin: str | None) -> bytes:
        """
        Header lines for the response to a request from a page of *origin*;
        None for a request that is not from a page, or from one of ours.
        """
        if "*" in self.origins:
            lines = b"Access-Control-Allow-Origin: *\r\n"
            return lines if origin is None else lines + _EXPOSED
        if origin is None or origin not in self.origins:
            return b"Vary: Origin\r\n"
        lines = b"Vary: Origin\r\nAccess-Control-Allow-Origin: %s\r\n" % origin.encode("latin-1")
        if self.credentials:
            lines += b"Access-Control-Allow-Credentials: true\r\n"
        return lines + _EXPOSED

    def preflight(self, origin: str, methods: Collection[str]) -> list[tuple[str, str]]:
        """
        What the answer to a preflight has beside `headers`.
        """
        if "*" not in self.origins and origin not in self.origins:
            return []
        return [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", _REQUEST_HEADERS),
            ("Access-Control-Max-Age", str(_PREFLIGHT_AGE)),
        ]
