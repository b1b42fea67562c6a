"""
A port for RTMP alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from rt_twisted.net.transports import end_half_closed
from rt_twisted.rtmp.start import VERSION


@implementer(IHalfCloseableProtocol)
class RtmpPortProtocol(ProtocolWrapper):
    """
    A connection that is aborted unless it begins with the first byte of RTMP.
    """

    _begun = False

    @property
    def http_port(self) -> int:
        """
        The port of HTTP, where streams can be viewed.
        """
        factory: Any = self.factory
        port: int = factory.http_port
        return port

    def dataReceived(self, data: bytes) -> None:
        if not self._begun and data[:1] != VERSION:
            self.abortConnection()
            return
        self._begun = True
        self.wrappedProtocol.dataReceived(data)

    def readConnectionLost(self) -> None:
        protocol: Any = self.wrappedProtocol
        if self._begun and IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            end_half_closed(self)

    def writeConnectionLost(self) -> None:
        """
        Do nothing: we have closed our sending side.
        """


class RtmpPortFactory(WrappingFactory):
    """
    Makes the connections of such a port.

    Args:
        factory: makes the protocols behind.
        http_port: of the daemon.
    """

    noisy = False
    protocol = RtmpPortProtocol

    def __init__(self, factory: IProtocolFactory, http_port: int) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]  # Twisted's
        self.http_port = http_port


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class RtmpPortEndpoint:
    """
    An endpoint to which publishers connect by RTMP.

    Args:
        endpoint: listens for them.
        http_port: of the daemon.
    """

    endpoint: IStreamServerEndpoint
    http_port: int

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.endpoint.listen(RtmpPortFactory(factory, self.http_port))
