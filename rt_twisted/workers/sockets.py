"""
Listening sockets that a parent binds and its workers accept from.

Endpoints know neither: each is given a reactor that binds and does not accept,
or one that accepts from what is bound.
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
    An address, and its sockets: one for each worker, or one for all.

    TCP has one for each. Workers that accept from one socket race for it: of
    2,000 connections, the busiest of four got 700 to 940, the idlest 40 to 330.
    With a socket each, the kernel deals them out: 475 to 535.

    Args:
        sockets: the parent keeps them, so that who waits in one finds the worker
            that comes after the one that was killed.
        before: how many sockets of another daemon are on this port already (`reuse-port`).
        port: of Twisted, where it bound; knows how to let go.
    """

    sockets: Sequence[socket.socket]
    before: int = 0
    port: Any = None

    def of(self, worker: int) -> socket.socket:
        """
        The socket of a *worker*, from 0 on.
        """
        return self.sockets[worker % len(self.sockets)]

    def steer(self, workers: Sequence[int]) -> None:
        """
        Have the kernel deal new connections to these *workers* alone.
        """
        if len(self.sockets) > 1:
            steer_connections(self.sockets[0], [self.before + worker for worker in workers])

    def startListening(self) -> None:
        """
        It does.
        """

    def stopListening(self) -> Any:
        """
        Let go of the address; workers may still have it.
        """
        for one in self.sockets:
            one.close()
        return self.port.stopListening() if self.port is not None else None

    def getHost(self) -> Any:
        """
        The address, as Twisted has it.
        """
        if self.port is not None:
            return self.port.getHost()
        host, port, *_ = self.sockets[0].getsockname()
        known = address.IPv6Address if self.sockets[0].family == socket.AF_INET6 else None
        return (known or address.IPv4Address)("TCP", host, port)


class ListenerBinder:
    """
    A reactor for endpoints, which binds and does not accept.

    Args:
        reactor: the reactor.
        workers: how many.
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
        """
        See `IReactorTCP`.
        """
        sockets: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in interface else socket.AF_INET
        try:
            if not self._replaceable:
                port = _alone(family, interface, port)
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
        bound = self._keep(BoundListener(sockets, before=self._workers if self._replaceable else 0))
        bound.steer(range(self._workers))
        return bound

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> BoundListener:
        """
        See `IReactorSSL`.
        """
        return self.listenTCP(port, factory, backlog, interface)

    def listenUNIX(self, *args: Any, **kwargs: Any) -> BoundListener:
        """
        See `IReactorUNIX`. One socket for all: a path has but one.
        """
        return self._adopt(self._reactor.listenUNIX(*args, **kwargs))

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> BoundListener:
        """
        See `IReactorSocket`. What systemd has bound is one for all.
        """
        return self._adopt(self._reactor.adoptStreamPort(descriptor, family, factory))

    def _adopt(self, port: Any) -> BoundListener:
        port.stopReading()
        return self._keep(
            BoundListener([socket.socket(fileno=socket.dup(port.fileno()))], port=port)
        )

    def _keep(self, bound: BoundListener) -> BoundListener:
        self.bound.append(bound)
        return bound


def _alone(family: int, interface: str, port: int) -> int:
    """
    The number of *port*, which nobody else has.

    Raises:
        OSError: somebody has. SO_REUSEPORT, which workers' sockets need, would
            share it without a word with another daemon of the same user.
    """
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((interface, port))
        number: int = probe.getsockname()[1]
        return number


class InheritedListeners:
    """
    A reactor for endpoints, which accepts from sockets that are bound.

    Args:
        reactor: the reactor.
        sockets: descriptor and family of each, in the order in which the parent's
            endpoints bound them, which is the order in which ours ask.
    """

    def __init__(self, reactor: Any, sockets: Sequence[tuple[int, int]]) -> None:
        self._reactor = reactor
        self._left = list(sockets)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> Any:
        """
        See `IReactorTCP`.
        """
        return self._accept(factory)

    def listenSSL(
        self, port: int, factory: Any, contextFactory: Any, backlog: int = 50, interface: str = ""
    ) -> Any:
        """
        See `IReactorSSL`.
        """
        return self._accept(TLSMemoryBIOFactory(contextFactory, False, factory, self._reactor))

    def listenUNIX(self, path: str, factory: Any, *args: Any, **kwargs: Any) -> Any:
        """
        See `IReactorUNIX`.
        """
        return self._accept(factory)

    def adoptStreamPort(self, descriptor: int, family: Any, factory: Any) -> Any:
        """
        See `IReactorSocket`.
        """
        return self._accept(factory)

    def _accept(self, factory: Any) -> Any:
        descriptor, family = self._left.pop(0)
        with socket.socket(fileno=descriptor) as inherited:
            return adopt_listener(self._reactor, inherited.fileno(), family, factory)
