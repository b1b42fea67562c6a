"""
Clients of an HTTP server under test, without sockets and with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.protocol import Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.actions.chain import Route
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_http_limits, make_hub, make_server
from tests.words import Echo, Later

LIMITS = make_http_limits(line=200, headers=10, header_bytes=1000, body=5000)


@dataclass(frozen=True, slots=True)
class Answer:
    """
    A response as a strict client parses it.
    """

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def read_answers(data: bytes, methods: Sequence[str] = ()) -> list[Answer]:
    """
    Cut *data* into responses (RFC 9112, 6.3); an incomplete one is left out.

    Args:
        data: what the server sent.
        methods: of the requests; GET where there is none.
    """
    answers: list[Answer] = []
    while b"\r\n\r\n" in data:
        head, _, data = data.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        found = re.fullmatch(r"HTTP/1\.[01] (\d{3}) ([ -~]*)", first)
        assert found, first
        headers: dict[str, str] = {}
        for line in lines:
            assert re.fullmatch(r"[\w-]+: [^\r\n\0]*", line), line
            name, _, value = line.partition(": ")
            assert name.lower() not in headers, f"{name} twice"
            headers[name.lower()] = value
        status = int(found[1])
        method = methods[len(answers)] if len(answers) < len(methods) else "GET"
        body = b""
        if status >= 200 and status not in (204, 304) and method != "HEAD":
            if "transfer-encoding" in headers:
                body, data = _unchunk(data)
            elif "content-length" in headers:
                size = int(headers["content-length"])
                if len(data) < size:
                    return answers
                body, data = data[:size], data[size:]
            else:
                body, data = data, b""
        answers.append(Answer(status, headers, body))
    return answers


def _unchunk(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        digits, _, data = data.partition(b"\r\n")
        size = int(digits, 16)
        body += data[:size]
        data = data[size + 2 :]
        if not size:
            break
    return body, data


class Wire(StringTransport):
    """
    A transport without a socket that accepts all bytes and records its end.
    """

    aborted = False
    protocol: Any = None

    def __init__(self, address: str) -> None:
        peer = IPv4Address("TCP", address, 5)
        super().__init__(peerAddress=peer, lenient=True)  # type: ignore[no-untyped-call]  # Twisted's

    def abortConnection(self) -> None:
        self.aborted = True
        super().abortConnection()  # type: ignore[no-untyped-call]  # Twisted's


class Caller:
    """
    An HTTP/1.1 client of *server*.
    """

    def __init__(self, server: HttpServer, address: str = "192.0.2.1") -> None:
        self.wire = Wire(address)
        self.wire.protocol = server.buildProtocol(self.wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
        self.wire.protocol.makeConnection(self.wire)

    def send(self, *pieces: bytes) -> Caller:
        for piece in pieces:
            if not self.wire.disconnected:
                self.wire.protocol.dataReceived(piece)
        return self

    def responses(self, *methods: str) -> list[Answer]:
        return read_answers(self.written(), methods)

    def written(self) -> bytes:
        written: bytes = self.wire.value()  # type: ignore[no-untyped-call]  # Twisted's
        return written

    def hang_up(self) -> None:
        self.wire.protocol.connectionLost(Failure(ConnectionDone()))

    @property
    def open(self) -> bool:
        return not self.wire.disconnecting

    @property
    def streams(self) -> bool:
        return isinstance(self.wire.protocol, Subscriber)


class Place:
    """
    An HTTP server with the routes /echo, /late, /news, /publish and further ones.

    Args:
        lines: further routes.
        reactor: of the actions; None for the clock.
        changed: values of the actions' context.
        arguments: of the server.
    """

    def __init__(
        self,
        *lines: str,
        reactor: Any = None,
        changed: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> None:
        self.clock = Clock()
        self.hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        self.context = make_context(
            self.hub, self.clock if reactor is None else reactor, **(changed or {})
        )
        self.echo = Echo()
        self.later = Later()
        routes = [
            Route(re.compile("^/echo"), None, self.echo),
            Route(re.compile("^/late"), None, self.later),
            *(parse_route(line, self.context) for line in lines),
            parse_route("^/news$ sse:news", self.context),
            parse_route("^/publish$ publish", self.context),
            parse_route("^/refuse/(400|401)$ tests.words.Refusing:status=401", self.context),
            *(
                parse_route(f"^/refuse/{n}$ tests.words.Refusing:status={n}", self.context)
                for n in (403, 413, 429, 503)
            ),
            parse_route("^/odd$ tests.words.Refusing:status=599", self.context),
            parse_route("^/broken$ tests.words.Refusing", self.context),
        ]
        arguments.setdefault("limits", LIMITS)
        self.server = make_server(self.clock, Routes(routes).find, **arguments)
        self.server.start()

    def call(self, *pieces: bytes, address: str = "192.0.2.1") -> Caller:
        return Caller(self.server, address).send(*pieces)

    def wait(self, seconds: float) -> None:
        self.clock.pump([1.0] * int(seconds + 1))

    @property
    def waiting(self) -> list[Any]:
        exchanges: list[Any] = self.later.waiting
        return exchanges


def get(path: bytes = b"/echo", headers: bytes = b"", version: bytes = b"1.1") -> bytes:
    return b"GET %s HTTP/%s\r\nHost: a\r\n%s\r\n" % (path, version, headers)


def post(body: bytes, path: bytes = b"/echo", headers: bytes = b"") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n%s\r\n"
    return head % (path, len(body), headers) + body


def chunked(*lines: bytes, path: bytes = b"/echo") -> bytes:
    head = b"POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" % path
    return head + b"\r\n".join(lines)


def byte_wise(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def status_of(caller: Caller) -> int:
    """
    Return the status of the only response.
    """
    (answer,) = caller.responses()
    return answer.status


class Peer(Protocol):
    """
    A client on a real socket.
    """

    def __init__(self) -> None:
        self.received = b""
        self.end: Failure | None = None
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        self._look()

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        self.end = reason
        self._look()

    def _look(self) -> None:
        for item in [item for item in self._waiting if item[0]()]:
            self._waiting.remove(item)
            item[1].callback(None)

    def until(self, condition: Callable[[], bool]) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        self._waiting.append((condition, done))
        self._look()
        return done

    def answers(self, count: int) -> Deferred[None]:
        return self.until(lambda: len(read_answers(self.received)) >= count)

    def closed(self) -> Deferred[None]:
        return self.until(lambda: self.end is not None)

    def send(self, data: bytes) -> None:
        wire: Any = self.transport
        wire.write(data)


class RecordedResponses:
    """
    An access log that records paths, statuses and sizes, those of streams when they begin.
    """

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def __call__(self, exchange: Any, status: int, size: int) -> None:
        self.lines.append((exchange.path, status, size))

    def open_stream(self, exchange: Any, status: int, head: int) -> None:
        self(exchange, status, 0)


Listen = Callable[..., Any]


async def turns(count: int = 5) -> None:
    """
    Let the reactor run.
    """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater

    clock: Any = reactor
    for _ in range(count):
        await deferLater(clock, 0)


class Sink:
    """
    A body sink that records its calls.
    """

    def __init__(self) -> None:
        self.events: list[bytes | str] = []

    def data(self, piece: bytes) -> None:
        self.events.append(piece)

    def end(self) -> None:
        self.events.append("end")

    def lost(self, reason: Exception) -> None:
        self.events.append("lost")
