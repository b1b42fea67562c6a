"""
One object for equal texts that many connections have, such as `User-Agent`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

MAX_TEXTS: Final = 1024  # that are shared at a time
MAX_LENGTH: Final = 256  # characters of one; longer ones are seldom equal


def share_text(text: str) -> str:
    """
    Return *text*, or an equal object that was passed before.

    Clients choose the texts: unlike `sys.intern`, which never frees one in Python 3.12, this
    retains MAX_TEXTS at most.
    """
    return _first(text) if len(text) <= MAX_LENGTH else text


@lru_cache(MAX_TEXTS)
def _first(text: str) -> str:
    return text
