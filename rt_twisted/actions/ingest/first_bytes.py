"""
The first bytes of a request body, before it is decided who receives it.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.http.interfaces import IBodySink, IExchange


@implementer(IBodySink)
class FirstBytes:
    """
    Receives a body with a length up to its first bytes, then pauses it.

    Args:
        exchange: has the body.
        count: how many bytes.

    Attributes:
        found: fires with them; with fewer, if the body has no more or is lost.
    """

    def __init__(self, exchange: IExchange, count: int) -> None:
        self.found: Deferred[bytes] = Deferred()
        self._exchange = exchange
        self._count = count
        self._held = bytearray()
        self._sink: IBodySink | None = None
        self._ended = False
        self._reason: Exception | None = None

    def pass_to(self, sink: IBodySink) -> None:
        """
        Deliver the body to *sink*, from its first byte on. Call this once *found* has fired.
        """
        self._sink = sink
        if self._held:
            sink.data(bytes(self._held))
            self._held.clear()
        if self._reason is not None:
            sink.lost(self._reason)
        elif self._ended:
            sink.end()
        self._exchange.resume()

    def data(self, piece: bytes) -> None:
        if self._sink is not None:
            self._sink.data(piece)
            return
        self._held += piece
        if len(self._held) >= self._count and not self.found.called:
            self._exchange.pause()
            self.found.callback(bytes(self._held[: self._count]))

    def end(self) -> None:
        self._ended = True
        if self._sink is not None:
            self._sink.end()
        elif not self.found.called:
            self.found.callback(bytes(self._held))

    def lost(self, reason: Exception) -> None:
        self._reason = reason
        if self._sink is not None:
            self._sink.lost(reason)
        elif not self.found.called:
            self.found.callback(bytes(self._held))
