"""
The history file: the log of the durable broker, in SQLite.

A store is opened where it may block, then written by one thread and read by another;
it starts no threads itself. Its guarantees are in docs/durable.md.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import stat
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path

from rt_twisted.brokers.idempotency import KEY_SECONDS, MAX_KEYS
from rt_twisted.model.message import After, Message, Newest, Position, Replay, Since
from rt_twisted.model.retention import OVERHEAD, Retention

APPLICATION_ID = 0x72745477  # SQLite's application_id: "rtTw"
VERSION = 1  # of the tables, SQLite's user_version
SCHEMA = """
CREATE TABLE log (
    epoch TEXT NOT NULL, head INTEGER NOT NULL, floor INTEGER NOT NULL,
    boot TEXT NOT NULL, clean INTEGER NOT NULL
);
CREATE TABLE messages (
    offset INTEGER PRIMARY KEY, channel BLOB NOT NULL, data BLOB NOT NULL, event BLOB,
    time REAL NOT NULL
);
CREATE INDEX by_channel ON messages (channel);
CREATE TABLE horizons (channel BLOB PRIMARY KEY, offset INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX by_horizon ON horizons (offset);
CREATE TABLE keys (
    offset INTEGER PRIMARY KEY, channel BLOB NOT NULL, key BLOB NOT NULL, time REAL NOT NULL
);
"""

# SQLite releases the interpreter lock for each statement and then waits for it beside a
# busy reactor: many rows in one statement wait once.
ROWS = (100, 10, 1)
INSERTS = {rows: f"INSERT INTO messages VALUES {','.join(['(?,?,?,?,?)'] * rows)}" for rows in ROWS}

TRIM_STEP = 200  # messages deleted in one step: one to two milliseconds
MAX_HORIZONS = 100_000  # channels with a horizon of their own; the others have the floor
MEASURE_BYTES = 1 << 20  # written between two measurements of the file
MAX_USAGES = 10_000  # channels whose count and bytes are kept in memory
VACUUM_PAGES = 256  # returned to the disk in one step
SPARE_PAGES = 1024  # free pages that stay in the file, to be used again
WAL_LIMIT = 16 << 20  # bytes the write-ahead log keeps when it starts over

SOUND, LOSSY = b" ", b"!"  # the lock file's byte

MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat2.html, 1.3
HEADER_SIZE = 100  # bytes of the header of a database
WAL_HEADER_SIZE, FRAME_HEADER_SIZE = 32, 24  # bytes; 4.1
PARTS = ("", "-wal", "-shm")  # of a database that is open


class UnusableStore(Exception):
    """
    The file cannot be opened; the text is one sentence about it.
    """


@dataclass(frozen=True, slots=True)
class KeyUse:
    """
    An idempotency key that was used.

    Args:
        channel: of its message.
        key: as the publisher sent it.
        offset: of its message.
        time: of its use, unix seconds.
    """

    channel: str
    key: str
    offset: int
    time: float


@dataclass(frozen=True, slots=True)
class Loss:
    """
    Why the next start would not find what is written now.

    Args:
        reason: the end of a sentence about the file.
        damaged: whether the file itself is broken and of no more use.
    """

    reason: str
    damaged: bool = False


@dataclass(slots=True)
class Usage:
    """
    Messages of one channel in the file.
    """

    count: int
    bytes: int


HistoryQuery = tuple[Sequence[str], Since]
Row = tuple[int, bytes, int]  # offset, channel, bytes


class Store:
    """
    A log in a file. Creating the object opens the file, and locks it against others.

    `append`, `vacuum_step` and `close` are for one thread, `replay` and `close_reading`
    for another.

    Args:
        path: the file, which is created if need be. Beside it are its write-ahead log,
            that log's index, and a lock file.
        retention: of each channel; up to an eighth more may be retained.
        limit: approximate bytes of the file.
        seconds: return the time, unix seconds.
        boot: identifies this run of the machine; tests have their own.

    Raises:
        UnusableStore: it is in use, belongs to another program, or cannot be written.
    """

    def __init__(
        self,
        path: str,
        retention: Retention,
        limit: int,
        seconds: Callable[[], float],
        boot: str | None = None,
    ) -> None:
        self.path = path
        self.moved_to = ""  # path of a damaged file that was found here
        self._retention = retention
        self._limit = limit
        self._seconds = seconds
        self.missing = ""  # what happened to a file that was here before
        self._closed = False
        self._parts: dict[str, int] = {}
        check_ownership(path)
        self._lock = _lock(path)
        self._db = sqlite3.connect(":memory:")  # so that there is one to close
        self._usage: OrderedDict[bytes, Usage] = OrderedDict()
        self._untrimmed: dict[bytes, None] = {}
        self._unmeasured_bytes = MEASURE_BYTES
        self._next_age_trim = self._next_horizon_trim = 0.0
        try:
            try:
                self._open(_boot_id() if boot is None else boot)
            except sqlite3.Error as error:
                # SQLITE_ERROR: a table or a column is missing.
                if not is_damage(error) and _code(error) != sqlite3.SQLITE_ERROR:
                    raise
                self._db.close()
                self.moved_to = _move_aside(path)
                self._open(_boot_id() if boot is None else boot)
        except (sqlite3.Error, OSError, UnusableStore) as error:
            self._close()
            reason = getattr(error, "strerror", None) or str(error)
            raise UnusableStore(f"the history file {path} cannot be used: {reason}") from None

    def _open(self, boot: str) -> None:
        # SQLite would make it readable by all; its other files get this one's mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        known = bool(os.pread(self._lock, 1, 0))
        db = self._db = self._connect()
        created = not _single_value(db, "SELECT count(*) FROM sqlite_schema")
        if created:
            self._create()
            self.missing = "was deleted or emptied" if known and not self.moved_to else ""
        if _single_value(db, "PRAGMA application_id") != APPLICATION_ID:
            raise UnusableStore("it belongs to another program")
        if _single_value(db, "PRAGMA user_version") != VERSION:
            raise UnusableStore("it was written by another version")
        # Not FULL: what is committed survives the process, and a power loss is detected
        # by the boot id.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        db.execute("PRAGMA secure_delete = FAST")
        row = db.execute("SELECT epoch, head, floor, boot, clean FROM log").fetchone()
        if row is None:
            damage = sqlite3.DatabaseError("it has no epoch")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        self.epoch, head, floor, last_boot, clean = row
        head = max(head, _single_value(db, "SELECT max(offset) FROM messages") or 0)
        lossy = os.pread(self._lock, 1, 0) == LOSSY
        if (lossy and not created) or not (clean or boot == last_boot):
            # Delivered messages may be missing here. Their offsets must not be assigned
            # again, and subscribers that reconnect get a gap.
            head = floor = self.fresh_offset(head)
        with self._transaction():
            db.execute(
                "UPDATE log SET head = ?, floor = ?, boot = ?, clean = 0", (head, floor, boot)
            )
        self.head = head
        self.mark(lossy=False)
        oldest = self._seconds() - KEY_SECONDS
        newest = "SELECT offset, channel, key, time FROM keys WHERE time > ? ORDER BY offset DESC"
        rows = db.execute(f"{newest} LIMIT {MAX_KEYS}", (oldest,)).fetchall()
        self.keys = [
            KeyUse(_text(channel), _text(key), offset, when)
            for offset, channel, key, when in reversed(rows)
        ]
        self._reading = self._connect()
        self._reading.execute("PRAGMA query_only = 1")
        for suffix in PARTS:
            # Open until the last connection is closed: closing any descriptor of a file
            # releases all locks that SQLite has on it in this process (fcntl(2)).
            with suppress(FileNotFoundError):
                self._parts[suffix] = os.open(self.path + suffix, os.O_RDONLY | os.O_CLOEXEC)

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self.path, timeout=1.0, isolation_level=None, check_same_thread=False
        )

    def _create(self) -> None:
        db = self._db
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        with self._transaction():
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
            row = (secrets.token_hex(4), 0, 0, "", 1)
            db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")

    # Writing.

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
        with self._transaction():
            start = 0
            for rows in ROWS:
                while len(messages) - start >= rows:
                    values = [
                        value
                        for message in messages[start : start + rows]
                        for value in (
                            message.position.offset,
                            _bytes(message.channel),
                            message.data,
                            None if message.event is None else _bytes(message.event),
                            now,
                        )
                    ]
                    self._db.execute(INSERTS[rows], values)
                    start += rows
            if keys:
                self._db.executemany(
                    "INSERT INTO keys VALUES (?, ?, ?, ?)",
                    [(use.offset, _bytes(use.channel), _bytes(use.key), use.time) for use in keys],
                )
            if lost:
                self._db.execute("UPDATE log SET floor = max(floor, ?)", (lost,))
        if messages:
            self.head = messages[-1].position.offset
        self._count(messages)

    def mark(self, lossy: bool) -> bool:
        """
        Record in the lock file whether messages were delivered that are not in the file.
        Its byte needs no room on a full disk.

        Returns:
            Whether that was possible.
        """
        try:
            os.pwrite(self._lock, LOSSY if lossy else SOUND, 0)
        except OSError:
            return False
        return True

    def fresh_offset(self, head: int) -> int:
        """
        Return an offset after *head* that no message has ever had, in the file or not:
        microseconds increase faster than any count of messages.
        """
        return max(head + 1, int(self._seconds() * 1e6))

    def vacuum_step(self) -> bool:
        """
        Delete some messages that are over the bounds, in one small step.

        Returns:
            Whether there is more to do.

        Raises:
            sqlite3.Error: as for `append`.
        """
        return (
            self._trim_size()
            or self._trim_age()
            or self._trim_channels()
            or self._trim_horizons()
            or self._vacuum()
        )

    def reconfigure(self, retention: Retention) -> None:
        """
        Use other bounds: for a channel when it is written next, for age at once.
        """
        self._retention = retention

    def find_loss(self) -> Loss | None:
        """
        Check that the next start will find what is written now.

        The file, its write-ahead log or its lock file may have been deleted, moved, replaced
        or truncated. Their open descriptors would still work.
        """
        for suffix, held in (*self._parts.items(), (".lock", self._lock)):
            path = self.path + suffix
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return Loss(f"{path} was deleted or moved")
            except OSError:
                continue  # not visible, for example by the folder's mode; it may exist
            if not os.path.samestat(found, os.fstat(held)):
                return Loss(f"{path} was replaced by another file")
        header = os.pread(self._parts[""], HEADER_SIZE, 0)
        if header[: len(MAGIC)] != MAGIC:
            return Loss("it was truncated or overwritten", damaged=True)
        if self._is_short(header) and not self._is_sound():
            return Loss("it was truncated", damaged=True)
        return None

    def _is_at(self, suffix: str, path: str) -> bool:
        """
        Return whether the open part with this *suffix* is the file at *path*.
        """
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._parts[suffix]))
        except (OSError, KeyError):
            return False

    def _is_short(self, header: bytes) -> bool:
        """
        Return whether the file or its write-ahead log has fewer bytes than it should.
        """
        size = int.from_bytes(header[16:18]) or 1
        pages = int.from_bytes(header[28:32]) if header[24:28] == header[92:96] else 0
        size = 1 << 16 if size == 1 else size
        if os.fstat(self._parts[""]).st_size < pages * size:
            return True
        if "-wal" not in self._parts or "-shm" not in self._parts:
            return False
        # The index of the write-ahead log: 4 words before the number of its frames, in the
        # byte order of this machine (sqlite.org/walformat.html, 2.1).
        frames = int.from_bytes(os.pread(self._parts["-shm"], 4, 16), sys.byteorder)
        needed = WAL_HEADER_SIZE + frames * (FRAME_HEADER_SIZE + size) if frames else 0
        return os.fstat(self._parts["-wal"]).st_size < needed

    def _is_sound(self) -> bool:
        """
        Check the whole file by a new connection, as the cache of an old one may hide damage.
        """
        try:
            with closing(self._connect()) as db:
                return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) == "ok"
        except sqlite3.Error:
            return False

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
        Close after a clean mark for the next start. Call `close_reading` first.
        """
        if self._closed:
            return
        with suppress(sqlite3.Error):
            self._db.execute("UPDATE log SET head = ?, clean = 1", (self.head,))
        self._close()

    def _close(self) -> None:
        self._closed = True
        self._db.close()
        for held in self._parts.values():
            os.close(held)
        self._parts.clear()
        os.close(self._lock)

    def abandon(self) -> str:
        """
        Close a file that `find_loss` reported. Call `close_reading` first. What is only in
        the write-ahead log is copied to the file, wherever that is now.

        Returns:
            "", as nothing is moved.
        """
        try:
            self._db.execute("UPDATE log SET head = ?, clean = 1", (self.head,))
            busy = _single_value(self._db, "PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            busy = 1
        if busy:
            self.mark(lossy=True)
        if not self._is_at("", self.path):
            # They are empty, and SQLite would use them for the next file.
            for suffix in PARTS[1:]:
                if self._is_at(suffix, self.path + suffix):
                    os.unlink(self.path + suffix)
        self._close()
        return ""

    def discard(self) -> str:
        """
        Close a damaged file and move it aside. Call `close_reading` first.

        Returns:
            The new path.
        """
        self._db.close()
        moved = _move_aside(self.path)
        self._close()
        return moved

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                if self._db.in_transaction:  # some errors have ended it
                    self._db.execute("ROLLBACK")
            raise

    # Retention.

    def _count(self, messages: Sequence[Message]) -> None:
        for message in messages:
            channel = _bytes(message.channel)
            self._untrimmed[channel] = None
            size = len(message.data) + OVERHEAD
            self._unmeasured_bytes += size
            usage = self._usage.get(channel)
            if usage is not None:
                usage.count += 1
                usage.bytes += size

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
        used = _single_value(self._db, "PRAGMA page_count") - _single_value(
            self._db, "PRAGMA freelist_count"
        )
        rows = (
            self._oldest()
            if used * _single_value(self._db, "PRAGMA page_size") > self._limit
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
        surplus = _single_value(self._db, "SELECT count(*) FROM horizons") - MAX_HORIZONS
        if surplus <= 0:
            self._next_horizon_trim = now + 60.0
            return False
        lowest = f"SELECT offset FROM horizons ORDER BY offset LIMIT {min(surplus, TRIM_STEP)}"
        floor = _single_value(self._db, f"SELECT max(offset) FROM ({lowest})")
        with self._transaction():
            self._db.execute("UPDATE log SET floor = max(floor, ?)", (floor,))
            self._db.execute("DELETE FROM horizons WHERE offset <= ?", (floor,))
        return True

    def _vacuum(self) -> bool:
        """
        Return free pages to the disk where they are more than a quarter of the file.
        """
        free = _single_value(self._db, "PRAGMA freelist_count")
        if free <= SPARE_PAGES or free * 4 <= _single_value(self._db, "PRAGMA page_count"):
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
        with self._transaction():
            last = (*values, rows[-1][0])
            self._db.execute(f"DELETE FROM messages WHERE {where} offset <= ?", last)
            self._db.executemany(
                "INSERT INTO horizons VALUES (?, ?) "
                "ON CONFLICT (channel) DO UPDATE SET offset = excluded.offset",
                horizons.items(),
            )
            # The last message may be among them; its offset must not be assigned again.
            self._db.execute("UPDATE log SET head = ?", (self.head,))
        for _, channel, size in rows:
            usage = self._usage.get(channel)
            if usage is not None:
                usage.count -= 1
                usage.bytes -= size

    # Reading.

    def replay(self, queries: Sequence[HistoryQuery], upto: int) -> list[Replay]:
        """
        Return a replay for each of *queries* (see `IHistory.after`), up to the offset *upto*.

        Raises:
            sqlite3.Error: the file cannot be read; see `is_damage`.
        """
        db = self._reading
        db.execute("BEGIN")  # all replays of one moment
        try:
            floor = _single_value(db, "SELECT floor FROM log")
            return [self._read_replay(names, since, upto, floor) for names, since in queries]
        finally:
            db.execute("COMMIT")

    def close_reading(self) -> None:
        """
        Close the reading connection; the last call of the reading thread.
        """
        self._reading.close()

    def _read_replay(self, names: Iterable[str], since: Since, upto: int, floor: int) -> Replay:
        position = Position(self.epoch, upto)
        after, where, complete = 0, "", True
        values: tuple[float, ...] = ()
        if isinstance(since, After):
            complete = since.position.epoch == self.epoch
            after = since.position.offset if complete else 0
            if after > upto:  # nothing here is new, and what precedes *since* may be lost
                return Replay((), False, since.position)
            complete = complete and after >= floor
        elif isinstance(since, Newest):
            where, values = "ORDER BY offset DESC LIMIT ?", (since.count,)
        else:
            where, values = "AND time >= ?", (self._seconds() - since.seconds,)
        found: list[Message] = []
        for name in names:
            channel = _bytes(name)
            if complete and isinstance(since, After):
                horizon = "SELECT offset FROM horizons WHERE channel = ?"
                complete = (_single_value(self._reading, horizon, (channel,)) or 0) <= after
            rows = self._reading.execute(
                "SELECT offset, data, event FROM messages "
                f"WHERE channel = ? AND offset > ? AND offset <= ? {where}",
                (channel, after, upto, *values),
            )
            found += [
                Message(name, data, Position(self.epoch, offset), event and _text(event))
                for offset, data, event in rows
            ]
        found.sort(key=lambda message: message.position.offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        return Replay(tuple(found), complete, position)


def check_usable(path: str) -> None:
    """
    Check that the file can be opened, as far as possible without opening it.

    Raises:
        UnusableStore: another daemon has it, or the folder cannot be written.
    """
    if not os.access(os.path.dirname(path), os.W_OK):
        raise UnusableStore(f"the history file {path} cannot be used: its folder cannot be written")
    check_ownership(path)
    if os.path.exists(f"{path}.lock"):
        os.close(_lock(path))


def check_ownership(path: str) -> None:
    """
    Check that the file is one of ours, or does not exist yet.

    Only a file that was ours may be moved aside when it is damaged. Its header shows it,
    or a lock file beside it that is not empty.

    Raises:
        UnusableStore: it belongs to another program, or is a folder or a device.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableStore(f"the history file {path} cannot be used: it is not a regular file")
        if status.st_size == 0 or _size(f"{path}.lock"):
            return
        with open(path, "rb") as file:
            header = file.read(HEADER_SIZE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableStore(f"the history file {path} cannot be used: {error.strerror}") from None
    application = int.from_bytes(header[68:72])
    # The header has no number until it is copied from the write-ahead log.
    pending = application == 0 and _size(f"{path}-wal")
    if header[: len(MAGIC)] != MAGIC or not (application == APPLICATION_ID or pending):
        raise UnusableStore(
            f"the history file {path} cannot be used: it belongs to another program; "
            "it was not changed"
        )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def is_damage(error: sqlite3.Error) -> bool:
    """
    Return whether the file is broken, and not only inaccessible.
    """
    return _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def _lock(path: str) -> int:
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UnusableStore(f"the history file {path} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise UnusableStore(f"the history file {path} is in use by another daemon") from None
    return lock


def _move_aside(path: str) -> str:
    moved = time.strftime(f"{path}.damaged-%Y%m%dT%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            os.rename(path + suffix, moved + suffix)
    return moved


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _single_value(db: sqlite3.Connection, statement: str, values: Sequence[object] = ()) -> int:
    row = db.execute(statement, values).fetchone()
    return row[0] if row is not None else 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can have a lone surrogate


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
