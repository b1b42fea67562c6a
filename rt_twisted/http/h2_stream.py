"""
One stream of an HTTP/2 connection (RFC 9113, 5): a request, its response, and
how much of either may be under way.
"""

from __future__ import annotations

import math
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from h2.errors import ErrorCodes
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.internet.interfaces import IAddress
from twisted.python.failure import Failure

from rt_twisted.http.body import too_many_bodies
from rt_twisted.http.dispatch import dispatch
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.h2_exchange import Http2Exchange
from rt_twisted.http.request import RequestHead
from rt_twisted.model.errors import HttpError
from rt_twisted.net.transports import NOTSENT_LOWAT

if TYPE_CHECKING:
    from rt_twisted.http.h2 import Http2Connection
    from rt_twisted.http.server import HttpServer

QUEUED = NOTSENT_LOWAT  # bytes in a stream's queue from which its producer pauses

_BLANK = re.compile(rb"[\0- \x7f]")
_CONTROL = re.compile(rb"[\0-\x08\x0a-\x1f\x7f]")
_METHOD = re.compile(rb"[A-Z][A-Z-]{0,31}")
_NOT_FOR_H2 = {b"connection", b"transfer-encoding", b"keep-alive", b"upgrade"}


class Http2Stream:
    """
    One request and its response: to the exchange its connection, to a
    `Subscriber` its transport.

    A streaming producer is paused while more than QUEUED bytes wait here, or
    any while the client's window or the transport is full; it is asked again
    when all is sent.

    Args:
        connection: whose.
        number: odd.
    """

    __slots__ = (
        "_begun",
        "_end",
        "_gone",
        "_held_up",
        "_producer",
        "_pull",
        "_queue",
        "_request",
        "_stalled",
        "_unacknowledged",
        "connection",
        "deadline",
        "exchange",
        "number",
        "peer",
        "protocol",
        "queued",
        "server",
    )

    secure = True
    disconnecting = False

    def __init__(self, connection: Http2Connection, number: int) -> None:
        self.connection = connection
        self.number = number
        self.server: HttpServer = connection.server
        self.peer: IAddress = connection.peer
        self.protocol: Any = None  # who took the stream over
        self.exchange: Http2Exchange | None = None
        self.deadline = math.inf  # for the body, or for the client to take some of the answer
        self.queued = 0  # bytes
        self._queue: deque[Any] = deque()
        self._request: HttpExchange | None = None
        self._unacknowledged = 0  # bytes of the body that nobody wanted yet
        self._producer: Any = None
        self._pull = False
        self._held_up = False  # the producer is paused
        self._stalled = False  # the client takes nothing of it
        self._begun = False  # the response's head is sent
        self._end = False  # nothing follows what is queued
        self._gone = False

    # The request.

    def begin(self, headers: Any, ended: bool) -> None:
        """
        Its head is here; *ended* if it has no body.
        """
        try:
            self._request = self._read(headers, ended)
        except HttpError as refusal:
            head = RequestHead(self.server.limits)
            head.target = b"/"
            self._request = HttpExchange(_connection(self), "-", head, True, 0 if ended else None)
            self.exchange = Http2Exchange(self, self._request)
            self.exchange.refuse(refusal)
            return
        self.exchange = Http2Exchange(self, self._request)
        if not self._request.complete:
            self._set_deadline()
        dispatch(self.server, self.exchange)

    def _read(self, headers: Any, ended: bool) -> HttpExchange:
        head = RequestHead(self.server.limits)
        method = b""
        for name, value in headers:
            if name == b":method":
                method = value
            elif name == b":path" and value[:1] not in (b"/", b"*"):
                raise HttpError(400, "malformed request target")  # RFC 9113, 8.3.1
            elif name == b":path":
                head.add_target(value)
            elif name == b":authority":
                head.add_header(b"host", value)
            elif name[:1] == b":" or (name == b"host" and name in head.headers):
                continue  # the library has compared them
            elif _CONTROL.search(value):
                raise HttpError(400, "control characters in a header")
            else:
                head.add_header(name, value)
        if not _METHOD.fullmatch(method) or _BLANK.search(head.target):
            raise HttpError(400, "malformed request")
        try:
            length = head.check(method.decode(), "1.1")
        except ValueError:
            raise HttpError(400, "malformed length") from None
        if ended:
            length = 0
        elif b"content-length" not in head.headers:
            length = None
        return HttpExchange(_connection(self), method.decode(), head, True, length)

    def body(self, piece: bytes, size: int) -> bool:
        """
        A piece of its body, which counts for *size* bytes.

        Returns:
            False if the client may go on; True if it has to wait.
        """
        request = self._request
        if request is None or not piece:
            return False
        request.body_data(piece)
        if request.streaming:
            self._set_deadline()
        if not request.held and not request.waits:
            return False
        self._unacknowledged += size
        return True

    def body_end(self) -> None:
        """
        Its body is whole.
        """
        if not self._stalled:
            self.connection.timed.discard(self)
        if self._request is not None:
            self._request.body_end()

    def _set_deadline(self) -> None:
        self.deadline = self.server.clock.seconds() + self.server.limits.body_seconds
        self.connection.timed.add(self)

    def too_slow(self) -> None:
        """
        The deadline has passed.
        """
        if self._stalled:
            self.abortConnection()
            return
        request = self._request
        assert request is not None
        self.refuse_body(
            request, too_many_bodies() if request.waits else HttpError(408, "too slow")
        )

    def refuse_body(self, request: HttpExchange, refusal: HttpError) -> None:
        """
        The body of *request* is not kept any longer.
        """
        self.connection.timed.discard(self)
        request.body_lost(refusal)
        if self.exchange is not None and not self.exchange.answered:
            self.exchange.refuse(refusal)

    def take_unacknowledged(self) -> int:
        """
        How many bytes of the body the client must still be given room for.
        """
        size, self._unacknowledged = self._unacknowledged, 0
        return size

    # What its exchange asks of a connection.

    def body_failed(self, request: HttpExchange) -> None:
        """
        The one who reads its body has raised.
        """
        exchange = self.exchange
        if exchange is None or exchange.answered:
            self.abortConnection()
        else:
            exchange.refuse(HttpError(500, "internal error"))

    def rearm(self) -> None:
        """
        Somebody has taken what was held of the body.
        """
        self.connection.acknowledge(self.number, self.take_unacknowledged())

    def send_continue(self) -> None:
        """
        Somebody wants the body (RFC 9110, 10.1.1).
        """
        if not self._begun and not self._gone:
            self.connection.wire.send_headers(self.number, [(b":status", b"100")])
            self.connection.schedule()

    def write_head(self, text: bytes, end: bool = False) -> None:
        """
        Begin the response.

        Args:
            text: as HTTP/1.1 has it: all heads are made in one place.
            end: it has no body.
        """
        if self._begun or self._gone:
            return
        self._begun = True
        self.connection.wire.send_headers(self.number, _fields(text), end_stream=end)
        self.connection.schedule()
        if end:
            self._over()

    def detach(self) -> None:
        """
        Whoever takes the stream over is its protocol; the request is forgotten.
        """
        self.connection.timed.discard(self)
        self.rearm()
        self._request = self.exchange = None

    # The transport.

    def write(self, data: bytes) -> None:
        """
        Queue *data*; it leaves this turn, if the client wants it.
        """
        if self._gone or self._end or not data:
            return
        self._queue.append(data)
        self.queued += len(data)
        connection = self.connection
        connection.wants(self)
        if self.queued > QUEUED or connection.full:
            self._hold_up()

    def writeSequence(self, pieces: Any) -> None:
        """
        Some pieces.
        """
        self.write(b"".join(pieces))

    def send(self) -> int:
        """
        Make the next frame of what is queued.

        Returns:
            how many bytes are in it; 0 if the client's window is closed.
        """
        if self._gone:
            return 0
        if not self.queued:
            self._sent_all()
            return 0
        wire = self.connection.wire
        window = wire.local_flow_control_window(self.number)
        if window <= 0:
            self._hold_up()
            # A reader's patience is the hub's; an answer, or a reader's last word, has its time.
            if not self._stalled and (self.protocol is None or self._end):
                self._stalled = True
                self._set_deadline()
            return 0
        piece = self._take(min(window, wire.max_outbound_frame_size))
        self.queued -= len(piece)
        end = self._end and not self.queued
        wire.send_data(self.number, piece, end_stream=end)
        if end:
            self._over()
        elif self.queued:
            self.connection.wants(self)
        else:
            self._sent_all()
        return len(piece)

    def window_moved(self) -> None:
        """
        The client may take more of it, or less.
        """
        if not self.queued:
            return
        if self._stalled and self.connection.wire.local_flow_control_window(self.number) > 0:
            self._stalled = False
            if self._request is None or self._request.complete:
                self.connection.timed.discard(self)
        self.connection.wants(self)

    def _take(self, most: int) -> bytes:
        queue = self._queue
        if self.queued <= most:
            piece = queue[0] if len(queue) == 1 else b"".join(queue)
            queue.clear()
            return bytes(piece)
        first = queue.popleft()
        if len(first) > most:
            queue.appendleft(memoryview(first)[most:])
            first = memoryview(first)[:most]
        return bytes(first)

    def _sent_all(self) -> None:
        if self._end:
            self.connection.wire.end_stream(self.number)
            self.connection.schedule()
            self._over()
        elif self._producer is None:
            return
        elif self._pull:
            self._producer.resumeProducing()
            if self._producer is not None and not self.queued:
                self.connection.wants(self)
        elif self._held_up:
            self._held_up = False
            self._producer.resumeProducing()

    def _hold_up(self) -> None:
        if self._producer is not None and not self._held_up and not self._pull:
            self._held_up = True
            self._producer.pauseProducing()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        See `IConsumer`.
        """
        if self._gone:
            producer.stopProducing()
            return
        self._producer = producer
        self._pull = not streaming
        self._held_up = False
        if self._pull:
            self.connection.wants(self)

    def unregisterProducer(self) -> None:
        """
        See `IConsumer`.
        """
        self._producer = None

    def loseConnection(self) -> None:
        """
        End the stream behind what is queued.
        """
        if not self._gone and not self._end:
            self._end = True
            self.connection.wants(self)

    def abortConnection(self) -> None:
        """
        Break it off.
        """
        if not self._gone:
            self.connection.reset(self, ErrorCodes.CANCEL)
            self.lost(Failure(ConnectionAborted()))

    def getPeer(self) -> IAddress:
        """
        The client's address.
        """
        return self.peer

    def getHost(self) -> Any:
        """
        Ours.
        """
        return self.connection.transport.getHost()

    # Its end.

    def _over(self) -> None:
        """
        The response is whole.
        """
        self._gone = True
        exchange, request = self.exchange, self._request
        if request is not None and not request.complete:
            # Nobody wants the rest of the body (RFC 9113, 8.1).
            self.connection.reset(self, ErrorCodes.NO_ERROR)
        else:
            self.connection.forget(self)
        self._request = self.exchange = None
        if exchange is not None:
            exchange.gone()
        protocol, self.protocol = self.protocol, None
        if protocol is not None:
            protocol.connectionLost(Failure(ConnectionDone()))

    def lost(self, reason: Failure) -> None:
        """
        The client is gone, or wants no more of this.
        """
        self._gone = True
        self.queued = 0
        self._queue.clear()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()  # of a page it may hold a file
        protocol, self.protocol = self.protocol, None
        exchange, self.exchange = self.exchange, None
        self._request = None
        if protocol is not None:
            protocol.connectionLost(reason)
        elif exchange is not None:
            exchange.gone()


def _connection(stream: Http2Stream) -> Any:
    """
    To a request, *stream* is a connection with one request on it.
    """
    return stream


def _fields(text: bytes) -> list[tuple[bytes, bytes]]:
    """
    The head of an HTTP/1.1 response as HTTP/2 has it (RFC 9113, 8.2).
    """
    first, *lines = text.rstrip(b"\r\n").split(b"\r\n")
    fields = [(b":status", first.split(b" ")[1])]
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name not in _NOT_FOR_H2:
            fields.append((name, value.strip()))
    return fields
