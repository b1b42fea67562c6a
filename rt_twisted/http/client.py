"""
An HTTP/1.1 client: bodies are sent and received as streams, and connections are kept.

Redirects are not followed: a request goes where the settings say. A GET or HEAD without a body is
sent again, once, if a kept connection was closed before a byte of the response.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from twisted.internet.abstract import isIPAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client_exchange import (
    ClientExchange,
    ResponseReceiver,
    SendableRequest,
    StreamingPeer,
)
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.http.upstream_connection import (
    CannotConnect,
    ResponseLost,
    UpstreamConnection,
)
from rt_twisted.model.load_object import load_object

CONNECT_SECONDS = 10.0
IDLE_SECONDS = 15.0  # for which a connection without a request is kept
POST_IDLE = 1.0  # the same, before a request that is never sent again
MAX_IDLE = 32  # kept connections to one server
SAFE = frozenset(("GET", "HEAD"))

BODILESS = frozenset((*SAFE, "OPTIONS"))

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_Origin = tuple[str, str, int, str]


@dataclass(slots=True, unsafe_hash=True)
class UpstreamRequest:
    """
    A request to an HTTP server.

    Args:
        method: such as GET.
        url: where it is sent.
        headers: without Host, Connection, Content-Length and Transfer-Encoding.
        body: all of it.
    """

    method: Final[str]
    url: Final[HttpUrl]
    headers: Final[tuple[tuple[str, str], ...]] = ()
    body: Final[bytes] = b""

    keep: ClassVar[bool] = True
    upgrade: ClassVar[bool] = False
    body_follows: ClassVar[bool] = False

    @property
    def repeatable(self) -> bool:
        return self.method in SAFE and not self.body

    def encode(self) -> bytes:
        """
        Return the bytes of the request.

        Raises:
            ValueError: a header has a control character.
        """
        url = self.url
        fields = [f"{name}: {value}" for name, value in self.headers]
        if _CONTROL.search("".join(fields)):
            name = next(field for field in fields if _CONTROL.search(field)).partition(":")[0]
            raise ValueError(f"header {name[:100]!r} has a control character")
        lines = [f"{self.method} {url.target} HTTP/1.1", f"Host: {url.authority}", *fields]
        if self.body or self.method not in BODILESS:
            lines.append(f"Content-Length: {len(self.body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("latin-1", "replace") + self.body


class HttpClient:
    """
    Sends requests, and keeps connections for the next ones.

    Args:
        reactor: the reactor.
        trust: certificates of authorities; None for those of the system.
        keep: how many connections to one server are kept.
    """

    def __init__(self, reactor: Any, trust: Any = None, keep: int = MAX_IDLE) -> None:
        self._reactor = reactor
        self._trust = trust
        self._keep = keep
        self._idle: dict[_Origin, list[tuple[float, UpstreamConnection]]] = {}
        self._timer: IDelayedCall | None = None

    def send(
        self,
        request: SendableRequest,
        receiver: ResponseReceiver,
        streaming: StreamingPeer | None = None,
    ) -> ClientExchange:
        """
        Send *request* on a kept connection, or on a new one.

        Args:
            request: what to send.
            receiver: gets the response. There is no timeout: call `ClientExchange.cancel`.
            streaming: needed for a body that follows and for upgrades.

        Raises:
            ValueError: a header has a control character.
        """
        exchange = ClientExchange(request, request.encode(), receiver, streaming, self.send_fresh)
        connection = self._take(request)
        if connection is None:
            self.send_fresh(exchange)
        else:
            exchange.kept = True
            self._begin(connection, exchange)
        return exchange

    def send_fresh(self, exchange: ClientExchange) -> None:
        """
        Send the request of *exchange* on a new connection.
        """
        connected = self._connect(exchange.request.url)
        exchange.connecting(connected)
        connected.addCallbacks(
            self._begin, self._on_failed, callbackArgs=(exchange,), errbackArgs=(exchange,)
        )

    def close(self) -> None:
        """
        Close the kept connections.
        """
        for kept in self._idle.values():
            for _, connection in kept:
                connection.abort()
        self._idle.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _connect(self, url: HttpUrl) -> Deferred[Any]:
        endpoints = load_object("twisted.internet.endpoints")  # most daemons ask no application
        endpoint: Any
        if url.socket:
            endpoint = endpoints.UNIXClientEndpoint(self._reactor, url.socket, CONNECT_SECONDS)
        elif isIPAddress(url.host):
            # HostnameEndpoint takes 0.3 seconds more until it fails.
            endpoint = endpoints.TCP4ClientEndpoint(
                self._reactor, url.host, url.port, CONNECT_SECONDS
            )
        else:
            endpoint = endpoints.HostnameEndpoint(
                self._reactor, url.host, url.port, CONNECT_SECONDS
            )
        if url.scheme == "https":
            options = load_object("twisted.internet.ssl.optionsForClientTLS")(url.host, self._trust)
            endpoint = endpoints.wrapClientTLS(options, endpoint)
        factory = Factory.forProtocol(partial(UpstreamConnection, self._release))
        factory.noisy = False
        found: Deferred[Any] = endpoint.connect(factory)
        return found.addCallback(UpstreamConnection.secure) if url.scheme == "https" else found

    def _begin(self, connection: UpstreamConnection, exchange: ClientExchange) -> None:
        if exchange.receiver is None:  # cancelled in the same moment
            connection.abort()
            return
        exchange.sent_on(connection)
        connection.begin(exchange)
        if exchange.streaming is not None and exchange.receiver is not None:
            exchange.streaming.connected(exchange)

    def _on_failed(self, failure: Failure, exchange: ClientExchange) -> None:
        if not failure.check(CancelledError):
            exchange.ended(CannotConnect(str(failure.value).rstrip(".")), False)

    def _take(self, request: SendableRequest) -> UpstreamConnection | None:
        """
        Return the connection that was used last, if it may be used for *request*.
        """
        kept = self._idle.get(request.url.origin)
        now = self._reactor.seconds()
        longest = IDLE_SECONDS if request.repeatable else POST_IDLE
        while kept:
            since, connection = kept.pop()
            if not connection.usable:
                continue
            if now - since <= longest:
                return connection
            connection.abort()
        return None

    def _release(self, connection: UpstreamConnection, url: HttpUrl) -> None:
        """
        Keep *connection* for another request.
        """
        kept = self._idle.setdefault(url.origin, [])
        if len(kept) >= self._keep:
            connection.abort()
            return
        kept.append((self._reactor.seconds(), connection))
        if self._timer is None:
            self._timer = self._reactor.callLater(IDLE_SECONDS, self._close_idle)

    def _close_idle(self) -> None:
        self._timer = None
        now = self._reactor.seconds()
        for origin, kept in tuple(self._idle.items()):
            for since, connection in tuple(kept):
                if now - since >= IDLE_SECONDS or not connection.usable:
                    kept.remove((since, connection))
                    connection.abort()
            if not kept:
                del self._idle[origin]
        if self._idle:
            self._timer = self._reactor.callLater(IDLE_SECONDS, self._close_idle)


class WholeResponse:
    """
    Receives a whole response, up to a limit.

    Args:
        limit: bytes of the body.
        ended: called once, with the response and its body, or with the error for which there is
            none.

    Attributes:
        exchange: of the request, once it was sent.
    """

    __slots__ = ("_body", "_ended", "_limit", "_response", "exchange")

    def __init__(
        self, limit: int, ended: Callable[[tuple[UpstreamResponse, bytes] | Exception], object]
    ) -> None:
        self.exchange: ClientExchange | None = None
        self._limit = limit
        self._ended: Callable[[Any], object] | None = ended
        self._response: UpstreamResponse | None = None
        self._body = bytearray()

    def cancel(self, error: Exception) -> None:
        """
        Abort the request, which ends with *error*; do nothing once it has ended.
        """
        if self._ended is not None and self.exchange is not None:
            self.exchange.cancel()
        self._end(error)

    def head(self, response: UpstreamResponse) -> None:
        self._response = response

    def data(self, piece: bytes) -> None:
        self._body += piece
        if len(self._body) > self._limit:
            self.cancel(ResponseLost(f"the response is larger than {self._limit} bytes"))

    def end(self) -> None:
        self._end((self._response, bytes(self._body)))

    def lost(self, reason: Exception) -> None:
        self._end(reason)

    def _end(self, result: object) -> None:
        ended, self._ended = self._ended, None
        if ended is not None:
            ended(result)


def fetch(
    client: HttpClient, reactor: Any, request: UpstreamRequest, limit: int, timeout: float
) -> Deferred[tuple[UpstreamResponse, bytes]]:
    """
    Return the whole response to *request*.

    Args:
        client: sends it.
        reactor: the reactor.
        request: what to send.
        limit: bytes of the body.
        timeout: seconds for all of it.

    Returns:
        fails with ResponseLost or RemoteProtocolError, in the words of what went wrong. May
        be cancelled.

    Raises:
        ValueError: a header has a control character.
    """
    timer: IDelayedCall | None = None

    def ended(result: Any) -> None:
        if timer is not None and timer.active():
            timer.cancel()
        if isinstance(result, Exception):
            done.errback(result)
        else:
            done.callback(result)

    received = WholeResponse(limit, ended)
    done: Deferred[tuple[UpstreamResponse, bytes]]
    done = Deferred(lambda _: received.cancel(CancelledError()))
    received.exchange = client.send(request, received)
    if not done.called:
        late = ResponseLost(f"no response in {timeout:g} seconds")
        timer = reactor.callLater(timeout, received.cancel, late)
    return done
