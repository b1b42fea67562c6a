"""
Hands connections over to the worker that has their session.

Each request of a client that polls names its session, and may arrive on another
connection at another worker. That worker sends the connection itself (SCM_RIGHTS,
unix(7)), with the bytes that it has received, to the worker that has the session.
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
from zlib import crc32

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.h1 import Http1Connection
from rt_twisted.http.interfaces import IConnectionHandoff, IExchange
from rt_twisted.http.server import HttpServer
from rt_twisted.http.stream_handle import PeerInfo
from rt_twisted.net.transports import (
    close_transport,
    direct_send,
    release_descriptor,
    replace_protocol,
)

MAX_MESSAGE = 256 << 10  # bytes: a request head, and what the server buffers of a body
MAX_RECEIVED = 100  # connections that are received before the reactor serves others

_log = Logger()
_receiving = _log.failureHandler("while receiving a connection of another worker")


class HandoffSockets:
    """
    A pair of sockets for each worker. The parent keeps them open, so that connections
    that are sent while a worker is replaced reach its replacement.

    Args:
        size: how many workers there are.

    Attributes:
        daemon_id: a random part of the ids that all workers of this daemon create.
    """

    def __init__(self, size: int) -> None:
        self.daemon_id = secrets.token_hex(3)
        self._pairs = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(size)
        ]
        for one in chain(*self._pairs):
            one.setblocking(False)

    def of(self, number: int) -> list[int]:
        """
        Return the descriptors that worker *number* inherits.

        The first is the socket that it receives from; the others send to each worker.
        """
        own = self._pairs[number - 1][0]
        return [own.fileno(), *[there.fileno() for _, there in self._pairs]]

    def close(self) -> None:
        """
        Close all sockets, when no more workers will be started.
        """
        for one in chain(*self._pairs):
            one.close()


@implementer(IConnectionHandoff, IReadDescriptor)
class ConnectionHandoff:
    """
    Sends connections to other workers, and receives theirs.

    Args:
        reactor: the reactor.
        daemon_id: see `HandoffSockets`.
        number: of this worker, from 1 on.
        receiving: the socket that connections are received from.
        sending: the sockets to each worker.

    Attributes:
        server: serves the received connections; set by `start`.
    """

    server: HttpServer

    def __init__(
        self,
        reactor: Any,
        daemon_id: str,
        number: int,
        receiving: socket.socket,
        sending: Sequence[socket.socket],
    ) -> None:
        self.id_prefix = f"{daemon_id}w{number}"
        self._reactor = reactor
        self._number = number
        self._receiving = receiving
        self._sending = sending
        self._ids = re.compile(rf"{daemon_id}w([1-9]\d*)-")

    @classmethod
    def inherited(
        cls, reactor: Any, daemon_id: str, number: int, descriptors: Sequence[int]
    ) -> Self:
        """
        Return the handoff of a worker that inherited the *descriptors* of `HandoffSockets.of`.
        """
        receiving, *sending = [socket.socket(fileno=one) for one in descriptors]
        return cls(reactor, daemon_id, number, receiving, sending)

    def start(self, server: HttpServer) -> None:
        """
        Receive connections, and serve them by *server*.
        """
        self.server = server
        self._reactor.addReader(self)

    def owner(self, id: str) -> int | None:
        found = self._ids.match(id)
        number = int(found[1]) if found is not None else self._number
        return number if number != self._number and number <= len(self._sending) else None

    def choose(self, key: str) -> int | None:
        number = crc32(key.encode(errors="surrogateescape")) % len(self._sending) + 1
        return number if number != self._number else None

    def hand_off(self, exchange: IExchange, number: int) -> Deferred[bool]:
        sent: Deferred[bool] = exchange.hand_off(partial(self._send, self._sending[number - 1]))
        return sent

    def _send(
        self, socket_: socket.socket, transport: Any, peer: PeerInfo, data: bytes
    ) -> Callable[[Any], object] | None:
        label = json.dumps([peer.host, peer.secure]).encode() + b"\n"
        plain = direct_send(transport) is not None
        near, far = (None, transport.getHandle()) if plain else socket.socketpair()
        try:
            socket.send_fds(socket_, [label, data], [far.fileno()])
        except OSError as error:  # for example, the other worker does not keep up
            _log.debug("cannot hand a connection over: {reason}", reason=str(error))
            if near is not None:
                near.close()
                far.close()
            return None
        if near is None:
            return release_descriptor
        far.close()
        return partial(self._forward, near)

    def _forward(self, near: socket.socket, transport: Any) -> None:
        """
        Forward a TLS connection, whose state cannot leave this process.
        """
        inside, outside = _ForwardingEnd(transport), _ForwardingEnd()
        with near:
            there = self._adopt(near, inside)
        outside.other = there
        replace_protocol(transport, outside)
        transport.registerProducer(there, True)
        there.registerProducer(transport, True)

    def doRead(self) -> None:
        for _ in range(MAX_RECEIVED):
            try:
                message, descriptors, _, _ = socket.recv_fds(self._receiving, MAX_MESSAGE, 1)
            except BlockingIOError:
                return
            for descriptor in descriptors:
                with _receiving, socket.socket(fileno=descriptor) as received:
                    self._serve(received, message)

    def _serve(self, received: socket.socket, message: bytes) -> None:
        label, _, data = message.partition(b"\n")
        connection = Http1Connection(self.server.context, PeerInfo(*json.loads(label)))
        self._adopt(received, connection)
        connection.dataReceived(data)

    def _adopt(self, ours: socket.socket, protocol: Any) -> Any:
        """
        Return the transport of *protocol* on the socket *ours*.
        """
        ours.setblocking(False)
        return self._reactor.adoptStreamConnection(
            ours.fileno(), ours.family, _SingleProtocolFactory(protocol)
        )

    def fileno(self) -> int:
        return self._receiving.fileno()

    def connectionLost(self, reason: Failure) -> None:
        pass  # the reactor stops

    def logPrefix(self) -> str:
        return "handoff"


@dataclass(frozen=True, slots=True)
class _SingleProtocolFactory:
    """
    A factory that returns a given protocol.
    """

    protocol: Any

    def buildProtocol(self, address: object) -> Any:
        return self.protocol


class _ForwardingEnd(Protocol):
    """
    One end of a forwarded connection; writes what it receives to the other.
    """

    def __init__(self, other: Any = None) -> None:
        self.other = other

    def dataReceived(self, data: bytes) -> None:
        self.other.write(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.other.unregisterProducer()
        close_transport(self.other)
