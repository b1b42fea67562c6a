"""
A connection that another protocol has taken over from HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from zope.interface import implementer

from rt_twisted.http.context import HttpConnection
from rt_twisted.http.stream_handle import FindRoute, PeerInfo, StreamHandle
from rt_twisted.net.transports import end_half_closed, replace_protocol

_log = Logger()


@implementer(IHalfCloseableProtocol)
class TakenConnection(ProtocolWrapper):
    """
    The transport of a protocol that has taken a connection over.

    The server counts it among its connections until it is lost: a graceful stop closes
    it, and waits for its end. The connection has no deadline, and does not count as idle.

    Args:
        transport: of a connection that HTTP has released.
        connections: those of the server.
        peer: the client's address.

    Attributes:
        deadline: infinity.
        idle_since: None.
    """

    deadline = math.inf
    idle_since = None

    def __init__(self, transport: Any, connections: set[HttpConnection], peer: Any) -> None:
        super().__init__(_Registry(connections), Protocol())  # type: ignore[arg-type]  # it suffices
        self.peer = peer
        self.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted's
        replace_protocol(transport, self)

    def readConnectionLost(self) -> None:
        protocol: Any = self.wrappedProtocol
        if IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            end_half_closed(self)

    def writeConnectionLost(self) -> None:
        protocol: Any = self.wrappedProtocol
        if IHalfCloseableProtocol.providedBy(protocol):
            protocol.writeConnectionLost()

    def close_gracefully(self) -> None:
        """
        Close the connection when all that was written is sent.
        """
        self.loseConnection()  # type: ignore[no-untyped-call]  # Twisted's

    def on_deadline(self) -> None:
        """
        Abort the connection.
        """
        self.abortConnection()


class PortClient:
    """
    The client of another protocol than HTTP, for the tests of routes: only its address and
    whether it uses TLS are known.

    Args:
        address: in canonical form; "" for a unix socket.
        secure: it uses TLS.
    """

    method = path = query_string = version = ""
    target = b""

    def __init__(self, address: str, secure: bool) -> None:
        self.address = address
        self.scheme = "https" if secure else "http"

    def header(self, name: str) -> None:
        """
        Return None: there are no headers.
        """

    def query(self) -> Mapping[str, list[str]]:
        """
        Return no fields.
        """
        return {}

    def cookies(self) -> Mapping[str, str]:
        """
        Return no cookies.
        """
        return {}


def accept_connection(
    protocol: Any, taken: TakenConnection, secure: bool, data: bytes, find: FindRoute
) -> None:
    """
    Have *protocol* accept a connection, which is aborted if that fails.

    Args:
        protocol: provides `IPortProtocol`.
        taken: the connection.
        secure: the client uses TLS.
        data: the bytes that were received.
        find: returns the action for a method, a path and a client.
    """
    host = str(getattr(taken.peer, "host", "")).removeprefix("::ffff:")
    client = PortClient(host, secure)

    def find_for_client(method: str, path: str) -> tuple[Any, Any] | set[str] | None:
        return find(method, path, client)

    try:
        protocol.accept(StreamHandle(taken, b"", data, find_for_client), PeerInfo(host, secure))
    except Exception:
        _log.failure("while accepting a connection of another protocol than HTTP")
        taken.abortConnection()


class _Registry:
    """
    Keeps taken connections among those of the server; the factory of the wrapper.
    """

    noisy = False

    def __init__(self, connections: set[HttpConnection]) -> None:
        self._connections = connections

    def registerProtocol(self, taken: TakenConnection) -> None:
        self._connections.add(taken)

    def unregisterProtocol(self, taken: TakenConnection) -> None:
        self._connections.discard(taken)
