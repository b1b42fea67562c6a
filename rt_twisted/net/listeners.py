"""
What we know of Twisted's listening ports beyond their interfaces.
"""

from __future__ import annotations

import ctypes
import select
import socket
import struct
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet import unix
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

if TYPE_CHECKING:
    from twisted.internet.interfaces import (
        IListeningPort,
        IProtocolFactory,
    )
from rt_twisted.net.transports import NOTSENT_LOWAT

ROUNDS = 100  # of accept(2) over a listener that is about to close


_ATTACH_BPF = getattr(socket, "SO_ATTACH_REUSEPORT_CBPF", 51)  # socket(7), Linux 4.5


# bpf(4), with the kernel's own load of a random number
_LOAD, _MODULO, _IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06


_RANDOM = (-0x1000 + 56) & 0xFFFFFFFF


MOST_WAITING = 4096  # connections that wait to be accepted


MOST_KEEPIDLE = 32767  # seconds; the kernel takes no more


_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)


_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # named from Python 3.12 on


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


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class SharedPort:
    """
    A TCP port that a second process of the same user may listen on as well
    (SO_REUSEPORT), so that a new daemon can start before the old one ends.

    Whoever comes last gets all new connections. The kernel would share them
    out, and those on their way to the old one when it closes would be reset.

    Args:
        reactor: the reactor.
        port: 0 takes any that is free.
        interface: a numeric address.
        backlog: connections the kernel holds.
    """

    reactor: Any
    port: int
    interface: str
    backlog: int

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        See `IStreamServerEndpoint`.
        """
        family = socket.AF_INET6 if ":" in self.interface else socket.AF_INET
        with socket.socket(family) as sock:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind((self.interface, self.port))
                sock.listen(self.backlog)
            except OSError as error:
                return fail(CannotListenError(self.interface, self.port, error))
            steer_connections(sock, [1])  # whoever comes second; where there is one only, that
            sock.setblocking(False)
            return succeed(self.reactor.adoptStreamPort(sock.fileno(), family, factory))


def steer_connections(sock: socket.socket, members: Sequence[int]) -> None:
    """
    Have the kernel give new connections to some of the sockets on a port
    (SO_REUSEPORT), to one by chance each time.

    Args:
        sock: any of them.
        members: which, in the order in which they were bound. Where there is none of
            that number, as where there is no such kernel, all have their share.
    """
    (single, *others) = members
    program = []
    if others:
        # By chance one of so many, then from that to the member of this rank.
        program += [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(members))]
        for rank, member in enumerate(others, 1):
            program += [(_IF_EQUAL, 0, 1, rank), (_RETURN, 0, 0, member)]
    program.append((_RETURN, 0, 0, single))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(code)
    described = struct.pack("HP", len(program), ctypes.addressof(held))  # struct sock_fprog
    with suppress(OSError):  # without it some connections may wait or be reset, that is all
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_BPF, described)


def adopt_listener(reactor: Any, descriptor: int, family: int, factory: Any) -> IListeningPort:
    """
    A port that accepts from a socket that listens already, and that other
    processes accept from as well. The descriptor stays the caller's.
    """
    if family != socket.AF_UNIX:
        port: IListeningPort = reactor.adoptStreamPort(descriptor, family, factory)
        return port
    shared: Any = unix.Port._fromListeningDescriptor(reactor, descriptor, factory)
    # Not in an interface: Twisted would set the path's mode, and when this port closes
    # remove the path and shut down the socket, for all of them.
    shared._bindPath = b"\0" + shared._bindPath.lstrip(b"\0")
    shared._shouldShutdown = False
    shared.backlog = MOST_WAITING
    shared.startListening()
    port = shared
    return port


def listen_on(
    endpoints: Iterable[tuple[str, IStreamServerEndpoint]], factory: Any
) -> Iterator[IListeningPort]:
    """
    Listen on each of *endpoints*, which are given with their descriptions.

    Raises:
        SystemExit: one sentence, somewhere that is not possible.
    """
    for description, endpoint in endpoints:
        ports: list[IListeningPort] = []
        failures: list[Failure] = []
        endpoint.listen(factory).addCallbacks(ports.append, failures.append)
        if failures:  # endpoints that listen fail at once
            reason = getattr(failures[0].value, "socketError", failures[0].getErrorMessage())
            sys.exit(f"realtime: cannot listen on {description}: {reason}")
        yield from ports


def accept_pending(port: Any) -> None:
    """
    Accept what the kernel holds for *port*, which is about to close: it would
    be reset.
    """
    listener = getattr(port, "socket", None)  # not in an interface either
    if not isinstance(listener, socket.socket):
        return
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    for _ in range(ROUNDS):
        if not waiting.poll(0):
            return
        port.doRead()
