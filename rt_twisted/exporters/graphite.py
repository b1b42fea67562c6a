"""
The hub's numbers in Graphite, as carbon's lines: path, value, unix seconds.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from heapq import nlargest
from operator import itemgetter
from typing import Any, cast

from twisted.application.internet import ClientService
from twisted.application.service import MultiService, Service
from twisted.internet.abstract import isIPv6Address
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IProtocol, IPushProducer, IResolutionReceiver
from twisted.internet.protocol import DatagramProtocol, Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.interfaces import IExporter, Numbers

LONGEST = 200  # letters; a file name has 255 bytes, and whisper adds to it
MOST_CHANNELS = 1000  # each is a file on carbon's disk, and clients choose their names
LARGEST_DATAGRAM = 1432  # bytes; one Ethernet frame, with IPv6 and room for a tunnel
FRESH = 300.0  # seconds a resolved name is trusted by datagrams
PATIENCE = 3.0  # seconds for the last lines to leave when the daemon stops

TOTALS = ("readers", "behind", "history_bytes", "joined", "published", "delivered", "gaps")

_UNSAFE = re.compile(r"[^A-Za-z0-9_:@-]")
_PATH = re.compile(r"[A-Za-z0-9_:@-]+(\.[A-Za-z0-9_:@-]+)*")
_log = Logger()
_exporting = _log.failureHandler("while exporting to carbon")


def component(name: str) -> str:
    """
    One component of a carbon path from any text: clients choose channels' names.

    1 to LONGEST of ASCII letters, digits, "-", "_", ":" and "@"; "_" for any other.
    "-" stands for a first "_", with which the daemon's own names begin. Different
    texts may give the same component.
    """
    safe = _UNSAFE.sub("_", name[:LONGEST])
    return safe if safe and safe[0] != "_" else "-" + safe[1:]


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


@implementer(IExporter)
class GraphiteExporter(MultiService):
    """
    Sends numbers to carbon while it runs as a service.

    The MOST_CHANNELS channels with the most readers are shown, those with the same
    component as their sum; the readers of all others are summed as `_other`.
    A channel that carbon saw and whose last reader left is a zero, once.

    Args:
        reactor: connects, resolves names and keeps time.
        host: carbon's name, or its IPv4 or IPv6 address.
        port: where carbon takes plaintext lines by *protocol*.
        path: in front of every name; up to LONGEST characters, a last dot is ignored.
        protocol: "udp" or "tcp".
        node: tells daemons apart that share a path: one component after it.

    Raises:
        ValueError: one sentence about the wrong argument.
    """

    def __init__(
        self, reactor: Any, host: str, port: int, path: str, protocol: str, node: str = ""
    ) -> None:
        MultiService.__init__(self)
        ways: dict[str, type[_Datagrams | _Stream]] = {"udp": _Datagrams, "tcp": _Stream}
        path = path.removesuffix(".")
        if protocol not in ways:
            raise ValueError(f"graphite's protocol is udp or tcp, not {protocol!r}")
        if not host or not 0 < port < 65536:
            raise ValueError(f"graphite needs a host and a port, not {host!r} and {port}")
        if len(path) > LONGEST or not _PATH.fullmatch(path):
            raise ValueError(f"graphite's path is words with dots between, not {path!r}")
        self._prefix = f"{path}.{component(node)}." if node else f"{path}."
        self._seen: dict[str, str] = {}  # channel -> component, as carbon last saw them
        self._carbon = ways[protocol](reactor, host, port)
        MultiService.addService(self, self._carbon)

    def export(self, numbers: Numbers, now: float) -> None:
        """
        See `IExporter.export`. Never raises; what carbon lacks is logged.
        """
        if not self.running:
            return
        with _exporting:
            biggest = nlargest(MOST_CHANNELS, numbers.channels.items(), key=itemgetter(1))
            shown = {channel: component(channel) for channel, _ in biggest}
            if self._carbon.send(self._lines(numbers, shown, int(now))):
                self._seen = shown

    def _lines(self, numbers: Numbers, shown: dict[str, str], stamp: int) -> list[bytes]:
        values: Counter[str] = Counter()
        for channel, name in (self._seen | shown).items():
            if channel in shown or channel not in numbers.channels:
                values[name] += numbers.channels.get(channel, 0)
        values["_other"] = sum(numbers.channels.values()) - values.total()
        values["_daemon.channels"] = len(numbers.channels)
        for total in TOTALS:
            values[f"_daemon.{total}"] = getattr(numbers, total)
        for cause, count in numbers.closed.items():
            values[f"_daemon.closed.{component(cause)}"] += count
        return [f"{self._prefix}{name} {n} {stamp}\n".encode() for name, n in values.items()]


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
class _Datagrams(Service):
    """
    Carbon by UDP: nothing is kept, and nobody knows what arrives.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor, self._host, self._port = reactor, host, port
        self._outage = _Outage(host, port)
        self._socket: Any = None  # not connected: the reactor would close it when refused
        self._address = ""
        self._found: list[str] = []
        self._fresh_until = 0.0

    def startService(self) -> None:
        Service.startService(self)
        self._resolve()

    def stopService(self) -> Deferred[None]:
        Service.stopService(self)
        return self._close()

    def send(self, lines: Iterable[bytes]) -> bool:
        if self._reactor.seconds() >= self._fresh_until:
            self._resolve()
        if self._socket is None:
            return False
        try:
            for datagram in datagrams(lines):
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
        pass

    def addressResolved(self, address: Any) -> None:
        self._found.append(address.host)

    def resolutionComplete(self) -> None:
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


class _Stream(ClientService):
    """
    Carbon by TCP: while it is away the newest export is kept, for its return.
    """

    def __init__(self, reactor: Any, host: str, port: int) -> None:
        self._reactor = reactor
        self._outage = _Outage(host, port)
        self._connection: _Connection | None = None
        self._newest = b""
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
            transport.unregisterProducer()  # a paused one would hold the connection
            late = self._reactor.callLater(PATIENCE, transport.abortConnection)
            self._connection.lost.addCallback(lambda _: late.active() and late.cancel())
        return super().stopService()

    def send(self, lines: Iterable[bytes]) -> bool:
        data = b"".join(lines)
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
