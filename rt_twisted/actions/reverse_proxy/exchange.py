"""
One request that is passed on to an application, and its response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from enum import Enum
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.web.http import datetimeToString
from zope.interface import implementer

from rt_twisted.actions.context import UpstreamLimits
from rt_twisted.actions.handover import HandedBody, HandOver
from rt_twisted.actions.interfaces import Match
from rt_twisted.actions.reverse_proxy.body import BodyStart, ProxiedBody
from rt_twisted.actions.reverse_proxy.request import ProxiedRequest
from rt_twisted.actions.reverse_proxy.tunnel import open_tunnel
from rt_twisted.actions.reverse_proxy.upstream import Upstream
from rt_twisted.codecs.forwarding import Field, response_fields
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client_exchange import ClientExchange
from rt_twisted.http.head import ResponseHead
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.http.upstream_connection import CannotConnect
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import NOWHERE

LEAST_RATE = 1024  # bytes per second of a body: a slower client keeps a place from others


class ProxiedState(Enum):
    """
    How far a proxied request is.
    """

    WAITING = "waiting"  # for its turn, or for the head of the response
    RESPONDING = "responding"  # the head is there
    HANDED_OVER = "handed over"  # the body is read by the hand-over
    ENDED = "ended"


# Attributes of an Enum class are slow to look up.
_WAITING, _RESPONDING, _HANDED_OVER, _ENDED = ProxiedState


@implementer(IPushProducer)
class _ResponseSource:
    """
    The producer of a response's body: the application's connection.
    """

    def __init__(self, out: ClientExchange, lost: Callable[[], None]) -> None:
        self.pauseProducing = out.pause
        self.resumeProducing = out.resume
        self.stopProducing = lost


class ProxiedExchange:
    """
    A request on its way to an application and back: the `ResponseReceiver` and `StreamingPeer` of
    the request to the application, and the `HandedResponse` of its response.

    Args:
        exchange: the client's request.
        match: of its route.
        upstream: the application.
        limits: for it.
        make: returns the request for the process at a URL.
        max_body: bytes of the body; 0 for no limit.
        handover: decides whether the response hands the connection over; None if none does.

    Attributes:
        deadline: by the reactor's clock, for the head of the response.
        position: see `HandedResponse`.
        producer: of the body of the request; None without one.
    """

    def __init__(
        self,
        exchange: Any,
        match: Match,
        upstream: Upstream,
        limits: UpstreamLimits,
        make: Callable[[HttpUrl], ProxiedRequest],
        max_body: int,
        handover: HandOver | None,
    ) -> None:
        self.exchange = exchange
        self.match = match
        self.position = NOWHERE
        self.producer: Any = None
        if exchange.length != 0:
            self.producer = ProxiedBody(exchange, max_body, self._wait_on, self._on_body_lost)
        self._upstream = upstream
        self._limits = limits
        self._make = make
        self._handover = handover
        self._state = _WAITING
        self._since = upstream.reactor.seconds()
        self._body_since: float | None = None  # while the body is received
        self.deadline = self._since + limits.timeout
        self._urls: Iterator[HttpUrl] = iter(upstream.urls())
        self._out: ClientExchange | None = None
        self._response: UpstreamResponse | None = None
        self._pending: list[bytes] = []  # of the body, until the response goes out
        self._stream: Any = None
        self._reading: BodyStart | None = None  # of a response that was taken

    def submit(self) -> None:
        """
        Send the request when it is its turn.

        Raises:
            HttpError: 503, too many wait.
        """
        self.exchange.ends_half_closed = True
        self.exchange.watch(self._cancel)
        self._upstream.submit(self, self._limits)

    def start(self) -> None:
        if self._handover is not None:
            self.position = self._handover.position()
        self._send(next(self._urls))

    def _send(self, url: HttpUrl) -> None:
        try:
            request = self._make(url)
            if request.upgrade and self._upstream.tunnels >= self._limits.tunnels:
                retry = self._upstream.retry_seconds()
                raise HttpError(503, "too many websockets of the application", retry=retry)
        except HttpError as refusal:
            self._end()
            self.exchange.refuse(refusal)
            return
        out = self._upstream.client.send(request, self, self)
        if out.receiver is not None:
            self._out = out

    def on_deadline(self) -> None:
        if self._body_since is not None and not self.producer.paused:
            self._cancel()
            self.exchange.refuse(HttpError(408, "the request is sent too slowly"))
            return
        self._fail("timeouts", 504, "the application does not respond in time")

    # The request.

    def connected(self, exchange: ClientExchange) -> None:
        self._out = exchange
        if not exchange.complete:
            if self._body_since is None:
                self._body_since = self._upstream.reactor.seconds()
            self.producer.send_on(exchange)

    def _wait_on(self, received: int, complete: bool) -> None:
        """
        Give the application more time: it has just got a part of the request.

        Args:
            received: bytes of the body, so far.
            complete: whether they are all.
        """
        if self._state is not _WAITING:
            return
        now, timeout = self._upstream.reactor.seconds(), self._limits.timeout
        self.deadline = now + timeout
        if complete:
            self._body_since = None
        elif self._body_since is not None:
            self.deadline = min(self.deadline, self._body_since + timeout + received / LEAST_RATE)

    def _on_body_lost(self, reason: Exception) -> None:
        """
        End the request: its body will never be complete.
        """
        begun = self._stream is not None
        self._cancel()
        if begun:
            self._stream.abort()
        elif isinstance(reason, HttpError):
            self.exchange.refuse(reason)

    # The response.

    def interim(self, status: int, fields: Sequence[Field]) -> None:
        if status != 100:  # that was sent when the body was read
            self.exchange.send_interim(status, self._fields(fields))

    def head(self, response: UpstreamResponse) -> None:
        upstream = self._upstream
        upstream.unwatch(self)
        self._response = response
        self._state = _RESPONDING
        upstream.count_response(upstream.reactor.seconds() - self._since)
        handover = self._handover
        if handover is not None and response.status != 101 and handover.offer(self):
            if self._reading is None:  # nothing has read the response
                self.read(0, 0.0)
            if self._state is _RESPONDING:
                self._state = _HANDED_OVER

    def data(self, piece: bytes) -> None:
        if self._stream is not None:
            self._stream.write(piece)
        elif self._reading is not None:
            self._reading.add(piece)
        else:
            self._pending.append(piece)

    def received(self) -> None:
        if self._state is _RESPONDING and self._stream is None:
            self._begin()

    def end(self) -> None:
        state, stream, reading = self._state, self._stream, self._reading
        trailers = self._out.trailers if self._out is not None else ()
        self._end()
        if reading is not None:
            reading.end(True)
        elif stream is not None:
            stream.finish(self._fields(trailers))
        elif state is _RESPONDING and trailers:
            self._begin()
            self._stream.finish(self._fields(trailers))
        elif state is _RESPONDING:
            self._respond()

    def lost(self, reason: Exception) -> None:
        if self._state is _WAITING:
            if not isinstance(reason, CannotConnect):
                text = "the application does not send a valid response"
                self._fail("broken", 502, text, reason)
            elif (url := next(self._urls, None)) is not None:
                self._send(url)
            else:
                self._fail("unreachable", 502, "the application cannot be reached", reason)
        elif self._state is _RESPONDING:
            self._upstream.count_failure("broken", f"the response breaks off: {reason}")
            self._end()
            if self._stream is not None:
                self._stream.abort()
            else:
                self.exchange.refuse(HttpError(502, "the response of the application breaks off"))
        elif self._state is _HANDED_OVER and self._reading is not None:
            self._upstream.count_failure("broken", f"the response breaks off: {reason}")
            self._end()
            self._reading.end(False)

    def _begin(self) -> None:
        """
        Send the head of the response, and what there is of the body.
        """
        try:
            stream = self.exchange.stream(*self._head())
        except ConnectionLost:
            self._cancel()
            return
        self._stream = stream
        if self._out is not None:
            stream.register_producer(_ResponseSource(self._out, self._cancel))
        pending, self._pending = self._pending, []
        for piece in pending:
            stream.write(piece)

    def _respond(self) -> None:
        """
        Send the whole response, which has arrived at once.
        """
        head, length = self._head()
        body = b"".join(self._pending)
        if length is None and self.exchange.method != "HEAD":
            length = len(body)
        with suppress(ConnectionLost):
            self.exchange.respond(head, length, body)

    def _head(self) -> tuple[ResponseHead, int | None]:
        """
        Return the head of the response for the client, and the length of the body.
        """
        response = self._response
        assert response is not None
        fields = self._fields(response.fields)
        if not response.dated:
            fields.append((b"Date", datetimeToString()))
        return ResponseHead(response.status, fields, response.reason), response.length

    def _fields(self, fields: Sequence[Field]) -> list[Field]:
        """
        Return those of *fields* that are for the client.
        """
        return response_fields(fields, () if self._handover is None else self._handover.hidden)

    # `HandedResponse`.

    @property
    def status(self) -> int:
        return 0 if self._response is None else self._response.status

    @property
    def headers(self) -> Sequence[tuple[str, str]]:
        return () if self._response is None else self._response.headers

    def read(self, limit: int, seconds: float) -> Deferred[HandedBody]:
        if self._state is not _RESPONDING:  # the client has disconnected meanwhile
            return succeed(HandedBody(b"", False))
        self._reading = BodyStart(self._upstream.reactor, limit, seconds, self._cancel)
        return self._reading.done

    # Tunnels.

    def switched(self, transport: Any, rest: bytes) -> None:
        response, upstream = self._response, self._upstream
        self._end()
        assert response is not None
        lines = [b"%s: %s\r\n" % field for field in self._fields(response.fields)]
        head = b"".join(
            (
                b"HTTP/1.1 101 Switching Protocols\r\n",
                *lines,
                b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
            )
        )
        try:
            handle = self.exchange.take_over(head, 101)
        except (HttpError, ConnectionLost) as error:
            transport.abortConnection()
            if isinstance(error, HttpError):
                self.exchange.refuse(error)
            return
        upstream.tunnel_opened()
        open_tunnel(handle, transport, rest, upstream.tunnel_closed)

    # Ending.

    def _fail(self, cause: str, status: int, text: str, reason: object = "") -> None:
        """
        Refuse the client: there is no response.
        """
        self._upstream.count_failure(cause, f"{text}: {reason}" if reason else text)
        self._cancel()
        self.exchange.refuse(HttpError(status, text, retry=self._upstream.retry_seconds()))

    def _cancel(self) -> None:
        """
        End the request to the application, whatever is left of it.
        """
        out, self._out = self._out, None
        self._end()
        if out is not None:
            out.cancel()

    def _end(self) -> None:
        if self._state is not _ENDED:
            self._state = _ENDED
            self._out = None
            producer, self.producer = self.producer, None
            if producer is not None:
                producer.stop()
            self._upstream.release(self)
