"""
Accept connections with less work for each than Twisted's port does.
"""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IListeningPort
from twisted.internet.tcp import Port, Server
from twisted.logger import Logger

_log = Logger()

ACCEPT_SECONDS = 0.005  # in which connections are accepted before others are served
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
        tcp.doRead = QuickAcceptor(port).accept


class QuickAcceptor:
    """
    Accepts for a TCP port.

    Most clients have sent their request when their connection is accepted: it is read at
    once, without another turn of the reactor. Many clients that connect together are
    accepted for ACCEPT_SECONDS at a time.

    Args:
        port: listens already.
    """

    def __init__(self, port: Any) -> None:
        self._port = port
        self._accept_by_twisted = port.doRead
        self._needs_address = not getattr(port.factory, "ignores_address", False)
        # `socket.accept` finds out both for each connection, which takes 2 us.
        self._family, self._kind = port.socket.family, port.socket.type

    def accept(self) -> None:
        """
        Accept the connections that wait; the reactor calls this when there are some.
        """
        port = self._port
        accept, family, kind = port.socket._accept, self._family, self._kind
        seconds = port.reactor.seconds
        until = seconds() + ACCEPT_SECONDS
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
                self._begin(socket.socket(family, kind, fileno=descriptor), peer)
            except Exception:
                _log.failure("while a connection begins")
            if seconds() > until or port.disconnecting:
                return

    def _begin(self, accepted: socket.socket, peer: Any) -> None:
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
        transport = port.transport(accepted, protocol, peer, port, number, port.reactor)
        protocol.makeConnection(transport)
        try:
            data = accepted.recv(FIRST_READ)
        except OSError:  # nothing has arrived, or the reactor will find out
            return
        if data:
            try:
                transport.protocol.dataReceived(data)
            except Exception:
                _log.failure("while the first bytes of a connection are received")
                transport.abortConnection()


class QuickServer(Server):
    """
    Twisted's connection, without two strings of its own that name it in logs.
    """

    def __init__(
        self, sock: Any, protocol: Any, client: Any, server: Any, sessionno: int, reactor: Any
    ) -> None:
        # As Server and Connection do; both strings are those of all connections of a protocol.
        FileDescriptor.__init__(self, reactor)
        sock.setblocking(False)
        self.socket = sock
        self.fileno = sock.fileno
        self.protocol = protocol
        if len(client) != 2:
            self._addressType = IPv6Address
        self.server = server
        self.client = client
        self.sessionno = sessionno
        self.hostname = client[0]
        self.logstr = self.repstr = type(protocol).__name__
        reactor.addReader(self)
        self.connected = 1
