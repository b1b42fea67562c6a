"""
One connection to an HTTP server: one request at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IHandshakeListener
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.head import Field
from rt_twisted.http.response_parser import ResponseParser, UpstreamResponse
from rt_twisted.model.load_object import load_object
from rt_twisted.net.transports import direct_send


class ResponseLost(ConnectionLost):
    """
    The response will never be complete. Its text says why.
    """

    def __str__(self) -> str:
        return str(self.args[0])


class CannotConnect(ResponseLost):
    """
    There is no connection to the server: it has received nothing of the request.
    """


class SentRequest(Protocol):
    """
    The part of a `ClientExchange` that its connection uses.
    """

    encoded: bytes
    request: Any
    receiver: Any
    streaming: Any
    complete: bool
    trailers: Sequence[Field]

    def ended(self, error: Exception | None, begun: bool) -> None:
        """
        Receive the end of the response.
        """


@implementer(IHandshakeListener)
class UpstreamConnection(TwistedProtocol):
    """
    A connection to a server.

    Args:
        release: called with the connection when another request may be sent on it.
    """

    def __init__(self, release: Callable[[UpstreamConnection, HttpUrl], object]) -> None:
        self._release = release
        self._exchange: SentRequest | None = None
        self._parser = ResponseParser(self)
        self._lost = self._paused = False
        self._secured: Deferred[UpstreamConnection] | None = None
        self._send: Callable[[Any], int] | None = None  # while the transport has nothing to send

    @property
    def usable(self) -> bool:
        """
        Whether another request may be sent.
        """
        return not self._lost and self._exchange is None

    def secure(self) -> Deferred[UpstreamConnection]:
        """
        Wait for the end of the TLS handshake, which has begun.

        Returns:
            fails with CannotConnect, in the words of what went wrong. May be cancelled.
        """

        def cancel(_: object) -> None:
            self._secured = None
            self.abort()

        self._secured = Deferred(cancel)
        return self._secured

    def begin(self, exchange: SentRequest) -> None:
        """
        Send the request of *exchange*.
        """
        if self._lost:
            exchange.ended(ResponseLost("the connection was closed"), False)
            return
        self._exchange = exchange
        request = exchange.request
        self._parser.expect(request.method, request.upgrade)
        if request.body_follows:
            self._wire.registerProducer(exchange.streaming.producer, True)
        self.write(exchange.encoded)

    def write(self, data: bytes) -> None:
        """
        Send now what the kernel takes, the rest through the transport.
        """
        if self._send is not None:
            try:
                sent = self._send(data)
            except OSError:  # it is full, or the transport will find the connection closed
                sent = 0
            if sent == len(data):
                return
            data = data[sent:]
            self._send = None
        self._wire.write(data)

    def end_body(self) -> None:
        """
        Mark the body of the request as sent.
        """
        if not self._lost:
            self._wire.unregisterProducer()

    def pause(self) -> None:
        """
        Read no more of the response until `resume`.
        """
        self._paused = True
        self._wire.pauseProducing()

    def resume(self) -> None:
        """
        Read the response again.
        """
        if self._paused and not self._lost:
            self._paused = False
            self._wire.resumeProducing()

    def abort(self) -> None:
        """
        Close the connection at once, whatever waits; the exchange is forgotten.
        """
        self._exchange = None
        if not self._lost:
            self._wire.abortConnection()

    @property
    def _wire(self) -> Any:
        return self.transport

    # What the parser calls.

    def interim(self, status: int, fields: Sequence[Field]) -> None:
        if self._exchange is not None and self._exchange.streaming is not None:
            self._exchange.streaming.interim(status, fields)

    def head(self, response: UpstreamResponse) -> None:
        if self._exchange is not None and self._exchange.receiver is not None:
            self._exchange.receiver.head(response)

    def data(self, piece: bytes) -> None:
        if self._exchange is not None and self._exchange.receiver is not None:
            self._exchange.receiver.data(piece)

    # What Twisted calls.

    def connectionMade(self) -> None:
        self._send = direct_send(self.transport)

    def handshakeCompleted(self) -> None:
        secured, self._secured = self._secured, None
        if secured is not None:
            secured.callback(self)

    def dataReceived(self, data: bytes) -> None:
        parser = self._parser
        if self._exchange is None:
            self.abort()  # bytes without a request
            return
        try:
            parser.feed(data)
        except RemoteProtocolError as error:
            self._end(error)
            self._wire.abortConnection()
            return
        exchange = self._exchange
        if exchange is None:  # it was cancelled meanwhile
            return
        if parser.complete:
            reusable = parser.reusable and exchange.complete and exchange.request.keep
            self._end(None, reusable)
            if not reusable:
                self._wire.abortConnection()
        elif parser.switched:
            self._exchange = None
            self._lost = True  # for HTTP
            parser.close()
            exchange.streaming.switched(self._wire, parser.rest)
        elif exchange.streaming is not None:
            exchange.streaming.received()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._lost = True
        secured, self._secured = self._secured, None
        if secured is not None:
            explain_tls = load_object("rt_twisted.net.tls_errors.explain_tls")
            secured.errback(CannotConnect(explain_tls(reason.value) or str(reason.value)))
        if self._exchange is None:
            self._parser.close()
            return
        error: Exception | None = None
        if reason.check(ConnectionDone):
            try:
                self._parser.eof()
            except RemoteProtocolError as cut:
                error = cut
        else:
            error = ResponseLost(f"the connection was lost: {reason.value}")
        self._end(error)
        self._parser.close()

    def _end(self, error: Exception | None, reusable: bool = False) -> None:
        exchange, parser = self._exchange, self._parser
        self._exchange = None
        if exchange is None:
            return
        begun, exchange.trailers = parser.begun, parser.trailers
        if reusable and not self._lost:
            self.resume()  # a paused connection would never read the next response
            self._release(self, exchange.request.url)
        exchange.ended(error, begun)
