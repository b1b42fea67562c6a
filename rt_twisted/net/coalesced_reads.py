"""
Read connections that send often and little, such as live publishers, some at a time.
"""

from __future__ import annotations

import select
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.net.accepting import QuickServer

_log = Logger()

INTERVAL = 0.005  # seconds that bytes wait for what follows them, and for other connections
MANY = 8  # publishers: with fewer the processor time is small
SOME = 64  # connections that are read before the time is looked at
SLICE = 0.008  # seconds in which connections are read before others are served


@implementer(IReadDescriptor)
class CoalescedReads:
    """
    Connections that are read together, INTERVAL after one of them has sent something. Fewer than
    *many* are read at once: their frames need not wait.

    A process that wakes up for each frame of each publisher runs on cold caches, and ffmpeg sends
    each frame by RTMP in two pieces. For the reactor all connections are one descriptor.

    Args:
        reactor: the reactor.
        many: from how many connections on they wait for each other.
    """

    def __init__(self, reactor: Any, many: int = MANY) -> None:
        self._reactor = reactor
        self._many = many
        self._epoll = select.epoll()
        self._reading: dict[int, QuickServer] = {}
        reactor.addReader(self)

    def add(self, connection: QuickServer) -> None:
        """
        Read *connection* with the others from now on.
        """
        if connection.coalesced is None:
            _let_read(self, connection)

    def discard(self, connection: QuickServer) -> None:
        """
        Let the reactor read *connection* again.
        """
        if connection.coalesced is self:
            _let_read(None, connection)

    def start_reading(self, connection: QuickServer) -> None:
        """
        Wait for bytes of *connection*, which was added.
        """
        number = connection.fileno()
        if number >= 0 and number not in self._reading:
            self._epoll.register(number, select.EPOLLIN)
            self._reading[number] = connection

    def stop_reading(self, connection: QuickServer) -> None:
        """
        Undo `start_reading`. The socket is still open.
        """
        number = connection.fileno()
        if self._reading.get(number) is connection:
            del self._reading[number]
            self._epoll.unregister(number)

    # IReadDescriptor.

    def fileno(self) -> int:
        return -1 if self._epoll.closed else self._epoll.fileno()

    def logPrefix(self) -> str:
        return "coalesced reads"

    def doRead(self) -> None:
        if len(self._reading) < self._many:
            self._read()
            return
        self._reactor.removeReader(self)
        self._reactor.callLater(INTERVAL, self._on_interval)

    def connectionLost(self, reason: Failure) -> None:
        for connection in tuple(self._reading.values()):
            connection.connectionLost(reason)
        self._epoll.close()

    def _on_interval(self) -> None:
        if self._epoll.closed:
            return
        count = self._read()
        if self._epoll.poll(0, 1):  # a client that sends faster than it is read does not wait
            self._reactor.callLater(0, self._on_interval)
        elif count > 1 and len(self._reading) >= self._many:
            self._reactor.callLater(INTERVAL, self._on_interval)
        else:
            self._reactor.addReader(self)

    def _read(self) -> int:
        """
        Read each connection that has sent something once, and return how many there are.
        """
        seconds = self._reactor.seconds
        until = seconds() + SLICE
        count = 0
        while True:
            ready = self._epoll.poll(0, SOME)
            for number, _ in ready:
                connection = self._reading.get(number)
                if connection is not None:  # it was not lost by another's bytes
                    self._read_one(connection)
            count += len(ready)
            if len(ready) < SOME or count >= len(self._reading) or seconds() > until:
                return count

    def _read_one(self, connection: QuickServer) -> None:
        """
        Read *connection*. An exception ends no more than this connection.
        """
        why: Exception | None
        try:
            why = connection.doRead()
        except Exception as error:
            _log.failure("while serving {connection}", connection=connection)
            why = error
        if why is None:
            return
        if connection.connected:
            self.stop_reading(connection)  # it may be closed in one direction only
        try:
            self._reactor._disconnectSelectable(connection, why, True)
        except Exception:
            _log.failure("while {connection} ends", connection=connection)


def _let_read(reads: CoalescedReads | None, connection: QuickServer) -> None:
    """
    Let *reads* read an open connection, or the reactor if None, as soon as it is to be read.
    """
    if connection.connected:
        was_reading = connection.is_reading
        connection.stopReading()
        connection.coalesced = reads
        if was_reading:
            connection.startReading()


def quick_server_below(transport: Any) -> QuickServer | None:
    """
    Return the connection that carries *transport*; None if it is no TCP connection of the daemon.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport if isinstance(transport, QuickServer) else None
