"""
What routes and keys read of a request to publish by RTMP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rt_twisted.codecs.query import parse_query


@dataclass(frozen=True, slots=True)
class RtmpRequest:
    """
    The part of an `IExchange` that templates and `Keys.authorize_live` read.

    Args:
        path: application and stream name, behind a slash.
        query_string: of both.
        address: the client's.
        secure: the connection uses TLS.
        local: the client is on this machine.
        headers: of the HTTP request by which the connection is tunneled; empty without one.
    """

    path: str
    query_string: str = field(repr=False)  # has the key
    address: str
    secure: bool
    local: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    method: str = "RTMP"

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); None if it was not sent.
        """
        return self.headers.get(name)

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query.
        """
        return parse_query(self.query_string)

    def cookies(self) -> Mapping[str, str]:
        """
        Return no cookies.
        """
        return {}


def is_local(host: str) -> bool:
    """
    Return whether *host*, an address or "" for a unix socket, is this machine.
    """
    return not host or host == "::1" or host.startswith("127.")
