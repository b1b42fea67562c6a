"""
What was published, and where it went.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence

from rt_twisted.model.message import Position

MAX_MESSAGES = 200_000  # messages whose place is remembered; more wait until readers have caught up
_TEXT = re.compile(r"(cut-[0-9a-f]+)-([0-9]{1,6})-([0-9]{1,15})-x*")

Rank = tuple[int, int]  # the number of a log, in the order in which they were seen, and the offset


class Published:
    """
    Numbered messages, each in its channel, and their positions.

    Messages of one channel are accepted in the order of their numbers; so all
    before an accepted one are accepted too.

    Args:
        channels: their names.
        size: bytes of a message, if its number leaves any to fill.
        run: tells the messages of two programs apart; hexadecimal digits.
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
        Whether another message may be written.
        """
        return sum(map(len, self._positions)) < MAX_MESSAGES

    def write(self, channel: int) -> int:
        """
        Make the next message of *channel*.

        Returns:
            its number.
        """
        self.counts[channel] += 1
        return self.counts[channel] - 1

    def text(self, channel: int, number: int) -> str:
        """
        What the message says.
        """
        return f"{self._run}-{channel}-{number}-".ljust(self._size, "x")

    def find(self, text: str) -> tuple[int, int] | None:
        """
        Channel and number of the message that says *text*, if it is one of ours.
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
        The server has the next message of *channel*, and said where.
        """
        self._positions[channel].append(position)
        self.rank(position)

    def accepted(self, channel: int) -> int:
        """
        How many messages of *channel* were accepted.
        """
        return self._first[channel] + len(self._positions[channel])

    def position(self, channel: int, number: int) -> Position | None:
        """
        Where a message is; None if that is not known, or not any more.
        """
        index = number - self._first[channel]
        places = self._positions[channel]
        return places[index] if 0 <= index < len(places) else None

    def first(self, channel: int) -> int:
        """
        The number of the first message of *channel* whose place is remembered.
        """
        return self._first[channel]

    def forget(self, channel: int, below: int) -> None:
        """
        Discard the positions of messages below a number.
        """
        places = self._positions[channel]
        while places and self._first[channel] < below:
            places.popleft()
            self._first[channel] += 1

    def rank(self, position: Position) -> Rank:
        """
        A position as one that compares over logs: a log that is seen later is later.
        """
        return self._epochs.setdefault(position.epoch, len(self._epochs)), position.offset
