"""
Cross-origin resource sharing: which pages may read responses (Fetch standard, 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rt_twisted.codecs.origins import matches_origin

_REQUEST_HEADERS = (
    "Authorization", "Cache-Control", "Content-Type", "Idempotency-Key", "If-None-Match",
    "Last-Event-ID", "X-Publish-Key", "X-Requested-With",
)  # fmt: skip
_EXPOSED = "ETag, Retry-After"
_VARY = (b"Vary", b"Origin")
ALL = frozenset(("*",))
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110, 5.6.2
_MAX_NAMES = 100  # of headers that one preflight may request
_PREFLIGHT_AGE = 7200  # seconds; Chromium caches it no longer


@dataclass(frozen=True, slots=True)
class Cors:
    """
    The origins whose pages may read responses, and what else they may do.

    Args:
        origins: such as `https://example.org`; `*` stands for every origin.
        credentials: whether pages may send cookies; not allowed with `*`.
        allowed: request headers that pages may send, beside those that the daemon
            itself reads; `*` allows those that a preflight requests.
        exposed: response headers that pages may read, beside `ETag` and
            `Retry-After`; `*` stands for all, and is not allowed with credentials.
    """

    origins: frozenset[str]
    credentials: bool
    allowed: frozenset[str]
    exposed: frozenset[str]
    _exposed: tuple[bytes, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.credentials and "*" in self.origins:
            raise ValueError("credentials require a list of origins instead of '*'")
        if self.credentials and "*" in self.exposed:
            raise ValueError("credentials require a list of exposed-headers instead of '*'")
        names = ", ".join((_EXPOSED, *sorted(self.exposed)))
        exposed = (b"Access-Control-Expose-Headers", names.encode("latin-1"))
        object.__setattr__(self, "_exposed", exposed)

    def headers(self, origin: str | None) -> list[tuple[bytes, bytes]]:
        """
        Return the fields of a response for CORS.

        Args:
            origin: of the page that sent the request; None if no page did, or one of
                the same origin.
        """
        if "*" in self.origins:
            allowed = [(b"Access-Control-Allow-Origin", b"*")]
            return allowed if origin is None else [*allowed, self._exposed]
        if origin is None or not matches_origin(self.origins, origin):
            return [_VARY]
        fields = [_VARY, (b"Access-Control-Allow-Origin", origin.encode("latin-1"))]
        if self.credentials:
            fields.append((b"Access-Control-Allow-Credentials", b"true"))
        return [*fields, self._exposed]

    def preflight(
        self,
        origin: str,
        methods: Collection[str],
        requested: str = "",
        known: Sequence[str] = (),
    ) -> list[tuple[str, str]]:
        """
        Return the headers that the response to a preflight has beside `headers`.

        Args:
            origin: of the page.
            methods: of the route.
            requested: `Access-Control-Request-Headers`; invalid names are left out.
            known: further headers that the route itself reads.
        """
        if "*" not in self.origins and not matches_origin(self.origins, origin):
            return []
        return [
            ("Access-Control-Allow-Methods", ", ".join(sorted(methods))),
            ("Access-Control-Allow-Headers", ", ".join(self._allowed_names(requested, known))),
            ("Access-Control-Max-Age", str(_PREFLIGHT_AGE)),
        ]

    def _allowed_names(self, requested: str, known: Sequence[str]) -> list[str]:
        """
        Return the names of request headers that a page may send.

        `*` is never one of them: it does not stand for `Authorization`, and with
        credentials for nothing (Fetch standard, 3.2.5).
        """
        names = [name.strip() for name in requested.split(",", _MAX_NAMES)[:_MAX_NAMES]]
        more = names if "*" in self.allowed else sorted(self.allowed)
        read = (*_REQUEST_HEADERS, *known)
        usual = {name.lower() for name in read}
        own = dict.fromkeys(
            name for name in more if _TOKEN.fullmatch(name) and name.lower() not in usual
        )
        return [*read, *own]
