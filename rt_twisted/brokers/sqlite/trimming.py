"""
Trimming of the history file: by count, bytes and age of each channel, and by its size.
"""

from __future__ import annotations

import sqlite3
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile

from rt_twisted.brokers.idempotency import KEY_SECONDS
from rt_twisted.brokers.sqlite.database import single_value, to_blob, transaction
from rt_twisted.model.message import Message
from rt_twisted.model.retention import OVERHEAD, Retention

TRIM_STEP = 200  # messages deleted in one step: one to two milliseconds
MAX_HORIZONS = 100_000  # channels with a horizon of their own; the others have the floor
MEASURE_BYTES = 1 << 20  # written between two measurements of the file
MAX_USAGES = 10_000  # channels whose count and bytes are kept in memory
VACUUM_PAGES = 256  # returned to the disk in one step
SPARE_PAGES = 1024  # free pages that stay in the file, to be used again

Row = tuple[int, bytes, int]  # offset, channel, bytes


@dataclass(slots=True)
class Usage:
    """
    Messages of one channel in the file.
    """

    count: int
    bytes: int


class StoreTrimmer:
    """
    Deletes messages that are over the bounds, in small steps.

    Args:
        db: the writing connection.
        head: return the offset of the last message.
        retention: of each channel; up to an eighth more may be retained.
        limit: approximate bytes of the file.
        seconds: return the time, unix seconds.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        head: Callable[[], int],
        retention: Retention,
        limit: int,
        seconds: Callable[[], float],
    ) -> None:
        self._db = db
        self._head = head
        self._retention = retention
        self._limit = limit
        self._seconds = seconds
        self._usage: OrderedDict[bytes, Usage] = OrderedDict()
        self._untrimmed: dict[bytes, None] = {}
        self._unmeasured_bytes = MEASURE_BYTES
        self._next_age_trim = self._next_horizon_trim = 0.0

    def count(self, messages: Sequence[Message]) -> None:
        """
        Count messages that were written.
        """
        for message in messages:
            channel = to_blob(message.channel)
            self._untrimmed[channel] = None
            size = len(message.data) + OVERHEAD
            self._unmeasured_bytes += size
            usage = self._usage.get(channel)
            if usage is not None:
                usage.count += 1
                usage.bytes += size

    def step(self) -> bool:
        """
        Delete some messages that are over the bounds, in one small step.

        Returns:
            Whether there is more to do.

        Raises:
            sqlite3.Error: nothing was deleted in this step; see `is_damage`.
        """
        return (
            self._trim_size()
            or self._trim_age()
            or self._trim_channels()
            or self._trim_horizons()
            or self._vacuum()
        )

    def forget(self, channel: str) -> None:
        """
        Delete all messages of *channel*.

        Raises:
            sqlite3.Error: nothing was deleted; see `is_damage`.
        """
        name = to_blob(channel)
        last = "SELECT max(offset) FROM messages WHERE channel = ?"
        offset = single_value(self._db, last, (name,))
        if offset is not None:
            self._delete([(offset, name, 0)], "channel = ? AND", (name,))
            self._usage.pop(name, None)

    def reconfigure(self, retention: Retention) -> None:
        """
        Use other bounds: for a channel when it is written next, for age at once.
        """
        self._retention = retention

    def _trim_channels(self) -> bool:
        retention = self._retention
        for channel in tuple(islice(self._untrimmed, TRIM_STEP)):
            usage = self._channel_usage(channel)
            # An eighth at a time, not one by one.
            if usage.count <= retention.count * 9 // 8 and usage.bytes <= retention.bytes * 9 // 8:
                del self._untrimmed[channel]
                continue
            count, size = usage.count, usage.bytes
            rows: list[Row] = []
            for row in self._oldest("WHERE channel = ?", (channel,)):
                if count <= retention.count and size <= retention.bytes:
                    break
                rows.append(row)
                count -= 1
                size -= row[2]
            self._delete(rows, "channel = ? AND", (channel,))
            return True
        return bool(self._untrimmed)

    def _channel_usage(self, channel: bytes) -> Usage:
        usage = self._usage.get(channel)
        if usage is None:
            found = self._db.execute(
                "SELECT count(*), sum(length(data)) FROM messages WHERE channel = ?", (channel,)
            ).fetchone()
            usage = self._usage[channel] = Usage(found[0], (found[1] or 0) + found[0] * OVERHEAD)
            if len(self._usage) > MAX_USAGES:
                self._usage.popitem(last=False)
        self._usage.move_to_end(channel)
        return usage

    def _trim_age(self) -> bool:
        now = self._seconds()
        if now < self._next_age_trim:
            return False
        oldest = now - self._retention.age
        found = self._db.execute(
            "SELECT offset, channel, length(data), time FROM messages ORDER BY offset LIMIT ?",
            (TRIM_STEP,),
        ).fetchall()
        old = takewhile(lambda row: row[3] < oldest, found)
        rows = [(offset, channel, size + OVERHEAD) for offset, channel, size, _ in old]
        self._delete(rows)
        first = f"SELECT offset, time FROM keys ORDER BY offset LIMIT {TRIM_STEP}"
        forgotten = self._db.execute(
            f"DELETE FROM keys WHERE offset <= (SELECT max(offset) FROM ({first}) WHERE time <= ?)",
            (now - KEY_SECONDS,),
        ).rowcount
        if TRIM_STEP in (len(rows), forgotten):
            return True
        self._next_age_trim = now + 1.0
        return False

    def _trim_size(self) -> bool:
        if self._unmeasured_bytes < MEASURE_BYTES:
            return False
        used = single_value(self._db, "PRAGMA page_count") - single_value(
            self._db, "PRAGMA freelist_count"
        )
        rows = (
            self._oldest()
            if used * single_value(self._db, "PRAGMA page_size") > self._limit
            else []
        )
        if not rows:
            self._unmeasured_bytes = 0
        self._delete(rows)
        return bool(rows)

    def _trim_horizons(self) -> bool:
        """
        Bound the horizons: of channels whose messages were deleted longest ago only the
        highest horizon is kept, as the floor of all.
        """
        now = self._seconds()
        if now < self._next_horizon_trim:
            return False
        surplus = single_value(self._db, "SELECT count(*) FROM horizons") - MAX_HORIZONS
        if surplus <= 0:
            self._next_horizon_trim = now + 60.0
            return False
        lowest = f"SELECT offset FROM horizons ORDER BY offset LIMIT {min(surplus, TRIM_STEP)}"
        floor = single_value(self._db, f"SELECT max(offset) FROM ({lowest})")
        with transaction(self._db):
            self._db.execute("UPDATE log SET floor = max(floor, ?)", (floor,))
            self._db.execute("DELETE FROM horizons WHERE offset <= ?", (floor,))
        return True

    def _vacuum(self) -> bool:
        """
        Return free pages to the disk where they are more than a quarter of the file.
        """
        free = single_value(self._db, "PRAGMA freelist_count")
        if free <= SPARE_PAGES or free * 4 <= single_value(self._db, "PRAGMA page_count"):
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return True

    def _oldest(self, where: str = "", values: Sequence[object] = ()) -> list[Row]:
        return self._db.execute(
            f"SELECT offset, channel, length(data) + {OVERHEAD} FROM messages {where} "
            f"ORDER BY offset LIMIT {TRIM_STEP}",
            values,
        ).fetchall()

    def _delete(self, rows: Sequence[Row], where: str = "", values: Sequence[object] = ()) -> None:
        """
        Delete *rows*, the oldest of all or of those that *where* selects.
        """
        if not rows:
            return
        horizons = {channel: offset for offset, channel, _ in rows}
        with transaction(self._db):
            last = (*values, rows[-1][0])
            self._db.execute(f"DELETE FROM messages WHERE {where} offset <= ?", last)
            self._db.executemany(
                "INSERT INTO horizons VALUES (?, ?) "
                "ON CONFLICT (channel) DO UPDATE SET offset = excluded.offset",
                horizons.items(),
            )
            # The last message may be among them; its offset must not be assigned again.
            self._db.execute("UPDATE log SET head = ?", (self._head(),))
        for _, channel, size in rows:
            usage = self._usage.get(channel)
            if usage is not None:
                usage.count -= 1
                usage.bytes -= size
