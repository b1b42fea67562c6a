"""
Accept connections with less work for each than Twisted's port does.
"""

from __future__ import annotations

import select
import socket
from typing import Any, Protocol

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort, IReadDescriptor
from twisted.internet.tcp import Port, Server
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

_log = Logger()

ACCEPT_SECONDS = 0.005  # in which connections are accepted before others are served
SOME = 32  # connections whose first bytes are read before the time is looked at
FEW = 8  # connections that are accepted together and are no crowd
FIRST_READ = 4096  # bytes; a longer request is read on by the reactor


def accept_quickly(port: IListeningPort) -> None:
    """
    Have *port* accept by `QuickAcceptor`.

    Args:
        port: other than Twisted's TCP port: nothing is changed.
    """
    if type(port) is Port:
        tcp: Any = port
        tcp.transport = QuickServer
        acceptor = QuickAcceptor(port)
        tcp.doRead = acceptor.accept
        tcp.connectionLost = acceptor.end


class QuickAcceptor:
    """
    Accepts for a TCP port.

    Most clients have sent their request when their connection is accepted: it is read at
    once, without another turn of the reactor. Many clients that connect together are
    accepted for ACCEPT_SECONDS at a time; `Newcomers` reads those that have sent nothing yet.

    Args:
        port: listens already.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._accept_by_twisted = port.doRead
        self._newcomers = Newcomers(port.reactor)
        self._needs_address = not getattr(port.factory, "ignores_address", False)
        # `socket.accept` finds out both for each connection, which takes 2 us.
        self._family, self._kind = port.socket.family, port.socket.type

    def end(self, reason: Failure) -> None:
        """
        Accept no more: the port is closed. Connections that wait for their first bytes go on.
        """
        Port.connectionLost(self._port, reason)
        self._newcomers.end()

    def accept(self) -> None:
        """
        Accept the connections that wait; the reactor calls this when there are some.
        """
        port = self._port
        accept, family, kind = port.socket._accept, self._family, self._kind
        seconds = port.reactor.seconds
        until = seconds() + ACCEPT_SECONDS
        before = port.sessionno
        while True:
            try:
                descriptor, peer = accept()
            except BlockingIOError:
                return
            except OSError:
                # Twisted closes connections for which there is no descriptor, and logs it.
                self._accept_by_twisted()
                return
            try:
                many = port.sessionno - before >= FEW
                self._begin(socket.socket(family, kind, fileno=descriptor), peer, many)
            except Exception:
                _log.failure("while a connection begins")
            if seconds() > until or port.disconnecting:
                return

    def _begin(self, accepted: socket.socket, peer: Any, many: bool) -> None:
        port = self._port
        address: IPv4Address | IPv6Address | None = None
        if len(peer) == 2:
            if self._needs_address:
                address = IPv4Address("TCP", *peer)
        else:
            if peer[3]:  # the address of one interface: its name belongs to the text
                numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                peer = (socket.getnameinfo(peer, numeric)[0], *peer[1:])
            address = IPv6Address("TCP", *peer)
        protocol = port.factory.buildProtocol(address)
        if protocol is None:
            accepted.close()
            return
        number = port.sessionno
        port.sessionno = number + 1
        data = _read(accepted)
        waits = data is None and (many or self._newcomers.waiting)
        transport = QuickServer(accepted, protocol, peer, port, number, port.reactor, not waits)
        if waits:
            self._newcomers.add(transport)
        protocol.makeConnection(transport)
        if data:
            _receive(transport, data)


@implementer(IReadDescriptor)
class Newcomers:
    """
    Connections of a crowd whose first bytes have not arrived when they are accepted.

    For the reactor all of them are one descriptor, and their first bytes are read for
    ACCEPT_SECONDS at a time: if thousands of clients send their requests together, others are
    served in between.

    Args:
        reactor: the reactor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._waiting: dict[int, QuickServer] = {}
        self._is_last = False  # no more are accepted
        reactor.addReader(self)

    @property
    def waiting(self) -> bool:
        """
        Whether there are some.
        """
        return bool(self._waiting)

    def add(self, connection: QuickServer) -> None:
        """
        Read the first bytes of *connection* when they arrive.
        """
        number = connection.fileno()
        self._epoll.register(number, select.EPOLLIN)
        self._waiting[number] = connection
        connection.newcomers = self

    def discard(self, connection: QuickServer) -> None:
        """
        Forget *connection*. Its socket is still open.
        """
        number = connection.fileno()
        connection.newcomers = None
        del self._waiting[number]
        self._epoll.unregister(number)
        self._end_if_last()

    def end(self) -> None:
        """
        End when the last of those that wait has sent something, or is lost.
        """
        self._is_last = True
        self._end_if_last()

    # IReadDescriptor.

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "newcomers"

    def doRead(self) -> None:
        seconds = self._reactor.seconds
        until = seconds() + ACCEPT_SECONDS
        while not self._epoll.closed:
            ready = self._epoll.poll(0, SOME)
            for number, _ in ready:
                connection = self._waiting.get(number)
                if connection is not None:  # it was not lost by another's bytes
                    self._begin(connection)
            if len(ready) < SOME or seconds() > until:
                return

    def connectionLost(self, reason: Failure) -> None:
        for connection in tuple(self._waiting.values()):
            connection.connectionLost(reason)
        self.end()

    def _begin(self, connection: QuickServer) -> None:
        self.discard(connection)
        if connection.disconnecting:
            return
        connection.startReading()
        data = _read(connection.socket)
        if data:
            _receive(connection, data)

    def _end_if_last(self) -> None:
        if self._is_last and not self._waiting and not self._epoll.closed:
            self._reactor.removeReader(self)
            self._epoll.close()


def _read(connection: socket.socket) -> bytes | None:
    """
    Return what has arrived; None if nothing has, and b"" if the reactor has to find out.
    """
    try:
        return connection.recv(FIRST_READ, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


def _receive(transport: Any, data: bytes) -> None:
    try:
        transport.protocol.dataReceived(data)
    except Exception:
        _log.failure("while the first bytes of a connection are received")
        transport.abortConnection()


class ReadsConnections(Protocol):
    """
    Reads connections instead of the reactor.
    """

    def start_reading(self, connection: QuickServer) -> None:
        """
        Wait for bytes of *connection*.
        """

    def stop_reading(self, connection: QuickServer) -> None:
        """
        Undo `start_reading`. The socket is still open.
        """


class EmptyList:
    """
    A descriptor of the attribute *name* that sets it to a list of its own when it is first used.

    With `__getattr__` instead, the interpreter would not speed up the look-ups of all others.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, found: Any, _: type) -> list[bytes]:
        waiting: list[bytes] = []
        setattr(found, self._name, waiting)
        return waiting


class QuickServer(Server):
    """
    Twisted's connection with less memory: attributes that are the same for all connections, or
    that few of them need, are not set when it begins. It takes 113 bytes instead of 313.

    Attributes:
        newcomers: has this connection, if its first bytes have not arrived.
        coalesced: reads this connection; None if the reactor does.
        is_reading: one of both does, since the first bytes.
    """

    newcomers: Newcomers | None = None
    coalesced: ReadsConnections | None = None
    is_reading = True
    # Of a connection that has begun, as Connection and FileDescriptor set them.
    connected = 1
    _tempDataLen = 0
    # What is to be written takes 56 bytes: most subscribers' bytes go to the kernel directly.
    _tempDataBuffer = EmptyList("_tempDataBuffer")
    protocol: Any = None
    socket: Any = None

    def __init__(
        self,
        sock: Any,
        protocol: Any,
        client: Any,
        server: Any,
        sessionno: int,
        reactor: Any,
        reads: bool = True,
    ) -> None:
        self.reactor = reactor
        sock.setblocking(False)
        self.socket = sock
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        if reads:
            reactor.addReader(self)

    def fileno(self) -> int:
        return -1 if self.socket is None else self.socket.fileno()

    def logPrefix(self) -> str:
        return type(self.protocol or self).__name__

    def __repr__(self) -> str:
        return self.logPrefix()

    def startReading(self) -> None:
        if not self.is_reading:  # most never stop, and need no attribute of their own
            self.is_reading = True
        if self.coalesced is None:
            self.reactor.addReader(self)
        else:
            self.coalesced.start_reading(self)

    def stopReading(self) -> None:
        self.is_reading = False
        if self.coalesced is None:
            self.reactor.removeReader(self)
        else:
            self.coalesced.stop_reading(self)

    def readConnectionLost(self, reason: Failure) -> None:
        self.is_reading = False
        super().readConnectionLost(reason)

    def connectionLost(self, reason: Failure) -> None:
        if self.socket is None:  # it was aborted, and then an exception ended it
            return
        if self.newcomers is not None:
            self.newcomers.discard(self)
        if self.coalesced is not None:
            self.coalesced.stop_reading(self)
        self.fileno = self.socket.fileno  # type: ignore[method-assign]  # Twisted deletes it
        super().connectionLost(reason)
