"""
Clients for tests: readers whose connections break, and publishers.
"""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, connectProtocol
from twisted.internet.protocol import Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.real.conftest import PATIENCE, Server

LOOK = 0.01  # seconds between two looks whether something has come true


@dataclass(frozen=True, slots=True)
class Event:
    """
    What a stream dispatched.
    """

    id: str
    type: str
    data: str


class Stream:
    """
    Reads an HTTP response that is an event stream, however it is cut in pieces
    (RFC 9112, 7.1; WHATWG HTML, 9.2.6; only LF ends a line, as our daemon writes).
    """

    def __init__(self, last_id: str) -> None:
        self.last_id = last_id
        self.first_id = ""  # the first one on this connection
        self.head = b""
        self._raw = bytearray()
        self._chunked = False
        self._left = 0  # of the chunk
        self._text = bytearray()
        self._id, self._type, self._data = last_id, "", list[str]()

    def feed(self, data: bytes) -> list[Event]:
        """
        Take the next bytes.

        Returns:
            the events they completed.
        """
        raw = self._raw
        raw += data
        if not self.head:
            end = raw.find(b"\r\n\r\n")
            if end < 0:
                return []
            self.head = bytes(raw[:end])
            self._chunked = b"transfer-encoding: chunked" in self.head.lower()
            # A chunk's size stands between two line ends; the first one's before
            # it is the head's last.
            del raw[: end + (2 if self._chunked else 4)]
        while raw and self._take():
            pass
        *lines, rest = self._text.split(b"\n")
        self._text = rest
        return [event for line in lines for event in self._line(line.decode())]

    def _take(self) -> bool:
        raw = self._raw
        if not self._chunked:
            self._left = len(raw)
        elif not self._left:
            end = raw.find(b"\r\n", 2)
            if end < 0:
                return False
            assert raw[:2] == b"\r\n", "a chunk ends with a line end"
            self._left = int(raw[2:end], 16)
            del raw[: end + 2]
        piece = raw[: self._left]
        del raw[: len(piece)]
        self._left -= len(piece)
        self._text += piece
        return bool(piece)

    def _line(self, line: str) -> list[Event]:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self._id = value
        elif name == "event":
            self._type = value
        elif name == "data":
            self._data.append(value)
        elif not line:
            self.last_id = self._id
            self.first_id = self.first_id or self._id
            data, type = self._data, self._type
            self._data, self._type = [], ""
            if data:
                return [Event(self.last_id, type or "message", "\n".join(data))]
        return []


class Connection(Protocol):
    """
    One connection of a reader.

    Args:
        reader: whose.
        request: what is sent at once.
        sent: bytes of it that are really sent before it hangs up; None for all
            of it, and then it stays.
    """

    transport: Any

    def __init__(self, reader: Reader, request: bytes, sent: int | None) -> None:
        self._reader = reader
        self._request = request
        self._sent = sent
        self._stream = Stream(reader.last_id)
        self._left: int | None = None  # bytes until it breaks, if it shall
        self._over = False

    def connectionMade(self) -> None:
        self.transport.write(self._request[: self._sent])
        if self._sent is not None:
            self.cut("close")

    def dataReceived(self, data: bytes) -> None:
        """
        Tell the reader what came.
        """
        if self._over:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._reader.hear(self._stream, self._stream.feed(data))
        if self._left == 0:
            self.cut("reset")

    def connectionLost(self, reason: object = None) -> None:
        """
        The reader is without a connection.
        """
        self._over = True
        if self._reader.connection is self:
            self._reader.connection = None

    def cut(self, manner: str, left: int = 0) -> None:
        """
        End the connection.

        Args:
            manner: `reset` (RST) or `close` (FIN) now; `half` after *left*
                further bytes; `deaf` stops reading; a later cut discards what waits in the kernel.
            left: see above.
        """
        if manner == "half":
            self._left = left
        elif manner == "deaf":
            self.transport.pauseProducing()
        else:
            self._over = True
            if manner == "reset":
                self.transport.abortConnection()
            else:
                self.transport.loseConnection()
            # It may come back before the daemon knows that it was gone.
            self.connectionLost()


@dataclass(eq=False)
class Reader:
    """
    A subscriber of channels over many connections.

    Args:
        port: of the daemon.
        channels: what it listens to.
        path: of the route; one that names its channels itself needs no query.
        version: of HTTP; 1.0 has no chunks.
    """

    port: int
    channels: Sequence[str]
    path: str = "/"
    version: str = "1.1"
    last_id: str = ""
    first: int = -1  # the offset in the first id it got
    heard: list[Event] = field(default_factory=list)
    joined: int = 0
    connection: Connection | None = None

    def join(self, sent: int | None = None) -> Deferred[Connection]:
        """
        Connect, each time saying in another of the three ways where it was.

        Args:
            sent: bytes of the request after which it hangs up; None to stay.
        """
        from twisted.internet import reactor

        assert self.connection is None
        query = "channels=" + ",".join(map(quote, self.channels)) if self.path == "/" else ""
        header = ""
        if self.last_id:
            way = self.joined % 3
            if way == 0:
                header = f"Last-Event-ID: {self.last_id}\r\n"
            else:
                query += f"&{('', 'lastEventId', 'evs_last_event_id')[way]}={self.last_id}"
        self.joined += 1
        request = f"GET {self.path}?{query} HTTP/{self.version}\r\nHost: localhost\r\n{header}\r\n"
        self.connection = Connection(self, request.encode(), sent)
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        connected: Deferred[Connection] = connectProtocol(endpoint, self.connection)
        return connected

    def cut(self, manner: str, left: int = 0) -> None:
        """
        End the connection if there is one; see `Connection.cut`.
        """
        if self.connection is not None and self.connection.connected:
            self.connection.cut(manner, left)

    def hear(self, stream: Stream, events: list[Event]) -> None:
        """
        Remember what came.
        """
        if stream.head:
            assert b" 200 " in stream.head.partition(b"\r\n")[0], stream.head
        self.heard += events
        self.last_id = stream.last_id
        if self.first < 0 and stream.first_id:
            self.first = offset(stream.first_id)

    @property
    def messages(self) -> list[str]:
        """
        The data of the messages it heard.
        """
        return [event.data for event in self.heard if event.type == "message"]

    @property
    def gaps(self) -> int:
        """
        How many gaps it heard of.
        """
        return sum(event.type == "gap" for event in self.heard)


def offset(id: str) -> int:
    """
    Where in the log an event is.
    """
    return int(id.rpartition(".")[2])


def epoch(id: str) -> str:
    """
    Which log it is in.
    """
    return id.rpartition(".")[0]


class Publisher(Protocol):
    """
    Publishes one message after the other on one connection.
    """

    transport: Any

    def __init__(self) -> None:
        self._answer = b""
        self._waiting: Deferred[dict[str, Any]] | None = None

    def publish(self, channel: str, message: bytes) -> Deferred[dict[str, Any]]:
        """
        Publish *message* on *channel*.

        Returns:
            the daemon's answer.
        """
        head = f"POST /publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: text/plain\r\nContent-Length: {len(message)}\r\n\r\n"
        return self._ask(head.encode() + message)

    def ask(self, path: str) -> Deferred[Any]:
        """
        Get *path*, which is JSON.
        """
        return self._ask(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def _ask(self, request: bytes) -> Deferred[Any]:
        assert self._waiting is None
        self._waiting = Deferred()
        self.transport.write(request)
        return self._waiting

    def dataReceived(self, data: bytes) -> None:
        """
        Read the answer.
        """
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        assert self._waiting is not None
        waiting, self._waiting, self._answer = self._waiting, None, b""
        if head.startswith(b"HTTP/1.1 200 "):
            waiting.callback(json.loads(body))
        else:
            waiting.errback(AssertionError(head + end + body))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Fail the request that waits for an answer.
        """
        if self._waiting is not None:
            self._waiting.errback(reason)


@asynccontextmanager
async def publishers(server: Server, count: int) -> AsyncIterator[list[Publisher]]:
    """
    Connections that publish.
    """
    from twisted.internet import reactor

    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{server.port}")
    connected = [await connectProtocol(endpoint, Publisher()) for _ in range(count)]
    try:
        yield connected
    finally:
        for publisher in connected:
            publisher.transport.loseConnection()


@asynccontextmanager
async def leaving(readers: Sequence[Reader]) -> AsyncIterator[None]:
    """
    Whatever happens, they hang up at the end.
    """
    try:
        yield
    finally:
        for reader in readers:
            reader.cut("reset")
        await pause(LOOK)  # Twisted aborts in its next turn


async def pause(seconds: float) -> None:
    """
    Let the world go on.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    await deferLater(clock, seconds)


async def until(condition: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """
    Wait until *condition* is true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not true after {seconds:g} seconds"
        await pause(LOOK)


async def join_all(readers: Sequence[Reader]) -> None:
    """
    Connect everybody who is not, and wait until each has an id.
    """
    for reader in readers:
        if reader.connection is None:
            await reader.join()
    await until(lambda: all(reader.last_id for reader in readers))
