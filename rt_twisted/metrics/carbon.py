"""
Connections to carbon: lines in datagrams, lines or pickles over one TCP connection.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from struct import pack
from typing import Any, cast

from twisted.application.internet import ClientService
from twisted.application.service import Service
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocol, IPushProducer, IResolutionReceiver
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.logger import Logger, LogPublisher
from twisted.python.failure import Failure
from zope.interface import implementer

MAX_DATAGRAM = 1432  # bytes; one Ethernet frame, with IPv6 and room for a tunnel
MAX_PICKLE_SAMPLES = 500  # as carbon's own client; carbon accepts 1 MiB
ADDRESS_SECONDS = 300.0  # for which datagrams use a resolved address
CLOSE_SECONDS = 3.0  # for the last lines to be sent when the daemon stops

_log = Logger()

Sample = tuple[str, float]  # path and value
Encode = Callable[[Iterable[Sample], int], Iterable[bytes]]


def lines(samples: Iterable[Sample], stamp: int) -> Iterator[bytes]:
    """
    Encode *samples* as carbon's plaintext: path, value, unix seconds.
    """
    for path, value in samples:
        yield f"{path} {value} {stamp}\n".encode()


def pickles(samples: Iterable[Sample], stamp: int) -> Iterator[bytes]:
    """
    Encode *samples* as carbon's pickles, each after its length: 4 bytes, big-endian.
    """
    pending = iter(samples)
    while batch := [(path, (stamp, value)) for path, value in islice(pending, MAX_PICKLE_SAMPLES)]:
        data = pickle.dumps(batch, protocol=2)  # what every carbon reads
        yield pack("!L", len(data)) + data


def datagrams(lines: Iterable[bytes]) -> Iterator[bytes]:
    """
    Join whole *lines*, in order, to datagrams of at most MAX_DATAGRAM bytes.
    """
    datagram = b""
    for line in lines:
        if len(datagram) + len(line) > MAX_DATAGRAM:
            yield datagram
            datagram = b""
        datagram += line
    if datagram:
        yield datagram


class _OutageLog:
    """
    Logs once that carbon is lost, and once that it is back.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = {"host": host, "port": port}
        self._lost = False

    def begin(self, reason: object) -> None:
        if not self._lost:
            _log.warn("carbon at {host}, port {port}: lost, {reason}", reason=reason, **self._where)
        self._lost = True

    def end(self) -> None:
        if self._lost:
            _log.info("carbon at {host}, port {port}: back", **self._where)
        self._lost = False


@implementer(IResolutionReceiver)
class CarbonDatagrams(Service):
    """
    Carbon by UDP: no sample is kept, and lost datagrams are not noticed.

    Args:
        reactor: resolves names and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: of its plaintext lines by UDP.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor, self._host, self._port = reactor, host, port
        self._outage_log = _OutageLog(host, port)
        self._socket: Any = None  # not connected: the reactor would close it when refused
        self._address = ""
        self._resolved: list[str] = []
        self._resolved_until = 0.0

    def startService(self) -> None:
        Service.startService(self)
        self._resolve()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return self._close()

    def send(self, samples: Iterable[Sample], stamp: int) -> bool:
        """
        Send *samples* of the time *stamp* (unix seconds).

        Returns:
            Whether they were sent; False if there is no address or socket.
        """
        if self._reactor.seconds() >= self._resolved_until:
            self._resolve()
        if self._socket is None:
            return False
        try:
            for datagram in datagrams(lines(samples, stamp)):
                self._socket.write(datagram, (self._address, self._port))
        except OSError as error:
            self._outage_log.begin(error)
            return False
        self._outage_log.end()
        return True

    def _resolve(self) -> None:
        self._resolved = []
        self._resolved_until = self._reactor.seconds() + ADDRESS_SECONDS
        resolve = self._reactor.nameResolver.resolveHostName
        resolve(self, self._host, self._port, transportSemantics="UDP")

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        pass

    def addressResolved(self, address: Any) -> None:
        self._resolved.append(address.host)

    def resolutionComplete(self) -> None:
        if not self._resolved:
            self._resolved_until = 0.0  # resolve again at the next export
            if self._socket is None:
                self._outage_log.begin("its name cannot be resolved")
        elif self.running and self._address not in self._resolved:
            # Carbon binds IPv4 by default, and UDP cannot find out which address responds.
            self._open(min(self._resolved, key=isIPv6Address))

    def _open(self, address: str) -> None:
        self._close()
        anywhere = "::" if isIPv6Address(address) else ""
        try:
            self._socket = self._reactor.listenUDP(0, DatagramProtocol(), interface=anywhere)
            self._address = address
        except CannotListenError as error:
            self._resolved_until = 0.0
            self._outage_log.begin(error)

    def _close(self) -> Deferred[None]:
        closing, self._socket, self._address = self._socket, None, ""
        return maybeDeferred(closing.stopListening) if closing else succeed(None)


@implementer(IPushProducer)
class _Connection(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.behind = False  # the transport's buffer of 64 KiB is full
        self.lost: Deferred[str] = Deferred()

    def connectionMade(self) -> None:
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.lost.callback(reason.getErrorMessage())

    def pauseProducing(self) -> None:
        self.behind = True

    def resumeProducing(self) -> None:
        self.behind = False

    def stopProducing(self) -> None:
        pass


class CarbonStream(ClientService):
    """
    Carbon by TCP: while it is unavailable the newest export is kept, and sent later.

    Args:
        reactor: connects and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: that accepts the output of *encode*.
        encode: `lines` or `pickles`.
    """

    # Twisted logs a line for each attempt; `_OutageLog` logs an outage once.
    _log = Logger(observer=LogPublisher())

    def __init__(self, reactor: Any, host: str, port: int, encode: Encode) -> None:
        self._reactor = reactor
        self._encode = encode
        self._outage_log = _OutageLog(host, port)
        self._connection: _Connection | None = None
        self._unsent = b""
        factory = Factory.forProtocol(_Connection)
        factory.noisy = False
        endpoint = HostnameEndpoint(reactor, host, port)
        super().__init__(endpoint, factory, clock=reactor, prepareConnection=self._connected)

    def startService(self) -> None:
        super().startService()
        first = self.whenConnected(failAfterFailures=1)
        first.addErrback(lambda failure: self._lost(failure.getErrorMessage()))

    def stopService(self) -> Deferred[None]:
        if self._connection is not None:
            transport = self._connection.transport
            transport.unregisterProducer()  # a paused one would keep the connection open
            timeout = self._reactor.callLater(CLOSE_SECONDS, transport.abortConnection)
            self._connection.lost.addCallback(lambda _: timeout.active() and timeout.cancel())
        return super().stopService()

    def send(self, samples: Iterable[Sample], stamp: int) -> bool:
        """
        Send *samples* of the time *stamp* (unix seconds).

        Returns:
            Whether they were sent; False if they wait for a connection.
        """
        data = b"".join(self._encode(samples, stamp))
        if self._connection is not None and self._connection.behind:  # for a whole interval
            self._outage_log.begin("it does not read its input")
            self._connection.transport.abortConnection()
            self._connection = None
        if self._connection is None:
            self._unsent = data
            return False
        self._connection.transport.write(data)
        return True

    def _connected(self, proxy: IProtocol) -> None:
        self._connection = cast(_Connection, proxy)
        self._connection.lost.addCallback(self._lost)
        self._outage_log.end()
        self._connection.transport.write(self._unsent)
        self._unsent = b""

    def _lost(self, reason: str) -> None:
        self._connection = None
        if self.running:
            self._outage_log.begin(reason)


PROTOCOLS: Mapping[str, Callable[[Any, str, int], CarbonDatagrams | CarbonStream]] = {
    "udp": CarbonDatagrams,
    "tcp": lambda reactor, host, port: CarbonStream(reactor, host, port, lines),
    "pickle": lambda reactor, host, port: CarbonStream(reactor, host, port, pickles),
}
