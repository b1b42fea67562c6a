"""
Send parts of a file as the body of a response.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO

from twisted.internet.interfaces import IPullProducer
from zope.interface import implementer

READ_SIZE = 65536  # bytes that are read and sent at a time


@implementer(IPullProducer)
class FileBody:
    """
    Writes parts of a file whenever the transport has nothing left to send.

    It writes exactly as many bytes as the response declares. What a file grows by
    meanwhile is left out; one that shrinks breaks the response off.

    Args:
        file: unbuffered, open for reading; closed when this ends, however it does.
        parts: bytes that are sent as they are, and ranges of the file.
        write: sends a piece.
        done: called when the last one is written.
        broken: called instead if the file is shorter than *parts*, or cannot be read.
    """

    def __init__(
        self,
        file: BinaryIO,
        parts: Sequence[bytes | range],
        write: Callable[[bytes], object],
        done: Callable[[], object],
        broken: Callable[[], object],
    ) -> None:
        self._file = file
        self._left = sum(map(len, parts))
        self._pieces = self._read(parts)
        self._write = write
        self._done = done
        self._broken = broken

    def resumeProducing(self) -> None:
        if self._file.closed:
            return
        try:
            piece = next(self._pieces, b"")
        except OSError:
            piece = b""
        if not piece:
            self.stopProducing()
            self._broken()
            return
        self._left -= len(piece)
        last = not self._left
        if last:
            self.stopProducing()  # the write may call resumeProducing
        self._write(piece)
        if last:
            self._done()

    def stopProducing(self) -> None:
        self._file.close()

    def _read(self, parts: Sequence[bytes | range]) -> Iterator[bytes]:
        waiting = b""
        for part in parts:
            if isinstance(part, bytes):
                waiting += part
                continue
            self._file.seek(part.start)
            left = len(part)
            while left:
                piece = self._file.read(min(READ_SIZE, left))
                if not piece:
                    return  # the file has become shorter
                left -= len(piece)
                yield waiting + piece
                waiting = b""
        if waiting:
            yield waiting
