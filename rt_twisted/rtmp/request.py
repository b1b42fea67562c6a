"""
What routes and keys read of a request to publish by RTMP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from rt_twisted.codecs.query import parse_query
from rt_twisted.http.interfaces import PeerInfo


@dataclass(frozen=True, slots=True)
class RtmpClient:
    """
    The client of a connection.

    Args:
        address: its own, or the one that a trusted proxy names.
        secure: it uses TLS.
        local: it is on this machine.
        headers: of the HTTP request by which it is tunneled; empty without one.
    """

    address: str
    secure: bool
    local: bool
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, peer: PeerInfo) -> RtmpClient:
        """
        Return the client at the other end of a connection that is not tunneled.
        """
        host = peer.host
        return cls(host, peer.secure, not host or host == "::1" or host.startswith("127."))


@dataclass(frozen=True, slots=True)
class RtmpRequest:
    """
    The part of an `IExchange` that templates and `Keys.authorize_live` read.

    Args:
        path: application and stream name, behind a slash.
        query_string: of both.
        client: that sends it.
    """

    path: str
    query_string: str = field(repr=False)  # has the key
    client: RtmpClient
    method: str = "RTMP"

    @property
    def address(self) -> str:
        """
        The client's address.
        """
        return self.client.address

    @property
    def local(self) -> bool:
        """
        Whether the client is on this machine.
        """
        return self.client.local

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case); None if it was not sent.
        """
        return self.client.headers.get(name)

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
