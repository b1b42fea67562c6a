"""
Tunnels: a client's connection and that of an application, whose bytes are passed on as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.http.stream_handle import StreamHandle
from rt_twisted.net.transports import close_transport, replace_protocol


class TunnelEnd(Protocol):
    """
    One of the two connections of a tunnel.

    Each is the producer of the other: it is paused while the other does not receive.

    Args:
        closed: called when this connection is closed.
    """

    def __init__(self, closed: Callable[[], object]) -> None:
        self._closed = closed
        self._other: TunnelEnd | None = None

    def join(self, other: TunnelEnd) -> None:
        """
        Pass on to *other* what is received.
        """
        self._other = other
        wire: Any = self.transport
        wire.registerProducer(other.transport, True)

    def write(self, data: bytes) -> None:
        """
        Pass on what the other connection has received.
        """
        wire: Any = self.transport
        wire.write(data)

    def close(self) -> None:
        """
        Close the connection when all that was written is sent.
        """
        self._other = None
        wire: Any = self.transport
        wire.unregisterProducer()
        close_transport(wire)

    def dataReceived(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        other, self._other = self._other, None
        if other is not None:
            other.close()
        self._closed()


def open_tunnel(
    client: StreamHandle, transport: Any, rest: bytes, closed: Callable[[], object]
) -> None:
    """
    Join a client and an application, until one of them closes its connection.

    Args:
        client: its connection, which HTTP has released.
        transport: the connection to the application, likewise.
        rest: bytes that the application has sent.
        closed: called once, when both connections are closed.
    """
    open_ends = [1, 1]

    def one_closed() -> None:
        open_ends.pop()
        if not open_ends:
            closed()

    near, far = TunnelEnd(one_closed), TunnelEnd(one_closed)
    replace_protocol(transport, far)
    far.makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted's
    replace_protocol(client.transport, near)
    near.makeConnection(client.transport)  # type: ignore[no-untyped-call]  # Twisted's
    near.join(far)
    far.join(near)
    if rest:
        near.write(rest)
    if client.rest:
        far.write(client.rest)
    transport.resumeProducing()
