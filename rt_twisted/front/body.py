"""
A request's body that is wanted whole.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.interfaces import IBodySink, Refusal


@implementer(IBodySink)
class Whole:
    """
    Collects a body of bounded size.

    Args:
        limit: bytes.

    Attributes:
        done: fires with the body, or fails by a `Refusal` or the loss of the client.
    """

    __slots__ = ("_limit", "_pieces", "_size", "done")

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._limit = limit
        self._size = 0
        self._pieces: list[bytes] = []

    def data(self, piece: bytes) -> None:
        """
        See `IBodySink`.
        """
        if self.done.called:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.lost(too_large(self._limit))
            return
        self._pieces.append(piece)

    def end(self) -> None:
        """
        See `IBodySink`.
        """
        if not self.done.called:
            self.done.callback(b"".join(self._pieces))

    def lost(self, reason: Exception) -> None:
        """
        See `IBodySink`.
        """
        self._pieces = []
        if not self.done.called:
            self.done.errback(reason)


def too_large(limit: int) -> Refusal:
    """
    What answers a body of more than *limit* bytes.
    """
    return Refusal(413, f"the body is larger than {limit} bytes")
