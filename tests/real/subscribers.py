"""
Clients for tests: subscribers whose connections break, and publishers.
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

POLL_INTERVAL = 0.01  # seconds between two checks of a condition


@dataclass(frozen=True, slots=True)
class Event:
    """
    An event that a stream dispatched.
    """

    id: str
    type: str
    data: str


class Stream:
    """
    Parser of an HTTP response that is an event stream, split anywhere.

    See RFC 9112, 7.1, and WHATWG HTML, 9.2.6. Only LF ends a line, as the daemon writes.
    """

    def __init__(self, last_id: str) -> None:
        self.last_id = last_id
        self.first_id = ""  # the first one on this connection
        self.head = b""
        self.retry = 0  # milliseconds; 0 if the server sent none
        self._raw = bytearray()
        self._chunked = False
        self._left = 0  # of the chunk
        self._text = bytearray()
        self._id, self._type, self._data = last_id, "", list[str]()

    def feed(self, data: bytes) -> list[Event]:
        """
        Parse the next bytes.

        Returns:
            the events that *data* completed.
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
        elif name == "retry":
            self.retry = int(value)
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
    One connection of a subscriber.

    Args:
        subscriber: owns the connection.
        request: sent at once.
        sent: bytes of the request after which the connection is closed; None to send
            all of it and stay connected.
    """

    transport: Any

    def __init__(self, subscriber: Subscriber, request: bytes, sent: int | None) -> None:
        self._subscriber = subscriber
        self._request = request
        self._sent = sent
        self._stream = Stream(subscriber.last_id)
        self._left: int | None = None  # bytes until the connection is cut; None for no cut
        self._over = False

    def connectionMade(self) -> None:
        self.transport.write(self._request[: self._sent])
        if self._sent is not None:
            self.cut("close")

    def dataReceived(self, data: bytes) -> None:
        """
        Parse the data and notify the subscriber.
        """
        if self._over:
            return
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        self._subscriber.on_events(self._stream, self._stream.feed(data))
        if self._left == 0:
            self.cut("reset")

    def connectionLost(self, reason: object = None) -> None:
        """
        Remove the connection from the subscriber.
        """
        self._over = True
        if self._subscriber.connection is self:
            self._subscriber.connection = None

    def cut(self, mode: str, left: int = 0) -> None:
        """
        End the connection.

        Args:
            mode: `reset` (RST) or `close` (FIN) now; `half`, a reset after *left*
                further bytes; `stall`, stop reading: a later cut discards what the kernel
                has buffered.
            left: bytes, for `half`.
        """
        if mode == "half":
            self._left = left
        elif mode == "stall":
            self.transport.pauseProducing()
        else:
            self._over = True
            if mode == "reset":
                self.transport.abortConnection()
            else:
                self.transport.loseConnection()
            # The subscriber may reconnect before the daemon has noticed the end.
            self.connectionLost()


@dataclass(eq=False)
class Subscriber:
    """
    A subscriber of channels over many connections.

    Args:
        port: of the daemon.
        channels: that it subscribes to.
        path: of the route; other routes than `/` name their channels themselves.
        version: of HTTP; 1.0 has no chunks.
    """

    port: int
    channels: Sequence[str]
    path: str = "/"
    version: str = "1.1"
    last_id: str = ""
    first: int = -1  # the offset in the first id that it received
    events: list[Event] = field(default_factory=list)
    joined: int = 0
    connection: Connection | None = None

    def join(self, sent: int | None = None) -> Deferred[Connection]:
        """
        Connect, and send the last id in each of three variants in turn.

        Args:
            sent: bytes of the request after which the connection is closed; None to stay.
        """
        from twisted.internet import reactor

        assert self.connection is None
        query = "channels=" + ",".join(map(quote, self.channels)) if self.path == "/" else ""
        header = ""
        if self.last_id:
            variant = self.joined % 3
            if variant == 0:
                header = f"Last-Event-ID: {self.last_id}\r\n"
            else:
                query += f"&{('', 'lastEventId', 'evs_last_event_id')[variant]}={self.last_id}"
        self.joined += 1
        request = f"GET {self.path}?{query} HTTP/{self.version}\r\nHost: localhost\r\n{header}\r\n"
        self.connection = Connection(self, request.encode(), sent)
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        connected: Deferred[Connection] = connectProtocol(endpoint, self.connection)
        return connected

    def cut(self, mode: str, left: int = 0) -> None:
        """
        End the connection if there is one; see `Connection.cut`.
        """
        if self.connection is not None and self.connection.connected:
            self.connection.cut(mode, left)

    def on_events(self, stream: Stream, events: list[Event]) -> None:
        """
        Record received events.
        """
        if stream.head:
            assert b" 200 " in stream.head.partition(b"\r\n")[0], stream.head
        self.events += events
        self.last_id = stream.last_id
        if self.first < 0 and stream.first_id:
            self.first = offset(stream.first_id)

    @property
    def messages(self) -> list[str]:
        """
        Return the data of the received messages.
        """
        return [event.data for event in self.events if event.type == "message"]

    @property
    def gaps(self) -> int:
        """
        Return the number of received gaps.
        """
        return sum(event.type == "gap" for event in self.events)


def offset(id: str) -> int:
    """
    Return the offset in an event's id.
    """
    return int(id.rpartition(".")[2])


def epoch(id: str) -> str:
    """
    Return the epoch in an event's id.
    """
    return id.rpartition(".")[0]


class Publisher(Protocol):
    """
    Connection that publishes one message after the other.
    """

    transport: Any

    def __init__(self) -> None:
        self._answer = b""
        self._pending: Deferred[dict[str, Any]] | None = None

    def publish(self, channel: str, message: bytes) -> Deferred[dict[str, Any]]:
        """
        Publish *message* on *channel*.

        Returns:
            the daemon's response.
        """
        head = f"POST /publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\n"
        head += f"Content-Type: text/plain\r\nContent-Length: {len(message)}\r\n\r\n"
        return self._request(head.encode() + message)

    def get(self, path: str) -> Deferred[Any]:
        """
        Return the JSON at *path*.
        """
        return self._request(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    def _request(self, request: bytes) -> Deferred[Any]:
        assert self._pending is None
        self._pending = Deferred()
        self.transport.write(request)
        return self._pending

    def dataReceived(self, data: bytes) -> None:
        """
        Read the response.
        """
        self._answer += data
        head, end, body = self._answer.partition(b"\r\n\r\n")
        if not end:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        assert self._pending is not None
        pending, self._pending, self._answer = self._pending, None, b""
        if head.startswith(b"HTTP/1.1 200 "):
            pending.callback(json.loads(body))
        else:
            pending.errback(AssertionError(head + end + body))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """
        Fail the pending request.
        """
        if self._pending is not None:
            self._pending.errback(reason)


@asynccontextmanager
async def publishers(server: Server, count: int) -> AsyncIterator[list[Publisher]]:
    """
    Yield *count* connections that publish.
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
async def disconnecting(subscribers: Sequence[Subscriber]) -> AsyncIterator[None]:
    """
    Disconnect the subscribers at the end, also after an exception.
    """
    try:
        yield
    finally:
        for subscriber in subscribers:
            subscriber.cut("reset")
        await pause(POLL_INTERVAL)  # Twisted aborts in its next turn


async def pause(seconds: float) -> None:
    """
    Run the reactor for some seconds.
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
        await pause(POLL_INTERVAL)


async def join_all(subscribers: Sequence[Subscriber]) -> None:
    """
    Connect the subscribers that are disconnected, and wait until each has an id.
    """
    for subscriber in subscribers:
        if subscriber.connection is None:
            await subscriber.join()
    await until(lambda: all(subscriber.last_id for subscriber in subscribers))
