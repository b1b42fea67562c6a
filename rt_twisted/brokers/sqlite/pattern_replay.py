"""
Replays of patterns from the history file.

The log is read from its end back: only what is newer than the subscriber's position is
read, from whatever channel. The data of messages that do not match is not read.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.brokers.sqlite.database import from_blob
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.message import Message, Position

MAX_SCANNED = 100_000  # messages of the log that one replay reads: about 0.1 s of the thread
MAX_BYTES = 16 << 20  # of data in one replay
MAX_HORIZONS = 10_000  # channels that have lost messages since the subscriber's position


@dataclass(frozen=True, slots=True)
class PatternSpan:
    """
    Which messages are replayed.

    Args:
        epoch: of the log.
        after: only messages with a higher offset.
        upto: only messages with this offset or a lower one.
        oldest: only messages of this time (unix seconds) or later.
        count: at most so many, the newest.
    """

    epoch: str
    after: int
    upto: int
    oldest: float
    count: int


def read_patterns(
    db: sqlite3.Connection, patterns: Sequence[Wildcard], span: PatternSpan
) -> tuple[list[Message], bool]:
    """
    Return the messages of *span* whose channels match one of *patterns*, the newest first.

    Returns:
        The messages, and whether none is missing: deleted, or beyond the bounds.

    Raises:
        sqlite3.Error: the file cannot be read.
    """
    matches: dict[bytes, str | None] = {}
    # `+channel`: the log is read in its own order, and not by the index of channels.
    rows = db.execute(
        "SELECT offset, +channel, length(data), time FROM messages "
        "WHERE offset > ? AND offset <= ? ORDER BY offset DESC LIMIT ?",
        (span.after, span.upto, MAX_SCANNED + 1),
    )
    found: list[Message] = []
    size = 0
    complete = True
    for scanned, (offset, channel, length, time) in enumerate(rows, 1):
        if scanned > MAX_SCANNED or size > MAX_BYTES:
            complete = False
            break
        if len(found) == span.count or time < span.oldest:
            break
        if channel not in matches:
            matches[channel] = _match(patterns, channel)
        name = matches[channel]
        if name is not None:
            size += length
            found.append(_read_message(db, name, Position(span.epoch, offset)))
    return found, complete and not _has_horizon(db, patterns, span.after)


def _match(patterns: Sequence[Wildcard], channel: bytes) -> str | None:
    name = from_blob(channel)
    return name if any(pattern.matches(name) for pattern in patterns) else None


def _read_message(db: sqlite3.Connection, name: str, position: Position) -> Message:
    data, event = db.execute(
        "SELECT data, event FROM messages WHERE offset = ?", (position.offset,)
    ).fetchone()
    return Message(name, data, position, event and from_blob(event))


def _has_horizon(db: sqlite3.Connection, patterns: Sequence[Wildcard], after: int) -> bool:
    """
    Return whether messages after the offset *after* were deleted from a channel that matches.
    """
    rows = db.execute(
        "SELECT channel FROM horizons WHERE offset > ? LIMIT ?", (after, MAX_HORIZONS)
    ).fetchall()
    return len(rows) == MAX_HORIZONS or any(
        _match(patterns, channel) is not None for (channel,) in rows
    )
