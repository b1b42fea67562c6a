"""
Listening sockets that the parent binds and its workers accept from.

Endpoints are the same in both: they are given a reactor that binds but does not
accept, or one that accepts from bound sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet import address
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort
from twisted.protocols.tls import TLSMemoryBIOFactory
from zope.interface import implementer

from rt_twisted.net.listeners import adopt_listener, steer_connections


@implementer(IListeningPort)
@dataclass(frozen=True, slots=True)
class BoundListener:
    """
    An address with its sockets: one for each worker, or one for all.

    For TCP each worker has its own. Workers that accept from one socket race for it: of
    2,000 connections, the busiest of four got 700 to 940, the idlest 40 to 330.
    With a socket each, the kernel distributes them: 475 to 535.

    Args:
        sockets: the parent keeps them open, so that connections that wait in the
            socket of a killed worker are accepted by its replacement.
        before: how many sockets of another daemon are on this port already (`reuse-port`).
        port: Twisted's port, if it bound the socket.
    """

    sockets: Sequence[socket.socket]
    before: int = 0
    port: Any = None

    def of(self, worker: int) -> socket.socket:
        """
        Return the socket of a *worker*, counted from 0.
        """
        return self.sockets[worker % len(self.sockets)]

    def steer(self, workers: Sequence[int]) -> None:
        """
        Have the kernel distribute new connections to these *workers* only.
        """
        if len(self.sockets) > 1:
            steer_connections(self.sockets[0], [self.before + worker for worker in workers])

    def startListening(self) -> None:
        pass  # the sockets listen already

    def stopListening(self) -> Any:
        # Workers may still listen.
        for one in self.sockets:
            one.close()
        return self.port.stopListening() if self.port is not None else None

    def getHost(self) -> Any:
        if self.port is not None:
            return self.port.getHost()
        host, port, *_ = self.sockets[0].getsockname()
        known = address.IPv6Address if self.sockets[0].family == socket.AF_INET6 else None
        return (known or address.IPv4Address)("TCP", host, port)


class ListenerBinder:
    """
    A reactor for endpoints that binds sockets and does not accept from them.

    Args:
        reactor: the reactor.
        workers: how many there are.
        replaceable: whether two daemons may share the ports (`reuse-port`).
    """

    def __init__(self, reactor: Any, workers: int, replaceable: bool) -> None:
        self.bound: list[BoundListener] = []
        self._reactor = reactor
        self._workers = workers
        self._replaceable = replaceable

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(
        self, port: int, factory: Any, backlog: int = 50, interface: str = ""
    ) -> BoundListener:
        sockets: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            if not self._replaceable:
                port = _exclusive_port(family, interface, port)
            while len(sockets) < self._workers:
                sockets.append(one := socket.socket(family))
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                one.bind((interface, port))
                port = one.getsockname()[1]
                one.listen(backlog)
                one.setblocking(False)
        except OSError as error:
            for one in sockets:
                one.close()
            raise CannotListenError(interface, port, error) from None
        bound = self._add(BoundListener(sockets, before=self._workers if self._replaceable else 0))
        bound.steer(range(self._workers))
        return bound

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> BoundListener:
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(self, *args: Any, **kwargs: Any) -> BoundListener:
        # One socket for all workers: a path has only one.
        return self._add_port(self._reactor.listenUNIX(*args, **kwargs))

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> BoundListener:
        # One socket for all workers, bound by systemd.
        return self._add_port(self._reactor.adoptStreamPort(descriptor, family, factory))

    def _add_port(self, port: Any) -> BoundListener:
        port.stopReading()
        return self._add(
            BoundListener([socket.socket(fileno=socket.dup(port.fileno()))], port=port)
        )

    def _add(self, bound: BoundListener) -> BoundListener:
        self.bound.append(bound)
        return bound


def _exclusive_port(family: int, interface: str, port: int) -> int:
    """
    Return the number of *port*, after a check that no other process uses it.

    Raises:
        OSError: the port is in use. SO_REUSEPORT, which the sockets of workers need,
            would share it silently with another daemon of the same user.
    """
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((interface, port))
        number: int = probe.getsockname()[1]
        return number


class InheritedListeners:
    """
    A reactor for endpoints that accepts from inherited sockets instead of binding.

    Args:
        reactor: the reactor.
        sockets: descriptor and family of each, in the order in which the parent's
            endpoints bound them; the worker's endpoints listen in the same order.
    """

    def __init__(self, reactor: Any, sockets: Sequence[tuple[int, int]]) -> None:
        self._reactor = reactor
        self._unused = list(sockets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        return self._accept(factory)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        return self._accept(TLSMemoryBIOFactory(contextFactory, False, factory, self._reactor))

    def listenUNIX(self, path: str, factory: Any, *args: Any, **kwargs: Any) -> Any:
        return self._accept(factory)

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> Any:
        return self._accept(factory)

    def _accept(self, factory: Any) -> Any:
        descriptor, family = self._unused.pop(0)
        with socket.socket(fileno=descriptor) as inherited:
            return adopt_listener(self._reactor, inherited.fileno(), family, factory)
