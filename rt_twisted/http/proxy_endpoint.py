"""
Endpoints for the PROXY protocol: `haproxy:tcp:8081`.

Twisted has one too. It closes the connection for `PROXY UNKNOWN` and for a header of
version 2 that arrives in two segments, and accepts the header from every sender.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IHalfCloseableProtocol,
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from rt_twisted.codecs.addresses import Networks, canonical
from rt_twisted.codecs.proxy_protocol import Endpoint, NoProxyHeader, ProxyHeader, ProxyParser
from rt_twisted.net.transports import end_half_closed

LOG_INTERVAL = 60.0  # seconds between two log lines about senders that are not trusted

_log = Logger()


@implementer(IHalfCloseableProtocol)
class ProxiedProtocol(ProtocolWrapper):
    """
    A connection from a proxy, whose peer is the client that the PROXY header names.
    """

    _parser: ProxyParser | None = None
    _header: ProxyHeader | None = None

    def makeConnection(self, transport: Any) -> None:
        self._parser = ProxyParser()
        super().makeConnection(transport)  # type: ignore[no-untyped-call]  # Twisted's

    def dataReceived(self, data: bytes) -> None:
        if self._parser is None:
            self.wrappedProtocol.dataReceived(data)
            return
        try:
            header = self._parser.feed(data)
        except NoProxyHeader as error:
            _log.debug("no PROXY header from {peer}: {reason}", peer=self.getPeer(), reason=error)
            self.abortConnection()
            return
        if header is not None:
            self._parser, self._header = None, header
            if header.rest:
                self.wrappedProtocol.dataReceived(header.rest)

    def readConnectionLost(self) -> None:
        protocol: Any = self.wrappedProtocol
        if self._parser is None and IHalfCloseableProtocol.providedBy(protocol):
            protocol.readConnectionLost()
        else:
            end_half_closed(self)

    def writeConnectionLost(self) -> None:
        """
        Do nothing: we have closed our sending side.
        """

    def getPeer(self) -> IAddress:
        header = self._header
        if header is not None and header.source is not None:
            return _address(header.source)
        peer: IAddress = self.transport.getPeer()  # type: ignore[union-attr]  # it is connected
        return peer

    def getHost(self) -> IAddress:
        header = self._header
        if header is not None and header.destination is not None:
            return _address(header.destination)
        host: IAddress = self.transport.getHost()  # type: ignore[union-attr]  # as above
        return host


def _address(endpoint: Endpoint) -> IPv4Address | IPv6Address:
    known = IPv4Address if endpoint.address.version == 4 else IPv6Address
    return known("TCP", str(endpoint.address), endpoint.port)


class ProxiedFactory(WrappingFactory):
    """
    Accepts connections only from trusted senders of the PROXY header.

    Args:
        factory: makes the protocols behind the header.
        senders: addresses that may send it: a sender can claim any client address.
        seconds: returns the time, for the log.
    """

    protocol = ProxiedProtocol

    def __init__(
        self, factory: IProtocolFactory, senders: Networks, seconds: Callable[[], float]
    ) -> None:
        super().__init__(factory)  # type: ignore[no-untyped-call]  # Twisted's
        self._senders = senders
        self._seconds = seconds
        self._logged = -LOG_INTERVAL

    def buildProtocol(self, addr: Any) -> Any:
        # None closes the connection.
        host = str(getattr(addr, "host", ""))
        if (canonical(host) if host else "") in self._senders:
            return super().buildProtocol(addr)
        now = self._seconds()
        if now - self._logged >= LOG_INTERVAL:
            self._logged = now
            _log.warn(
                "closed a connection from {host} to a haproxy: endpoint: "
                "proxy-protocol-senders does not name it",
                host=host or "a unix socket",
            )
        return None


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class ProxiedEndpoint:
    """
    An endpoint to which proxies connect.

    Args:
        endpoint: listens for them.
        senders: see `ProxiedFactory`.
        seconds: see `ProxiedFactory`.
    """

    endpoint: IStreamServerEndpoint
    senders: Networks
    seconds: Callable[[], float]

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return self.endpoint.listen(ProxiedFactory(factory, self.senders, self.seconds))
