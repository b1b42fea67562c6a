"""
Statistics of a load test by channel.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.tools.load.latencies import Latencies


class ChannelStatistics:
    """
    Subscribers and deliveries of one channel.
    """

    __slots__ = ("_last", "latency", "subscribers")

    def __init__(self) -> None:
        self.subscribers = 0  # that were connected at least once
        self.latency = Latencies()
        self._last: dict[int, float] = {}

    def record(self, number: int, seconds: float) -> None:
        """
        Record a delivery.

        Args:
            number: of the message in its channel.
            seconds: since the message was due; a later delivery of it has a larger value.
        """
        self.latency.add(seconds)
        self._last[number] = seconds

    def summary(self) -> dict[str, Any]:
        """
        Return the statistics, ready for JSON; times are in milliseconds.

        `last_ms` has one duration per message: until the last of the subscribers that received it.
        """
        last = Latencies()
        for seconds in self._last.values():
            last.add(seconds)
        return {
            "readers": self.subscribers,
            "messages": len(self._last),
            "latency_ms": self.latency.summary(),
            "last_ms": last.summary(),
        }
