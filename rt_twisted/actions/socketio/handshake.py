"""
What is stored of the first request of a session.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.access.keys import CREDENTIAL_HEADERS
from rt_twisted.codecs.query import parse_cookies, parse_query
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.shared_text import share_text

# Only sessions with an application store all of them: cookies would take more memory than
# everything else of a session.
STORED_HEADERS = (*CREDENTIAL_HEADERS, "cookie", "user-agent")


@dataclass(frozen=True, slots=True)
class Handshake:
    """
    The first request of a session.

    Args:
        address: the client's.
        local: whether the client is on this machine.
        path: as it came.
        query_string: as it came; parsed when needed, as few applications read it.
        header_values: of STORED_HEADERS, in order; None for those that were not sent.
    """

    address: str
    local: bool
    path: str
    query_string: str
    header_values: tuple[str | None, ...]

    @classmethod
    def of(cls, exchange: IExchange, headers: Sequence[str] = STORED_HEADERS) -> Handshake:
        """
        Return the handshake of *exchange*.

        Args:
            exchange: the first request of a session.
            headers: those of STORED_HEADERS to store.
        """
        return cls(
            exchange.address,
            exchange.local,
            exchange.path,
            exchange.query_string,
            tuple([_value(exchange, name) if name in headers else None for name in STORED_HEADERS]),
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
        The cookies, by name.
        """
        return parse_cookies(self.header("cookie") or "")

    @property
    def headers(self) -> dict[str, str]:
        """
        The stored headers, by name.
        """
        found = zip(STORED_HEADERS, self.header_values, strict=True)
        return {name: value for name, value in found if value is not None}

    def header(self, name: str) -> str | None:
        """
        Return the value of a stored header; None if it is not stored or was not sent.
        """
        return self.header_values[STORED_HEADERS.index(name)] if name in STORED_HEADERS else None


def _value(exchange: IExchange, name: str) -> str | None:
    value = exchange.header(name)
    # Thousands of sessions have the same Host and Origin.
    return value if value is None else share_text(value)
