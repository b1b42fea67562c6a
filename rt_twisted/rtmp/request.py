"""
What routes, keys and grants read of a request to publish by RTMP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from rt_twisted.codecs.query import parse_query
from rt_twisted.http.stream_handle import PeerInfo

_TOKEN = "token"  # the field of a query with a token


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


class RtmpRequest:
    """
    The part of an `IExchange` that templates and `live_permit` read.

    Args:
        path: application and stream name, behind a slash.
        query_string: of both.
        client: that sends it.

    Attributes:
        answered: the client has disconnected.
        protocol, version: for the access log.
        unlogged: not used.
        age: seconds since the request.
    """

    method = protocol = "RTMP"
    version = "1.0"
    unlogged = False
    age = 0.0

    def __init__(self, path: str, query_string: str, client: RtmpClient) -> None:
        self.path = path
        self.query_string = query_string
        self.address = client.address
        self.local = client.local
        self.secure = client.secure
        self.scheme = "rtmps" if client.secure else "rtmp"
        self.answered = False
        self._client = client
        self._lost: list[Callable[[], object]] = []

    @property
    def target(self) -> bytes:
        """
        Path and query, percent-encoded.
        """
        query = f"?{quote(self.query_string, safe='&=%+')}" if self.query_string else ""
        return f"{quote(self.path)}{query}".encode()

    def header(self, name: str) -> str | None:
        """
        Return the value of header *name* (lower case) of the tunnel's request; None if it was
        not sent. A token in the query is like one in `Authorization: Bearer`.
        """
        if name == "authorization":
            token = self.query().get(_TOKEN)
            if token:
                return f"Bearer {token[-1]}"
        return self._client.headers.get(name)

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

    def add_header(self, name: str, value: str) -> None:
        """
        Do nothing: a response by RTMP has no headers.
        """

    def watch(self, lost: Callable[[], object]) -> None:
        """
        Have *lost* called if the client disconnects.
        """
        if self.answered:
            lost()
        else:
            self._lost.append(lost)

    def lose(self) -> None:
        """
        Note that the client has disconnected.
        """
        self.answered = True
        lost, self._lost = self._lost, []
        for call in lost:
            call()
