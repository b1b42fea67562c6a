"""
How long to wait before another worker takes the place of one that ended.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST = 0.1  # seconds; short, as its readers are coming back already
MOST = 30.0
STEADY = 30.0  # seconds after which a worker counts as one that works


class Backoff:
    """
    Doubles from FIRST to MOST while workers end soon, and begins again with
    one that had lived for STEADY seconds.

    Args:
        uniform: as `random.uniform`: workers that fall together shall not rise together.
    """

    def __init__(self, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._uniform = uniform
        self._next = FIRST

    def after(self, lived: float) -> float:
        """
        Seconds to wait after a worker that *lived* so many; at least half of the
        doubled time, at most all of it.
        """
        if lived >= STEADY:
            self._next = FIRST
        wait = self._next
        self._next = min(MOST, wait * 2)
        return self._uniform(wait / 2, wait)
