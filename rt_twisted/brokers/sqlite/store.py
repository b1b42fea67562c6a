"""
The history file: the log of the durable broker, in SQLite.

A store is opened where it may block, then written by one thread and read by another;
it starts no threads itself. Its guarantees are in docs/durable.md.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from rt_twisted.brokers.idempotency import KEY_SECONDS, MAX_KEYS
from rt_twisted.brokers.sqlite.database import (
    KeyUse,
    UnusableStore,
    connect,
    error_code,
    from_blob,
    is_damage,
    prepare,
    single_value,
    to_blob,
    transaction,
)
from rt_twisted.brokers.sqlite.files import LOSSY, StoreFiles, check_ownership, move_aside
from rt_twisted.brokers.sqlite.reader import StoreReader
from rt_twisted.brokers.sqlite.trimming import StoreTrimmer
from rt_twisted.model.message import Message
from rt_twisted.model.retention import Retention

# SQLite releases the interpreter lock for each statement and then waits for it beside a
# busy reactor: many rows in one statement wait once.
ROWS = (100, 10, 1)
INSERTS = {rows: f"INSERT INTO messages VALUES {','.join(['(?,?,?,?,?)'] * rows)}" for rows in ROWS}


class Store:
    """
    A log in a file. Creating the object opens the file, and locks it against others.

    All but the reader is for one thread, the reader for another.

    Args:
        path: the file, which is created if need be.
        retention: of each channel; up to an eighth more may be retained.
        limit: approximate bytes of the file.
        seconds: return the time, unix seconds.
        boot: identifies this run of the machine; tests have their own.

    Attributes:
        files: the lock, and whether the file is still there.
        trimmer: deletes what is over the bounds.
        reader: replays messages.
        epoch: of the log.
        head: offset of the last message.
        keys: idempotency keys that were used, the oldest first.
        missing: what happened to a file that was here before; "" for nothing.
        moved_to: path of a damaged file that was found here; "" for none.

    Raises:
        UnusableStore: it is in use, belongs to another program, or cannot be written.
    """

    trimmer: StoreTrimmer
    reader: StoreReader

    def __init__(
        self,
        path: str,
        retention: Retention,
        limit: int,
        seconds: Callable[[], float],
        boot: str | None = None,
    ) -> None:
        self.path = path
        self.moved_to = ""
        self.missing = ""
        self._seconds = seconds
        self._closed = False
        check_ownership(path)
        self.files = StoreFiles(path)
        self._db = sqlite3.connect(":memory:")  # so that there is one to close
        boot = _boot_id() if boot is None else boot
        try:
            try:
                self._open(boot)
            except sqlite3.Error as error:
                # SQLITE_ERROR: a table or a column is missing.
                if not is_damage(error) and error_code(error) != sqlite3.SQLITE_ERROR:
                    raise
                self._db.close()
                self.moved_to = move_aside(path)
                self._open(boot)
        except (sqlite3.Error, OSError, UnusableStore) as error:
            self._close()
            reason = getattr(error, "strerror", None) or str(error)
            raise UnusableStore(f"the history file {path} cannot be used: {reason}") from None
        self.trimmer = StoreTrimmer(self._db, lambda: self.head, retention, limit, seconds)

    def _open(self, boot: str) -> None:
        self.files.create()
        mark = self.files.mark_byte()
        db = connect(self.path)
        self._db.close()
        self._db = db
        created = prepare(db)
        if created:
            self.missing = "was deleted or emptied" if mark and not self.moved_to else ""
        row = db.execute("SELECT epoch, head, floor, boot, clean FROM log").fetchone()
        if row is None:
            damage = sqlite3.DatabaseError("it has no epoch")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        self.epoch, head, floor, last_boot, clean = row
        head = max(head, single_value(db, "SELECT max(offset) FROM messages") or 0)
        if (mark == LOSSY and not created) or not (clean or boot == last_boot):
            # Delivered messages may be missing here. Their offsets must not be assigned
            # again, and subscribers that reconnect get a gap.
            head = floor = self.fresh_offset(head)
        with transaction(db):
            db.execute(
                "UPDATE log SET head = ?, floor = ?, boot = ?, clean = 0", (head, floor, boot)
            )
        self.head = head
        self.files.mark(lossy=False)
        self.keys = self._read_keys()
        self.reader = StoreReader(self.path, self.epoch, self._seconds)
        self.files.hold()

    def _read_keys(self) -> list[KeyUse]:
        oldest = self._seconds() - KEY_SECONDS
        newest = "SELECT offset, channel, key, time FROM keys WHERE time > ? ORDER BY offset DESC"
        rows = self._db.execute(f"{newest} LIMIT {MAX_KEYS}", (oldest,)).fetchall()
        return [
            KeyUse(from_blob(channel), from_blob(key), offset, when)
            for offset, channel, key, when in reversed(rows)
        ]

    def append(
        self, messages: Sequence[Message], keys: Sequence[KeyUse] = (), lost: int = 0
    ) -> None:
        """
        Write *messages* and *keys*, all or nothing.

        Args:
            messages: in order of position, after all that are in the file.
            keys: of these messages.
            lost: messages up to this offset were not written and never will be.

        Raises:
            sqlite3.Error: nothing was written; see `is_damage`.
        """
        now = self._seconds()
        with transaction(self._db):
            start = 0
            for rows in ROWS:
                while len(messages) - start >= rows:
                    values = [
                        value
                        for message in messages[start : start + rows]
                        for value in (
                            message.position.offset,
                            to_blob(message.channel),
                            message.data,
                            None if message.event is None else to_blob(message.event),
                            now,
                        )
                    ]
                    self._db.execute(INSERTS[rows], values)
                    start += rows
            if keys:
                self._db.executemany(
                    "INSERT INTO keys VALUES (?, ?, ?, ?)",
                    [
                        (use.offset, to_blob(use.channel), to_blob(use.key), use.time)
                        for use in keys
                    ],
                )
            if lost:
                self._db.execute("UPDATE log SET floor = max(floor, ?)", (lost,))
        if messages:
            self.head = messages[-1].position.offset
        self.trimmer.count(messages)

    def fresh_offset(self, head: int) -> int:
        """
        Return an offset after *head* that no message has ever had, in the file or not:
        microseconds increase faster than any count of messages.
        """
        return max(head + 1, int(self._seconds() * 1e6))

    def continue_after(self, offset: int) -> None:
        """
        Assign no offset up to *offset* again: its message was delivered, and is not here.

        Raises:
            sqlite3.Error: the file cannot be written.
        """
        if offset > self.head:
            self.head = self.fresh_offset(offset)
            self._db.execute("UPDATE log SET head = ?, floor = ?", (self.head, self.head))

    def close(self) -> None:
        """
        Close after a clean mark for the next start. Close the reader first.
        """
        if self._closed:
            return
        with suppress(sqlite3.Error):
            self._db.execute("UPDATE log SET head = ?, clean = 1", (self.head,))
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._db.close()
        self.files.close()

    def abandon(self) -> str:
        """
        Close a file that `StoreFiles.find_loss` reported. Close the reader first. What is only in
        the write-ahead log is copied to the file, wherever that is now.

        Returns:
            "", as nothing is moved.
        """
        try:
            self._db.execute("UPDATE log SET head = ?, clean = 1", (self.head,))
            busy = single_value(self._db, "PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            busy = 1
        if busy:
            self.files.mark(lossy=True)
        self.files.unlink_moved_logs()
        self._close()
        return ""

    def discard(self) -> str:
        """
        Close a damaged file and move it aside. Close the reader first.

        Returns:
            The new path.
        """
        self._db.close()
        moved = move_aside(self.path)
        self._close()
        return moved


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
