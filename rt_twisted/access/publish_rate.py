"""
Rate limit for publishers: messages per second, over all connections of one to a process.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import ceil

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Key
from rt_twisted.codecs.addresses import limit_key
from rt_twisted.model.errors import HttpError

BURST = 2.0  # seconds' worth of messages that may come at once
MAX_PUBLISHERS = 50_000  # that are counted; the one that published longest ago is forgotten


class PublishRate:
    """
    A token bucket for each publisher.

    Args:
        seconds: returns the time.

    Attributes:
        rate: messages per second; 0 for no limit.
    """

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self.rate = 0.0
        self._seconds = seconds
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def consume(self, permit: Key | Grant | None, address: str, count: int) -> None:
        """
        Count *count* messages of a publisher.

        Args:
            permit: by which it publishes: those with the same `sub`, or key, are one publisher.
            address: of the client, for a publisher without `sub` and key; "" if it connected
                before there was a limit.
            count: messages.

        Raises:
            HttpError: 429, these are too many; nothing was counted.
        """
        rate = self.rate
        if not rate:
            return
        who = _publisher(permit, address)
        if who is None:
            return
        now, burst = self._seconds(), max(1.0, rate * BURST)
        left, since = self._buckets.pop(who, (burst, now))
        left = min(burst, left + (now - since) * rate)
        # A batch that is larger than the burst may pass alone, and is paid for afterwards.
        if left < min(count, burst):
            self._buckets[who] = left, now
            wait = ceil((min(count, burst) - left) / rate)
            raise HttpError(429, "too many messages: publish more slowly", retry=wait)
        self._buckets[who] = left - count, now
        if len(self._buckets) > MAX_PUBLISHERS:
            self._buckets.popitem(last=False)


def _publisher(permit: Key | Grant | None, address: str) -> Hashable | None:
    if isinstance(permit, Grant) and permit.subject:
        return permit.subject
    if isinstance(permit, Key) and permit.secret:
        return permit
    return ("address", limit_key(address)) if address else None
