"""
Ways to carbon: lines in datagrams, lines or pickles over one TCP connection.
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

LARGEST_DATAGRAM = 1432  # bytes; one Ethernet frame, with IPv6 and room for a tunnel
LARGEST_PICKLE = 500  # samples in one, as carbon's own client; carbon takes 1 MiB
FRESH = 300.0  # seconds a resolved name is trusted by datagrams
PATIENCE = 3.0  # seconds for the last lines to leave when the daemon stops

_log = Logger()

Sample = tuple[str, float]  # path and value
Encode = Callable[[Iterable[Sample], int], Iterable[bytes]]


def lines(samples: Iterable[Sample], stamp: int) -> Iterator[bytes]:
    """
    Carbon's plaintext: path, value, unix seconds.
    """
    for path, value in samples:
        yield f"{path} {value} {stamp}\n".encode()


def pickles(samples: Iterable[Sample], stamp: int) -> Iterator[bytes]:
    """
    Carbon's pickles, each with its length in front: 4 bytes, big-endian.
    """
    pending = iter(samples)
    while batch := [(path, (stamp, value)) for path, value in islice(pending, LARGEST_PICKLE)]:
        data = pickle.dumps(batch, protocol=2)  # what every carbon reads
        yield pack("!L", len(data)) + data


def datagrams(lines: Iterable[bytes]) -> Iterator[bytes]:
    """
    Join whole *lines*, in order, to datagrams of at most LARGEST_DATAGRAM.
    """
    datagram = b""
    for line in lines:
        if len(datagram) + len(line) > LARGEST_DATAGRAM:
            yield datagram
            datagram = b""
        datagram += line
    if datagram:
        yield datagram


class _Outage:
    """
    Says once that carbon is lost, and once that it is back.
    """

    def __init__(self, host: str, port: int) -> None:
        self._where = {"host": host, "port": port}
        self._lasts = False

    def begin(self, reason: object) -> None:
        if not self._lasts:
            _log.warn("carbon at {host}, port {port}: lost, {reason}", reason=reason, **self._where)
        self._lasts = True

    def end(self) -> None:
        if self._lasts:
            _log.info("carbon at {host}, port {port}: back", **self._where)
        self._lasts = False


@implementer(IResolutionReceiver)
class CarbonDatagrams(Service):
    """
    Carbon by UDP: nothing is kept, and nobody knows what arrives.

    Args:
        reactor: resolves names and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: of its plaintext lines by UDP.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor, self._host, self._port = reactor, host, port
        self._outage = _Outage(host, port)
        self._socket: Any = None  # not connected: the reactor would close it when refused
        self._address = ""
        self._found: list[str] = []
        self._fresh_until = 0.0

    def startService(self) -> None:
        """
        Ask for its address.
        """
        Service.startService(self)
        self._resolve()

    def stopService(self) -> Deferred[None]:
        """
        Close.
        """
        Service.stopService(self)
        return self._close()

    def send(self, samples: Iterable[Sample], stamp: int) -> bool:
        """
        Send *samples* as they stood at *stamp* (unix seconds).

        Returns:
            whether they are on their way; False if they cannot be.
        """
        if self._reactor.seconds() >= self._fresh_until:
            self._resolve()
        if self._socket is None:
            return False
        try:
            for datagram in datagrams(lines(samples, stamp)):
                self._socket.write(datagram, (self._address, self._port))
        except OSError as error:
            self._outage.begin(error)
            return False
        self._outage.end()
        return True

    def _resolve(self) -> None:
        self._found = []
        self._fresh_until = self._reactor.seconds() + FRESH
        resolve = self._reactor.nameResolver.resolveHostName
        resolve(self, self._host, self._port, transportSemantics="UDP")

    def resolutionBegan(self, resolutionInProgress: object) -> None:
        """
        Part of `IResolutionReceiver`.
        """

    def addressResolved(self, address: Any) -> None:
        """
        One of its addresses.
        """
        self._found.append(address.host)

    def resolutionComplete(self) -> None:
        """
        All of them are known.
        """
        if not self._found:
            self._fresh_until = 0.0  # ask again at the next export
            if self._socket is None:
                self._outage.begin("its name is not known")
        elif self.running and self._address not in self._found:
            # Carbon binds IPv4 unless told otherwise, and UDP cannot try which one answers.
            self._open(min(self._found, key=isIPv6Address))

    def _open(self, address: str) -> None:
        self._close()
        anywhere = "::" if isIPv6Address(address) else ""
        try:
            self._socket = self._reactor.listenUDP(0, DatagramProtocol(), interface=anywhere)
            self._address = address
        except CannotListenError as error:
            self._fresh_until = 0.0
            self._outage.begin(error)

    def _close(self) -> Deferred[None]:
        closing, self._socket, self._address = self._socket, None, ""
        return maybeDeferred(closing.stopListening) if closing else succeed(None)


@implementer(IPushProducer)
class _Connection(Protocol):
    transport: Any

    def __init__(self) -> None:
        self.behind = False  # more waits for it than the transport's 64 KiB
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
    Carbon by TCP: while it is away the newest export is kept, for its return.

    Args:
        reactor: connects and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: where it takes what *encode* gives.
        encode: `lines` or `pickles`.
    """

    # Twisted's own says a line for each try, all night long; `_Outage` says it once.
    _log = Logger(observer=LogPublisher())

    def __init__(self, reactor: Any, host: str, port: int, encode: Encode) -> None:
        self._reactor = reactor
        self._encode = encode
        self._outage = _Outage(host, port)
        self._connection: _Connection | None = None
        self._newest = b""
        factory = Factory.forProtocol(_Connection)
        factory.noisy = False
        endpoint = HostnameEndpoint(reactor, host, port)
        super().__init__(endpoint, factory, clock=reactor, prepareConnection=self._connected)

    def startService(self) -> None:
        """
        Begin to connect.
        """
        super().startService()
        first = self.whenConnected(failAfterFailures=1)
        first.addErrback(lambda failure: self._lost(failure.getErrorMessage()))

    def stopService(self) -> Deferred[None]:
        """
        Let the last bytes leave, for a moment.
        """
        if self._connection is not None:
            transport = self._connection.transport
            transport.unregisterProducer()  # a paused one would hold the connection
            late = self._reactor.callLater(PATIENCE, transport.abortConnection)
            self._connection.lost.addCallback(lambda _: late.active() and late.cancel())
        return super().stopService()

    def send(self, samples: Iterable[Sample], stamp: int) -> bool:
        """
        Send *samples* as they stood at *stamp* (unix seconds).

        Returns:
            whether they are on their way; False if they wait for carbon.
        """
        data = b"".join(self._encode(samples, stamp))
        if self._connection is not None and self._connection.behind:  # for an interval
            self._outage.begin("it does not read")
            self._connection.transport.abortConnection()
            self._connection = None
        if self._connection is None:
            self._newest = data
            return False
        self._connection.transport.write(data)
        return True

    def _connected(self, proxy: IProtocol) -> None:
        self._connection = cast(_Connection, proxy)
        self._connection.lost.addCallback(self._lost)
        self._outage.end()
        self._connection.transport.write(self._newest)
        self._newest = b""

    def _lost(self, reason: str) -> None:
        self._connection = None
        if self.running:
            self._outage.begin(reason)


WAYS: Mapping[str, Callable[[Any, str, int], CarbonDatagrams | CarbonStream]] = {
    "udp": CarbonDatagrams,
    "tcp": lambda reactor, host, port: CarbonStream(reactor, host, port, lines),
    "pickle": lambda reactor, host, port: CarbonStream(reactor, host, port, pickles),
}
