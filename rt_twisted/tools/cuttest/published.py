"""
Published messages and their positions.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from rt_twisted.model.message import Position

MAX_MESSAGES = (
    200_000  # messages whose position is stored; publishing waits for subscribers beyond that
)
_TEXT = re.compile(r"(cut-[0-9a-f]+)-([0-9]{1,6})-([0-9]{1,15})-x*")

Rank = tuple[int, int]  # the number of a log, in the order in which they were seen, and the offset


class Published:
    """
    Numbered messages of each channel, and their positions.

    Messages of a channel are accepted in the order of their numbers, so all before an accepted one
    are accepted too.

    Args:
        channels: their names.
        size: bytes of a message, unless its number needs more.
        run: id of this run, in hexadecimal digits.
    """

    def __init__(self, channels: Sequence[str], size: int, run: str) -> None:
        self.channels = channels
        self.counts = [0] * len(channels)  # written, per channel
        self._size = size
        self._run = f"cut-{run}"
        self._first = [0] * len(channels)  # numbers of the first ones below
        self._positions: list[deque[Position]] = [deque() for _ in channels]
        self._epochs: dict[str, int] = {}

    def has_room(self) -> bool:
        """
        Return whether another message may be created.
        """
        return sum(map(len, self._positions)) < MAX_MESSAGES

    def write(self, channel: int) -> int:
        """
        Create the next message of *channel*.

        Returns:
            Its number.
        """
        self.counts[channel] += 1
        return self.counts[channel] - 1

    def text(self, channel: int, number: int) -> str:
        """
        Return the text of a message.
        """
        return f"{self._run}-{channel}-{number}-".ljust(self._size, "x")

    def find(self, text: str) -> tuple[int, int] | None:
        """
        Return channel and number of the message with this *text*; None if it is not of this run.
        """
        found = _TEXT.fullmatch(text)
        if found is None or found[1] != self._run:
            return None
        channel, number = int(found[2]), int(found[3])
        if channel < len(self.channels) and number < self.counts[channel]:
            return channel, number
        return None

    def accept(self, channel: int, position: Position) -> None:
        """
        Record that the server accepted the next message of *channel* at *position*.
        """
        self._positions[channel].append(position)
        self.rank(position)

    def accepted(self, channel: int) -> int:
        """
        Return how many messages of *channel* were accepted.
        """
        return self._first[channel] + len(self._positions[channel])

    def position(self, channel: int, number: int) -> Position | None:
        """
        Return the position of a message; None if it is not known or no longer stored.
        """
        index = number - self._first[channel]
        places = self._positions[channel]
        return places[index] if 0 <= index < len(places) else None

    def first(self, channel: int) -> int:
        """
        Return the number of the first message of *channel* whose position is stored.
        """
        return self._first[channel]

    def forget(self, channel: int, below: int) -> None:
        """
        Drop the positions of messages below a number.
        """
        places = self._positions[channel]
        while places and self._first[channel] < below:
            places.popleft()
            self._first[channel] += 1

    def rank(self, position: Position) -> Rank:
        """
        Return a position that compares across logs: a log seen later is later.
        """
        return self._epochs.setdefault(position.epoch, len(self._epochs)), position.offset
