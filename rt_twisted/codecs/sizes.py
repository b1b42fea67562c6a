"""
Sizes in bytes, as settings write them.
"""

from __future__ import annotations

import re
from typing import Self

UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """
    Parse a number of bytes, such as `65536`, `64k`, `1m` or `1g`.

    Raises:
        ValueError: the end of a sentence "... must be".
    """
    found = re.fullmatch(r"([0-9]{1,12})([kmg]?)b?", text.lower())
    if found is None:
        raise ValueError(ByteSize.expected)
    return int(found[1]) * UNITS[found[2]]


class ByteSize(int):
    """
    A number of bytes that a route line may write as `64k`, `1m` or `1g`.
    """

    expected = "a size such as 65536, 64k, 1m or 1g"

    def __new__(cls, value: str | int) -> Self:
        return super().__new__(cls, parse_size(value) if isinstance(value, str) else value)


NO_LIMIT = ByteSize(0)
