"""
What was published, and who has got it.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentMessage:
    """
    One of our messages.

    Args:
        channel: the number of its channel.
        number: of the message in its channel, from 0.
        at: when it was ready to be sent.
    """

    channel: int
    number: int
    at: float


class SentLog:
    """
    What was published.

    Args:
        channels: their names.
        size: bytes of a message.
    """

    def __init__(self, channels: Sequence[str], size: int) -> None:
        self.channels = channels
        self.counts = [0] * len(channels)  # messages written, per channel
        self.accepted = 0
        self.unconfirmed: set[tuple[int, int]] = (
            set()
        )  # of these the server did not say that it has them
        self._size = size
        self._run = f"load-{os.getpid()}-{random.getrandbits(32):08x}"  # tells two clients apart
        self._sent: dict[str, SentMessage] = {}

    def write(self, at: float) -> tuple[str, str]:
        """
        Make the next message; the channels take turns.

        Returns:
            its channel's name and its text.
        """
        channel = sum(self.counts) % len(self.channels)
        number = self.counts[channel]
        self.counts[channel] += 1
        text = f"{self._run}-{channel}-{number}-".ljust(self._size, "x")
        self._sent[text] = SentMessage(channel, number, at)
        return self.channels[channel], text

    def find(self, text: str) -> SentMessage | None:
        """
        The message of this *text*, if it is one of ours.
        """
        return self._sent.get(text)

    def mark_unconfirmed(self, text: str) -> None:
        """
        The server did not say that it has this one.
        """
        sent = self._sent[text]
        self.unconfirmed.add((sent.channel, sent.number))


class DeliveryTracker:
    """
    Which messages a reader has got, and which it should have.

    Args:
        channels: the numbers of its channels.
    """

    __slots__ = ("_channels", "_fresh", "_missing", "_next", "_until")

    def __init__(self, channels: Sequence[int]) -> None:
        self._channels = channels
        self._next: dict[int, int] = {}
        self._fresh: set[int] = set()
        self._missing: set[tuple[int, int]] = set()
        self._until: list[int] | None = None

    def begin(self, sent_log: SentLog) -> bool:
        """
        The stream is open: what is published from now on must arrive. When it is
        opened again, nothing changes.

        Returns:
            whether this was the first time.
        """
        if self._next:
            return False
        self._next = {channel: sent_log.counts[channel] for channel in self._channels}
        self._fresh = set(self._channels)
        return True

    def end(self, sent_log: SentLog) -> None:
        """
        The stream is closed for good: what is published later is not for it.
        """
        self._until = list(sent_log.counts)

    def record(self, sent: SentMessage) -> str:
        """
        A message has come.

        Returns:
            `""`, `repeated`, `out of order`, or `stray` for one of a channel it does not read.
        """
        channel, number = sent.channel, sent.number
        expected = self._next.get(channel)
        if expected is None:
            return "stray"
        if number == expected:
            self._next[channel] = number + 1
            self._fresh.discard(channel)
            return ""
        if number > expected:
            self._missing.update((channel, each) for each in range(expected, number))
        elif channel not in self._fresh:
            if (channel, number) not in self._missing:
                return "repeated"
            self._missing.remove((channel, number))
            return "out of order"
        # The first may be older than the opening, if it was under way by then.
        self._fresh.discard(channel)
        self._next[channel] = number + 1
        return ""

    def lost(self, sent_log: SentLog) -> int:
        """
        How many messages have not come so far.
        """
        until = sent_log.counts if self._until is None else self._until
        lost = len(self._missing) and len(self._missing - sent_log.unconfirmed)
        for channel, following in self._next.items():
            late = max(until[channel] - following, 0)
            if late and sent_log.unconfirmed:
                late -= sum(
                    (channel, n) in sent_log.unconfirmed for n in range(following, until[channel])
                )
            lost += late
        return lost
