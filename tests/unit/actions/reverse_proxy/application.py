"""
An application behind the daemon, without sockets: the test writes its responses.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.internet.error import ConnectionDone, ConnectionRefusedError
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from tests.unit.http.clients import Caller, Place


class Application:
    """
    An HTTP server with a route to an application, and the application's connections.

    Args:
        lines: routes before those of `Place`.
        changed: values of the actions' context.
    """

    def __init__(self, *lines: str, **changed: Any) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.place = Place(*lines, reactor=self.reactor, changed=changed)
        self.metrics = self.place.hub.metrics
        self.wires: list[Any] = []
        self.protocols: list[Any] = []

    def call(self, *pieces: bytes, **more: Any) -> Caller:
        """
        Send a request of a client, and accept the connection to the application.
        """
        caller = self.place.call(*pieces, **more)
        self.accept()
        return caller

    def accept(self) -> None:
        """
        Accept the connections that were requested.
        """
        self.reactor.advance(0)
        for clients in (self.reactor.tcpClients, self.reactor.unixClients):
            while clients:
                wanted = clients.pop()
                factory = wanted[1] if clients is self.reactor.unixClients else wanted[2]
                wire: Any = StringTransport()
                wire.abortConnection = partial(self.close, wire)
                protocol = factory.buildProtocol(None)
                self.wires.append(wire)
                self.protocols.append(protocol)
                protocol.makeConnection(wire)

    def refuse(self) -> None:
        """
        Refuse the connections that were requested.
        """
        self.reactor.advance(0)
        refused = tuple(self.reactor.tcpClients)
        self.reactor.tcpClients.clear()
        for _, _, factory, *_ in refused:
            factory.clientConnectionFailed(None, Failure(ConnectionRefusedError()))

    def close(self, wire: Any, reason: Exception | None = None) -> None:
        """
        Close a connection of the application.
        """
        if not wire.disconnected:
            wire.disconnected = True
            protocol = wire.protocol if hasattr(wire, "protocol") else self._protocol_of(wire)
            protocol.connectionLost(Failure(reason or ConnectionDone()))

    def _protocol_of(self, wire: Any) -> Any:
        return self.protocols[self.wires.index(wire)]

    def respond(self, *pieces: bytes, number: int = -1) -> None:
        """
        Send bytes of a response on connection *number*.
        """
        for piece in pieces:
            self.protocols[number].dataReceived(piece)

    def received(self, number: int = -1) -> bytes:
        """
        Return what the application has received on connection *number*, once.
        """
        wire = self.wires[number]
        data: bytes = wire.value()
        wire.clear()
        return data

    def wait(self, seconds: float) -> None:
        """
        Let time pass.
        """
        self.reactor.pump([0.5] * int(2 * seconds + 2))
        self.place.wait(seconds)


def ok(body: bytes = b"ok", headers: bytes = b"") -> bytes:
    """
    Return a response with a length.
    """
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(body), body)
