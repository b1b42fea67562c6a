"""
One stream of an HTTP/2 connection (RFC 9113, 5): a request and its response, with flow control.
"""

from __future__ import annotations

import math
import re
from collections import deque
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, Protocol

from h2.connection import H2Connection
from h2.errors import ErrorCodes
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from rt_twisted.http.collected_body import body_memory_exhausted
from rt_twisted.http.context import HttpContext
from rt_twisted.http.dispatch import dispatch
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.request import RequestHead, target_too_long
from rt_twisted.http.stream_handle import Detach, StreamHandle
from rt_twisted.model.errors import HttpError
from rt_twisted.net.transports import NOTSENT_LOWAT

MAX_QUEUED = NOTSENT_LOWAT  # bytes in a stream's queue from which its producer pauses

_BLANK = re.compile(rb"[\0- \x7f]")
_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
_METHOD = re.compile(rb"[A-Z][A-Z-]{0,31}")
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")  # RFC 9110, 5.6.2: as llhttp checks it
_HTTP1_ONLY = {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"}  # RFC 9113, 8.2.2


class StreamConnection(Protocol):
    """
    The connection of a stream.
    """

    context: HttpContext
    peer: IAddress
    transport: Any
    wire: H2Connection
    timed: set[Http2Stream]  # that have a deadline

    @property
    def full(self) -> bool:
        """
        Whether the transport has enough to send.
        """

    def has_output(self, stream: Http2Stream) -> None:
        """
        Call `Http2Stream.send` soon.
        """

    def schedule(self) -> None:
        """
        Send soon what the library has encoded.
        """

    def acknowledge(self, number: int, size: int) -> None:
        """
        Let the client send *size* more bytes of bodies.
        """

    def reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        """
        Send RST_STREAM and forget *stream*.
        """

    def forget(self, stream: Http2Stream) -> None:
        """
        Forget *stream*, which is closed on both sides.
        """


class _Response(IntEnum):
    """
    How far the response is.
    """

    NONE = 0
    STARTED = 1  # its head is sent
    ENDING = 2  # nothing follows the bytes that are queued
    CLOSED = 3  # it has ended, or the stream was reset


# Attributes of an Enum class are slow to look up.
_NONE, _STARTED, _ENDING, _CLOSED = _Response


class Http2Stream:
    """
    One request and its response: a `ResponseChannel`, and the transport of a `Subscriber`.

    A streaming producer is paused while more than MAX_QUEUED bytes are queued, or any
    while the client's window or the transport is full. It is resumed when all is sent.

    Args:
        connection: of the stream.
        number: odd.

    Attributes:
        protocol: the subscriber that has taken the stream over; None before that.
        exchange: the request; None when it has ended, or a subscriber has the stream.
        deadline: for the next bytes of the body, or for the client to open its window.
        queued: bytes that are not sent yet.
    """

    __slots__ = (
        "_connection",
        "_producer",
        "_producer_paused",
        "_pull",
        "_queue",
        "_response",
        "_stalled",
        "_trailers",
        "_unacknowledged",
        "context",
        "deadline",
        "exchange",
        "number",
        "peer",
        "protocol",
        "queued",
    )

    secure = True
    half_closed = False  # a stream that ends one way is how HTTP/2 ends a request
    disconnecting = False

    def __init__(self, connection: StreamConnection, number: int) -> None:
        self._connection = connection
        self.number = number
        self.context = connection.context
        self.peer: IAddress = connection.peer
        self.protocol: Any = None
        self.exchange: HttpExchange | None = None
        self.deadline = math.inf
        self.queued = 0
        self._queue: deque[Any] = deque()
        self._unacknowledged = 0  # bytes of the body that wait for an action to read them
        self._producer: Any = None
        self._pull = False  # the producer is a pull producer
        self._producer_paused = False
        self._trailers: Sequence[Field] = ()
        self._stalled = False  # the client's window is closed, and the deadline set
        self._response = _NONE

    # The request.

    def begin(self, headers: Iterable[Field], ended: bool) -> None:
        """
        Receive the head of the request.

        Args:
            headers: as the library decodes them.
            ended: there is no body.
        """
        try:
            exchange = self._parse(headers, ended)
        except HttpError as refusal:
            self.exchange = HttpExchange.malformed(self, "2", complete=ended)
            self.exchange.refuse(refusal)
            return
        self.exchange = exchange
        if not exchange.body.complete:
            self._set_deadline()
        dispatch(self.context, exchange)

    def _parse(self, headers: Iterable[Field], ended: bool) -> HttpExchange:
        limits = self.context.limits
        method = target = b""
        fields: list[Field] = []
        has_host = False
        for name, value in headers:
            if name == b":method":
                method = value
            elif name == b":path" and value[:1] not in (b"/", b"*"):
                raise HttpError(400, "malformed request target")  # RFC 9113, 8.3.1
            elif name == b":path":
                target = value
            elif name == b":authority":
                fields.append((b"host", value))
                has_host = True
            elif name[:1] == b":" or (name == b"host" and has_host):
                continue  # the library has compared them
            elif _CONTROL.search(value) or not _NAME.fullmatch(name):
                raise HttpError(400, "a header has a control character, or no valid name")
            else:
                fields.append((name, value))
                has_host = has_host or name == b"host"
        if len(target) > limits.line:
            raise target_too_long(limits)
        head = RequestHead(target, fields, limits)
        if not _METHOD.fullmatch(method) or _BLANK.search(head.target):
            raise HttpError(400, "malformed request")
        try:
            length = head.check(method.decode(), "1.1")
        except ValueError:
            raise HttpError(400, "malformed Content-Length") from None
        if ended:
            length = 0
        elif "content-length" not in head.headers:
            length = None
        return HttpExchange(self, method.decode(), head, "2", length)

    def feed_body(self, piece: bytes, size: int) -> bool:
        """
        Receive a piece of the body, which takes *size* bytes of the client's window.

        Returns:
            whether the client has to wait until it may send as many more.
        """
        exchange = self.exchange
        if exchange is None or not piece:
            return False
        body = exchange.body
        body.feed(piece)
        if body.streaming and not body.held:
            self._set_deadline()
        if not body.buffered and not body.paused and not body.held:
            return False
        self._unacknowledged += size
        return True

    def end_body(self) -> None:
        """
        Receive the end of the body.
        """
        if not self._stalled:
            self._connection.timed.discard(self)
        if self.exchange is not None:
            self.exchange.body.end()

    def _set_deadline(self) -> None:
        timeout = 0.0 if self.exchange is None else self.exchange.body.timeout
        timeout = timeout or self.context.limits.body_seconds
        self.deadline = self.context.clock.seconds() + timeout
        self._connection.timed.add(self)

    def on_deadline(self) -> None:
        """
        Refuse a body that was not sent in time, or abort a response that is not received.
        """
        if self._stalled:
            self.abortConnection()
            return
        assert self.exchange is not None
        paused = self.exchange.body.paused
        self.reject_body(
            body_memory_exhausted() if paused else HttpError(408, "the request was too slow")
        )

    def release_unacknowledged(self) -> int:
        """
        Return how many bytes of the body the client may send again.
        """
        size, self._unacknowledged = self._unacknowledged, 0
        return size

    # The response channel of the exchange.

    @property
    def transport(self) -> Http2Stream:
        """
        The stream itself.
        """
        return self

    def respond(self, head: ResponseHead, length: int | None, body: bytes) -> None:
        self._send_head(head, length, end=not body)
        self.write(body)
        self.loseConnection()

    def start(self, head: ResponseHead, length: int | None, direct: bool = False) -> None:
        self._send_head(head, length)

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        self._trailers = [(name.lower(), value) for name, value in trailers]
        self.loseConnection()

    def send_interim(self, status: int, fields: Sequence[Field]) -> None:
        if self._response is _NONE:
            encoded = encode_fields(ResponseHead(status, fields, b""), None)
            self._connection.wire.send_headers(self.number, encoded)
            self._connection.schedule()

    def abort(self) -> None:
        self.abortConnection()

    def require_open(self) -> None:
        """
        Do nothing: a client that has ended its side of a stream still receives.
        """

    def detach(self, head: ResponseHead) -> StreamHandle:
        self._send_head(head, None)
        self._connection.timed.discard(self)
        self.exchange = None
        self.read_more()
        return StreamHandle(self, b"")

    def take_over(self, head: bytes, received: bytes) -> StreamHandle:
        raise AssertionError("HttpExchange.take_over refuses HTTP/2")

    def hand_off(self, detach: Detach) -> Deferred[bool]:
        # Other streams have the same connection, which is all that a client needs to
        # come to this process each time.
        return succeed(False)

    def read_more(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.body.held:
            if not self._stalled:
                self._connection.timed.discard(self)  # a client that may not send is not too slow
            return
        if exchange is not None and exchange.body.streaming and not exchange.body.complete:
            self._set_deadline()
        self._connection.acknowledge(self.number, self.release_unacknowledged())

    def send_continue(self) -> None:
        if self._response is _NONE:
            self._connection.wire.send_headers(self.number, [(b":status", b"100")])
            self._connection.schedule()

    def reject_body(self, error: HttpError) -> None:
        self._connection.timed.discard(self)
        exchange = self.exchange
        if exchange is not None:
            exchange.body.fail(error)
            if not exchange.answered:
                exchange.refuse(error)

    def _send_head(self, head: ResponseHead, length: int | None, end: bool = False) -> None:
        """
        Begin the response.

        Args:
            head: of the response.
            length: for Content-Length; None to send none.
            end: the response has no body.
        """
        if self._response is not _NONE:
            return
        self._response = _STARTED
        fields = encode_fields(head, length)
        self._connection.wire.send_headers(self.number, fields, end_stream=end)
        self._connection.schedule()
        if end:
            self._close()

    # The transport.

    def write(self, data: bytes) -> None:
        if self._response >= _ENDING or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        connection = self._connection
        connection.has_output(self)
        if self.queued > MAX_QUEUED or connection.full:
            self._pause_producer()

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        self.write(b"".join(pieces))

    def send(self) -> int:
        """
        Encode the next frame of what is queued.

        Returns:
            how many bytes are in it; 0 if the client's window is closed.
        """
        if self._response is _CLOSED:
            return 0
        if not self.queued:
            self._on_all_sent()
            return 0
        wire = self._connection.wire
        window = wire.local_flow_control_window(self.number)
        if window <= 0:
            self._pause_producer()
            # A subscriber has backlog limits; a response, or the end of a stream, a deadline.
            if not self._stalled and (self.protocol is None or self._response is _ENDING):
                self._stalled = True
                self._set_deadline()
            return 0
        piece = self._dequeue(min(window, wire.max_outbound_frame_size))
        self.queued -= len(piece)
        end = self._response is _ENDING and not self.queued and not self._trailers
        wire.send_data(self.number, piece, end_stream=end)
        if end:
            self._close()
        elif self.queued:
            self._connection.has_output(self)
        else:
            self._on_all_sent()
        return len(piece)

    def on_window_update(self) -> None:
        """
        Send on: the client has changed its window.
        """
        if not self.queued:
            return
        if self._stalled and self._connection.wire.local_flow_control_window(self.number) > 0:
            self._stalled = False
            if self.exchange is None or self.exchange.body.complete:
                self._connection.timed.discard(self)
        self._connection.has_output(self)

    def _dequeue(self, size: int) -> bytes:
        """
        Return at most *size* bytes of the queue.
        """
        queue = self._queue
        if self.queued <= size:
            piece = queue[0] if len(queue) == 1 else b"".join(queue)
            queue.clear()
            return bytes(piece)
        first = queue.popleft()
        if len(first) > size:
            queue.appendleft(memoryview(first)[size:])
            first = memoryview(first)[:size]
        return bytes(first)

    def _on_all_sent(self) -> None:
        if self._response is _ENDING:
            if self._trailers:
                wire = self._connection.wire
                wire.send_headers(self.number, self._trailers, end_stream=True)
            else:
                self._connection.wire.end_stream(self.number)
            self._connection.schedule()
            self._close()
        elif self._producer is None:
            return
        elif self._pull:
            self._producer.resumeProducing()
            if self._producer is not None and not self.queued:
                self._connection.has_output(self)
        elif self._producer_paused:
            self._producer_paused = False
            self._producer.resumeProducing()

    def _pause_producer(self) -> None:
        if self._producer is not None and not self._producer_paused and not self._pull:
            self._producer_paused = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        if self._response is _CLOSED:
            producer.stopProducing()
            return
        self._producer = producer
        self._pull = not streaming
        self._producer_paused = False
        if self._pull:
            self._connection.has_output(self)

    def unregisterProducer(self) -> None:
        self._producer = None

    def loseConnection(self) -> None:
        # The stream ends behind the bytes that are queued.
        if self._response < _ENDING:
            self._response = _ENDING
            self._connection.has_output(self)

    def abortConnection(self) -> None:
        if self._response is not _CLOSED:
            self._connection.reset(self, ErrorCodes.CANCEL)
            self.connection_lost(Failure(ConnectionAborted()))

    def getPeer(self) -> IAddress:
        return self.peer

    def getHost(self) -> Any:
        return self._connection.transport.getHost()

    # Ending.

    def _close(self) -> None:
        """
        End the stream: the whole response is encoded.
        """
        self._response = _CLOSED
        exchange = self.exchange
        if exchange is not None and not exchange.body.complete:
            # The rest of the body is not needed (RFC 9113, 8.1).
            self._connection.reset(self, ErrorCodes.NO_ERROR)
        else:
            self._connection.forget(self)
        self.exchange = None
        if exchange is not None:
            exchange.connection_lost()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))

    def connection_lost(self, reason: Failure) -> None:
        """
        End the stream: the client has disconnected, or has reset it.
        """
        self._response = _CLOSED
        self.queued = 0
        self._queue.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()  # it may hold a file
        protocol, self.protocol = self.protocol, None
        exchange, self.exchange = self.exchange, None
        if protocol is not None:
            protocol.connectionLost(reason)
        elif exchange is not None:
            exchange.connection_lost()


def encode_fields(head: ResponseHead, length: int | None) -> list[Field]:
    """
    Return a response head as HTTP/2 has it (RFC 9113, 8.2 and 8.3.2).

    Args:
        head: fields that exist in HTTP/1 only are left out.
        length: for Content-Length; None for none.
    """
    fields = [(b":status", b"%d" % head.status)]
    for name, value in head.fields:
        name = name.lower()
        if name not in _HTTP1_ONLY:
            fields.append((name, value.strip()))
    if length is not None:
        fields.append((b"content-length", b"%d" % length))
    return fields
