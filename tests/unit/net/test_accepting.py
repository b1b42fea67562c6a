"""
Accepting connections quickly, over real sockets.

Names of Twisted beyond its interfaces are tested here too: `Port.doRead`, `Port.transport`,
`Port.sessionno`, and the attributes that `Server` sets.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from rt_twisted.net.accepting import Newcomers, QuickServer, accept_quickly


class Answering(Protocol):
    """
    Sends back what it receives.
    """

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.lost: Deferred[None] = Deferred()
        self.turns = -1  # of the reactor between the connection and the first bytes
        self.count: Callable[[], int] = lambda: 0

    def connectionMade(self) -> None:
        self.made_at = self.count()

    def dataReceived(self, data: bytes) -> None:
        if data == b"abort":
            transport: Any = self.transport
            transport.abortConnection()
        if data in (b"fail", b"abort"):
            raise ZeroDivisionError
        if not self.pieces:
            self.turns = self.count() - self.made_at
        self.pieces.append(data)
        transport = self.transport
        transport.write(data)

    def connectionLost(self, reason: Failure = Failure(ValueError())) -> None:
        self.lost.callback(None)


class AcceptingPort:
    """
    A port that accepts quickly, and the protocols of its connections.
    """

    def __init__(self, interface: str) -> None:
        from twisted.internet import reactor

        self.loop: Any = reactor
        self.protocols: list[Answering] = []
        self.addresses: list[Any] = []
        self.refusing = False
        self.turns = 0
        factory = ServerFactory()
        factory.noisy = False
        build: Any = self._build
        factory.buildProtocol = build  # type: ignore[method-assign]  # for the test
        self.port: Any = self.loop.listenTCP(0, factory, 512, interface)
        accept_quickly(self.port)

    def _build(self, address: Any) -> Answering | None:
        if self.refusing:
            return None
        self.addresses.append(address)
        self.protocols.append(Answering())
        self.protocols[-1].count = lambda: self.turns
        return self.protocols[-1]

    def connect(self, data: bytes = b"") -> socket.socket:
        client = socket.create_connection(self.port.socket.getsockname()[:2])
        client.sendall(data)
        client.setblocking(False)
        return client

    def reads_nothing_else(self) -> bool:
        """
        Return whether no descriptor but those of connections is left in the reactor.
        """
        return not [each for each in self.loop.getReaders() if isinstance(each, Newcomers)]

    async def until(self, condition: Callable[[], object]) -> None:
        for _ in range(500):
            if condition():
                return
            self.turns += 1
            await deferLater(self.loop, 0.002)
        raise AssertionError("it did not happen")


@pytest_twisted.async_yield_fixture(params=["127.0.0.1", "::1"])
async def accepting(request: pytest.FixtureRequest) -> AsyncIterator[AcceptingPort]:
    """
    A port of IPv4 or IPv6.
    """
    place = AcceptingPort(request.param)
    yield place
    await maybeDeferred(place.port.stopListening)
    for protocol in place.protocols:
        transport: Any = protocol.transport
        if not protocol.lost.called:
            transport.abortConnection()
            await protocol.lost


async def test_what_has_arrived_is_read_at_once(accepting: AcceptingPort) -> None:
    """
    A request that arrived with its connection is received without another turn of the
    reactor; what follows is received too, and so is the end.
    """
    with accepting.connect(b"first") as client:
        await accepting.until(lambda: accepting.protocols and accepting.protocols[0].pieces)
        (protocol,) = accepting.protocols
        client.sendall(b"second")
        await accepting.until(lambda: len(protocol.pieces) == 2)
        peer = client.getsockname()
        transport: Any = protocol.transport
        assert repr(transport) == transport.logPrefix() == "Answering"

    await protocol.lost
    assert protocol.turns == 0
    assert protocol.pieces == [b"first", b"second"]
    assert (accepting.addresses[0].host, accepting.addresses[0].port) == peer[:2]
    assert type(transport) is QuickServer
    assert repr(transport) == transport.logPrefix() == "QuickServer"
    assert transport.fileno() == -1


async def test_a_silent_client_is_accepted_too(accepting: AcceptingPort) -> None:
    """
    A client may send its first bytes later, or only close.
    """
    with accepting.connect() as client:
        await accepting.until(lambda: accepting.protocols)
        client.sendall(b"late")
        await accepting.until(lambda: accepting.protocols[0].pieces == [b"late"])
    accepting.connect().close()
    await accepting.until(lambda: len(accepting.protocols) == 2)

    await accepting.protocols[0].lost
    await accepting.protocols[1].lost


async def test_attributes_are_those_of_twisted(accepting: AcceptingPort) -> None:
    """
    A connection that is accepted quickly has the attributes that one of Twisted's own has, with
    values of the same types, except those of which Twisted makes its names in logs.
    """
    with accepting.connect(b"x") as client:
        await accepting.until(lambda: accepting.protocols)
        ours: Any = accepting.protocols[0].transport
        theirs = Server(client.dup(), Answering(), ours.client, ours.server, 1, ours.reactor)

        assert ours.fileno() == ours.socket.fileno()
        for name in vars(theirs).keys() - {"fileno", "hostname", "logstr", "repstr", "sessionno"}:
            assert type(getattr(ours, name)) is type(getattr(theirs, name)), name
        assert ours.getPeer() == theirs.getPeer()
        theirs.abortConnection()
        await accepting.until(lambda: theirs.disconnected)


async def test_many_connections_are_all_accepted(accepting: AcceptingPort) -> None:
    """
    Clients that connect together are all served, and a factory may refuse some.
    """
    clients = [accepting.connect(b"%d" % number) for number in range(40)]
    await accepting.until(lambda: len(accepting.protocols) == 40)
    accepting.refusing = True
    refused = accepting.connect(b"x")
    await accepting.until(lambda: not _reads(refused))

    assert sorted(int(protocol.pieces[0]) for protocol in accepting.protocols) == [*range(40)]
    for client in (*clients, refused):
        client.close()


async def test_a_crowd_that_sends_later_leaves_room_for_others(accepting: AcceptingPort) -> None:
    """
    Clients that connect together and send their requests later are read in several turns, and one
    that was connected before is served in between. Those that leave are forgotten.
    """
    early = accepting.connect(b"early")
    await accepting.until(lambda: accepting.protocols and accepting.protocols[0].pieces)
    clients = [accepting.connect() for _ in range(300)]
    await accepting.until(lambda: len(accepting.protocols) == 301)
    served: list[int] = []

    def receive_slowly(data: bytes) -> None:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        served.append(1)

    others = accepting.protocols[1:]
    for protocol in others:
        protocol.dataReceived = receive_slowly  # type: ignore[method-assign]  # for the test
    clients[0].close()
    for client in clients[1:]:
        client.sendall(b"x")
    early.sendall(b"more")
    await accepting.until(lambda: accepting.protocols[0].pieces == [b"early", b"more"])
    assert len(served) < 150
    await accepting.until(lambda: len(served) == 299)
    await others[0].lost
    for client in (early, *clients[1:]):
        client.close()


async def test_a_crowd_outlives_its_port(accepting: AcceptingPort) -> None:
    """
    Connections that were accepted are served when the port is closed, and may be closed
    before they have sent anything.
    """
    clients = [accepting.connect() for _ in range(40)]
    await accepting.until(lambda: len(accepting.protocols) == 40)
    await accepting.port.stopListening()
    last: Any = accepting.protocols[-1].transport
    last.loseConnection()
    await accepting.protocols[-1].lost
    assert last.newcomers is None
    for client in clients:
        client.sendall(b"x")
    await accepting.until(lambda: all(each.pieces for each in accepting.protocols[:-1]))
    await accepting.until(lambda: accepting.reads_nothing_else())
    for client in clients:
        client.close()


def _reads(client: socket.socket) -> bool:
    try:
        return client.recv(10) != b""
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False


async def test_an_exception_ends_one_connection(
    accepting: AcceptingPort, clean_reactor: list[Failure]
) -> None:
    """
    A protocol that raises while it receives the first bytes loses its connection; others go on.
    """
    with accepting.connect(b"fail"), accepting.connect(b"well"):
        await accepting.until(lambda: len(accepting.protocols) == 2)
        await accepting.protocols[0].lost
        await accepting.until(lambda: accepting.protocols[1].pieces == [b"well"])

    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


async def test_an_exception_behind_an_abort_ends_a_connection_once(
    accepting: AcceptingPort, clean_reactor: list[Failure]
) -> None:
    """
    The protocol is notified once, and nothing but its own exception is logged.
    """
    with accepting.connect(b"first") as client:
        await accepting.until(lambda: accepting.protocols and accepting.protocols[0].pieces)
        client.sendall(b"abort")
        await accepting.protocols[0].lost
        for _ in range(3):
            await deferLater(accepting.loop, 0)

    assert clean_reactor == []  # Twisted logs it by its old log, which is not observed


async def test_without_descriptors_twisted_accepts(
    accepting: AcceptingPort, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    When there is no descriptor for a connection, Twisted's own port closes it and logs that.
    """
    listener = accepting.port.socket
    calls: list[int] = []

    class Exhausted:
        """
        A listener that has no descriptors for us.
        """

        def __getattr__(self, name: str) -> Any:
            return getattr(listener, name)

        def _accept(self) -> Any:
            calls.append(1)
            raise OSError(errno.EMFILE, "no descriptor")

    monkeypatch.setattr(accepting.port, "socket", Exhausted())
    with accepting.connect(b"x"):
        await accepting.until(lambda: accepting.protocols and accepting.protocols[0].pieces)
    await accepting.protocols[0].lost

    assert calls


def test_other_ports_stay_as_they_are() -> None:
    """
    Ports that are no TCP ports of Twisted are left alone.
    """
    port: Any = object()

    accept_quickly(port)
