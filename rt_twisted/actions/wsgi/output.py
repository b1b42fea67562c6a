"""
What a thread sends to a client, by way of the reactor, with back-pressure.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Condition
from typing import Any

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

MAX_WAITING = 65536  # bytes that wait for the reactor, then the thread waits


class ClientGone(OSError):
    """
    The client of a request has disconnected, or does not receive: nothing more can be sent.
    """


@implementer(IPushProducer)
class ThreadOutput:
    """
    Passes pieces from one thread to the reactor, which writes them as the client receives them.

    Args:
        reactor: the reactor.
        write: called in the reactor's thread with each piece, in order.
        stalled: called in the reactor's thread if the client has received nothing for too long.
        seconds: how long the thread waits for the client.
    """

    def __init__(
        self,
        reactor: Any,
        write: Callable[[Any], object],
        stalled: Callable[[], object],
        seconds: float,
    ) -> None:
        self._reactor = reactor
        self._write = write
        self._stalled = stalled
        self._seconds = seconds
        self._changed = Condition()
        self._pieces: list[tuple[Any, int]] = []
        self._size = 0
        self._paused = False
        self._scheduled = False
        self._closed = False
        self._writing = self._again = False  # in `flush`

    @property
    def closed(self) -> bool:
        """
        Whether nothing more can be sent.
        """
        return self._closed

    # Called in the thread.

    def put(self, piece: Any, size: int) -> None:
        """
        Send *piece*, when the client has received enough of those before it.

        Args:
            piece: for *write*.
            size: its bytes; 0 never waits.

        Raises:
            ClientGone: it will not be sent.
        """
        with self._changed:
            while size and self._size >= MAX_WAITING and not self._closed:
                if not self._changed.wait(self._seconds) and self._size >= MAX_WAITING:
                    self._closed = True
                    self._reactor.callFromThread(self._stalled)
            if self._closed:
                raise ClientGone("the client has disconnected")
            self._pieces.append((piece, size))
            self._size += size
            if self._scheduled or self._paused:
                return
            self._scheduled = True
        self._reactor.callFromThread(self.flush)

    # Called by the reactor.

    def flush(self, all_of_it: bool = False) -> None:
        """
        Write what waits, unless the client receives nothing now.

        Args:
            all_of_it: write it in any case, as the end follows.
        """
        self._again = True
        if self._writing:
            return  # *write* has called this: pieces behind its own must wait for it
        self._writing = True
        while self._again:
            self._again = False
            pieces = self._take(all_of_it)
            for index, (piece, _) in enumerate(pieces):
                if self._paused and not all_of_it:
                    self._put_back(pieces[index:])
                    break
                self._write(piece)
        self._writing = False

    def _take(self, all_of_it: bool) -> list[tuple[Any, int]]:
        with self._changed:
            self._scheduled = False
            if self._closed or (self._paused and not all_of_it):
                return []
            pieces, self._pieces = self._pieces, []
            self._size = 0
            self._changed.notify_all()
            return pieces

    def _put_back(self, pieces: list[tuple[Any, int]]) -> None:
        with self._changed:
            if not self._closed:
                self._pieces = pieces + self._pieces
                self._size += sum(size for _, size in pieces)

    def close(self) -> None:
        """
        Discard what waits; the thread gets `ClientGone` when it sends more.
        """
        with self._changed:
            self._closed = True
            self._pieces = []
            self._size = 0
            self._changed.notify_all()

    def pauseProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        self.flush()

    def stopProducing(self) -> None:
        self.close()
