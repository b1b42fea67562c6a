"""
Times for bare frames, which have none of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from rt_twisted.model.message import Message

FRAME = 33_333  # microseconds


def by_position(message: Message) -> int:
    """
    Return a time in microseconds: 30 messages a second, by their positions.
    """
    return message.position.offset * FRAME


class ArrivalTimes:
    """
    When each message was first asked about: the same time for all formats and replays.

    Args:
        clock: returns seconds that never decrease.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: WeakKeyDictionary[Message, int] = WeakKeyDictionary()

    def __call__(self, message: Message) -> int:
        """
        Return the time of *message* in microseconds.
        """
        time = self._times.get(message)
        if time is None:
            time = self._times[message] = round(self._clock() * 1_000_000)
        return time
