"""
Times for bare frames, which have none of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from rt_twisted.model.message import Message

FRAME = 33_333  # microseconds
STEP = 1000  # microseconds, the unit of times in WebM
MAX_CHANNELS = 1000  # whose last times are remembered


def by_position(message: Message) -> int:
    """
    Return a time in microseconds: 30 messages a second, by their positions.
    """
    return message.position.offset * FRAME


class ArrivalTimes:
    """
    When each message was first asked about: the same time for all formats and replays.

    The times of a channel increase: messages that are replayed at once are STEP apart.

    Args:
        clock: returns seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: WeakKeyDictionary[Message, int] = WeakKeyDictionary()
        self._last: dict[str, int] = {}  # by channel

    def __call__(self, message: Message) -> int:
        """
        Return the time of *message* in microseconds.
        """
        time = self._times.get(message)
        if time is None:
            last = self._last.pop(message.channel, 0)
            time = max(round(self._clock() * 1_000_000), last + STEP)
            self._times[message] = self._last[message.channel] = time
            if len(self._last) > MAX_CHANNELS:
                del self._last[next(iter(self._last))]
        return time
