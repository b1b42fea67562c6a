"""
A request to an HTTP server that was sent, and its response.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.head import Field
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.http.upstream_connection import UpstreamConnection


class SendableRequest(Protocol):
    """
    A request as `HttpClient` sends it.
    """

    @property
    def method(self) -> str:
        """
        Such as GET.
        """

    @property
    def url(self) -> HttpUrl:
        """
        Whose server gets the request.
        """

    @property
    def keep(self) -> bool:
        """
        Whether the connection may be used again.
        """

    @property
    def upgrade(self) -> bool:
        """
        Whether the request asks for another protocol.
        """

    @property
    def body_follows(self) -> bool:
        """
        Whether a body is sent by `ClientExchange.write`.
        """

    @property
    def repeatable(self) -> bool:
        """
        Whether the request may be sent twice.
        """

    def encode(self) -> bytes:
        """
        Return the bytes of the head, and of a body that does not follow.

        Raises:
            ValueError: a header has a control character.
        """


class ResponseReceiver(Protocol):
    """
    Receives one response; exactly one of `end` and `lost` ends it.
    """

    def head(self, response: UpstreamResponse) -> None:
        """
        Receive the head of the response.
        """

    def data(self, piece: bytes) -> None:
        """
        Receive the next bytes of the body.
        """

    def end(self) -> None:
        """
        Receive the end of the body.
        """

    def lost(self, reason: Exception) -> None:
        """
        Receive the error for which the response will never be complete.
        """


class StreamingPeer(Protocol):
    """
    What a receiver has as well if it sends the body of the request piece by piece, or passes the
    response on while it is received.

    Attributes:
        producer: of the body, an `IPushProducer`: paused while the server does not receive it.
    """

    producer: Any

    def connected(self, exchange: ClientExchange) -> None:
        """
        Receive that the head of the request was sent: the body may follow.
        """

    def interim(self, status: int, fields: Sequence[Field]) -> None:
        """
        Receive the head of an interim response.
        """

    def received(self) -> None:
        """
        Receive the end of the bytes that have arrived together; more of the response will follow.
        """

    def switched(self, transport: Any, rest: bytes) -> None:
        """
        Take the connection over: the server has switched to another protocol.

        Args:
            transport: the connection.
            rest: what was received of the protocol.
        """


class ClientExchange:
    """
    A request that was sent, and its response. Created by `HttpClient.send`.

    Attributes:
        complete: all of the request was sent.
        trailers: of the response, once it has ended.
    """

    def __init__(
        self,
        request: SendableRequest,
        encoded: bytes,
        receiver: ResponseReceiver,
        streaming: StreamingPeer | None,
        resend: Callable[[ClientExchange], object],
    ) -> None:
        self.request = request
        self.encoded = encoded
        self.receiver: ResponseReceiver | None = receiver
        self.streaming = streaming
        self.complete = not request.body_follows
        self.trailers: Sequence[Field] = ()
        self.kept = False  # it was sent on a connection that had another request before
        self.paused = False
        self._resend = resend
        self._connecting: Deferred[Any] | None = None
        self._connection: UpstreamConnection | None = None

    def pause(self) -> None:
        """
        Receive no more of the body until `resume` (back-pressure).
        """
        self.paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """
        Receive the body again.
        """
        self.paused = False
        if self._connection is not None:
            self._connection.resume()

    def write(self, data: bytes) -> None:
        """
        Send the next bytes of the body; they are discarded once the response has ended.
        """
        if self._connection is not None:
            self._connection.write(data)

    def end_body(self) -> None:
        """
        Mark the body as sent.
        """
        if not self.complete:
            self.complete = True
            if self._connection is not None:
                self._connection.end_body()

    def cancel(self) -> None:
        """
        Abort the request; the receiver is not called any more. Does nothing once it has ended.
        """
        self.receiver = self.streaming = None
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.abort()

    # What the client and the connection call.

    def connecting(self, connected: Deferred[Any]) -> None:
        """
        Wait for a connection.
        """
        self._connecting = connected

    def sent_on(self, connection: UpstreamConnection) -> None:
        """
        Use *connection*, on which the request was sent.
        """
        self._connecting = None
        self._connection = connection
        if self.paused:
            connection.pause()

    def ended(self, error: Exception | None, begun: bool) -> None:
        """
        Pass the end of the response on; or send the request again.

        Args:
            error: None if the response is complete.
            begun: whether a byte of it was received.
        """
        self._connection = self._connecting = None
        receiver = self.receiver
        if receiver is None:
            return
        if error is not None and self.kept and not begun and self.request.repeatable:
            self.kept = False
            self._resend(self)
            return
        self.receiver = self.streaming = None
        if error is None:
            receiver.end()
        else:
            receiver.lost(error)
