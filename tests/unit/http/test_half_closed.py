"""
Clients that close their sending side get the responses to all of their requests.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ServerEndpoint, UNIXServerEndpoint
from twisted.internet.interfaces import IHalfCloseableProtocol
from twisted.internet.threads import deferToThread
from zope.interface.verify import verifyObject

from rt_twisted.codecs.addresses import Networks
from rt_twisted.http.proxy_endpoint import ProxiedEndpoint
from rt_twisted.model.message import Draft
from rt_twisted.net.tls import TlsContexts, TlsEndpoint
from tests.defaults import make_http_limits
from tests.pems import Authority
from tests.unit.http.clients import Caller, Place, get, post, read_answers, turns
from tests.unit.net.test_tls import trusting

POLL = "^/poll$ poll:news"
POLLED = get(b"/poll?since=e.0")


def end(caller: Caller) -> Caller:
    """
    Close the client's sending side, as Twisted reports it.
    """
    caller.wire.protocol.readConnectionLost()
    return caller


def statuses(caller: Caller) -> list[int]:
    return [answer.status for answer in caller.responses()]


def test_connections_provide_their_interfaces() -> None:
    """
    Twisted checks IHalfCloseableProtocol before it calls its methods.
    """
    assert verifyObject(IHalfCloseableProtocol, Place().call().wire.protocol)


def test_a_late_response_is_sent() -> None:
    """
    The late response is sent as the last one, and the connection is closed behind it.
    """
    place = Place()
    caller = end(place.call(get(b"/late")))
    lost: list[int] = []
    place.waiting[0].watch(lambda: lost.append(1))

    assert caller.open and not place.waiting[0].answered
    place.waiting[0].answer(200, b"x")

    assert statuses(caller) == [200]
    assert caller.responses()[0].headers["connection"] == "close"
    assert not caller.open
    assert lost == []


@pytest.mark.parametrize("at", [0, 1, 2])
def test_pipelined_requests_are_answered(at: int) -> None:
    """
    All pipelined requests are answered, whenever the end arrives; only the last response closes.
    """
    place = Place()
    caller = place.call(get(b"/late") + get(b"/late") + get(b"/echo"))
    for number in range(2):
        if number == at:
            end(caller)
        place.waiting[number].answer(200)
    if at == 2:
        assert caller.open
        end(caller)

    assert statuses(caller) == [200, 200, 200]
    kept = [answer.headers["connection"] for answer in caller.responses()]
    assert kept == ["keep-alive", "keep-alive", "close" if at < 2 else "keep-alive"]
    assert not caller.open


@pytest.mark.parametrize(
    "piece",
    [b"", b"G", get()[:-2], post(b"body")[:-1], post(b"body", b"/late")[:-1], get() + get()[:9]],
)
def test_an_incomplete_request_is_refused(piece: bytes) -> None:
    """
    An incomplete request is refused at once; without one the connection is closed.
    """
    place = Place()
    caller = end(place.call(piece))
    if place.waiting:
        place.waiting[0].answer(400)

    found = statuses(caller)
    assert found == ([200] if piece.startswith(get()) else []) + [400] * bool(piece)
    assert not caller.open


def test_an_incomplete_request_is_refused_in_order() -> None:
    """
    The responses before the refusal are sent first.
    """
    place = Place()
    caller = end(place.call(get(b"/late") + post(b"body")[:-1]))
    assert statuses(caller) == []
    place.waiting[0].answer(200)

    assert statuses(caller) == [200, 400]
    assert not caller.open


def test_an_idle_connection_is_closed() -> None:
    """
    An idle connection is closed as soon as its client closes it.
    """
    caller = end(Place().call(get()))

    assert statuses(caller) == [200]
    assert not caller.open


def test_a_poll_waits_for_messages() -> None:
    """
    A half-closed client gets the response to its long-poll as any other.
    """
    place = Place(POLL)
    caller = end(place.call(POLLED))
    place.wait(1)
    assert statuses(caller) == []
    place.hub.publish([Draft("news", b"hello")])
    place.wait(1)

    assert b"hello" in caller.responses()[0].body
    assert not caller.open


def test_a_stream_ends_with_its_client() -> None:
    """
    A stream ends, as nearly every client of a stream that closes its sending side is gone.
    """
    place = Place()
    waiting = place.call(get(b"/late") + get(b"/news"))
    end(waiting)
    place.waiting[0].answer(200)
    place.wait(1)

    assert statuses(waiting) == [200]
    assert not waiting.open
    assert place.hub.current_metrics().subscribers == 0


def test_half_closed_connections_have_no_deadline() -> None:
    """
    No deadline cuts the response short, and no connection is left behind.
    """
    place = Place()
    caller = end(place.call(get(b"/late")))
    place.wait(1000)
    place.waiting[0].answer(200)
    caller.hang_up()

    assert statuses(caller) == [200]
    assert place.server.connections == set()


# Real sockets.


class Port:
    """
    A port of a place, and how a client connects to it.
    """

    def __init__(self, kind: str, place: Place, authority: Authority) -> None:
        self.kind = kind
        self.place = place
        self.authority = authority
        self.listening: Any = None

    async def open(self) -> None:
        """
        Listen on a free port.
        """
        from twisted.internet import reactor

        loop: Any = reactor
        self.path = str(self.authority.folder / "s")
        endpoint: Any = TCP4ServerEndpoint(loop, 0, interface="127.0.0.1")
        if self.kind == "unix":
            endpoint = UNIXServerEndpoint(loop, self.path)
        if "proxy" in self.kind:
            endpoint = ProxiedEndpoint(endpoint, Networks.of(["127.0.0.1"]), loop.seconds)
        if "tls" in self.kind:
            contexts = TlsContexts([self.authority.pair("a", "a.test")], [b"http/1.1"])
            endpoint = TlsEndpoint(endpoint, contexts, loop)
        self.listening = await endpoint.listen(self.place.server)

    def connect(self) -> PlainClient | TlsClient:
        """
        Return a client that may send any bytes.
        """
        if self.kind == "unix":
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(self.path)
        else:
            sock = socket.create_connection(("127.0.0.1", self.listening.getHost().port))
        sock.settimeout(20)
        if "proxy" in self.kind:
            sock.sendall(b"PROXY TCP4 192.0.2.9 127.0.0.1 5 80\r\n")
        if "tls" in self.kind:
            return TlsClient(sock, trusting(self.authority))
        return PlainClient(sock)


class TlsClient:
    """
    A client by TLS on a plain socket, which sends a request and its close_notify at once.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self._sock = sock
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_hostname="a.test")
        self._until_done(self._tls.do_handshake)

    def _until_done(self, act: Callable[[], Any]) -> Any:
        while True:
            try:
                result = act()
            except ssl.SSLWantReadError:
                self._sock.sendall(self._out.read())
                self._in.write(self._sock.recv(65536))
            else:
                self._sock.sendall(self._out.read())
                return result

    def sendall(self, data: bytes) -> None:
        self._tls.write(data)
        self._sock.sendall(self._out.read())

    def send_all(self, data: bytes) -> None:
        if data:
            self._tls.write(data)
        with suppress(ssl.SSLError):
            self._tls.unwrap()  # it would wait for the server's
        self._sock.sendall(self._out.read())

    def recv(self, size: int) -> bytes:
        try:
            data: bytes = self._until_done(lambda: self._tls.read(size))
        except ssl.SSLZeroReturnError:  # a close_notify
            return b""
        return data

    def shutdown(self, how: int) -> None:
        self._sock.shutdown(how)

    def close(self) -> None:
        self._sock.close()


class PlainClient:
    """
    A client on a plain socket.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sendall = sock.sendall
        self.recv = sock.recv
        self.shutdown = sock.shutdown
        self.close = sock.close

    def send_all(self, data: bytes) -> None:
        self.sendall(data)
        self.shutdown(socket.SHUT_WR)


def read_all(client: PlainClient | TlsClient) -> bytes:
    """
    Return all bytes until the server closes.
    """
    received = b""
    while piece := client.recv(65536):
        received += piece
    return received


@pytest_twisted.async_yield_fixture
async def opened(
    request: pytest.FixtureRequest, tmp_path: Path
) -> AsyncIterator[tuple[Port, list[Any]]]:
    """
    Open a port of each kind; close its sockets afterwards.
    """
    (tmp_path / "big").write_bytes(BIG)
    lines = (POLL, f"^/f/ static:{tmp_path}")
    port = Port(request.param, Place(*lines, limits=make_http_limits()), Authority(tmp_path))
    await port.open()
    sockets: list[Any] = []
    yield port, sockets
    for sock in sockets:
        sock.close()
    await port.listening.stopListening()
    connections: Any = tuple(port.place.server.connections)
    for connection in connections:
        connection.transport.abortConnection()
    await turns(9)


BIG = bytes(range(256)) * 8000
KINDS = ["tcp", "unix", "tls", "proxy", "proxy+tls"]


@pytest.mark.parametrize("opened", KINDS, indirect=True)
async def test_pending_responses_are_sent(opened: tuple[Port, list[Any]]) -> None:
    """
    Late responses, a long-poll and a large file are sent by every kind of port, then the connection
    is closed cleanly.
    """
    port, sockets = opened
    place = port.place

    async def half_closed(request: bytes) -> Any:
        sock = await deferToThread(port.connect)
        sockets.append(sock)
        await deferToThread(sock.send_all, request)
        return sock

    async def seen() -> None:
        connections: Any = place.server.connections
        while not any(connection.half_closed for connection in connections):
            await turns()

    late = await half_closed(get(b"/late"))
    await seen()
    place.waiting[0].answer(200, b"late")
    first = read_answers(await deferToThread(read_all, late))
    news = await half_closed(POLLED)
    await seen()
    place.hub.publish([Draft("news", b"hello")])
    place.wait(1)
    second = read_answers(await deferToThread(read_all, news))
    third = read_answers(await deferToThread(read_all, await half_closed(get(b"/f/big"))))
    broken = read_answers(await deferToThread(read_all, await half_closed(post(b"x")[:-1])))

    assert [answer.body for answer in first] == [b"late"]
    assert b"hello" in second[0].body
    assert [answer.body for answer in third] == [BIG]
    assert [answer.status for answer in broken] == [400]
    while place.server.connections:
        await turns()


@pytest.mark.parametrize("opened", KINDS, indirect=True)
async def test_a_stream_ends_by_every_port(opened: tuple[Port, list[Any]]) -> None:
    """
    A subscriber that closes its sending side leaves, by every kind of port.
    """
    port, sockets = opened
    sock = await deferToThread(port.connect)
    sockets.append(sock)
    await deferToThread(sock.sendall, get(b"/news"))
    await deferToThread(sock.recv, 100)
    assert port.place.hub.current_metrics().subscribers == 1
    await deferToThread(sock.send_all, b"")

    while port.place.hub.current_metrics().subscribers:
        await turns()


@pytest.mark.parametrize("opened", ["tls", "proxy+tls"], indirect=True)
async def test_tls_without_close_notify(opened: tuple[Port, list[Any]]) -> None:
    """
    An end without a close_notify may not be the client's own, so it ends the connection (RFC 8446,
    6.1).
    """
    port, sockets = opened
    sock = await deferToThread(port.connect)
    sockets.append(sock)
    await deferToThread(sock.sendall, get(b"/late"))
    while not port.place.waiting:
        await turns()
    lost: list[int] = []
    port.place.waiting[0].watch(lambda: lost.append(1))
    sock.shutdown(socket.SHUT_WR)

    while not lost:
        await turns()
