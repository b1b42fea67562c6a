"""
Values that all layers pass around: immutable, and shared by all subscribers.

A frozen dataclass takes three times as long to build. Values that are built for each message or
each frame, here and elsewhere, have `Final` fields instead: mypy refuses code that changes one.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

MAX_OFFSET = 2**63 - 1  # what redis, AMQP and SQLite integers hold
EXPIRE = "expire"  # event type of the notice that a stream ends with its grant
GAP = "gap"  # the event type that reports a gap; refused from publishers
POSITION = "position"  # the event type that reports a position (Socket.IO); refused likewise
UNIT = "unit/"  # event types of live streams begin so (media/unit.py); refused likewise


class Mark(Enum):
    """
    What a message is to subscribers that join a live stream.
    """

    NONE = auto()  # not part of a live stream
    HEAD = auto()  # describes the tracks; a subscriber can begin here
    UNIT = auto()  # a frame of one track
    END = auto()  # the stream is over


_MARKS = {"h": Mark.HEAD, "e": Mark.END}  # by the character behind UNIT; all others are units
_NO_MARK, _UNIT_MARK = Mark.NONE, Mark.UNIT  # attributes of an Enum class are slow to look up


@dataclass(slots=True, unsafe_hash=True)
class Position:
    """
    A place in a log: one total order over all channels of a broker.

    Two positions compare only within one epoch. Offsets increase, not always by one.

    Args:
        epoch: names the log; letters and digits, no dot. "" is no log at all.
        offset: 0 before the first message, then the number of the last one.
    """

    epoch: Final[str]
    offset: Final[int]

    def __str__(self) -> str:
        return f"{self.epoch}.{self.offset}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """
        Parse the text of a position, as a subscriber sent it back.

        Any other text gives NOWHERE, a position of no log: the subscriber that sent it
        receives a gap, as for any log that does not exist any more.
        """
        epoch, dot, digits = text.rpartition(".")
        # isascii: int() accepts the digits of every script; a cursor has ASCII digits only.
        if dot and epoch.isalnum() and digits.isascii() and digits.isdigit() and len(digits) < 20:
            return cls(epoch, min(int(digits), MAX_OFFSET))
        return NOWHERE


NOWHERE = Position("", 0)


@dataclass(slots=True, unsafe_hash=True)
class Draft:
    """
    What a publisher hands in: a message without a position.

    Args:
        channel: its name.
        data: exactly these bytes are delivered to each subscriber whose format can
            carry them.
        event: optional event type; no CR, LF or NUL.
        key: optional idempotency key; a second draft of the same channel and key is
            not published again, as long as the broker remembers the key.
        transient: not written to a durable history.
        out: where a copy is published for programs that are not nodes, as in the setting
            `redis-plain-out`; None for that setting. Only an `ICopying` broker uses it.
    """

    channel: Final[str]
    data: Final[bytes]
    event: Final[str | None] = None
    key: Final[str | None] = None
    transient: Final[bool] = False
    out: Final[str | None] = None


@dataclass(slots=True, unsafe_hash=True)
class PublishResult:
    """
    Where a broker put the drafts of one publish.

    Args:
        positions: one for each draft, in the same order.
        durable: False if the messages reach subscribers now but are lost with the
            process, although this broker promises more: its disk is full.
    """

    positions: Final[tuple[Position, ...]]
    durable: Final[bool] = True


@dataclass(slots=True, unsafe_hash=True, weakref_slot=True)
class Message:
    """
    One entry of the log: channel, data exactly as published, position and event type.
    """

    channel: Final[str]
    data: Final[bytes]
    position: Final[Position]
    event: Final[str | None] = None

    @property
    def mark(self) -> Mark:
        """
        Return what the message is in a live stream; NONE for all others.
        """
        event = self.event
        if event is None or not event.startswith(UNIT):
            return _NO_MARK
        return _MARKS.get(event[5:6], _UNIT_MARK)


@dataclass(slots=True, unsafe_hash=True)
class Replay:
    """
    What a subscriber that joins receives before the live stream.

    Args:
        messages: in order of position.
        complete: False if something after the subscriber's own position is missing, or
            its log is unknown: the format begins with a gap.
        position: all messages up to here are in *messages*, or precede what was
            requested. The live stream continues from here.
    """

    messages: Final[tuple[Message, ...]]
    complete: Final[bool]
    position: Final[Position]


@dataclass(frozen=True, slots=True)
class After:
    """
    Replay what was published after *position*, for a subscriber that reconnects.
    """

    position: Position


@dataclass(frozen=True, slots=True)
class Newest:
    """
    Replay the last *count* messages over all the subscriber's channels.
    """

    count: int


@dataclass(frozen=True, slots=True)
class Within:
    """
    Replay what was published in the last *seconds*; infinity means all that is retained.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Sync:
    """
    Begin a live stream at a head: the newest that is at least *seconds* old, otherwise the
    oldest that is retained. Without any, wait for the next head.
    """

    seconds: float = 0.0


Since = After | Newest | Within | Sync
