"""
The body of a request on its way to an application, and the beginning of a response's body.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from rt_twisted.actions.handover import HandedBody
from rt_twisted.codecs.chunks import LAST_CHUNK, chunk
from rt_twisted.http.client_exchange import ClientExchange
from rt_twisted.http.collected_body import body_too_large
from rt_twisted.http.interfaces import IBodySink


@implementer(IBodySink, IPushProducer)
class ProxiedBody:
    """
    Sends the body of a client's request to an application as it is received.

    Args:
        exchange: the client's request.
        max_body: bytes; 0 for no limit.
        moved: called for each piece with the bytes received so far, and whether they are all.
        failed: called with the error for which the body will never be complete.

    Attributes:
        paused: the application does not receive.
    """

    def __init__(
        self,
        exchange: Any,
        max_body: int,
        moved: Callable[[int, bool], object],
        failed: Callable[[Exception], object],
    ) -> None:
        self._exchange = exchange
        self._max_body = max_body
        self._moved = moved
        self._failed = failed
        self._out: ClientExchange | None = None
        self._chunked = exchange.length is None
        self._size = 0
        self.paused = False

    def send_on(self, out: ClientExchange) -> None:
        """
        Send the body by *out*, whose head was sent.
        """
        first = self._out is None
        self._out = out
        if first:
            self._exchange.receive(self)

    def stop(self) -> None:
        """
        Discard what follows: the response has ended.
        """
        self._out = None

    # What the client's connection calls.

    def data(self, piece: bytes) -> None:
        out = self._out
        if out is None:
            return
        self._size += len(piece)
        if self._max_body and self._size > self._max_body:
            self._failed(body_too_large(self._max_body))
            return
        self._moved(self._size, False)
        out.write(chunk(piece) if self._chunked else piece)

    def end(self) -> None:
        out = self._out
        if out is not None:
            if self._chunked:
                out.write(LAST_CHUNK)
            out.end_body()
            self._moved(self._size, True)

    def lost(self, reason: Exception) -> None:
        if self._out is not None:
            self._failed(reason)

    # What the application's connection calls.

    def pauseProducing(self) -> None:
        self.paused = True
        self._exchange.pause()

    def resumeProducing(self) -> None:
        self.paused = False
        self._exchange.resume()

    def stopProducing(self) -> None:
        """
        Do nothing: the end of the connection follows.
        """


class BodyStart:
    """
    Collects the beginning of a body.

    Args:
        reactor: the reactor.
        limit: bytes.
        seconds: after which it is taken as it is.
        cancel: called when enough was received.

    Attributes:
        done: fires with at most *limit* bytes, and whether they are the whole body.
    """

    def __init__(
        self, reactor: Any, limit: int, seconds: float, cancel: Callable[[], object]
    ) -> None:
        self.done: Deferred[HandedBody] = Deferred()
        self._limit = limit
        self._cancel = cancel
        self._body = bytearray()
        self._timer = reactor.callLater(seconds, self._enough)

    def add(self, piece: bytes) -> None:
        """
        Append the next bytes.
        """
        self._body += piece
        if len(self._body) >= self._limit:
            self._enough()

    def end(self, complete: bool) -> None:
        """
        Take what was received: no more follows.

        Args:
            complete: it is the whole body; False if the body breaks off.
        """
        if self._timer.active():
            self._timer.cancel()
        if not self.done.called:
            self.done.callback(HandedBody(bytes(self._body[: self._limit]), complete))

    def _enough(self) -> None:
        self._cancel()
        self.end(False)
