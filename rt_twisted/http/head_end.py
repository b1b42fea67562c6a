"""
Find the end of a request head in the bytes of a connection.

The parser does not say where in its input a head ends. Input that is cut there can go to
another receiver once the head is known: a body without length, or another protocol.
"""

from __future__ import annotations

HEAD_END = b"\r\n\r\n"


class HeadEnd:
    """
    Cuts the input of a connection behind the next empty line.

    Attributes:
        found: the last piece that `cut` returned ends with an empty line.
    """

    __slots__ = ("_tail", "found")

    def __init__(self) -> None:
        self.found = False
        self._tail = b""  # the last bytes of a head whose end has not been received

    def cut(self, data: bytes) -> tuple[bytes, bytes]:
        """
        Return the part of *data* up to the end of the head, and the rest.

        Args:
            data: the next bytes, of which the first belongs to a head.
        """
        known = len(self._tail)
        text = self._tail + data if known else data
        at = text.find(HEAD_END)
        self.found = at >= 0
        if not self.found:
            self._tail = text[-len(HEAD_END) + 1 :]
            return data, b""
        self._tail = b""
        end = at + len(HEAD_END) - known
        return data[:end], data[end:]
