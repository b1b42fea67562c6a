"""
The interface between an exchange and the HTTP version that its response goes out by.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from rt_twisted.http.context import HttpContext
from rt_twisted.http.head import Field, ResponseHead
from rt_twisted.http.stream_handle import Detach, StreamHandle
from rt_twisted.model.errors import HttpError


class ResponseChannel(Protocol):
    """
    Sends the response to the current request: an HTTP/1.1 connection, or an HTTP/2 stream.

    An exchange calls either `respond`; or `start`, `write` or a producer, and `finish`;
    or `detach`. It calls none of them twice.
    """

    context: HttpContext

    @property
    def peer(self) -> Any:
        """
        The address of the other end of the connection.
        """

    @property
    def secure(self) -> bool:
        """
        Whether the client uses TLS.
        """

    @property
    def half_closed(self) -> bool:
        """
        Whether the client has closed its sending side of an HTTP/1 connection.
        """

    @property
    def transport(self) -> Any:
        """
        The `ITransport` that carries the response.
        """

    def respond(self, head: ResponseHead, length: int | None, body: bytes) -> None:
        """
        Send a whole response.

        Args:
            head: of the response.
            length: for Content-Length; None to send none.
            body: may be empty although *length* is not 0, in answer to HEAD.
        """

    def start(self, head: ResponseHead, length: int | None, direct: bool = False) -> None:
        """
        Begin a response whose body follows by `write`.

        Args:
            head: of the response.
            length: for Content-Length; None to send none.
            direct: HTTP/1.1 writes to the kernel itself as much as it takes; the producer, if
                there is one, is a streaming producer.
        """

    def write(self, data: bytes) -> None:
        """
        Send the next bytes of the body.
        """

    def writeSequence(self, pieces: Iterable[bytes]) -> None:
        """
        Send the next pieces of the body.
        """

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let *producer* write the body, as by `IConsumer`.
        """

    def unregisterProducer(self) -> None:
        """
        End what `registerProducer` began.
        """

    def finish(self, trailers: Sequence[Field] = ()) -> None:
        """
        End the response that `start` began.

        Args:
            trailers: for HTTP/2; by HTTP/1.1 the last chunk has them.
        """

    def send_interim(self, status: int, fields: Sequence[Field]) -> None:
        """
        Send an interim response (RFC 9110, 15.2).
        """

    def abort(self) -> None:
        """
        Break the response off.
        """

    def require_open(self) -> None:
        """
        Check that the client can receive a stream.

        Raises:
            ConnectionLost: it has closed its sending side; the connection is closed.
        """

    def detach(self, head: ResponseHead) -> StreamHandle:
        """
        Release the transport to the caller, who writes the encoded head before anything else.
        """

    def take_over(self, head: bytes, received: bytes) -> StreamHandle:
        """
        Release the transport to another protocol; see `IExchange.take_over`.

        Args:
            head: is written first.
            received: bytes of the body, for `StreamHandle.rest`.
        """

    def hand_off(self, detach: Detach) -> Deferred[bool]:
        """
        Release the connection to another process; see `IExchange.hand_off`.
        """

    def read_more(self) -> None:
        """
        Read on: bytes of the body that were held back have been delivered.
        """

    def send_continue(self) -> None:
        """
        Send 100 Continue: the body is wanted (RFC 9110, 10.1.1).
        """

    def reject_body(self, error: HttpError) -> None:
        """
        Stop receiving the body, and answer with *error* if nothing else was answered.
        """
