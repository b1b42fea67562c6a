"""
Published messages, and which of them each subscriber received.
"""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SentMessage:
    """
    A message of this program.

    Args:
        channel: the index of its channel.
        number: the message's number in its channel, from 0.
        at: when it was due.
    """

    channel: int
    number: int
    at: float


class SentLog:
    """
    Log of the published messages.

    Args:
        channels: their names.
        size: bytes of a message.
    """

    def __init__(self, channels: Sequence[str], size: int) -> None:
        self.channels = channels
        self.counts = [0] * len(channels)  # messages written, per channel
        self.accepted = 0
        self.unconfirmed: set[tuple[int, int]] = set()  # not confirmed by the server
        self._size = size
        self._run = f"load-{os.getpid()}-{random.getrandbits(32):08x}"  # unique per process
        self._sent: dict[str, SentMessage] = {}

    def write(self, at: float) -> tuple[str, str]:
        """
        Create the next message, on each channel in turn.

        Returns:
            The name of its channel, and its text.
        """
        channel = sum(self.counts) % len(self.channels)
        number = self.counts[channel]
        self.counts[channel] += 1
        text = f"{self._run}-{channel}-{number}-".ljust(self._size, "x")
        self._sent[text] = SentMessage(channel, number, at)
        return self.channels[channel], text

    def find(self, text: str) -> SentMessage | None:
        """
        Return the message with this *text*; None if this program did not publish it.
        """
        return self._sent.get(text)

    def mark_unconfirmed(self, text: str) -> None:
        """
        Record that the server did not confirm the message with this *text*.
        """
        sent = self._sent[text]
        self.unconfirmed.add((sent.channel, sent.number))


class DeliveryTracker:
    """
    Track which messages a subscriber received, and which it should have received.

    Args:
        channels: the indexes of its channels.
    """

    __slots__ = ("_fresh", "_missing", "_next", "_until", "channels")

    def __init__(self, channels: Sequence[int]) -> None:
        self.channels = channels
        self._next: dict[int, int] = {}
        self._fresh: set[int] = set()
        self._missing: set[tuple[int, int]] = set()
        self._until: list[int] | None = None

    def begin(self, sent_log: SentLog) -> bool:
        """
        Expect all messages from now on, because the stream is open. Later calls change nothing.

        Returns:
            True for the first call.
        """
        if self._next:
            return False
        self._next = {channel: sent_log.counts[channel] for channel in self.channels}
        self._fresh = set(self.channels)
        return True

    def end(self, sent_log: SentLog) -> None:
        """
        Expect no later messages, because the stream is closed and is not reopened.
        """
        self._until = list(sent_log.counts)

    def record(self, sent: SentMessage) -> str:
        """
        Record a received message.

        Returns:
            `""`, `repeated`, `out of order`, or `stray` for a channel that was not subscribed.
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
        # The first message may be older than the stream if it was in flight when the stream opened.
        self._fresh.discard(channel)
        self._next[channel] = number + 1
        return ""

    def lost(self, sent_log: SentLog) -> int:
        """
        Return how many expected messages have not arrived so far.
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
