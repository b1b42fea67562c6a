"""
Bits and Exp-Golomb codes of codec headers (H.264, 7.2 and 9.1).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_ZEROS = 32  # of an Exp-Golomb code: values of 32 bits


class BitReader:
    """
    Reads bits from the most significant one on.

    Args:
        data: what is read.
    """

    __slots__ = ("_left", "_value")

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data)
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        """
        Return the next *count* bits.

        Raises:
            RemoteProtocolError: there are fewer.
        """
        self._left -= count
        if self._left < 0:
            raise RemoteProtocolError("a codec header is truncated")
        return self._value >> self._left & (1 << count) - 1

    def flag(self) -> bool:
        """
        Return whether the next bit is set.

        Raises:
            RemoteProtocolError: there is none.
        """
        return bool(self.bits(1))

    def ue(self) -> int:
        """
        Return the next unsigned Exp-Golomb code.

        Raises:
            RemoteProtocolError: it is truncated or longer than 32 bits.
        """
        zeros = 0
        while not self.bits(1):
            zeros += 1
            if zeros > MAX_ZEROS:
                raise RemoteProtocolError("a number in a codec header is too large")
        return (1 << zeros) - 1 + self.bits(zeros)

    def se(self) -> int:
        """
        Return the next signed Exp-Golomb code.

        Raises:
            RemoteProtocolError: as for `ue`.
        """
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)
