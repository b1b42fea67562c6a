"""
How messages look in redis, and what they say of those before them. No Twisted.

Each knows the offset of the one before it on its channel, so that whoever has
read up to somewhere sees whether something is missing behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.model.message import Message, Position

PLAIN = 1  # flags; log.lua has the same
EVENT = 2
GAP = 4


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One entry of the log.

    Args:
        message: what it carries.
        prev: offset of the one before on the channel, or one before which
            everything is too old.
        flags: PLAIN if it came as a plain PUBLISH, GAP if it stands for
            messages that are lost.
        time: unix milliseconds by redis' clock; 0 for one that came live.
    """

    message: Message
    prev: int
    flags: int
    time: float = 0.0

    @property
    def offset(self) -> int:
        """
        Where in the log.
        """
        return self.message.position.offset


@dataclass(frozen=True, slots=True)
class ChannelSlice:
    """
    What is left of a channel after some offset.

    Args:
        entries: in order.
        last: offset of the channel's last message, also of one that is not
            kept; 0 if all of them are too old.
        floor: offset up to which messages are too old.
    """

    entries: Sequence[Entry]
    last: int
    floor: int


def read_live(channel: str, payload: bytes) -> Entry:
    """
    What publish.lua and number.lua send.

    Raises:
        ValueError: it comes from somebody else.
    """
    head, _, data = payload.partition(b"\n")
    epoch, offset, prev, flags, event = head.decode().split(" ", 4)
    bits = int(flags)
    if bits & EVENT and ("\r" in event or "\0" in event):
        raise ValueError("no type of an event")
    position = Position(epoch, int(offset))
    message = Message(channel, data, position, event if bits & EVENT else None)
    return Entry(message, int(prev), bits)


def read_mark(payload: bytes) -> tuple[Position, str]:
    """
    Where the log stands, and the token of who asked.

    Raises:
        ValueError: it comes from somebody else.
    """
    epoch, offset, token = payload.decode().split(" ")
    return Position(epoch, int(offset)), token


def read_slice(
    channel: str, epoch: str, floor: int, oldest: float, last: bytes | None, rows: Iterable[Any]
) -> ChannelSlice:
    """
    What recall.lua answers for a channel.

    Args:
        channel: its name.
        epoch: of the log.
        floor: see `Trail`.
        oldest: unix milliseconds; what is older is forgotten.
        last: see `Trail`.
        rows: of its stream, in either order.
    """
    entries = []
    for row in rows:
        try:
            entry = _read_row(channel, epoch, row)
        except ValueError:
            continue  # somebody else's
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
    What entries are sorted by.
    """
    return entry.offset


def find_gaps(trail: ChannelSlice, offset: int) -> list[tuple[int, int]]:
    """
    Where messages after *offset* are missing: for each hole the offsets after and
    up to which. Nothing is lost if there are none.
    """
    found = []
    for entry in trail.entries:
        if entry.offset <= offset:
            continue
        if entry.prev > offset:
            found.append((offset, entry.prev))
        offset = entry.offset
    # Without a last one whatever there was is too old, and that ends at the floor.
    end = trail.last or trail.floor
    if end > offset:
        found.append((offset, end))
    return found


def merge(
    live: Sequence[Entry], trails: Mapping[str, ChannelSlice], head: Position
) -> tuple[list[Entry], list[tuple[int, str]]]:
    """
    Join what came live and what was remembered, which overlap.

    Args:
        live: of one epoch.
        trails: of the same, by channel, all that they have after *head*.
        head: what is known already.

    Returns:
        the entries after *head* in order, and holes: up to which offset
        something of which channel is missing.
    """
    entries = {entry.offset: entry for entry in live}
    here: dict[str, list[Entry]] = {}
    for entry in live:
        here.setdefault(entry.message.channel, []).append(entry)
    holes: list[tuple[int, str]] = []
    for channel, trail in trails.items():
        both = {entry.offset: entry for entry in (*trail.entries, *here.get(channel, ()))}
        entries.update(both)
        whole = ChannelSlice(sorted(both.values(), key=by_offset), trail.last, trail.floor)
        holes += [(upto, channel) for _, upto in find_gaps(whole, head.offset)]
    return sorted(entries.values(), key=by_offset), holes
