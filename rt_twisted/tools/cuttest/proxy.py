"""
TCP proxy that cuts connections.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.tools.load.target import ConnectAttempt, Target

MAX_HELD = 1 << 20  # bytes of a stalled connection, per direction; the rest waits in the kernel
CUT_TIMEOUT = 1.0  # seconds that a cut waits for further bytes


class CutMode(Enum):
    """
    How a connection is cut.
    """

    RESET = "reset"  # RST: data in flight are lost
    CLOSE = "close"  # FIN: data in flight still arrive
    STALL = "stall"  # nothing passes, both ends stay open; then RST
    PAUSE = "pause"  # the same, then the connection continues


class ProxiedConnection:
    """
    Connection through the proxy: *near* is the client's end, *far* the server's.

    Args:
        proxy: that accepted it.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.near = ProxyEnd(self, "near")
        self.far = ProxyEnd(self, "far")
        self._proxy = proxy
        self._left: int | None = None  # bytes to the client until it is cut
        self._timer: Any = None
        self._finished = False
        self._port = 0

    def accepted(self) -> None:
        """
        Connect to the server, as a client has connected.
        """
        self._port = self.near.transport.getPeer().port
        self._proxy.links[self._port] = self
        self.near.transport.pauseProducing()
        self._proxy.target.connect(
            ConnectAttempt(self.far, lambda far, reason: self.end(CutMode.RESET))
        )

    def connected(self) -> None:
        """
        Start to pass bytes, as the server has accepted.
        """
        near, far = self.near.transport, self.far.transport
        if self._finished or near is None:
            far.abortConnection()
            return
        near.registerProducer(far, True)
        far.registerProducer(near, True)
        if not self.near.stalled:
            near.resumeProducing()

    def passed(self, end: ProxyEnd, data: bytes) -> None:
        """
        Pass *data*, received by *end*, to the other end.
        """
        if self._finished:
            return
        if end is self.near:
            if self.far.transport is not None:
                self.far.transport.write(data)
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if self.near.transport is not None:
            self.near.transport.write(data)
        if self._left == 0:
            # Not RST: the client would not receive the part that was passed.
            self.end(CutMode.CLOSE)

    def cut(self, mode: CutMode, seconds: float, left: int = 0) -> bool:
        """
        Cut the connection.

        Args:
            mode: how.
            seconds: how long a stall lasts.
            left: bytes that the client still receives before it is closed.

        Returns:
            False if it is being cut already.
        """
        clock = self._proxy.reactor
        if self._finished or self._timer is not None:
            return False
        if mode in (CutMode.STALL, CutMode.PAUSE):
            self.near.stall()
            self.far.stall()
            after = self._resume if mode is CutMode.PAUSE else self.end
            self._timer = clock.callLater(seconds, after)
        elif mode is CutMode.CLOSE and left:
            self._left = left
            self._timer = clock.callLater(CUT_TIMEOUT, self.end, CutMode.CLOSE)
        else:
            self.end(mode)
        return True

    def _resume(self) -> None:
        self._timer = None
        self.near.resume()
        self.far.resume()

    def end(self, mode: CutMode = CutMode.RESET) -> None:
        """
        Close both ends.
        """
        if self._finished:
            return
        self._finished = True
        self._proxy.links.pop(self._port, None)
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        for end in (self.near, self.far):
            end.disconnect(mode)

    def lost(self) -> None:
        """
        Close the other end too, unless the connection is stalled.
        """
        if not self.near.stalled:  # during a stall the other end must not be notified
            self.end(CutMode.CLOSE)


class ProxyEnd(Protocol):
    """
    One end of a proxied connection.

    Args:
        link: the connection.
        side: near or far.
    """

    transport: Any = None

    def __init__(self, link: ProxiedConnection, side: str) -> None:
        self.stalled = False
        self._link = link
        self._side = side
        self._held: list[bytes] = []

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        if self._side == "near":
            self._link.accepted()
        else:
            self._link.connected()

    def dataReceived(self, data: bytes) -> None:
        if not self.stalled:
            self._link.passed(self, data)
            return
        self._held.append(data)
        if sum(map(len, self._held)) > MAX_HELD:
            self.transport.pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.transport = None
        self._link.lost()

    def stall(self) -> None:
        """
        Buffer incoming data until `resume`.
        """
        self.stalled = True

    def resume(self) -> None:
        """
        Pass the buffered data, and continue.
        """
        self.stalled = False
        held, self._held = self._held, []
        if self.transport is None:
            self._link.lost()
            return
        self.transport.resumeProducing()
        for data in held:
            self._link.passed(self, data)

    def disconnect(self, mode: CutMode) -> None:
        """
        Close this end as *mode* demands.
        """
        self._held = []
        transport = self.transport
        if transport is None:
            return
        if mode is CutMode.CLOSE:
            transport.unregisterProducer()
            transport.loseConnection()
        else:
            transport.abortConnection()


class Proxy:
    """
    Proxy on a port of 127.0.0.1.

    Args:
        reactor: runs it.
        target: the server.
    """

    def __init__(self, reactor: Any, target: Target) -> None:
        self.reactor = reactor
        self.target = target
        self.links: dict[int, ProxiedConnection] = {}  # by the client's port
        self._port = reactor.listenTCP(0, self._factory(), 1000, "127.0.0.1")

    def _factory(self) -> Any:
        factory: Any = Factory.forProtocol(lambda: ProxiedConnection(self).near)
        factory.noisy = False
        return factory

    @property
    def port(self) -> int:
        """
        Return the port of the proxy.
        """
        port: int = self._port.getHost().port
        return port

    def close(self) -> None:
        """
        Stop listening, and close all connections.
        """
        self._port.stopListening()
        for link in tuple(self.links.values()):
            link.end()
