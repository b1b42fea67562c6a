"""
A cache that is bounded by the number of its values and by their bytes.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

_Value = TypeVar("_Value")


class WeighedCache(Generic[_Value]):
    """
    Values by keys of bytes, in the order in which they were added.

    Args:
        most: values; at most.
        most_bytes: of all values together; at most.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.bytes = 0
        self._most = most
        self._most_bytes = most_bytes
        self._values: OrderedDict[bytes, tuple[_Value, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: bytes) -> _Value | None:
        """
        Return the value of *key*; None if there is none.
        """
        found = self._values.get(key)
        return None if found is None else found[0]

    def put(self, key: bytes, value: _Value, size: int) -> None:
        """
        Add or replace the value of *key*, and remove the oldest ones that are too many.

        Args:
            key: up to 32 bytes.
            value: not None.
            size: bytes of *value*, about; one that is larger than all may be is not added.
        """
        self.discard(key)
        if size > self._most_bytes:
            return
        self._values[key] = value, size
        self.bytes += size
        while len(self._values) > self._most or self.bytes > self._most_bytes:
            self.discard(next(iter(self._values)))

    def discard(self, key: bytes) -> None:
        """
        Remove the value of *key*, if there is one.
        """
        found = self._values.pop(key, None)
        if found is not None:
            self.bytes -= found[1]

    def oldest(self) -> tuple[bytes, _Value]:
        """
        Return the value that was added first, and its key. There is one.
        """
        key, (value, _) = next(iter(self._values.items()))
        return key, value

    def clear(self) -> None:
        """
        Remove all values.
        """
        self._values.clear()
        self.bytes = 0
