"""
How long something took, very often.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence


class Latencies:
    """
    How often something took how long, to one hundredth of each time.
    """

    _STEPS = 64  # per doubling: 1.1 % apart
    _UNIT = 1e-6  # seconds, the shortest time that is told from zero

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """
        One more.
        """
        self.count += 1
        if seconds > self.max:
            self.max = seconds
        self._counts[int(math.log2(max(seconds / self._UNIT, 1)) * self._STEPS)] += 1

    def percentile(self, part: float) -> float:
        """
        The time, in seconds, that *part* (0 to 1) of all took at most; 0 without any.
        """
        left = math.ceil(part * self.count)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(self._seconds(step + 1), self.max)
        return self.max

    def summary(self) -> dict[str, float]:
        """
        Milliseconds by name.
        """
        parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        values = {name: self.percentile(part) for name, part in parts.items()}
        return {name: round(value * 1e3, 3) for name, value in {**values, "max": self.max}.items()}

    def bars(self, edges: Sequence[float]) -> list[int]:
        """
        How many lie below the first of *edges* (seconds, ascending), between it and the
        second, and so on; those above the last one belong to the last bar.
        """
        bars = [0] * len(edges)
        for step, count in self._counts.items():
            value = min(self._seconds(step + 0.5), self.max)
            place = next((i for i, edge in enumerate(edges) if value <= edge), len(edges) - 1)
            bars[place] += count
        return bars

    def min(self) -> float:
        """
        The shortest, in seconds; 0 without any.
        """
        return self._seconds(min(self._counts)) if self._counts else 0.0

    def _seconds(self, step: float) -> float:
        return float(2 ** (step / self._STEPS)) * self._UNIT
