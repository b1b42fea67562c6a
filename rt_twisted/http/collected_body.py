"""
Whole request bodies of bounded size: in memory, in a file, or for a call.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from tempfile import TemporaryFile
from typing import IO

from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.http.dispatch import refuse, settle
from rt_twisted.http.interfaces import IBodySink, IExchange
from rt_twisted.model.errors import HttpError


@implementer(IBodySink)
class BodyBuffer:
    """
    Collects a body.

    Args:
        limit: bytes.

    Attributes:
        done: fires with the body, or fails by an HttpError, or ConnectionLost.
    """

    __slots__ = ("_body", "_limit", "done")

    def __init__(self, limit: int) -> None:
        self.done: Deferred[bytes] = Deferred()
        self._limit = limit
        self._body = bytearray()  # a list of pieces of one byte would take forty times as much

    def data(self, piece: bytes) -> None:
        if self.done.called:
            return
        if len(self._body) + len(piece) > self._limit:
            self.lost(body_too_large(self._limit))
            return
        self._body += piece

    def end(self) -> None:
        if not self.done.called:
            body, self._body = bytes(self._body), bytearray()
            self.done.callback(body)

    def lost(self, reason: Exception) -> None:
        self._body = bytearray()
        if not self.done.called:
            self.done.errback(reason)


@implementer(IBodySink)
class BodyFile:
    """
    Collects a body in a file.

    Args:
        limit: bytes.
        on_disk: use a temporary file on disk; else the file is in memory.

    Attributes:
        done: fires with the file at its start, which the caller closes; or fails as that of
            `BodyBuffer` does.
    """

    __slots__ = ("_file", "_limit", "_size", "done")

    def __init__(self, limit: int, on_disk: bool) -> None:
        self.done: Deferred[IO[bytes]] = Deferred()
        self._limit = limit
        self._size = 0
        self._file: IO[bytes] = TemporaryFile() if on_disk else BytesIO()  # noqa: SIM115  # kept

    def data(self, piece: bytes) -> None:
        if self.done.called:
            return
        self._size += len(piece)
        if self._size > self._limit:
            self.lost(body_too_large(self._limit))
            return
        self._file.write(piece)

    def end(self) -> None:
        if not self.done.called:
            self._file.seek(0)
            self.done.callback(self._file)

    def lost(self, reason: Exception) -> None:
        if not self.done.called:
            self._file.close()
            self.done.errback(reason)


@implementer(IBodySink)
class BodyCall:
    """
    Collects a body, and calls a function with it.

    Args:
        exchange: has the body; it is answered if *act* raises, or there is no body.
        limit: bytes.
        act: called with the whole body; returns what `IAction.act` may.
    """

    __slots__ = ("_act", "_body", "_exchange", "_limit")

    def __init__(self, exchange: IExchange, limit: int, act: Callable[[bytes], object]) -> None:
        self._exchange = exchange
        self._limit = limit
        self._act: Callable[[bytes], object] | None = act
        self._body: bytes | bytearray = b""  # most bodies come as one piece

    def data(self, piece: bytes) -> None:
        body = self._body
        if len(body) + len(piece) > self._limit:
            self.lost(body_too_large(self._limit))
        elif self._act is None:
            return
        elif not body:
            self._body = piece
        else:
            if isinstance(body, bytes):
                body = self._body = bytearray(body)
            body += piece

    def end(self) -> None:
        act, self._act = self._act, None
        body, self._body = self._body, b""
        if act is not None:
            settle(self._exchange, act, bytes(body))

    def lost(self, reason: Exception) -> None:
        act, self._act = self._act, None
        self._body = b""
        if act is not None:
            refuse(self._exchange, reason)


def body_too_large(limit: int) -> HttpError:
    """
    Return the error for a body of more than *limit* bytes.
    """
    return HttpError(413, f"the body is larger than {limit} bytes")


def body_memory_exhausted() -> HttpError:
    """
    Return the error for a body that was not read in time, as others took all the memory.
    """
    return HttpError(503, "too many request bodies at once", retry=2)
