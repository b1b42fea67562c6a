"""
What we know of Twisted's connections beyond their interfaces.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IProtocol,
        IPullProducer,
    )


Send = Callable[[Any], int]


NOTSENT_LOWAT = 16384  # a stalled reader then hides 0.15 MB in the kernel, not 3 to 4


def direct_send(transport: Any) -> Send | None:
    """
    The socket's own `send` of a plain connection; None for TLS and others.

    It may be used while the transport has nothing buffered: it returns how
    many bytes went, and raises BlockingIOError for none.
    """
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle.send if isinstance(handle, socket.socket) else None


def replace_protocol(transport: Any, protocol: IProtocol) -> None:
    """
    Make *protocol* the one who hears of *transport* from now on.
    """
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol


def release_descriptor(transport: Any) -> None:
    """
    Close our end of a plain connection that has another one by now, in another
    process: the peer notices nothing.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    # Not in an interface: Twisted would shut the connection down, for both.
    transport.stopReading()
    transport.stopWriting()
    os.close(transport.socket.detach())
    transport.connectionLost(Failure(ConnectionDone()))


def end_half_closed(transport: Any) -> None:
    """
    End a connection whose peer has closed its sending side, as Twisted does by
    itself where no protocol provides `IHalfCloseableProtocol`.
    """
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    transport.connectionLost(Failure(ConnectionDone()))


def start_draining(transport: Any, producer: IPullProducer) -> None:
    """
    Have *producer* asked once at once, and again when *transport* has nothing
    left to send, even if it has nothing now.
    """
    transport.registerProducer(producer, False)
    # Not in an interface: without it a transport that is empty never asks.
    transport.startWriting()


def close_transport(transport: Any) -> None:
    """
    Close *transport* behind what is written. A TLS peer need not agree
    (RFC 8446, 6.1): one that never does would hold the descriptor for ever.
    """
    transport.loseConnection()
    below = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else None
    if below is not None:
        below.loseConnection()
