"""
The part of a request body that waits until an action reads it.
"""

from __future__ import annotations

from array import array

BOUNDARY = 4  # bytes of memory that the end of a chunk takes


class HeldBody:
    """
    Bytes of a body in order, and where among them HTTP chunks end.

    A client may send chunks of one byte: a list of pieces would take forty times as much
    memory, a list of integers nine times.
    """

    __slots__ = ("_at", "_data", "_ends", "_next")

    def __init__(self) -> None:
        self._clear()

    def _clear(self) -> None:
        self._data = bytearray()
        self._ends = array("I")  # offsets in _data
        self._at = 0  # bytes that are taken
        self._next = 0  # ends that are taken

    def __len__(self) -> int:
        """
        Return the bytes of memory that what is not taken needs.
        """
        return len(self._data) - self._at + BOUNDARY * (len(self._ends) - self._next)

    def __bytes__(self) -> bytes:
        """
        Return the bytes of the body that are not taken.
        """
        return bytes(self._data[self._at :] if self._at else self._data)

    def add(self, piece: bytes) -> None:
        """
        Append the next bytes.
        """
        self._data += piece

    def end_chunk(self) -> None:
        """
        Note that a chunk ends behind the last byte.
        """
        self._ends.append(len(self._data))

    def take(self) -> bytes | None:
        """
        Take the bytes up to the end of the next chunk, or that end.

        Returns:
            bytes, all of them if no chunk ends; None for the end of a chunk.
        """
        if self._next == len(self._ends):
            return self.take_all()
        end = self._ends[self._next]
        piece = None
        if end == self._at:
            self._next += 1
        else:
            piece = bytes(self._data[self._at : end])
            self._at = end
        if not len(self):
            self._clear()
        return piece

    def take_all(self) -> bytes:
        """
        Take all bytes, without the ends of chunks.
        """
        piece = bytes(self)
        self._clear()
        return piece
