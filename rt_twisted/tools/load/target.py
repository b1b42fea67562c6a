"""
Connections to a server, from one or more local addresses.
"""

from __future__ import annotations

import math
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from twisted.internet.interfaces import IProtocol, IProtocolFactory
from twisted.internet.ssl import CertificateOptions, optionsForClientTLS
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.tools.errors import SetupError

PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
DEFAULT_PORTS = 28_000  # Linux's range of ports for clients, if it cannot be read


@dataclass(frozen=True, slots=True)
class Target:
    """
    Server that connections go to.

    Args:
        reactor: connects.
        url: http:// or https://.
        address: numeric address of the host.
        port: of the server.
        security: TLS options; None for plain connections.
        sources: local addresses to connect from, in turn; "" lets the system choose.
        timeout: seconds that a connection attempt may take.
    """

    reactor: Any
    url: str
    address: str
    port: int
    security: Any
    sources: Sequence[str]
    timeout: float

    @classmethod
    def find(
        cls,
        reactor: Any,
        url: str,
        connections: int = 1,
        timeout: float = 30.0,
        verify: bool = True,
    ) -> Target:
        """
        Resolve the host of *url*.

        More *connections* than one address has ports for are distributed over several
        local addresses if the server is on this machine.

        Raises:
            SetupError: the host is unknown or the URL is malformed.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise SetupError(f"{url!r} is not an http:// or https:// URL")
        security = None
        if parts.scheme == "https":
            trusted = optionsForClientTLS(parts.hostname)
            security = trusted if verify else CertificateOptions(verify=False)
        try:
            port = parts.port or (443 if security else 80)
            found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
        except (OSError, ValueError) as error:
            raise SetupError(f"{url}: {error}") from None
        address = str(found[0][4][0])
        return cls(reactor, url, address, port, security, _sources(address, connections), timeout)

    def connect(self, factory: IProtocolFactory, number: int = 0) -> None:
        """
        Start a connection for the subscriber of this *number*.
        """
        source = self.sources[number % len(self.sources)]
        bind = (source, 0) if source else None
        if self.security is None:
            self.reactor.connectTCP(self.address, self.port, factory, self.timeout, bind)
            return
        self.reactor.connectSSL(self.address, self.port, factory, self.security, self.timeout, bind)


def _sources(address: str, count: int) -> list[str]:
    try:
        low, high = map(int, PORT_RANGE.read_text().split())
        ports = high - low + 1
    except (OSError, ValueError):
        ports = DEFAULT_PORTS
    # Ports of closed connections are unusable for a minute, and other programs need some.
    wanted = math.ceil(count / (ports / 4))
    if wanted < 2 or not address.startswith("127."):
        return [""]
    return [f"127.0.{number // 250}.{number % 250 + 1}" for number in range(wanted)]


@implementer(IProtocolFactory)
class ConnectAttempt:
    """
    Factory that uses the same protocol object for each connection attempt.

    Args:
        protocol: the protocol.
        failed: called with the protocol and the reason if the attempt fails.
    """

    __slots__ = ("_failed", "_protocol")
    noisy = False

    def __init__(self, protocol: Any, failed: Callable[[Any, Failure], None]) -> None:
        self._protocol = protocol
        self._failed = failed

    def doStart(self) -> None:
        """
        Ignore the start of the factory.
        """

    def doStop(self) -> None:
        """
        Ignore the end of the factory.
        """

    def startedConnecting(self, connector: object) -> None:
        """
        Ignore the start of an attempt.
        """

    def buildProtocol(self, address: object) -> IProtocol:
        protocol: IProtocol = self._protocol
        return protocol

    def clientConnectionFailed(self, connector: object, reason: Failure) -> None:
        self._failed(self._protocol, reason)

    def clientConnectionLost(self, connector: object, reason: Failure) -> None:
        """
        Ignore the loss: the protocol is notified too.
        """


def describe_failure(reason: Failure) -> str:
    """
    Return a short text for a failure, the same for all failures of one kind.
    """
    error = reason.value
    number = getattr(error, "osError", None) or getattr(error, "errno", None)
    if isinstance(number, int) and type(error).__name__ == "ConnectError":
        return os.strerror(number).lower()
    # Twisted's class names describe the error: ConnectionRefusedError, TCPTimedOutError.
    name = type(error).__name__.removesuffix("Error")
    words = "".join(f" {each.lower()}" if each.isupper() else each for each in name).strip()
    return {
        "connection done": "closed by the server",
        "connection lost": "connection reset",
        "t c p timed out": "connecting timed out",
        "timeout": "connecting timed out",
        "": "TLS error",  # OpenSSL's class is called Error
    }.get(words, words)
