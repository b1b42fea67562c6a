"""
Histogram of latencies.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence


class Latencies:
    """
    Histogram of durations, with a resolution of about one percent.
    """

    _STEPS = 64  # per doubling: 1.1 % apart
    _UNIT = 1e-6  # seconds, the shortest duration that is not counted as zero

    def __init__(self) -> None:
        self.count = 0
        self.max = 0.0
        self._counts: Counter[int] = Counter()

    def add(self, seconds: float) -> None:
        """
        Record one duration.

        Args:
            seconds: the duration.
        """
        self.count += 1
        if seconds > self.max:
            self.max = seconds
        self._counts[int(math.log2(max(seconds / self._UNIT, 1)) * self._STEPS)] += 1

    @classmethod
    def combined(cls, parts: Iterable[Latencies]) -> Latencies:
        """
        Return a new histogram of all durations of *parts*.
        """
        whole = cls()
        for part in parts:
            whole.count += part.count
            whole.max = max(whole.max, part.max)
            whole._counts.update(part._counts)
        return whole

    def percentile(self, part: float) -> float:
        """
        Return the duration in seconds that the fraction *part* (0 to 1) did not exceed; 0 if empty.
        """
        left = math.ceil(part * self.count)
        for step in sorted(self._counts):
            left -= self._counts[step]
            if left <= 0:
                return min(self._seconds(step + 1), self.max)
        return self.max

    def summary(self) -> dict[str, float]:
        """
        Return p50, p90, p99 and max by name, in milliseconds.
        """
        parts = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
        values = {name: self.percentile(part) for name, part in parts.items()}
        return {name: round(value * 1e3, 3) for name, value in {**values, "max": self.max}.items()}

    def bars(self, edges: Sequence[float]) -> list[int]:
        """
        Count the durations per range.

        Args:
            edges: upper ends of the ranges in seconds, ascending; the last includes longer ones.
        """
        bars = [0] * len(edges)
        for step, count in self._counts.items():
            value = min(self._seconds(step + 0.5), self.max)
            place = next((i for i, edge in enumerate(edges) if value <= edge), len(edges) - 1)
            bars[place] += count
        return bars

    def min(self) -> float:
        """
        Return the shortest duration in seconds; 0 if empty.
        """
        return self._seconds(min(self._counts)) if self._counts else 0.0

    def _seconds(self, step: float) -> float:
        return float(2 ** (step / self._STEPS)) * self._UNIT
