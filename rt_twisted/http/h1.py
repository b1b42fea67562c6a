"""
HTTP/1.1 on the httptools parser (RFC 9112): a connection and its requests, in
order, each within the limits of the front.

llhttp, below httptools, refuses what smuggles requests past proxies: both or
conflicting lengths, line folding, a bare LF, blanks before the colon. What it
leaves to its user is checked here.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any

import httptools
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import (
    IHalfCloseableProtocol,
    IHandshakeListener,
    IProtocol,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.http.body import too_many_bodies
from rt_twisted.http.dispatch import dispatch
from rt_twisted.http.exchange import HttpExchange
from rt_twisted.http.interfaces import Detach, PeerInfo
from rt_twisted.http.request import RequestHead, too_many
from rt_twisted.http.upgrade import parser_behind, wants_websocket
from rt_twisted.http.writer import ResponseWriter
from rt_twisted.model.errors import HttpError

if TYPE_CHECKING:
    from rt_twisted.http.server import HttpServer

_log = Logger()

LINGER = 5.0  # seconds in which a refused client may read why
HELD = 65536  # bytes of a body that are kept until somebody wants it


@implementer(IProtocol, IHandshakeListener, IHalfCloseableProtocol)
class Http1Connection:
    """
    A client's connection until a stream takes it over.

    Requests are answered one after the other, each when the response before it
    has gone to the kernel; meanwhile nothing more is read.

    A client that closes its sending side still gets the responses to all that it has
    asked (RFC 9112, 9.6), and then the connection is closed. Only streams end with it: most
    clients that close that side are gone, and a stream would not find out for long.

    Args:
        front: whose.
        origin: of a connection that came by another process.
    """

    __slots__ = (
        "_begun",
        "_closing",
        "_current",
        "_deaf",
        "_ending",
        "_head",
        "_idle_since",
        "_in_head",
        "_incoming",
        "_looping",
        "_origin",
        "_parser",
        "_paused",
        "_queue",
        "_rest",
        "_unframed",
        "_unread",
        "deadline",
        "half_closed",
        "server",
        "transport",
        "writer",
    )

    def __init__(self, server: HttpServer, origin: PeerInfo | None = None) -> None:
        self.server = server
        self._origin = origin
        self.transport: Any = None
        self.writer: ResponseWriter
        self.deadline = math.inf
        self._parser: Any = None
        self._paused = False
        self.half_closed = False  # the client sends nothing more
        self._closing = False  # nothing more is written either
        self._unread = False  # the client may still be sending
        self._deaf = False  # nothing more is understood
        self._ending = False  # the current answer is the last
        self._looping = False  # _next is at work
        self._current: HttpExchange | None = None  # being answered
        self._queue: deque[HttpExchange | HttpError] = deque()  # waiting for that
        self._incoming: HttpExchange | None = None  # its body is on the way
        self._rest: bytes | None = None  # behind a request for another protocol
        self._in_head = True
        self._begun = False  # and there is something of it, beside blank lines in front
        self._head = RequestHead(server.limits)
        self._unframed = 0  # bytes that belong to no body, of what is coming in

    @property
    def peer(self) -> Any:
        """
        The client's address, as the transport knows it: behind a PROXY line
        that is not whom the port accepted.
        """
        return self._origin or self.transport.getPeer()

    @property
    def secure(self) -> bool:
        """
        Whether the client speaks TLS.
        """
        return self.writer.sealed if self._origin is None else self._origin.secure

    @property
    def idle_since(self) -> float | None:
        """
        Since when it has been doing nothing for its client, or waits for the rest
        of a request's head; None while a request is being answered, and when it
        closes anyway.
        """
        if self._closing or self.deadline == math.inf or self._current is not None:
            return None
        if not self._in_head:
            return None
        return self.deadline - self.server.limits.head_seconds if self._begun else self._idle_since

    # What Twisted calls.

    def makeConnection(self, transport: Any) -> None:
        """
        Begin.
        """
        self.transport = transport
        self.writer = ResponseWriter(transport, self._drained)
        self._parser = httptools.HttpRequestParser(self)
        self._idle_since = self.server.clock.seconds()
        self.deadline = self._idle_since + self.server.limits.head_seconds
        self.server.connections.add(self)

    def connectionMade(self) -> None:
        """
        Part of `IProtocol`; all is done in makeConnection.
        """

    def handshakeCompleted(self) -> None:
        """
        TLS is agreed upon, and which HTTP (ALPN, RFC 7301).
        """
        if self.transport.negotiatedProtocol == b"h2":
            self.server.speak_h2(self.detach(), self.peer)

    def logPrefix(self) -> str:
        """
        What Twisted calls this protocol in its log.
        """
        return "http"

    def dataReceived(self, data: bytes) -> None:
        """
        Parse, and act on what is complete.
        """
        if self._rest is not None:
            self._rest += data
            self.rearm()
            return
        while data and not self._deaf:
            self._unframed += len(data)  # what the parser makes of it sets it back
            data = self._feed(data)
            limits = self.server.limits
            if self._unframed > limits.line + limits.header_bytes and not self._deaf:
                # An endless head, or endless trailers or chunk extensions.
                self._refuse(too_many(limits))
        if not self._closing:
            self.rearm()

    def _feed(self, data: bytes) -> bytes:
        """
        Returns:
            what is left: the parser stops behind a request with `Upgrade`.
        """
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # Proxies send the header on plain requests too, and `curl --http2`
            # on every first one: what it asks for may be ignored.
            self._parser = parser_behind(self, self._incoming)
            rest = data[upgrade.args[0] :]
            if not self._queue or not wants_websocket(self._queue[-1]):
                return rest
            # Whose the rest is, its answer says.
            self._rest = rest
            if self._current is None:
                self._next()
            return self._rest_of_http()
        except httptools.HttpParserError as error:
            cause = error.__context__
            refusal = HttpError(400, "malformed request")
            if isinstance(cause, HttpError):
                refusal = cause
            elif isinstance(error, httptools.HttpParserCallbackError):
                _log.failure("while reading a request", Failure(cause or error))
                refusal = HttpError(500, "internal error")
            if not self._deaf:  # else it stands behind the last request that counts
                self._refuse(refusal)
        return b""

    def connectionLost(self, reason: Failure) -> None:
        """
        The client is gone.
        """
        self.server.connections.discard(self)
        self.writer.lost()
        self._closing = self._deaf = True
        self._parser = None
        self._queue.clear()
        for exchange in {self._incoming, self._current} - {None}:
            assert exchange is not None
            exchange.gone()
        self._incoming = self._current = None

    def readConnectionLost(self) -> None:
        """
        The client has closed its sending side (`IHalfCloseableProtocol`).
        """
        self.half_closed = True
        self._unread = False
        if not self._closing:
            self.rearm()
        elif not self.writer.draining:
            self.transport.loseConnection()

    def writeConnectionLost(self) -> None:
        """
        We have closed ours; part of `IHalfCloseableProtocol`.
        """

    def _drained(self) -> None:
        """
        The transport has nothing left to send: the next request may begin.
        """
        if self._closing:
            self._hang_up()
            return
        self._go_on()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """
        The first byte of a request.
        """
        if self._deaf:
            return
        self._in_head = self._begun = True
        self._unframed = 1  # where in the data it begins, the parser does not say
        self._head = RequestHead(self.server.limits)
        self.deadline = self.server.clock.seconds() + self.server.limits.head_seconds

    def on_url(self, piece: bytes) -> None:
        """
        A piece of the request target.
        """
        self._head.add_target(piece)

    def on_header(self, name: bytes, value: bytes) -> None:
        """
        A header, or a trailer, of which nothing here makes use.
        """
        if self._in_head:
            self._head.add_header(name, value)

    def on_headers_complete(self) -> None:
        """
        The head is whole: the exchange begins, or waits for its turn.
        """
        self._in_head = False
        if self._deaf:
            return
        self._unframed = 0
        self.deadline = self.server.clock.seconds() + self.server.limits.body_seconds
        head, parser = self._head, self._parser
        method, version = parser.get_method().decode(), parser.get_http_version()
        length = head.check(method, version)
        exchange = HttpExchange(self, method, head, version == "1.1", length)
        exchange.keep_alive = parser.should_keep_alive()
        self._incoming = exchange
        idle = self._current is None and not self._queue and not self.writer.draining
        if idle and not (parser.should_upgrade() and wants_websocket(exchange)):
            self._begin(exchange)
        else:
            self._queue.append(exchange)

    def on_chunk_header(self) -> None:
        """
        A chunk begins.
        """
        self._unframed = 0

    def on_body(self, piece: bytes) -> None:
        """
        A piece of the body.
        """
        self._unframed -= len(piece)
        if self._incoming is not None:
            self._incoming.body_data(piece)

    def on_message_complete(self) -> None:
        """
        The request is whole.
        """
        incoming = self._incoming
        if incoming is None or (self._parser.should_upgrade() and not incoming.complete):
            return  # the parser thinks that a body is none where there is an Upgrade
        self._incoming = None
        self._deaf = self._deaf or not incoming.keep_alive
        incoming.body_end()

    # Exchanges.

    def _begin(self, exchange: HttpExchange) -> None:
        self._current = exchange
        dispatch(self.server, exchange)

    def stays_open(self, exchange: HttpExchange) -> bool:
        """
        Whether another request may follow *exchange*: its client wants to, and
        all of its body has come.
        """
        if self.half_closed and not self._queue:
            return False
        return exchange.keep_alive and exchange.complete and not self._ending

    def finished(self, exchange: HttpExchange) -> None:
        """
        The answer to *exchange* is written.
        """
        if self._current is not exchange:
            return
        if not self.stays_open(exchange):
            self._close(unread=not exchange.complete)
            return
        self._current = None
        if not self._looping:
            self._go_on()

    def body_failed(self, exchange: HttpExchange) -> None:
        """
        The one who reads the body of *exchange* has raised.
        """
        if exchange.answered:
            self.transport.abortConnection()
        else:
            exchange.refuse(HttpError(500, "internal error"))

    def refuse_half_closed(self, exchange: HttpExchange) -> None:
        """
        Close instead of making a stream of *exchange* for a client that has closed
        its sending side.

        Raises:
            ConnectionLost: it has.
        """
        if self.half_closed:
            exchange.answered = True
            self._close(unread=False)
            raise ConnectionLost

    def finish(self) -> None:
        """
        Close when the current request is answered, at once if there is none.
        """
        self._ending = True
        if self._current is None:
            self._close(unread=False)

    def detach(self) -> Any:
        """
        Give the transport away; this connection hears of it no more.
        """
        self.server.connections.discard(self)
        self._parser = None
        self._current = self._incoming = None
        self._queue.clear()
        self._closing = self._deaf = True
        self._resume_reading()
        self.writer.close()
        return self.transport

    def hand_off(self, exchange: HttpExchange, take: Detach) -> bool:
        """
        Give the connection away with *exchange* (`IExchange.pass_on`), if nothing
        else of it is understood already.
        """
        if exchange is not self._current or exchange.answered:
            return False
        if self._queue or self._in_head or self.writer.draining:
            return False  # another request has begun, or an answer has not ended
        if exchange.length is None and not exchange.complete:
            return False  # somewhere in a chunk
        data = exchange.repeated() + (self._rest or b"")
        release = take(self.transport, PeerInfo(exchange.peer, self.secure), data)
        if release is None:
            return False
        exchange.answered = True
        exchange.forget_body()
        release(self.detach())
        return True

    def take_rest(self) -> bytes:
        """
        What has come behind the current request, for who takes the connection over.
        """
        rest, self._rest = self._rest, None
        return rest or b""

    def _rest_of_http(self) -> bytes:
        """
        The same, if the request has been answered as any other.
        """
        if self._current is not None or self._queue:
            return b""
        return self.take_rest()

    def _go_on(self) -> None:
        self._next()
        rest = self._rest_of_http()
        if rest:
            self.dataReceived(rest)
        elif not self._closing:
            self.rearm()

    def _next(self) -> None:
        self._looping = True
        while self._queue and self._current is None and not self.writer.draining:
            exchange = self._queue.popleft()
            if isinstance(exchange, HttpError):
                self._answer_and_close(exchange)
            elif isinstance(exchange.failure, HttpError):
                self._current = exchange  # its body broke before its turn came
                exchange.refuse(exchange.failure)
            else:
                self._begin(exchange)
        self._looping = False

    def _refuse(self, refusal: HttpError) -> None:
        """
        The client cannot be understood any further.
        """
        incoming, self._incoming = self._incoming, None
        self._deaf = True
        self.deadline = math.inf  # the answers before it take what they take
        if incoming is not None:
            # Its head is fine: whoever reads its body gives the answer.
            incoming.body_lost(refusal)
            if not incoming.answered and incoming is self._current:
                incoming.refuse(refusal)
            return
        if self._current is not None or self._queue or self.writer.draining:
            self._queue.append(refusal)
            return
        self._answer_and_close(refusal)

    def refuse_body(self, exchange: HttpExchange, refusal: HttpError) -> None:
        """
        The body of *exchange* is not kept any longer.
        """
        if exchange is self._incoming:
            self._refuse(refusal)
        else:  # it is whole, and waits for its turn
            exchange.body_lost(refusal)

    def _answer_and_close(self, refusal: HttpError) -> None:
        head = RequestHead(self.server.limits)
        head.target = b"/"
        exchange = HttpExchange(self, "-", head, True, None)
        self._current = exchange
        exchange.refuse(refusal)

    def too_slow(self) -> None:
        """
        The deadline has passed.
        """
        if self._closing:
            self.transport.abortConnection()
        elif self._in_head and not self._begun:
            self._close(unread=False)  # idle: nothing was asked
        elif self._in_head or self._incoming is not None:
            waits = self._incoming is not None and self._incoming.waits
            self._refuse(too_many_bodies() if waits else HttpError(408, "too slow"))
        else:
            self.transport.abortConnection()

    # Answering and closing.

    def send_continue(self) -> None:
        """
        Somebody wants the body (RFC 9110, 10.1.1).
        """
        self.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _close(self, unread: bool) -> None:
        """
        Args:
            unread: the client is still sending: hear it out for a while, as
                closing on it would take the answer away from it.
        """
        self._closing = self._deaf = True
        self._current = None
        self._queue.clear()
        self._unread = unread and not self.half_closed
        self.deadline = math.inf  # the transport finds out who takes nothing
        if not self.writer.draining:
            self._hang_up()

    def _hang_up(self) -> None:
        self.deadline = self.server.clock.seconds() + LINGER
        self.writer.close()
        if self.writer.sealed or not self._unread:
            self.transport.loseConnection()
            return
        self._resume_reading()
        self.transport.loseWriteConnection()

    def rearm(self) -> None:
        """
        Set the deadline for what comes next; read on, or not.
        """
        if self._closing:
            return
        if self.half_closed and self._rest is None:
            self._answer_the_rest()
            return
        incoming = self._incoming
        held = incoming.held if incoming is not None else len(self._rest or b"")
        unwanted = bool(self._queue) or held > HELD
        limits = self.server.limits
        now = self.server.clock.seconds()
        if unwanted or (incoming is not None and incoming.waits):
            if not self._paused:
                self._paused = True
                self.transport.pauseProducing()
            if unwanted:
                self.deadline = math.inf  # nobody can be too slow who is not read
            elif self.deadline == math.inf:
                self.deadline = now + limits.body_seconds
            return
        resumed = self._resume_reading()
        if incoming is not None:
            # Who had to wait for other bodies has no more time: those have a deadline, too.
            if (resumed and self.deadline == math.inf) or incoming.streaming:
                self.deadline = now + limits.body_seconds
        elif self._in_head and self._begun:
            if resumed or self.deadline == math.inf:
                self.deadline = now + limits.head_seconds
        elif self._current is not None or self.writer.draining:
            self.deadline = math.inf
        elif not self._in_head or self.deadline == math.inf:
            self._in_head = True
            self._begun = False
            self._unframed = 0
            self._idle_since = now
            self.deadline = now + limits.idle_seconds

    def _answer_the_rest(self) -> None:
        """
        Nothing more comes: close as soon as all is answered.
        """
        self.deadline = math.inf
        if not self._deaf and (self._incoming is not None or (self._in_head and self._begun)):
            self._refuse(HttpError(400, "the request is not complete"))
        self._deaf = True
        idle = self._current is None and not self._queue and not self.writer.draining
        if idle and not self._closing:
            self._close(unread=False)

    def _resume_reading(self) -> bool:
        """
        Returns:
            whether it was paused.
        """
        if not self._paused or self.half_closed:
            return False
        self._paused = False
        self.transport.resumeProducing()
        return True
