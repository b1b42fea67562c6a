"""
A request body that is written to the disk, with back-pressure to the client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.actions.upload.disk_threads import DiskThreads
from rt_twisted.http.interfaces import IBodySink, IExchange
from rt_twisted.model.errors import HttpError

BLOCK = 256 * 1024  # bytes that are written at once; more, if they come while others are written
MAX_WAITING = 256 * 1024  # bytes from which the client is paused
MAX_DELAY = 0.5  # seconds until fewer bytes are written: a crash loses no more


@implementer(IBodySink)
class DiskWriter:
    """
    Passes a body to a thread, one block after the other.

    Args:
        exchange: the request; its body is received when `start` is called.
        threads: in which *append* is called.
        clock: the reactor.
        append: writes a block.
        limit: bytes of the body.
        progress: called with the bytes of the body that are written.

    Attributes:
        done: fires when the body was received and written. It fails with ConnectionLost or an
            HttpError if the body is not complete, when what was received of it is written; and
            with what *append* raised.
    """

    def __init__(
        self,
        exchange: IExchange,
        threads: DiskThreads,
        clock: Any,
        append: Callable[[bytearray], object],
        limit: int,
        progress: Callable[[int], object],
    ) -> None:
        self.done: Deferred[None] = Deferred()
        self._exchange = exchange
        self._threads = threads
        self._clock = clock
        self._append = append
        self._limit = limit
        self._progress = progress
        self._waiting = bytearray()
        self._received = 0
        self._written = 0
        self._writing = False
        self._paused = False
        self._timer: Any = None
        self._end: Failure | None = None  # why the body ended; None if all was received
        self._ended = False

    def start(self) -> None:
        """
        Receive the body.
        """
        self._exchange.receive(self)

    def stop(self, reason: HttpError) -> None:
        """
        Receive no more, and answer with *reason* when what was received is written.
        """
        self._finish(Failure(reason))

    # The body.

    def data(self, piece: bytes) -> None:
        if self._ended:
            return
        self._received += len(piece)
        if self._received > self._limit:
            self.stop(HttpError(413, "the upload is larger than it may be"))
            return
        self._waiting += piece
        if self._writing:
            if len(self._waiting) >= MAX_WAITING and not self._paused:
                self._paused = True
                self._exchange.pause()
        elif len(self._waiting) >= BLOCK:
            self._write()
        elif self._timer is None:
            self._timer = self._clock.callLater(MAX_DELAY, self._on_timer)

    def end(self) -> None:
        self._finish(None)

    def lost(self, reason: Exception) -> None:
        self._finish(Failure(reason))

    # The disk.

    def _on_timer(self) -> None:
        self._timer = None
        if not self._writing and self._waiting:
            self._write()

    def _write(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        block, self._waiting = self._waiting, bytearray()
        self._writing = True
        self._threads.run(self._append, block).addCallbacks(
            self._on_written, self._on_failed, (len(block),)
        )

    def _on_written(self, _: object, size: int) -> None:
        self._writing = False
        self._written += size
        self._progress(self._written)
        if self._waiting and (self._ended or len(self._waiting) >= BLOCK):
            self._write()
        elif self._ended:
            self._fire()
        elif self._waiting and self._timer is None:
            self._timer = self._clock.callLater(MAX_DELAY, self._on_timer)
        if self._paused:
            self._paused = False
            self._exchange.resume()

    def _on_failed(self, failure: Failure) -> None:
        self._writing = False
        self._waiting.clear()
        self._ended = True
        self._end = failure
        self._fire()

    def _finish(self, reason: Failure | None) -> None:
        if self._ended:
            return
        self._ended = True
        self._end = reason
        if self._writing:
            return
        if self._waiting:
            self._write()
        else:
            self._fire()

    def _fire(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.done.callback(None) if self._end is None else self.done.errback(self._end)
