"""
Connections that belong to another worker, passed on to it.

A client that polls says with each request which session it is in, and each may come
by another connection, to another worker. That one gives the connection itself away
(SCM_RIGHTS, unix(7)) with what has come by it, and hears no more of it.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any, Self

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.h1 import Http1Connection
from rt_twisted.http.interfaces import IConnectionHandoff, IExchange, PeerInfo
from rt_twisted.http.server import HttpServer
from rt_twisted.net.transports import (
    close_transport,
    direct_send,
    release_descriptor,
    replace_protocol,
)

MOST = 256 << 10  # bytes of a message: a head, and what the front keeps of a body
AT_ONCE = 100  # connections that are taken in before others have their turn

_log = Logger()
_taking_in = _log.failureHandler("while taking in a connection")


class HandoffSockets:
    """
    A way into each worker, which keeps what is on it while another worker is put in
    the place of one that ended.

    Args:
        size: how many workers.
    """

    def __init__(self, size: int) -> None:
        self.mark = secrets.token_hex(3)  # of this daemon
        self._pairs = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(size)
        ]
        for one in chain(*self._pairs):
            one.setblocking(False)

    def of(self, number: int) -> list[int]:
        """
        The descriptors that worker *number* gets: its own end, and the way to each.
        """
        own = self._pairs[number - 1][0]
        return [own.fileno(), *[there.fileno() for _, there in self._pairs]]

    def close(self) -> None:
        """
        No more workers will be started.
        """
        for one in chain(*self._pairs):
            one.close()


@implementer(IConnectionHandoff, IReadDescriptor)
class ConnectionHandoff:
    """
    The other workers, as one of them sees them.

    Args:
        reactor: the reactor.
        mark: the daemon's.
        number: which worker this is, from 1 on.
        inbox: where connections come in.
        outboxes: the way to each worker.
    """

    front: HttpServer

    def __init__(
        self,
        reactor: Any,
        mark: str,
        number: int,
        inbox: socket.socket,
        outboxes: Sequence[socket.socket],
    ) -> None:
        self.mark = f"{mark}w{number}"
        self._reactor = reactor
        self._number = number
        self._inbox = inbox
        self._outboxes = outboxes
        self._ids = re.compile(rf"{mark}w([1-9]\d*)-")

    @classmethod
    def inherited(cls, reactor: Any, mark: str, number: int, descriptors: Sequence[int]) -> Self:
        """
        Made from what `Ways.of` says.
        """
        inbox, *outboxes = [socket.socket(fileno=one) for one in descriptors]
        return cls(reactor, mark, number, inbox, outboxes)

    def start(self, front: HttpServer) -> None:
        """
        Take in connections for *front*.
        """
        self.front = front
        self._reactor.addReader(self)

    def owner(self, id: str) -> int | None:
        """
        See `ISiblings`.
        """
        found = self._ids.match(id)
        number = int(found[1]) if found is not None else self._number
        return number if number != self._number and number <= len(self._outboxes) else None

    # Away from here.

    def hand_off(self, exchange: IExchange, number: int) -> Deferred[bool]:
        """
        See `ISiblings`.
        """
        passed: Deferred[bool] = exchange.hand_off(partial(self._send, self._outboxes[number - 1]))
        return passed

    def _send(
        self, outbox: socket.socket, transport: Any, origin: PeerInfo, data: bytes
    ) -> Callable[[Any], object] | None:
        label = json.dumps([origin.host, origin.secure]).encode() + b"\n"
        plain = direct_send(transport) is not None
        near, far = (None, transport.getHandle()) if plain else socket.socketpair()
        try:
            socket.send_fds(outbox, [label, data], [far.fileno()])
        except OSError as error:  # the sibling does not keep up, say
            _log.debug("a connection is not passed on: {reason}", reason=str(error))
            if near is not None:
                near.close()
                far.close()
            return None
        if near is None:
            return release_descriptor
        far.close()
        return partial(self._relay, near)

    def _relay(self, near: socket.socket, transport: Any) -> None:
        """
        TLS cannot be given away: its state is in this process.
        """
        inside, outside = _End(transport), _End()
        with near:
            there = self._adopt(near, inside)
        outside.other = there
        replace_protocol(transport, outside)
        transport.registerProducer(there, True)
        there.registerProducer(transport, True)

    # To here.

    def doRead(self) -> None:
        """
        See `IReadDescriptor`.
        """
        for _ in range(AT_ONCE):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._inbox, MOST, 1)
            except BlockingIOError:
                return
            for descriptor in descriptors:
                with _taking_in, socket.socket(fileno=descriptor) as received:
                    self._take_in(received, message)

    def _take_in(self, received: socket.socket, message: bytes) -> None:
        label, _, data = message.partition(b"\n")
        connection = Http1Connection(self.front.context, PeerInfo(*json.loads(label)))
        self._adopt(received, connection)
        connection.dataReceived(data)

    def _adopt(self, ours: socket.socket, protocol: Any) -> Any:
        """
        Returns:
            the transport.
        """
        ours.setblocking(False)
        return self._reactor.adoptStreamConnection(ours.fileno(), ours.family, _Just(protocol))

    def fileno(self) -> int:
        """
        See `IFileDescriptor`.
        """
        return self._inbox.fileno()

    def connectionLost(self, reason: Failure) -> None:
        """
        See `IFileDescriptor`: the reactor ends.
        """

    def logPrefix(self) -> str:
        """
        What Twisted calls this in its log.
        """
        return "siblings"


@dataclass(frozen=True, slots=True)
class _Just:
    """
    A factory of one protocol.
    """

    protocol: Any

    def buildProtocol(self, address: object) -> Any:
        return self.protocol


class _End(Protocol):
    """
    One end of a relay.
    """

    def __init__(self, other: Any = None) -> None:
        self.other = other

    def dataReceived(self, data: bytes) -> None:
        self.other.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.other.unregisterProducer()
        close_transport(self.other)
