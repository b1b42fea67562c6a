"""
Connections that are read together, over real sockets.

Names of Twisted beyond its interfaces are tested here too: `_disconnectSelectable`.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.protocol import Protocol, ServerFactory
from twisted.internet.task import deferLater
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.net.accepting import accept_quickly
from rt_twisted.net.coalesced_reads import CoalescedReads, quick_server_below


@implementer(IHalfCloseableProtocol)
class Collecting(Protocol):
    """
    Keeps what it receives.
    """

    def __init__(self) -> None:
        self.received = b""
        self.read_ends = 0
        self.lost: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        if data == b"fail":
            raise ZeroDivisionError
        self.received += data

    def readConnectionLost(self) -> None:
        self.read_ends += 1

    def writeConnectionLost(self) -> None:
        pass

    def connectionLost(self, reason: Failure = Failure(ValueError())) -> None:
        self.lost.callback(None)
        if self.received == b"-last":
            raise ZeroDivisionError


class Together:
    """
    A port whose connections are read together.
    """

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.loop: Any = reactor
        self.reads = CoalescedReads(self.loop, many=1)
        self.protocols: list[Collecting] = []
        factory = ServerFactory()
        factory.noisy = False
        build: Any = self._build
        factory.buildProtocol = build  # type: ignore[method-assign]  # for the test
        self.port: Any = self.loop.listenTCP(0, factory, 50, "127.0.0.1")
        accept_quickly(self.port)

    def _build(self, address: Any) -> Collecting:
        self.protocols.append(Collecting())
        return self.protocols[-1]

    async def connect(self) -> tuple[socket.socket, Collecting, Any]:
        """
        Return a client, its protocol and its transport, which is read with those before.
        """
        client = socket.create_connection(self.port.socket.getsockname())
        client.sendall(b"-")
        count = len(self.protocols)
        await self.until(lambda: len(self.protocols) > count and self.protocols[-1].received)
        protocol = self.protocols[-1]
        transport: Any = protocol.transport
        self.reads.add(transport)
        return client, protocol, transport

    @property
    def is_woken(self) -> bool:
        """
        Whether the reactor wakes up when there is something to read.
        """
        return self.reads in self.loop.getReaders()

    async def until(self, condition: Any) -> None:
        for _ in range(1000):
            if condition():
                return
            await deferLater(self.loop, 0.001)
        raise AssertionError("it did not happen")


@pytest_twisted.async_yield_fixture
async def together() -> AsyncIterator[Together]:
    place = Together()
    yield place
    await maybeDeferred(place.port.stopListening)
    for protocol in place.protocols:
        transport: Any = protocol.transport
        if not protocol.lost.called:
            transport.abortConnection()
            await protocol.lost
    await place.until(lambda: place.is_woken)
    place.loop.removeReader(place.reads)
    place.reads.connectionLost(Failure(ValueError()))
    assert place.reads.fileno() == -1


async def test_connections_that_send_often_are_read_at_intervals(together: Together) -> None:
    """
    While there is much to read the reactor does not wake up for each piece; all of it arrives,
    and after a silence the reactor waits again.
    """
    clients = [await together.connect() for _ in range(3)]
    assert together.is_woken
    at_intervals = False
    for number in range(50):
        for client, _, _ in clients:
            client.sendall(b"%d," % number)
        await deferLater(together.loop, 0)
        at_intervals = at_intervals or not together.is_woken
    expected = b"-" + b"".join([b"%d," % number for number in range(50)])
    await together.until(lambda: all(each.received == expected for _, each, _ in clients))

    assert at_intervals
    await together.until(lambda: together.is_woken)
    for client, _, _ in clients:
        client.close()


async def test_few_connections_are_read_at_once(together: Together) -> None:
    """
    The reactor goes on to wake up for each piece; from a number of connections on it does not.
    """
    together.reads._many = 3
    clients = [await together.connect() for _ in range(2)]
    for number in range(20):
        for client, _, _ in clients:
            client.sendall(b"%d," % number)
        await deferLater(together.loop, 0.001)
        assert together.is_woken
    expected = b"-" + b"".join([b"%d," % number for number in range(20)])
    await together.until(lambda: all(each.received == expected for _, each, _ in clients))

    third, protocol, _ = await together.connect()
    third.sendall(b"x")
    await together.until(lambda: not together.is_woken)
    await together.until(lambda: protocol.received == b"-x")
    for client in (*[client for client, _, _ in clients], third):
        client.close()


async def test_more_connections_than_are_read_at_a_time(together: Together) -> None:
    """
    Each of a hundred connections is read, also those behind the first sixty-four.
    """
    clients = [await together.connect() for _ in range(100)]
    for client, _, _ in clients:
        client.sendall(b"a")
    await together.until(lambda: all(each.received == b"-a" for _, each, _ in clients))
    for client, _, _ in clients:
        client.close()


async def test_a_pause_holds_the_connection_back(together: Together) -> None:
    """
    A paused connection is not read, whether the pause begins or ends alone or with others.
    """
    client, protocol, transport = await together.connect()
    transport.pauseProducing()
    client.sendall(b"1")
    together.reads.discard(transport)
    for _ in range(5):
        await deferLater(together.loop, 0.001)
    assert protocol.received == b"-"
    together.reads.add(transport)
    transport.resumeProducing()
    await together.until(lambda: protocol.received == b"-1")

    together.reads.discard(transport)
    client.sendall(b"2")
    await together.until(lambda: protocol.received == b"-12")
    assert transport in together.loop.getReaders()
    client.close()


async def test_the_end_is_received(together: Together) -> None:
    """
    A client that closes its sending side is noted once, and the connection can still be written.
    """
    client, protocol, transport = await together.connect()
    client.shutdown(socket.SHUT_WR)
    await together.until(lambda: protocol.read_ends)
    transport.write(b"answer")
    for _ in range(5):
        await deferLater(together.loop, 0.001)

    assert protocol.read_ends == 1
    assert client.recv(100) == b"answer"
    client.close()
    transport.loseConnection()
    await protocol.lost


async def test_a_connection_that_is_reset_is_lost(
    together: Together, clean_reactor: list[Failure]
) -> None:
    """
    Whatever happens to one connection, the others are read on.
    """
    reset, lost, _ = await together.connect()
    failing, failed, _ = await together.connect()
    aborting, aborted, transport = await together.connect()
    client, protocol, _ = await together.connect()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    reset.close()
    failing.sendall(b"fail")
    transport.abortConnection()
    await lost.lost
    await failed.lost
    await aborted.lost
    client.sendall(b"fine")
    await together.until(lambda: protocol.received == b"-fine")
    for each in (failing, aborting, client):
        each.close()

    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


@pytest.mark.parametrize("many", [1, 10])
async def test_an_exception_at_the_end_of_a_connection(
    together: Together, clean_reactor: list[Failure], many: int
) -> None:
    """
    A protocol that raises when its connection is lost harms no other one.
    """
    together.reads._many = many
    ending, ended, _ = await together.connect()
    client, protocol, _ = await together.connect()
    ending.sendall(b"last")
    await together.until(lambda: ended.received == b"-last")
    ending.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ending.close()
    await ended.lost
    client.sendall(b"fine")
    await together.until(lambda: protocol.received == b"-fine")
    client.close()

    assert [failure.type for failure in clean_reactor] == [ZeroDivisionError]
    clean_reactor.clear()


async def test_what_is_below_a_transport(together: Together) -> None:
    """
    Wrappers, such as TLS, are looked through; other transports are left alone.
    """
    client, protocol, transport = await together.connect()
    factory: Any = ServerFactory()
    wrapper: Any = ProtocolWrapper(factory, protocol)
    wrapper.transport = transport

    assert quick_server_below(wrapper) is transport
    assert quick_server_below(protocol) is None
    assert quick_server_below(None) is None
    client.close()
