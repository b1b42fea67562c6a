"""
The format of messages in redis, and how missing ones are found. No Twisted.

Each message has the offset of the one before it on its channel, so that a reader of a
part of the log can tell whether a message is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.model.message import Message, Position

PLAIN = 1  # flags, the same as in log.lua
EVENT = 2
GAP = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One entry of the log.

    Args:
        message: the message.
        prev: offset of the entry before on the channel, or an offset up to which
            everything is too old.
        flags: PLAIN for a plain PUBLISH, GAP if the entry stands for
            messages that are lost; of a live entry also those of `copies`.
        time: Unix milliseconds by redis' clock; 0 for a live entry.
    """

    message: Message
    prev: int
    flags: int
    time: float = 0.0

    @property
    def offset(self) -> int:
        """
        The message's offset in the log.
        """
        return self.message.position.offset


@dataclass(frozen=True, slots=True)
class ChannelSlice:
    """
    The stored entries of a channel after some offset.

    Args:
        entries: in order.
        last: offset of the channel's last message, even if it is not
            stored; 0 if all of them are too old.
        floor: offset up to which messages are too old.
    """

    entries: Sequence[Entry]
    last: int
    floor: int


def read_live(channel: str, payload: bytes) -> Entry:
    """
    Parse a message that publish.lua or number.lua has published.

    Raises:
        ValueError: another program has published it.
    """
    head, _, data = payload.partition(b"\n")
    epoch, offset, prev, flags, event = head.decode().split(" ", 4)
    bits = int(flags)
    if bits & EVENT and ("\r" in event or "\0" in event):
        raise ValueError("not an event type")
    position = Position(epoch, int(offset))
    message = Message(channel, data, position, event if bits & EVENT else None)
    return Entry(message, int(prev), bits)


def read_flags(payload: bytes) -> int:
    """
    Return the flags of a message that publish.lua or number.lua has published; 0 if
    another program has.
    """
    words = payload.split(b" ", 4)
    return int(words[3]) if len(words) == 5 and words[3].isdigit() else 0


def read_barrier(payload: bytes) -> tuple[Position, str]:
    """
    Parse a barrier into the log's position and the token.

    Raises:
        ValueError: another program has published it.
    """
    epoch, offset, token = payload.decode().split(" ")
    return Position(epoch, int(offset)), token


def read_slice(
    channel: str, epoch: str, floor: int, oldest: float, last: bytes | None, rows: Iterable[Any]
) -> ChannelSlice:
    """
    Parse the answer of recall.lua for a channel.

    Args:
        channel: its name.
        epoch: of the log.
        floor: see `ChannelSlice`.
        oldest: Unix milliseconds; older messages count as forgotten.
        last: see `ChannelSlice`.
        rows: of the channel's stream, in either order.
    """
    entries = []
    for row in rows:
        try:
            entry = _read_row(channel, epoch, row)
        except ValueError:
            continue  # another program's
        if entry.time >= oldest:
            entries.append(entry)
    entries.sort(key=by_offset)
    return ChannelSlice(entries, int(float(last)) if last is not None else 0, floor)


def _read_row(channel: str, epoch: str, row: Any) -> Entry:
    id, (head, data) = row
    prev, time, _, flags, event = head.decode().split(" ", 4)
    bits = int(flags)
    position = Position(epoch, int(id.partition(b"-")[0]))
    message = Message(channel, data, position, event if bits & EVENT else None)
    return Entry(message, int(prev), bits, float(time))


def by_offset(entry: Entry) -> int:
    """
    Return the offset of *entry*, to sort by.
    """
    return entry.offset


def find_gaps(part: ChannelSlice, offset: int) -> list[tuple[int, int]]:
    """
    Return the gaps in *part* after *offset*: of each the offset after which, and the one
    up to which, messages are missing.
    """
    found = []
    for entry in part.entries:
        if entry.offset <= offset:
            continue
        if entry.prev > offset:
            found.append((offset, entry.prev))
        offset = entry.offset
    # Without a last message all messages are too old, and these end at the floor.
    end = part.last or part.floor
    if end > offset:
        found.append((offset, end))
    return found


def merge(
    live: Sequence[Entry], slices: Mapping[str, ChannelSlice], head: Position
) -> tuple[list[Entry], list[tuple[int, str]]]:
    """
    Join live and stored entries, which overlap.

    Args:
        live: entries of one epoch.
        slices: of the same epoch, by channel, all that is stored after *head*.
        head: the position that is known already.

    Returns:
        the entries after *head* in order, and the gaps: up to which offset
        something of which channel is missing.
    """
    entries = {entry.offset: entry for entry in live}
    by_channel: dict[str, list[Entry]] = {}
    for entry in live:
        by_channel.setdefault(entry.message.channel, []).append(entry)
    gaps: list[tuple[int, str]] = []
    for channel, part in slices.items():
        both = {entry.offset: entry for entry in (*part.entries, *by_channel.get(channel, ()))}
        entries.update(both)
        whole = ChannelSlice(sorted(both.values(), key=by_offset), part.last, part.floor)
        gaps += [(upto, channel) for _, upto in find_gaps(whole, head.offset)]
    return sorted(entries.values(), key=by_offset), gaps
