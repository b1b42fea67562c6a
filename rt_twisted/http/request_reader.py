"""
Requests in the bytes of an HTTP/1.1 connection, on the httptools parser (RFC 9112).

llhttp, below httptools, refuses what smuggles requests past proxies: both or
conflicting lengths, line folding, a bare LF, blanks before the colon. What it
leaves to its user is checked here.
"""

from __future__ import annotations

import math
from enum import Enum
from typing import Any, Protocol

import httptools
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.http.channel import ResponseChannel
from rt_twisted.http.context import HttpContext
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.head import Field
from rt_twisted.http.head_end import HEAD_END, HeadEnd
from rt_twisted.http.request import RequestHead, headers_too_large, target_too_long
from rt_twisted.http.until_close import runs_until_close
from rt_twisted.http.upgrade import parser_after_upgrade, wants_websocket
from rt_twisted.model.errors import HttpError

_log = Logger()


class RequestPart(Enum):
    """
    The part of a request that is received next.
    """

    IDLE = "idle"  # nothing of a request, beside blank lines in front
    HEAD = "head"
    BODY = "body"  # or nothing, until the response has ended
    RAW = "raw"  # of a body that runs until the client closes


# Attributes of an Enum class are slow to look up.
_IDLE, _HEAD, _BODY, _RAW = RequestPart


class RequestReceiver(ResponseChannel, Protocol):
    """
    The connection of a `RequestReader`; the response channel of its requests.
    """

    deadline: float

    @property
    def idle(self) -> bool:
        """
        Whether no request is being answered, or waits to be.
        """

    def begin(self, exchange: HttpExchange) -> None:
        """
        Have *exchange* answered, whose body may still be incomplete.
        """

    def enqueue(self, exchange: HttpExchange) -> None:
        """
        Have *exchange* answered after those before it.
        """

    def on_upgrade(self, rest: bytes) -> bytes:
        """
        Begin the last request if it may switch to another protocol.

        Args:
            rest: the bytes behind the request.

        Returns:
            those that are HTTP. If that is not decided, they are in `RequestReader.rest`.
        """

    def refuse_input(self, refusal: HttpError) -> None:
        """
        Answer with *refusal*, and ignore all that follows.
        """


class RequestReader:
    """
    Parses what a client sends, and passes on each request with its body.

    Args:
        connection: receives the requests; not used any more after `close`.

    Attributes:
        part: what is received next.
        incoming: the request whose body is being received.
        rest: bytes behind a request for another protocol; None without one.
        stopped: nothing more is parsed.
    """

    __slots__ = (
        "_behind",
        "_chunk_open",
        "_connection",
        "_context",
        "_fields",
        "_head_end",
        "_parser",
        "_target",
        "_unframed",
        "incoming",
        "part",
        "rest",
        "stopped",
    )

    def __init__(self, connection: RequestReceiver) -> None:
        self._connection: RequestReceiver | None = connection
        self._context: HttpContext = connection.context
        self._parser: Any = httptools.HttpRequestParser(self)
        self._target = b""  # of the head that is being parsed
        self._fields: list[Field] = []  # its headers
        self._head_end: HeadEnd | None = None  # most connections need none
        self._behind = b""  # received behind the head that is being parsed
        self._chunk_open = False  # bytes of a chunk have been received, and not its end
        self._unframed = 0  # bytes received since the last that belonged to a body
        self.part = _IDLE
        self.incoming: HttpExchange | None = None
        self.rest: bytes | None = None
        self.stopped = False

    def feed(self, data: bytes) -> None:
        """
        Parse the next bytes; what breaks HTTP is refused.
        """
        while data and not self.stopped:
            if self.part is not _BODY:
                if self.part is _RAW and self.incoming is not None:
                    self.incoming.body.feed(data)
                    return
                # Most GET requests come alone, and need no search for the end of their head.
                if data[:4] != b"GET " or data[-4:] != HEAD_END:
                    self._head_end = self._head_end or HeadEnd()
                    data, self._behind = self._head_end.cut(data)
            self._unframed += len(data)  # callbacks of the parser reduce it
            data = self._parse(data)
            if self._head_end is not None:
                self._head_end.found = False  # the next bytes may not be cut
            if self._behind:
                data += self._behind
                self._behind = b""
            if self.rest is not None:  # the response decides whether it is HTTP
                self.rest += data
                return
            limits = self._context.limits
            if (
                self._unframed > limits.line + limits.header_bytes
                or len(self._fields) > limits.headers
            ):
                # An endless head, or endless trailers or chunk extensions.
                self._refuse(headers_too_large(limits))

    def take_rest(self) -> bytes:
        """
        Return the bytes that are not parsed, for another protocol.
        """
        rest = (self.rest or b"") + self._behind
        self.rest, self._behind = None, b""
        return rest

    def await_request(self) -> None:
        """
        Count the bytes of the next request from here on; blank lines may be in front.
        """
        self.part = _IDLE
        self._unframed = 0

    def close(self) -> None:
        """
        Parse nothing more, and forget the connection, also from within its methods.
        """
        self.stopped = True
        # Else only the garbage collector would find them.
        self._connection = self._parser = self.incoming = None

    def _parse(self, data: bytes) -> bytes:
        """
        Parse *data* up to a request with `Upgrade`, at which the parser stops.

        Returns:
            the bytes that are left.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Proxies send the header on plain requests too, and `curl --http2`
            # on every first one: it may be ignored.
            if self._connection is not None:
                self._parser = parser_after_upgrade(self, self.incoming)
                return self._connection.on_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            cause = error.__context__
            refusal = HttpError(400, "malformed request")
            if isinstance(cause, HttpError):
                refusal = cause
            elif isinstance(error, httptools.HttpParserCallbackError):
                _log.failure("while parsing a request", Failure(cause or error))
                refusal = HttpError(500, "internal error")
            self._refuse(refusal)
            refusal.__traceback__ = None  # its frames have this one: a reference cycle
        return b""

    def _refuse(self, refusal: HttpError) -> None:
        if not self.stopped and self._connection is not None:
            self._connection.refuse_input(refusal)

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self.stopped or self._connection is None:
            return
        self.part = _HEAD
        self._unframed = 1  # the parser does not say where in the data it begins
        self._target = b""
        self._connection.deadline = math.inf  # set at the end of what has been read

    def on_url(self, piece: bytes) -> None:
        self._target += piece
        limits = self._context.limits
        if len(self._target) > limits.line:
            raise target_too_long(limits)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.part is not _BODY:  # trailers are ignored
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.part = _BODY
        connection = self._connection
        if self.stopped or connection is None:
            return
        self._unframed = 0
        connection.deadline = math.inf  # set at the end of what has been read
        context, parser = self._context, self._parser
        head = RequestHead(self._target, self._fields, context.limits)
        self._fields.clear()
        method, version = parser.get_method().decode(), parser.get_http_version()
        length = head.check(method, version)
        exchange = HttpExchange(connection, method, head, version, length)
        exchange.keep_alive = parser.should_keep_alive()
        self.incoming = exchange
        upgrade = parser.should_upgrade()
        if not connection.idle or (upgrade and wants_websocket(exchange)):
            connection.enqueue(exchange)
            return
        cut = self._head_end is not None and self._head_end.found
        if cut and length == 0 and not upgrade and runs_until_close(context, exchange):
            exchange.run_until_close()
            self.part = _RAW
        connection.begin(exchange)

    def on_chunk_header(self) -> None:
        self._unframed = 0

    def on_chunk_complete(self) -> None:
        if self._chunk_open and self.incoming is not None:
            self.incoming.body.end_chunk()
        self._chunk_open = False  # the last chunk is empty and does not count

    def on_body(self, piece: bytes) -> None:
        self._unframed -= len(piece)
        self._chunk_open = True
        if self.incoming is not None:
            self.incoming.body.feed(piece)

    def on_message_complete(self) -> None:
        incoming = self.incoming
        if (
            incoming is None
            or self.part is _RAW
            or (self._parser.should_upgrade() and not incoming.body.complete)
        ):
            return  # with Upgrade the parser takes a request with a body for one without
        self.incoming = None
        self.stopped = self.stopped or not incoming.keep_alive
        incoming.body.end()
