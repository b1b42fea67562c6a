"""
Listening sockets: options, ports shared by processes, and what Twisted's interfaces lack.
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
from typing import Any

from twisted.internet import unix
from twisted.internet.defer import Deferred, execute, fail, succeed
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.net.transports import NOTSENT_LOWAT

MAX_ACCEPTS = 100  # calls of accept(2) on a listener that is about to close
MAX_BACKLOG = 4096  # connections that wait to be accepted
MAX_KEEPIDLE = 32767  # seconds; the kernel accepts no more

_ATTACH_BPF = getattr(socket, "SO_ATTACH_REUSEPORT_CBPF", 51)  # socket(7), Linux 4.5
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)
_TCP_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # named from Python 3.12 on

# Opcodes of classic BPF (linux/filter.h), and the kernel's extension that loads a random number.
_LOAD, _MODULO, _IF_EQUAL, _RETURN = 0x20, 0x94, 0x15, 0x06
_RANDOM = (-0x1000 + 56) & 0xFFFFFFFF


def tune_listener(port: IListeningPort, dead_after: float) -> None:
    """
    Set the socket options that every connection that *port* accepts inherits (on Linux).

    Small frames are sent without delay, the kernel holds little unsent data, and peers
    that vanished are disconnected: by keepalive probes while the connection is quiet,
    by a limit on unacknowledged data while it is not.

    Args:
        port: other than TCP: nothing is set.
        dead_after: seconds of silence after which a peer is disconnected.
    """
    sock = getattr(port, "socket", None)  # not in an interface
    if not isinstance(sock, socket.socket) or sock.family not in (
        socket.AF_INET,
        socket.AF_INET6,
    ):
        return
    third = min(MAX_KEEPIDLE, max(1, int(dead_after / 3)))
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
class TcpPort:
    """
    An endpoint that listens on a TCP port.

    Args:
        reactor: the reactor.
        port: its number.
        interface: the address; `::` and the like for IPv6.
        backlog: of connections that wait for accept(2).
    """

    reactor: Any
    port: int
    interface: str
    backlog: int

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        return execute(
            self.reactor.listenTCP,
            self.port,
            factory,
            backlog=self.backlog,
            interface=self.interface,
        )


@implementer(IStreamServerEndpoint)
@dataclass(frozen=True, slots=True)
class SharedPort:
    """
    A TCP port that a second process of the same user may listen on as well (SO_REUSEPORT).

    So a new daemon can start before the old one ends. The process that started last
    gets all new connections: the kernel would distribute them, and reset those that
    the old one has not accepted when it closes.

    Args:
        reactor: the reactor.
        port: 0 for any that is free.
        interface: a numeric address.
        backlog: connections the kernel holds.
    """

    reactor: Any
    port: int
    interface: str
    backlog: int

    def listen(self, factory: IProtocolFactory) -> Deferred[IListeningPort]:
        family = socket.AF_INET6 if ":" in self.interface else socket.AF_INET
        with socket.socket(family) as sock:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                sock.bind((self.interface, self.port))
                sock.listen(self.backlog)
            except OSError as error:
                return fail(CannotListenError(self.interface, self.port, error))
            steer_connections(sock, [1])  # the second process, or the only one
            sock.setblocking(False)
            return succeed(self.reactor.adoptStreamPort(sock.fileno(), family, factory))


def steer_connections(sock: socket.socket, members: Sequence[int]) -> None:
    """
    Make the kernel give new connections to some of the sockets on a port (SO_REUSEPORT).

    It chooses one of them at random for each connection.

    Args:
        sock: any of the sockets.
        members: their indices, in the order in which they were bound. The kernel
            distributes connections over all sockets if an index does not exist, or if
            it is too old.
    """
    (single, *others) = members
    program = []
    if others:
        # Draw a random rank, and return the member of that rank.
        program += [(_LOAD, 0, 0, _RANDOM), (_MODULO, 0, 0, len(members))]
        for rank, member in enumerate(others, 1):
            program += [(_IF_EQUAL, 0, 1, rank), (_RETURN, 0, 0, member)]
    program.append((_RETURN, 0, 0, single))
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code)
    sock_fprog = struct.pack("HP", len(program), ctypes.addressof(buffer))
    with suppress(OSError):  # without it a few connections may wait or be reset
        sock.setsockopt(socket.SOL_SOCKET, _ATTACH_BPF, sock_fprog)


def adopt_listener(reactor: Any, descriptor: int, family: int, factory: Any) -> IListeningPort:
    """
    Return a port that accepts from a socket that listens already.

    Other processes may accept from it as well. The caller still owns the descriptor.
    """
    if family != socket.AF_UNIX:
        port: IListeningPort = reactor.adoptStreamPort(descriptor, family, factory)
        return port
    shared: Any = unix.Port._fromListeningDescriptor(reactor, descriptor, factory)
    # Not in an interface: Twisted would set the path's mode, and when this port closes
    # remove the path and shut down the socket, for all processes.
    shared._bindPath = b"\0" + shared._bindPath.lstrip(b"\0")
    shared._shouldShutdown = False
    shared.backlog = MAX_BACKLOG
    shared.startListening()
    port = shared
    return port


def listen_on(
    endpoints: Iterable[tuple[str, IStreamServerEndpoint]], factory: Any
) -> Iterator[IListeningPort]:
    """
    Listen on each of *endpoints*.

    Args:
        endpoints: with their descriptions.
        factory: makes the protocols.

    Raises:
        SystemExit: an endpoint cannot listen; the text names it and the reason.
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
    Accept the connections that the kernel holds for *port*, which is about to close.

    They would be reset otherwise.
    """
    listener = getattr(port, "socket", None)  # not in an interface
    if not isinstance(listener, socket.socket):
        return
    waiting = select.poll()
    waiting.register(listener, select.POLLIN)
    for _ in range(MAX_ACCEPTS):
        if not waiting.poll(0):
            return
        port.doRead()
