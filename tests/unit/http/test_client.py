"""
The HTTP client: which responses it accepts, and which connections it uses again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client import IDLE_SECONDS, HttpClient, UpstreamRequest, fetch
from rt_twisted.http.head import Field
from rt_twisted.http.response_parser import ResponseParser, UpstreamResponse

URL = HttpUrl.parse("http://127.0.0.1:8000/may?x=1")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Recorder:
    """
    Records a response.
    """

    def __init__(self) -> None:
        self.response: UpstreamResponse | None = None
        self.body = b""

    def interim(self, status: int, fields: Sequence[Field]) -> None:
        assert self.response is None

    def head(self, response: UpstreamResponse) -> None:
        assert self.response is None
        self.response = response

    def data(self, piece: bytes) -> None:
        self.body += piece


def parse(data: bytes, method: str = "GET", step: int = 0) -> tuple[ResponseParser, Recorder]:
    sink = Recorder()
    parser = ResponseParser(sink)
    parser.expect(method)
    pieces = [data[at : at + step] for at in range(0, len(data), step)] if step else [data]
    for piece in pieces:
        parser.feed(piece)
    return parser, sink


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize(
    ("data", "method", "status", "body", "reusable"),
    [
        (OK, "GET", 200, b"ok", True),
        (b"HTTP/1.1 204 No\r\n\r\n", "GET", 204, b"", True),
        (b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n", "GET", 304, b"", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 200, b"", False),
        (b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK, "GET", 200, b"ok", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", "GET", 200, b"x",
         False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", "GET", 200, b"x", False),
        (b"HTTP/1.1 403 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", "GET", 403,
         b"no", True),
    ],
)  # fmt: skip
def test_responses(
    data: bytes, method: str, status: int, body: bytes, reusable: bool, step: int
) -> None:
    """
    However they are split. A response to HEAD, and a 304, end with their head.
    """
    parser, sink = parse(data, method, step)
    assert parser.complete
    assert sink.response is not None
    assert (sink.response.status, sink.body, parser.reusable) == (status, body, reusable)
    parser.eof()


def test_bytes_behind_a_response_end_its_connection() -> None:
    """
    They would be taken for the response to the next request.
    """
    parser, sink = parse(OK + OK)

    assert parser.complete
    assert not parser.reusable
    assert sink.body == b"ok"


def test_body_until_close() -> None:
    """
    The body ends with the connection, and not before.
    """
    parser, sink = parse(b"HTTP/1.1 200 OK\r\n\r\nab")
    parser.feed(b"c")
    assert not parser.complete
    parser.eof()
    assert parser.complete
    assert sink.body == b"abc"
    assert not parser.reusable


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000,
        b"HTTP/1.1 100 C\r\n\r\n" * 20,
    ],
)
def test_malformed_responses(data: bytes) -> None:
    """
    They are refused in one way.
    """
    with pytest.raises(RemoteProtocolError):
        parse(data)


@pytest.mark.parametrize("cut", [b"", OK[:10], OK[:-1]])
def test_cut_responses(cut: bytes) -> None:
    """
    A connection that is closed within a response is an error.
    """
    parser, _ = parse(cut)
    with pytest.raises(RemoteProtocolError):
        parser.eof()


REUSABLE = (
    OK,
    b"HTTP/1.1 204 No\r\n\r\n",
    b"HTTP/1.1 304 No\r\n\r\n",
    b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" + OK,
    b"HTTP/1.1 200 OK\r\nUpgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 2\r\n\r\nab",
    b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nab",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\nX-Sum: 1\r\n\r\n",
)
OTHERS = (
    ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
    ("GET", b"HTTP/1.1 304 No\r\nContent-Length: 5\r\n\r\n"),
    ("GET", b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"),
    ("GET", b"HTTP/1.1 200 OK\r\n\r\nuntil it closes"),
    ("GET", OK + b"H"),
    ("GET", OK[:-1]),
)


@pytest.mark.parametrize("step", [1, 1000])
@pytest.mark.parametrize("first", REUSABLE)
def test_nothing_is_left_of_the_response_before(first: bytes, step: int) -> None:
    """
    The next response on a kept connection is read as if it were the first one.
    """

    def seen(parser: ResponseParser, sink: Recorder, method: str, data: bytes) -> list[Any]:
        sink.response, sink.body = None, b""
        parser.expect(method)
        for at in range(0, len(data), step):
            parser.feed(data[at : at + step])
        return [sink.response, sink.body, parser.complete, parser.reusable, parser.trailers]

    for method, second in (*(("GET", one) for one in REUSABLE), *OTHERS):
        sink, other = Recorder(), Recorder()
        used = ResponseParser(sink)
        assert seen(used, sink, "GET", first)[3]
        wanted = seen(ResponseParser(other), other, method, second)
        assert seen(used, sink, method, second) == wanted


@given(st.binary(max_size=300), st.sampled_from(["GET", "HEAD"]))
def test_any_bytes(data: bytes, method: str) -> None:
    """
    Only RemoteProtocolError is raised.
    """
    for start in (b"", b"HTTP/1.1 200 OK\r\n", OK[:-2]):
        with suppress(RemoteProtocolError):
            parse(start + data, method)[0].eof()


class Server:
    """
    The other end of the connections of a client on a clock.
    """

    def __init__(self) -> None:
        self.reactor: Any = MemoryReactorClock()
        self.client = HttpClient(self.reactor)
        self.wires: list[Any] = []
        self.protocols: list[Any] = []

    def request(self, method: str = "GET", body: bytes = b"", limit: int = 100) -> list[Any]:
        """
        Send a request; return a list that its result, or error, is put in.
        """
        results: list[Any] = []
        request = UpstreamRequest(method, URL, (("Cookie", "a=b"),), body)
        done: Deferred[Any] = fetch(self.client, self.reactor, request, limit, 3.0)
        done.addBoth(lambda found: results.append(found))
        self.done = done
        self.accept()
        return results

    def accept(self) -> None:
        """
        Accept the connections that were requested.
        """
        self.reactor.advance(0)
        while self.reactor.tcpClients:
            factory = self.reactor.tcpClients.pop()[2]
            wire: Any = StringTransport()
            wire.abortConnection = partial(self.close, wire)
            protocol = factory.buildProtocol(None)
            self.wires.append(wire)
            self.protocols.append(protocol)
            protocol.makeConnection(wire)

    def close(self, wire: Any, reason: Exception | None = None) -> None:
        wire.disconnected = True
        self.protocols[self.wires.index(wire)].connectionLost(Failure(reason or ConnectionDone()))

    def respond(self, data: bytes, number: int = -1) -> None:
        self.protocols[number].dataReceived(data)


def error_of(results: list[Any]) -> str:
    [failure] = results
    assert isinstance(failure, Failure)
    assert failure.check(ConnectionLost, RemoteProtocolError)
    return str(failure.value)


def test_request_and_response() -> None:
    """
    The target of the URL, Host, and the given headers.
    """
    server = Server()
    results = server.request()
    assert server.wires[0].value() == (
        b"GET /may?x=1 HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nCookie: a=b\r\n\r\n"
    )
    server.respond(OK)
    [(response, body)] = results
    assert (response.status, body) == (200, b"ok")
    assert response.header("content-length") == "2"


def test_connections_are_kept() -> None:
    """
    The next request uses the connection; after a while it is closed.
    """
    server = Server()
    server.request()
    server.respond(OK)
    server.request()
    assert len(server.wires) == 1
    server.respond(OK)
    server.reactor.advance(IDLE_SECONDS + 1)
    assert server.wires[0].disconnected
    server.request()
    assert len(server.wires) == 2


def test_get_is_sent_again_if_a_kept_connection_was_closed() -> None:
    """
    Once, and only before a byte of the response.
    """
    server = Server()
    server.request()
    server.respond(OK)
    results = server.request()
    server.close(server.wires[0])
    server.accept()
    assert len(server.wires) == 2
    assert not results
    server.close(server.wires[1])
    assert "closed" in error_of(results)


def test_post_is_never_sent_again() -> None:
    """
    The request may have had an effect. After a second without use, no kept connection is risked.
    """
    server = Server()
    server.request()
    server.respond(OK)
    results = server.request("POST", b"x")
    assert server.wires[0].value().endswith(b"Content-Length: 1\r\n\r\nx")
    server.close(server.wires[0])
    assert error_of(results)
    server.request()
    server.respond(OK)
    server.reactor.advance(2)
    server.request("POST", b"x")
    assert len(server.wires) == 3


def use(server: Server, act: Callable[[], object]) -> str:
    results = server.request()
    act()
    return error_of(results)


def test_failures() -> None:
    """
    Each in its own words: too slow, too large, malformed, cut, refused.
    """
    server = Server()
    assert "in 3 seconds" in use(server, lambda: server.reactor.advance(3))
    assert server.wires[-1].disconnected
    large = OK.replace(b": 2", b": 200") + b"x" * 198
    assert "larger than 100" in use(server, lambda: server.respond(large))
    assert server.wires[-1].disconnected
    assert "malformed" in use(server, lambda: server.respond(b"x\r\n"))
    assert server.wires[-1].disconnected
    assert "complete" in use(server, lambda: server.close(server.wires[-1]))
    lost = ConnectionLost("reset")
    assert "reset" in use(server, lambda: server.close(server.wires[-1], lost))


def test_unasked_bytes_close_a_kept_connection() -> None:
    """
    They would be taken for the next response.
    """
    server = Server()
    server.request()
    server.respond(OK)
    server.respond(OK)
    assert server.wires[0].disconnected
    server.request()
    assert len(server.wires) == 2


def test_cancelled_requests_abort() -> None:
    """
    Before and after the connection is there.
    """
    server = Server()
    server.request()
    server.done.cancel()
    assert server.wires[0].disconnected


def test_control_characters_are_never_sent() -> None:
    """
    A value of a client cannot add a header.
    """
    for value in ("a\r\nB: c", "a\0", "a\x7f"):
        with pytest.raises(ValueError):
            UpstreamRequest("GET", URL, (("A", value),)).encode()


def test_back_pressure() -> None:
    """
    A receiver that pauses is sent nothing more.
    """
    server = Server()

    class Sink(Recorder):
        ended = False

        def end(self) -> None:
            self.ended = True

        def lost(self, reason: Exception) -> None:
            raise reason

    sink = Sink()
    exchange = server.client.send(UpstreamRequest("GET", URL), sink)
    server.accept()
    server.respond(OK[:-1])
    exchange.pause()
    assert server.wires[0].producerState == "paused"
    exchange.resume()
    assert server.wires[0].producerState == "producing"
    server.respond(b"k")
    assert sink.body == b"ok"
    assert sink.ended
    server.client.close()
    assert server.wires[0].disconnected
