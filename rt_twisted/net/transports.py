"""
Access to Twisted's connections beyond their interfaces.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocol, IPullProducer
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

Send = Callable[[Any], int]

NOTSENT_LOWAT = 16384  # bytes: a stalled subscriber then hides 0.15 MB in the kernel, not 3 to 4


def direct_socket(transport: Any) -> socket.socket | None:
    """
    Return the socket of a plain connection; None for TLS and others.

    Its `send` may be called while the transport has nothing buffered. It returns how many
    bytes the kernel took, and raises BlockingIOError for none.
    """
    get_handle = getattr(transport, "getHandle", None)
    handle = None if get_handle is None else get_handle()
    return handle if isinstance(handle, socket.socket) else None


def direct_send(transport: Any) -> Send | None:
    """
    Return the `send` of the socket of a plain connection; see `direct_socket`.
    """
    direct = direct_socket(transport)
    return None if direct is None else direct.send


def replace_protocol(transport: Any, protocol: IProtocol) -> None:
    """
    Make *protocol* receive the data and the end of *transport* from now on.
    """
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol
        if "repstr" in getattr(transport, "__dict__", ()):
            # Not in an interface: two strings of 80 bytes for each connection, which name its
            # first protocol. Every connection of a protocol shares one instead.
            transport.logstr = transport.repstr = type(protocol).__name__


def release_descriptor(transport: Any) -> None:
    """
    Close the descriptor of a plain connection that another process has as well.

    The connection itself stays open.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    # Not in an interface: Twisted would shut the connection down, for both processes.
    transport.stopReading()
    transport.stopWriting()
    os.close(transport.socket.detach())
    transport.connectionLost(Failure(ConnectionDone()))


def end_half_closed(transport: Any) -> None:
    """
    End a connection whose peer has closed its sending side.

    Twisted does so itself if the protocol does not provide `IHalfCloseableProtocol`.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    transport.connectionLost(Failure(ConnectionDone()))


def start_draining(transport: Any, producer: IPullProducer) -> None:
    """
    Register *producer*, a pull producer, with *transport*.

    Twisted calls its resumeProducing at once, and again when *transport* has nothing
    left to send, even if it has nothing now.
    """
    transport.registerProducer(producer, False)
    # Not in an interface: without it a transport with nothing to send does not call again.
    transport.startWriting()


@implementer(IPullProducer)
class _Drain:
    """
    The producer that `drained` registers.
    """

    def __init__(self, transport: Any) -> None:
        self.done: Deferred[bool] = Deferred()
        self._transport: Any = transport
        self._registered = False

    def resumeProducing(self) -> None:
        if not self._registered:
            self._registered = True
        elif self._transport is not None:
            transport, self._transport = self._transport, None
            transport.unregisterProducer()
            self.done.callback(True)

    def stopProducing(self) -> None:
        if self._transport is not None:
            self._transport = None
            self.done.callback(False)


def drained(transport: Any) -> Deferred[bool]:
    """
    Wait until the kernel has all that was written to *transport*, a plain connection.

    Returns:
        True, or False when the connection is lost. The transport must not have a producer.
    """
    drain = _Drain(transport)
    start_draining(transport, drain)
    return drain.done


def close_transport(transport: Any) -> None:
    """
    Close *transport* when all that was written is sent.

    A TLS peer need not answer with a close_notify (RFC 8446, 6.1): waiting for it
    could hold the descriptor for ever.
    """
    transport.loseConnection()
    below = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else None
    if below is not None:
        below.loseConnection()
