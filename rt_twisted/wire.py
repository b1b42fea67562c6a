"""
What we know of Twisted's connections beyond their interfaces, in one place.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.protocols.policies import ProtocolWrapper
from twisted.protocols.tls import TLSMemoryBIOProtocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IListeningPort, IProtocol, IPullProducer

Send = Callable[[Any], int]

NOTSENT_LOWAT = 16384  # a stalled reader then hides 0.15 MB in the kernel, not 3 to 4
MOST_KEEPIDLE = 32767  # seconds; the kernel takes no more
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # named from Python 3.12 on


def direct_send(transport: Any) -> Send | None:
    """
    The socket's own `send` of a plain connection; None for TLS and others.

    It may be used while the transport has nothing buffered: it returns how
    many bytes went, and raises BlockingIOError for none.
    """
    handle = getattr(transport, "getHandle", lambda: None)()
    return handle.send if isinstance(handle, socket.socket) else None


def hand_over(transport: Any, protocol: IProtocol) -> None:
    """
    Make *protocol* the one who hears of *transport* from now on.
    """
    if isinstance(transport, ProtocolWrapper):
        transport.wrappedProtocol = protocol
    else:
        transport.protocol = protocol


def tune_listener(port: IListeningPort, dead_after: float) -> None:
    """
    Set what every connection that *port* accepts inherits (Linux does so).

    No delay for small frames, little unsent data in the kernel, and an end for
    peers that vanished: keepalive probes while it is quiet, a limit on
    unacknowledged data while it is not.

    Args:
        port: not TCP changes nothing.
        dead_after: seconds of silence after which a peer counts as gone.
    """
    sock = getattr(port, "socket", None)  # not in an interface either
    if not isinstance(sock, socket.socket) or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        return
    third = min(MOST_KEEPIDLE, max(1, int(dead_after / 3)))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (
        (socket.TCP_NODELAY, 1),
        (socket.TCP_KEEPIDLE, third),
        (socket.TCP_KEEPINTVL, third),
        (socket.TCP_KEEPCNT, 2),
        (_TCP_USER_TIMEOUT, int(dead_after * 1000)),
        (_TCP_NOTSENT_LOWAT, NOTSENT_LOWAT),
    ):
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def start_draining(transport: Any, producer: IPullProducer) -> None:
    """
    Have *producer* asked once at once, and again when *transport* has nothing
    left to send, even if it has nothing now.
    """
    transport.registerProducer(producer, False)
    # Not in an interface: without it a transport that is empty never asks.
    transport.startWriting()


def hang_up(transport: Any) -> None:
    """
    Close *transport* behind what is written. A TLS peer need not agree
    (RFC 8446, 6.1): one that never does would hold the descriptor for ever.
    """
    transport.loseConnection()
    below = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else None
    if below is not None:
        below.loseConnection()
