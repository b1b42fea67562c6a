"""
HTTP/1.1 (RFC 9112): one connection, whose requests are answered in order.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
)
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.collected_body import body_memory_exhausted
from rt_twisted.http.context import ConnectionState, HttpContext
from rt_twisted.http.dispatch import answers_whole, dispatch, find_action
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.request_reader import RequestPart, RequestReader
from rt_twisted.http.stream_handle import Detach, PeerInfo, StreamHandle
from rt_twisted.http.taken import TakenConnection, accept_connection
from rt_twisted.http.upgrade import wants_websocket
from rt_twisted.http.writer import ResponseWriter
from rt_twisted.model.errors import HttpError
from rt_twisted.net.sniff import HTTP_STARTS, ConnectionStart

LINGER = 5.0  # seconds in which a refused client may read the response...
INGEST_LINGER = 0.8  # ...and a live publisher: ffmpeg sends on, whatever it is answered
HALF_CLOSE = 1.0  # seconds after its request within which a client may close its sending side
MAX_BUFFERED = 65536  # bytes of a body that are kept until an action reads it


# Attributes of an Enum class are slow to look up.
_IDLE, _HEAD, _BODY, _RAW = RequestPart
_OPEN, _FINISHING, _CLOSING = ConnectionState


@implementer(IProtocol, IHandshakeListener, IHalfCloseableProtocol)
class Http1Connection:
    """
    A client's connection: the `RequestReceiver` of its reader, and the `ResponseChannel` of its
    current exchange.

    Requests are answered one after the other, each when the response before it
    has gone to the kernel; meanwhile nothing more is read. Responses to requests of one read
    leave together, as far as their actions open no streams (`IAction`, answers_whole).

    A client that closes its sending side still gets the responses to all of its requests
    (RFC 9112, 9.6), and then the connection is closed. Only streams end at once: most
    clients that close that side are gone, and a stream would not find out for long. So do
    requests that are passed on to applications, with exceptions: see `_has_left`.

    Args:
        context: of the server.
        origin: the client, if another process accepted the connection.

    Attributes:
        deadline: when `on_deadline` is called; infinity for never.
        half_closed: the client has closed its sending side.
    """

    __slots__ = (
        "_current",
        "_direct",
        "_idle_since",
        "_is_http",
        "_linger",
        "_origin",
        "_parsing",
        "_paused",
        "_peer",
        "_queue",
        "_reader",
        "_received",
        "_source",
        "_start_bytes",
        "_starting",
        "_state",
        "context",
        "deadline",
        "half_closed",
        "transport",
        "writer",
    )

    def __init__(self, context: HttpContext, origin: PeerInfo | None = None) -> None:
        self.context = context
        self._origin = origin
        self._peer: Any = None
        self._received = False  # something, from the client
        self.transport: Any = None
        self.writer: ResponseWriter
        self.deadline = math.inf
        self._reader: RequestReader
        self._parsing = False  # `read_more` follows
        self._paused = False  # the transport is not read
        self.half_closed = False
        self._state = _OPEN
        self._linger = 0.0  # seconds, if the client may still be sending when it closes
        self._starting = False  # _start_queued is running
        self._direct = False  # the current response goes by our writer, not by the transport
        self._source: Any = None  # the producer of the current response
        self._current: HttpExchange | None = None  # being answered
        self._queue: deque[HttpExchange | HttpError] | None = None  # to be answered next, if any
        self._is_http = not context.port_protocols  # or is not decided yet
        self._start_bytes: ConnectionStart | None = None  # most connections need none

    @property
    def peer(self) -> Any:
        """
        The client's address, as the transport knows it: behind a PROXY header
        that is not the peer that the port accepted.
        """
        if self._peer is not None:
            return self._peer
        peer = self._origin or self.transport.getPeer()
        if self._received:  # before, a PROXY header may follow
            self._peer = peer  # the transport makes a new one for each call
        return peer

    @property
    def secure(self) -> bool:
        """
        Whether the client uses TLS.
        """
        return self.writer.is_tls if self._origin is None else self._origin.secure

    @property
    def idle_since(self) -> float | None:
        """
        Since when no request is being answered, or since when the rest of a head is
        missing; None while one is, and when the connection is closing.
        """
        if self._state is _CLOSING or self.deadline == math.inf or self._current is not None:
            return None
        part = self._reader.part
        if part is _BODY:
            return None
        if part is _HEAD:
            return self.deadline - self.context.limits.head_seconds
        return self._idle_since

    # Called by Twisted.

    def makeConnection(self, transport: Any) -> None:
        self.transport = transport
        self.writer = ResponseWriter(transport, self._on_drained)
        self._reader = RequestReader(self)
        self._idle_since = self.context.clock.seconds()
        self.deadline = self._idle_since + self.context.limits.head_seconds
        self.context.connections.add(self)

    def connectionMade(self) -> None:
        """
        Do nothing: makeConnection has done it.
        """

    def handshakeCompleted(self) -> None:
        # TLS has agreed on the HTTP version (ALPN, RFC 7301).
        if self.transport.negotiatedProtocol == b"h2":
            self._release_transport()
            self.context.start_http2(self.transport, self.peer)

    def logPrefix(self) -> str:
        return "http"

    def dataReceived(self, data: bytes) -> None:
        self._received = True
        reader = self._reader
        if reader.rest is not None:
            reader.rest += data
            self.read_more()
            return
        if not self._is_http:
            if self._start_bytes is None and data[:4] in HTTP_STARTS:
                self._is_http = True
            else:
                data = self._sniff(data)
        # Responses to requests of one read leave in one system call.
        self.writer.hold()
        self._parsing = True
        reader.feed(data)
        self._parsing = False
        self.writer.release()
        if self._state is not _CLOSING:
            self.read_more()

    def _sniff(self, data: bytes) -> bytes:
        """
        Hand the connection to the protocol of its first bytes, if that is not HTTP.

        Returns:
            the bytes that are HTTP; empty while that is not decided.
        """
        found: Any
        start = self._start_bytes = self._start_bytes or ConnectionStart()
        data, found = start.feed(data, self.context.port_protocols)
        if data:
            self._start_bytes = None
            self._is_http = True
            self._reader.part = _IDLE
        else:
            self._reader.part = _HEAD  # at the deadline it is an HTTP request that was too slow
        if found is None:
            return data
        peer, secure = self.peer, self.secure
        self._release_transport()
        taken = TakenConnection(self.transport, self.context.connections, peer)
        accept_connection(found, taken, secure, data, self.context.find)
        return b""

    def connectionLost(self, reason: Failure) -> None:
        self.context.connections.discard(self)
        self._source = None
        incoming = self._reader.incoming
        if self._reader.part is _RAW and incoming is not None and reason.check(ConnectionDone):
            incoming.body.end()  # TLS has no half-closed connections
        self.writer.connection_lost()
        self._state = _CLOSING
        self._queue = None
        incoming, current = self._reader.incoming, self._current
        self._current = None
        self._reader.close()
        for exchange in {incoming, current} - {None}:
            assert exchange is not None
            exchange.connection_lost()

    def readConnectionLost(self) -> None:
        self.half_closed = True
        self._linger = 0.0
        current = self._current
        if current is not None and current.ends_half_closed and _has_left(current):
            self.transport.abortConnection()
        elif self._state is not _CLOSING:
            self.read_more()
        elif not self.writer.draining:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        Do nothing: we have closed our sending side.
        """

    def _on_drained(self) -> None:
        if self._state is _CLOSING:
            self._close_transport()
        elif self._source is not None:
            self._source.resumeProducing()
        else:
            self._go_on()

    # Called by the reader.

    @property
    def idle(self) -> bool:
        return self._current is None and not self._queue and not self.writer.draining

    def begin(self, exchange: HttpExchange) -> None:
        found = None
        if self.writer.holds:
            found = find_action(self.context, exchange)
            if not answers_whole(found):
                self.writer.flush()
                if self.writer.draining:
                    self._waiting().appendleft(exchange)
                    return
        self._current = exchange
        dispatch(self.context, exchange, found)

    def enqueue(self, exchange: HttpExchange) -> None:
        self._waiting().append(exchange)

    def _waiting(self) -> deque[HttpExchange | HttpError]:
        if self._queue is None:  # most connections never need one
            self._queue = deque()
        return self._queue

    def on_upgrade(self, rest: bytes) -> bytes:
        if not self._queue or not wants_websocket(self._queue[-1]):
            return rest
        # The response decides whether the rest is HTTP.
        self._reader.rest = rest
        if self._current is None:
            self._start_queued()
        return self._take_http_rest()

    def refuse_input(self, refusal: HttpError) -> None:
        reader = self._reader
        incoming, reader.incoming = reader.incoming, None
        reader.stopped = True
        self.deadline = math.inf  # the responses before it may take any time
        if incoming is not None:
            # Its head was fine: the action that reads its body answers.
            incoming.body.fail(refusal)
            if not incoming.answered and incoming is self._current:
                incoming.refuse(refusal)
        elif self.idle:
            self._answer_malformed(refusal)
        else:
            self._waiting().append(refusal)

    # The response channel of the current exchange.

    def respond(self, head: ResponseHead, length: int | None, body: bytes) -> None:
        stays_open = self._stays_open()
        self.writer.write(self._encode_head(head, length, stays_open) + body)
        self._end_response(stays_open)

    def start(self, head: ResponseHead, length: int | None, direct: bool = False) -> None:
        stays_open = self._stays_open()
        encoded = self._encode_head(head, length, stays_open)
        if not direct:
            self.transport.write(encoded)
            return
        self._direct = True
        if self._current is not None and not stays_open:
            self._current.keep_alive = False  # the head says so
        self.writer.write(encoded)

    def write(self, data: bytes) -> None:
        if not self._direct:
            self.transport.write(data)
            return
        self.writer.write(data)
        if self.writer.draining and self._source is not None:
            self._source.pauseProducing()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        if self._direct:
            self.write(b"".join(pieces))
        else:
            self.transport.writeSequence(pieces)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if not self._direct:
            self.writer.register_producer(producer, streaming)
            return
        self._source = producer
        if self.writer.draining:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        if self._direct:
            self._source = None
        else:
            self.writer.unregister_producer()

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        if self._direct:
            self._direct = False
        else:
            self.writer.drain()
        self._end_response(self._stays_open())

    def send_interim(self, status: int, fields: Sequence[Field]) -> None:
        self.writer.write(ResponseHead(status, fields, b"").http1 + b"\r\n")

    def abort(self) -> None:
        self.transport.abortConnection()

    def send_continue(self) -> None:
        self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def require_open(self) -> None:
        exchange = self._current
        if self.half_closed and exchange is not None:
            exchange.answered = True
            self._close(linger=False)
            raise ConnectionLost

    def detach(self, head: ResponseHead) -> StreamHandle:
        exchange, framing, rest = self._current, b"", b""
        if head.status == 101:
            rest = self._reader.take_rest()
        elif exchange is not None and exchange.framed:
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            framing = b"Connection: close\r\n"
        self._release_transport()
        return StreamHandle(self.transport, b"%s%s\r\n" % (head.http1, framing), rest)

    def take_over(self, head: bytes, received: bytes) -> StreamHandle:
        if self._queue or self.writer.draining:
            raise HttpError(400, "other requests on the connection are not answered yet")
        self.require_open()
        rest = received + self._reader.take_rest()
        peer = self.peer
        self._release_transport()
        taken = TakenConnection(self.transport, self.context.connections, peer)
        if head:
            self.transport.write(head)
        return StreamHandle(taken, b"", rest)

    def hand_off(self, detach: Detach) -> Deferred[bool]:
        done: Deferred[bool] = Deferred()
        exchange = self._current
        # All bytes that came with the head are parsed then, and no others are read.
        self.context.clock.callLater(0, lambda: done.callback(self._hand_off(exchange, detach)))
        return done

    def _hand_off(self, exchange: HttpExchange | None, detach: Detach) -> bool:
        if exchange is None or exchange is not self._current or exchange.answered:
            return False
        if self._queue or self._reader.part is not _BODY or self.writer.draining:
            return False  # another request has begun, or a response has not ended
        if exchange.length is None and not exchange.body.complete:
            return False  # somewhere in a chunk
        data = exchange.encode_request() + (self._reader.rest or b"")
        release = detach(self.transport, PeerInfo(exchange.peer, self.secure), data)
        if release is None:
            return False
        exchange.answered = True
        exchange.body.stop_counting()
        self._release_transport()
        release(self.transport)
        return True

    def reject_body(self, error: HttpError) -> None:
        self.refuse_input(error)

    def read_more(self) -> None:
        """
        Set the deadline for the bytes that come next; read on, or pause.
        """
        if self._state is _CLOSING:
            return
        reader = self._reader
        if self.half_closed and reader.rest is None:
            self._finish_half_closed()
            return
        incoming = reader.incoming
        buffered = incoming.body.buffered if incoming is not None else len(reader.rest or b"")
        blocked = bool(self._queue) or buffered > MAX_BUFFERED
        blocked = blocked or (incoming is not None and incoming.body.held)
        limits = self.context.limits
        now = self.context.clock.seconds()
        if blocked or (incoming is not None and incoming.body.paused):
            if not self._paused:
                self._paused = True
                self.transport.pauseProducing()
            if blocked:
                self.deadline = math.inf  # a client whose bytes we do not read is not too slow
            elif self.deadline == math.inf:
                self.deadline = now + limits.body_seconds
            return
        resumed = self._paused and self._resume_reading()
        if incoming is not None:
            # A body that was paused for others gets no more time: theirs is limited, too.
            if self.deadline == math.inf or incoming.body.streaming:
                self.deadline = now + (incoming.body.timeout or limits.body_seconds)
        elif reader.part is _HEAD:
            if resumed or self.deadline == math.inf:
                self.deadline = now + limits.head_seconds
        elif self._current is not None or self.writer.draining:
            self.deadline = math.inf
        elif reader.part is _BODY or self.deadline == math.inf:
            reader.await_request()
            self._idle_since = now
            self.deadline = now + limits.idle_seconds

    def _encode_head(self, head: ResponseHead, length: int | None, stays_open: bool) -> bytes:
        connection = b""
        if not stays_open:
            connection = b"Connection: close\r\n"
        elif not head.has_connection:
            # A 426 has `Connection: Upgrade`; by HTTP/1.1 the connection stays open anyway.
            connection = self.context.keep_alive
        first, exchange = head.http1, self._current
        if exchange is not None and exchange.method == "SOURCE" and exchange.version == "1.0":
            # Some sources of Icecast take HTTP/1.1 for another server.
            first = first.replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        if length is None:
            return b"%s%s\r\n" % (first, connection)
        return b"%sContent-Length: %d\r\n%s\r\n" % (first, length, connection)

    def _stays_open(self) -> bool:
        """
        Return whether another request may follow the current one, whose body must be complete.
        """
        exchange = self._current
        if exchange is None or self._state is not _OPEN:
            return False
        if self.half_closed and not self._queue:
            return False
        return exchange.keep_alive and exchange.body.complete

    def _end_response(self, stays_open: bool) -> None:
        exchange = self._current
        if exchange is None:
            return
        if not stays_open:
            self._close(linger=not exchange.body.complete)
            return
        self._current = None
        if not self._starting:
            self._go_on()

    # Exchanges.

    def _start_queued(self) -> None:
        self._starting = True
        while self._queue and self._current is None and not self.writer.draining:
            exchange = self._queue.popleft()
            if isinstance(exchange, HttpError):
                self._answer_malformed(exchange)
            elif isinstance(exchange.body.failure, HttpError):
                self._current = exchange  # its body failed while it was queued
                exchange.refuse(exchange.body.failure)
            else:
                self.begin(exchange)
        self._starting = False

    def _go_on(self) -> None:
        if self._queue:
            self._start_queued()
        rest = b"" if self._reader.rest is None else self._take_http_rest()
        if rest:
            self.dataReceived(rest)
        elif not self._parsing:
            self.read_more()

    def _take_http_rest(self) -> bytes:
        """
        Return the bytes behind a request with `Upgrade`, once it got an ordinary response.
        """
        if self._current is not None or self._queue:
            return b""
        rest, self._reader.rest = self._reader.rest, None
        return rest or b""

    def _answer_malformed(self, refusal: HttpError) -> None:
        self._current = HttpExchange.malformed(self, "1.1", complete=False)
        self._current.refuse(refusal)

    # Ending.

    def close_gracefully(self) -> None:
        """
        Close when the current request is answered, at once if there is none.
        """
        if self._state is not _CLOSING:
            self._state = _FINISHING
        if self._current is None:
            self._close(linger=False)

    def on_deadline(self) -> None:
        """
        Close or refuse what takes too long.
        """
        reader = self._reader
        if self._state is _CLOSING:
            self.transport.abortConnection()
        elif reader.part is _IDLE:
            self._close(linger=False)
        elif reader.part is _HEAD or reader.incoming is not None:
            paused = reader.incoming is not None and reader.incoming.body.paused
            self.refuse_input(
                body_memory_exhausted() if paused else HttpError(408, "the request was too slow")
            )
        else:
            self.transport.abortConnection()

    def _finish_half_closed(self) -> None:
        """
        Close as soon as all is answered: the client has closed its sending side.
        """
        self.deadline = math.inf
        reader = self._reader
        incoming = reader.incoming
        if reader.part is _RAW and incoming is not None and not reader.stopped:
            reader.incoming = None
            incoming.body.end()
        if not reader.stopped and (reader.incoming is not None or reader.part is _HEAD):
            self.refuse_input(HttpError(400, "the request is not complete"))
        reader.stopped = True
        if self.idle and self._state is not _CLOSING:
            self._close(linger=False)

    def _close(self, linger: bool) -> None:
        """
        Close when all is sent.

        Args:
            linger: the client is still sending: read on for a while, as closing would
                discard the response before the client has read it.
        """
        if linger and not self.half_closed:
            ingest = self._current is not None and self.context.is_ingest(self._current)
            self._linger = INGEST_LINGER if ingest else LINGER
        self.writer.flush()
        self._state = _CLOSING
        self._reader.stopped = True
        self._current = None
        self._queue = None
        self.deadline = math.inf  # the transport times out if the client reads nothing
        if not self.writer.draining:
            self._close_transport()

    def _close_transport(self) -> None:
        self.deadline = self.context.clock.seconds() + (self._linger or LINGER)
        self.writer.detach()
        if self._linger == INGEST_LINGER:
            self.context.clock.callLater(INGEST_LINGER, self._stop_lingering)
        if self.writer.is_tls or not self._linger:
            self.transport.loseConnection()
            return
        self._resume_reading()
        self.transport.loseWriteConnection()

    def _stop_lingering(self) -> None:
        if self in self.context.connections:
            self.transport.abortConnection()

    def _release_transport(self) -> None:
        """
        Forget the connection: another protocol owns the transport from now on.
        """
        self.context.connections.discard(self)
        self._reader.close()
        self._current = None
        self._queue = None
        self._state = _CLOSING
        if self._paused:
            self._resume_reading()
        self.writer.detach()

    def _resume_reading(self) -> bool:
        """
        Read the transport again.

        Returns:
            whether it was paused.
        """
        if not self._paused or self.half_closed:
            return False
        self._paused = False
        self.transport.resumeProducing()
        return True


def _has_left(exchange: HttpExchange) -> bool:
    """
    Return whether a client that closes its sending side now does not wait for its response.

    Jetty does that behind each request with `Connection: close`, and others behind the body of
    a request, and wait. nginx sends the same header, and closes its connection when its own
    client has left.
    """
    return exchange.length == 0 and (exchange.keep_alive or exchange.age >= HALF_CLOSE)
