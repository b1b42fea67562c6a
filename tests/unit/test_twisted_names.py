"""
Names of Twisted beyond its interfaces that `net` and `http.site` use.

If one of these tests fails, Twisted has changed: its docstring names the place to look at.
"""

from __future__ import annotations

import inspect
import re
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from twisted.web import http, server
from twisted.web.http_headers import Headers
from twisted.web.resource import Resource
from zope.interface import implementer

from rt_twisted.http.site import SiteChannel
from rt_twisted.net import listeners, transports


@implementer(IPullProducer)
class PullProducer:
    """
    A pull producer that counts its calls.
    """

    def __init__(self, write: Callable[[], object] = lambda: None) -> None:
        self.times = 0
        self.stopped = False
        self._write = write

    def resumeProducing(self) -> None:
        self.times += 1
        self._write()

    def stopProducing(self) -> None:
        self.stopped = True


class Recorder(Protocol):
    """
    A protocol that records the bytes it receives.
    """

    def __init__(self) -> None:
        self.received = b""
        self.made: Deferred[None] = Deferred()
        self.lost: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        self.made.callback(None)

    def dataReceived(self, data: bytes) -> None:
        self.received += data

    def connectionLost(self, reason: Failure = Failure(ValueError())) -> None:
        if not self.lost.called:
            self.lost.callback(None)


class Ends:
    """
    Both ends of a TCP connection, and its port.
    """

    def __init__(self, port: Any, here: Recorder, there: Recorder) -> None:
        self.port = port
        self.here = here
        self.there = there

    @property
    def transport(self) -> Any:
        """
        Return the transport of the accepted connection.
        """
        return self.here.transport


async def turns(count: int = 3) -> None:
    """
    Let the reactor run.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    for _ in range(count):
        await deferLater(clock, 0)


@pytest_twisted.async_yield_fixture
async def ends() -> AsyncIterator[Ends]:
    """
    A connection over 127.0.0.1, whose port is tuned as the daemon does it.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol

    loop: Any = reactor
    here = Recorder()
    factory = Factory.forProtocol(lambda: here)
    factory.noisy = False
    port = loop.listenTCP(0, factory, interface="127.0.0.1")
    listeners.tune_listener(port, 60.0)
    endpoint = TCP4ClientEndpoint(loop, "127.0.0.1", port.getHost().port)
    there = await connectProtocol(endpoint, Recorder())
    await here.made
    yield Ends(port, here, there)
    await port.stopListening()
    for end in (here, there):
        if not end.lost.called:
            transport: Any = end.transport
            transport.abortConnection()
            await end.lost


async def test_a_replaced_protocol_names_the_connection(ends: Ends) -> None:
    """
    transports.replace_protocol: the name in Twisted's log and `repr` is that of the present
    protocol, and all connections of a protocol share it.
    """
    first = ends.transport.logPrefix()
    later = Recorder()
    later.transport = ends.transport
    transports.replace_protocol(ends.transport, later)

    assert first.startswith("Recorder,")
    assert ends.transport.logPrefix() == repr(ends.transport) == "Recorder"
    transports.replace_protocol(ends.transport, ends.here)


async def test_sockets_are_shown(ends: Ends) -> None:
    """
    transports.direct_send: `getHandle` of a plain connection is its socket, which does not block.
    """
    handle = ends.transport.getHandle()
    send = transports.direct_send(ends.transport)

    assert isinstance(handle, socket.socket)
    assert handle.gettimeout() == 0
    assert send is not None
    assert send(b"direct") == 6
    while ends.there.received != b"direct":
        await turns()
    with pytest.raises(BlockingIOError):
        _fill(send)


def _fill(send: transports.Send) -> None:
    while True:
        send(b"x" * 100_000)


def test_tls_has_no_socket_of_its_own() -> None:
    """
    transports.direct_send: `getHandle` of a TLS connection is not a socket, by which plain text
    would be sent.
    """
    transport = TLSMemoryBIOProtocol.__new__(TLSMemoryBIOProtocol)
    transport._tlsConnection = None  # type: ignore[assignment]  # what getHandle gives

    assert transports.direct_send(transport) is None
    assert transports.direct_send(StringTransport()) is None


async def test_a_protocol_can_be_replaced(ends: Ends) -> None:
    """
    transports.replace_protocol: `protocol` of a TCP connection receives its data and its end.
    """
    other = Recorder()
    transports.replace_protocol(ends.transport, other)
    assert ends.there.transport is not None
    ends.there.transport.write(b"hello")
    while not other.received:
        await turns()
    ends.there.transport.loseConnection()
    await other.lost
    ends.here.lost.callback(None)

    assert ends.here.received == b""
    assert other.received == b"hello"


def test_a_protocol_can_be_replaced_behind_tls() -> None:
    """
    transports.replace_protocol: `wrappedProtocol` of a TLS connection receives its data and its
    end.
    """
    source = inspect.getsource(TLSMemoryBIOProtocol)
    transport = TLSMemoryBIOProtocol.__new__(TLSMemoryBIOProtocol)
    other = Recorder()
    transports.replace_protocol(transport, other)

    assert transport.wrappedProtocol is other
    assert "self.wrappedProtocol.dataReceived" in source or "ProtocolWrapper.dataReceived" in source
    assert "ProtocolWrapper.connectionLost" in source or "wrappedProtocol.connectionLost" in source


async def test_pull_producers_are_called_at_once_and_when_empty(ends: Ends) -> None:
    """
    transports.start_draining: a pull producer is called when it is registered, and when all is
    written.
    """
    producer = PullProducer()
    ends.transport.write(b"x" * 3_000_000)
    ends.transport.registerProducer(producer, False)
    assert producer.times == 1
    while producer.times == 1:
        await turns(1)
    assert not ends.transport.dataBuffer
    assert not ends.transport._tempDataLen
    ends.transport.unregisterProducer()


async def test_an_empty_transport_calls_its_producer(ends: Ends) -> None:
    """
    transports.start_draining: `startWriting` makes a transport with nothing to send call its
    producer.
    """
    producer = PullProducer()
    transports.start_draining(ends.transport, producer)
    assert producer.times == 1
    await turns()

    assert producer.times > 1
    ends.transport.unregisterProducer()


async def test_losing_a_connection_waits_for_its_producer(ends: Ends) -> None:
    """
    http.writer: loseConnection sets `disconnecting`; a pull producer is called to the end, and the
    connection closes when it unregisters.
    """
    producer = PullProducer()
    ends.transport.registerProducer(producer, False)
    assert ends.transport.disconnecting in (False, 0)
    ends.transport.loseConnection()
    assert ends.transport.disconnecting
    await turns()
    assert producer.times > 1
    ends.transport.unregisterProducer()
    await ends.here.lost


async def test_half_a_connection_can_be_lost(ends: Ends) -> None:
    """
    http.h1: `loseWriteConnection` sends what is written and a FIN, and reads on.
    """
    ends.transport.write(b"last")
    ends.transport.loseWriteConnection()
    while not ends.there.lost.called:
        await turns()

    assert ends.there.received == b"last"
    await ends.here.lost


async def test_a_lost_connection_stops_its_producer(ends: Ends) -> None:
    """
    http.exchange: registering a producer on a closed connection stops it at once.
    """
    producer, late = PullProducer(), PullProducer()
    ends.transport.registerProducer(producer, False)
    ends.transport.abortConnection()
    await ends.here.lost
    ends.transport.registerProducer(late, False)

    assert producer.stopped
    assert late.stopped


async def test_accepted_sockets_inherit(ends: Ends) -> None:
    """
    listeners.tune_listener: connections inherit the options of their port.
    """
    handle = ends.transport.getHandle()

    def option(number: int) -> int:
        value: int = handle.getsockopt(socket.IPPROTO_TCP, number)
        return value

    assert handle.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert option(socket.TCP_NODELAY)
    assert option(socket.TCP_KEEPIDLE) == option(socket.TCP_KEEPINTVL) == 20
    assert option(socket.TCP_KEEPCNT) == 2
    assert option(18) == 60_000  # TCP_USER_TIMEOUT
    assert option(25) == transports.NOTSENT_LOWAT  # TCP_NOTSENT_LOWAT


def test_other_ports_than_tcp_are_not_tuned() -> None:
    """
    listeners.tune_listener: unix sockets and ports without a socket are left alone.
    """

    class Port:
        def __init__(self, handle: Any) -> None:
            self.getHandle = lambda: handle

    with socket.socket(socket.AF_UNIX) as unix:
        for port in (Port(unix), Port(None), object()):
            tuned: Any = port
            listeners.tune_listener(tuned, 60.0)
        assert not unix.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


class Channel:
    """
    Records the names that a request uses of its channel.
    """

    factory = None

    def __init__(self, site: server.Site) -> None:
        self.site = site
        self.transport = StringTransport()
        self.producer: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        self.producer.append(name)
        return lambda *arguments: None


def request_on(resource: Resource) -> tuple[Any, Channel]:
    channel = Channel(server.Site(resource))
    request = channel.site.requestFactory(channel, False)
    return request, channel


def test_names_that_a_request_uses_of_its_channel() -> None:
    """
    http.site.SiteChannel: it has every name that twisted.web's Request uses.
    """
    source = inspect.getsource(http.Request) + inspect.getsource(server.Request)
    names = set(re.findall(r"self\.channel\.(\w+)", source))

    assert {"writeHeaders", "requestDone", "registerProducer"} <= names
    assert {name for name in names if not hasattr(SiteChannel, name)} <= {"site", "transport"}


@pytest.mark.parametrize(
    "name", ["gotLength", "handleContentChunk", "requestReceived", "parseCookies"]
)
def test_names_that_a_channel_calls(name: str) -> None:
    """
    http.site.SiteChannel: the methods by which a channel feeds a request exist.
    """
    assert callable(getattr(server.Request, name))


def test_a_request_is_answered_through_its_channel() -> None:
    """
    http.site.SiteChannel: a request calls writeHeaders, write and requestDone; `queued` is still a
    parameter.
    """

    class Hello(Resource):
        isLeaf = True

        def render_GET(self, request: Any) -> bytes:
            """
            Answer; a part of a resource.
            """
            return b"hello"

    request, channel = request_on(Hello())  # type: ignore[no-untyped-call]  # Twisted's
    request.requestHeaders.addRawHeader(b"Host", b"a")
    request.parseCookies()
    request.gotLength(0)
    request.requestReceived(b"GET", b"/", b"HTTP/1.1")

    used = [name for name in channel.producer if name in ("writeHeaders", "write", "requestDone")]
    assert used == ["writeHeaders", "write", "requestDone"]
    assert isinstance(request.responseHeaders, Headers)


def test_a_malformed_form_is_reported_to_the_channel() -> None:
    """
    http.site.SiteChannel._respondToBadRequestAndDisconnect: the name is Twisted's own.
    """
    request, channel = request_on(Resource())
    request.requestHeaders.addRawHeader(b"Content-Type", b"multipart/form-data")
    request.gotLength(None)
    request.handleContentChunk(b"nonsense")
    request.requestReceived(b"POST", b"/", b"HTTP/1.1")
    request.content.close()

    assert "_respondToBadRequestAndDisconnect" in channel.producer


def test_a_mount_point_is_where_the_path_begins() -> None:
    """
    http.site._MountedSite: `prepath` and `postpath` are lists of decoded segments.
    """
    seen: list[tuple[list[bytes], list[bytes]]] = []

    class Site(server.Site):
        def getResourceFor(self, request: Any) -> Any:
            seen.append((list(request.prepath), list(request.postpath)))
            return super().getResourceFor(request)  # type: ignore[no-untyped-call]  # Twisted's

    channel = Channel(Site(Resource()))  # type: ignore[no-untyped-call]  # Twisted's
    request: Any = channel.site.requestFactory(channel, False)
    request.gotLength(0)
    request.requestReceived(b"GET", b"/a/b%2Fc/", b"HTTP/1.1")

    assert seen == [([], [b"a", b"b/c", b""])]
