"""
An RTSP request as actions, keys and templates see it: like an HTTP request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, cast
from urllib.parse import parse_qs

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.stream_handle import PeerInfo
from rt_twisted.rtsp.fields import parse_url
from rt_twisted.rtsp.messages import RtspRequest

MAX_FIELDS = 100  # of a query


class TunnelHead(Protocol):
    """
    The HTTP request that carries a connection.
    """

    @property
    def local(self) -> bool:
        """
        Whether its client is on this machine.
        """

    @property
    def header(self) -> Callable[[str], str | None]:
        """
        Return a function that returns a header.
        """


class RtspExchange:
    """
    The part of an `IExchange` that RTSP has.

    Args:
        request: the request.
        peer: the client.
        is_lost: returns whether the client has disconnected.
        tunnel: the HTTP request that carries the connection; None for connections that are RTSP
            from their first byte on.

    Raises:
        RemoteProtocolError: its URL is malformed.

    Attributes:
        admitted: False, as the join rate has not been applied yet.
        protocol, version: for the access log.
        unlogged: not used.
        age: seconds since the request.
    """

    admitted = False
    protocol = "RTSP"
    version = "1.0"
    unlogged = False
    age = 0.0

    def __init__(
        self,
        request: RtspRequest,
        peer: PeerInfo,
        is_lost: Callable[[], bool],
        tunnel: TunnelHead | None = None,
    ) -> None:
        self.request = request
        self.url = parse_url(request.url)
        self.method = request.method
        self.path = self.url.path
        self.query_string = self.url.query
        self.target = request.url.encode("latin-1", "replace")
        self.scheme = "rtsps" if peer.secure else "rtsp"
        self.address = peer.host
        self.secure = peer.secure
        self._is_lost = is_lost
        self._tunnel = tunnel

    @property
    def answered(self) -> bool:
        """
        Whether the client has disconnected.
        """
        return self._is_lost()

    @property
    def half_closed(self) -> bool:
        """
        Whether the client has disconnected.
        """
        return self._is_lost()

    @property
    def local(self) -> bool:
        """
        Whether the client is on this machine.
        """
        if self._tunnel is not None:
            return self._tunnel.local
        host = self.address
        return not host or host == "::1" or host.startswith("127.")

    def header(self, name: str) -> str | None:
        """
        Return a header of the request, or those of the tunnel by which browsers are known.

        A token in the query is `Authorization: Bearer`.
        """
        found = self.request.headers.get(name)
        if found is None and self._tunnel is not None:
            found = self._tunnel.header(name)
        if found is None and name == "authorization" and "token=" in self.query_string:
            return f"Bearer {self.query().get('token', [''])[-1]}"
        return found

    def watch(self, lost: Callable[[], object]) -> None:
        """
        Do nothing: what waits for the client looks at `answered` afterwards.
        """

    def add_header(self, name: str, value: str) -> None:
        """
        Do nothing: RTSP has no cookies.
        """

    def query(self) -> Mapping[str, list[str]]:
        """
        Return the fields of the query.
        """
        try:
            return parse_qs(
                self.query_string,
                keep_blank_values=True,
                errors="surrogateescape",
                max_num_fields=MAX_FIELDS,
            )
        except ValueError:
            return {}

    def cookies(self) -> Mapping[str, str]:
        """
        Return no cookies: RTSP has none.
        """
        return {}

    def is_about(self, uri: str) -> bool:
        """
        Return whether the `uri` of credentials names the path of this request, with or without
        its query and its last slash.
        """
        try:
            return parse_url(uri).path == self.path
        except RemoteProtocolError:
            return uri == self.request.url

    def as_exchange(self) -> IExchange:
        """
        Return this for templates and admission, which use nothing else of an exchange.
        """
        return cast(IExchange, cast(Any, self))
