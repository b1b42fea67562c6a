"""
The values everything else passes around: immutable, shared by all readers.
"""

from __future__ import annotations

from dataclasses import dataclass

LARGEST_OFFSET = 2**63 - 1  # what redis, AMQP and SQLite integers hold
GAP = "gap"  # the event type that reports a gap; refused from publishers
POSITION = "position"  # the event type that reports a position (Socket.IO); refused likewise


@dataclass(frozen=True, slots=True)
class Position:
    """
    Where in which log: one total order over all channels of a broker.

    Two positions compare only within one epoch; offsets grow, not always by one.

    Args:
        epoch: names the log; letters and digits, no dot. "" is no log at all.
        offset: 0 before the first message, then the number of the last one.
    """

    epoch: str
    offset: int

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """
        Read what `str` wrote and a reader sent back.

        Anything else gives NOWHERE, a position no log knows: the reader that
        sent it is told of a gap, as for any log that is gone.
        """
        epoch, dot, digits = text.rpartition(".")
        # isascii: int() takes the digits of every script, a cursor of ours has ten.
        if dot and epoch.isalnum() and digits.isascii() and digits.isdigit() and len(digits) < 20:
            return cls(epoch, min(int(digits), LARGEST_OFFSET))
        return NOWHERE


NOWHERE = Position("", 0)


@dataclass(frozen=True, slots=True)
class Draft:
    """
    What a publisher hands in: a message that has no position yet.

    Args:
        channel: its name.
        data: exactly these bytes reach every reader whose wire can carry them.
        event: optional event type; no CR, LF or NUL.
        key: optional idempotency key; a second draft of the same channel and
            key within the broker's memory is not sent again.
    """

    channel: str
    data: bytes
    event: str | None = None
    key: str | None = None


@dataclass(frozen=True, slots=True)
class PublishResult:
    """
    Where a broker put the drafts of one publish.

    Args:
        positions: one for each draft, in the same order.
        durable: False if the messages reach subscribers now but are lost with the
            process, although this broker promises more: its disk is full.
    """

    positions: tuple[Position, ...]
    durable: bool = True


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Message:
    """
    One entry of the log: channel, data exactly as published, and its place.
    """

    channel: str
    data: bytes
    position: Position
    event: str | None = None


@dataclass(frozen=True, slots=True)
class Replay:
    """
    What a reader that joins now has to be told before the live stream.

    Args:
        messages: in order of position.
        complete: False if something after the reader's own position is
            forgotten, or its log is unknown: say the gap first.
        position: everything up to here is in *messages* or was before; the
            live stream goes on from here.
    """

    messages: tuple[Message, ...]
    complete: bool
    position: Position


@dataclass(frozen=True, slots=True)
class After:
    """
    Replay what came after *position*: a reader that comes back.
    """

    position: Position


@dataclass(frozen=True, slots=True)
class Newest:
    """
    Replay the last *count* messages over all the reader's channels.
    """

    count: int


@dataclass(frozen=True, slots=True)
class Within:
    """
    Replay what came in the last *seconds*; infinity means all that is kept.
    """

    seconds: float


Since = After | Newest | Within
