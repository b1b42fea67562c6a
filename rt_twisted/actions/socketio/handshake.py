"""
What is remembered of how a client came.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.codecs.query import parse_cookies, parse_query
from rt_twisted.http.interfaces import IExchange

# Headers. Only applications get all of them: of other clients cookies would take more
# memory than all else that is kept.
KEPT = (*CREDENTIAL_HEADERS, "cookie", "user-agent")


@dataclass(frozen=True, slots=True)
class Handshake:
    """
    What is kept of a session's first request.

    Args:
        address: the client's.
        local: it is on this machine.
        path: as it came.
        query_string: as it came; read when it is asked for, as few applications do.
        kept: the values of the headers in KEPT; None for those that were not sent.
    """

    address: str
    local: bool
    path: str
    query_string: str
    kept: tuple[str | None, ...]

    @classmethod
    def of(cls, exchange: IExchange, headers: Sequence[str] = KEPT) -> Handshake:
        """
        That of *exchange*, with those of *headers* that are in KEPT.
        """
        return cls(
            exchange.address,
            exchange.local,
            exchange.path,
            exchange.query_string,
            tuple([_kept(exchange, name) if name in headers else None for name in KEPT]),
        )

    @property
    def query(self) -> dict[str, list[str]]:
        """
        The fields of the query; see `IExchange.query`.
        """
        return parse_query(self.query_string)

    @property
    def cookies(self) -> dict[str, str]:
        """
        The cookies by name.
        """
        return parse_cookies(self.header("cookie") or "")

    @property
    def headers(self) -> dict[str, str]:
        """
        The headers in KEPT that were sent, by name.
        """
        found = zip(KEPT, self.kept, strict=True)
        return {name: value for name, value in found if value is not None}

    def header(self, name: str) -> str | None:
        """
        The value of one of the headers in KEPT.
        """
        return self.kept[KEPT.index(name)] if name in KEPT else None


def _kept(exchange: IExchange, name: str) -> str | None:
    value = exchange.header(name)
    # Thousands of sessions have the same Host and Origin.
    return value if value is None else sys.intern(value)
