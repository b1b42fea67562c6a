"""
Where the frames of a subscriber go.
"""

from __future__ import annotations

from typing import Any, Final, Protocol


class Sink(Protocol):
    """
    Where the frames of a subscriber go: a socket, or what stands in front of it.

    An object and not its bound `send`: that is another object of 72 bytes for each subscriber.
    """

    def send(self, frame: Any, /) -> int:
        """
        Accept the first bytes of *frame*, and return how many.

        Raises:
            BlockingIOError: none were accepted.
            OSError: the connection is lost.
        """


class SentBytes:
    """
    Counts the bytes that one connection accepts.

    It costs a call for each write, and is used for subscribers with a line in the access log
    only.

    Attributes:
        bytes: sent, or handed to the transport.
    """

    __slots__ = ("_sink", "bytes")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self.bytes = 0

    def send(self, frame: Any) -> int:
        sent = self._sink.send(frame)
        self.bytes += sent
        return sent


class _Discard:
    """
    The sink of a subscriber that is disconnected.
    """

    def send(self, frame: Any) -> int:
        return len(frame)


DISCARD: Final = _Discard()
