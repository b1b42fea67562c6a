"""
The file behind the durable broker: its log in SQLite.

A journal is opened where it may block, then written by one thread and read by
another; it starts none itself. What it promises is in docs/durable.md.
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

APPLICATION = 0x72745477  # SQLite's application_id: "rtTw"
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

# SQLite lets go of the interpreter for each statement and then waits for its
# turn beside a busy reactor: many rows in one statement are one such wait.
ROWS = (100, 10, 1)
INSERTS = {rows: f"INSERT INTO messages VALUES {','.join(['(?,?,?,?,?)'] * rows)}" for rows in ROWS}

STEP = 200  # messages forgotten in one step: a millisecond or two
START_POSITIONS = (
    100_000  # channels of which we know what is forgotten; beyond, all go by the floor
)
MEASURED = 1 << 20  # bytes written between two looks at the size
LOADS = 10_000  # channels whose count and bytes are kept in memory
VACUUM = 256  # pages given back to the disk in one step
SPARE = 1024  # free pages that stay in the file, to be used again
WAL_LIMIT = 16 << 20  # bytes the write-ahead log keeps when it starts over

SOUND, LOSSY = b" ", b"!"  # the lock file's byte

MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat2.html, 1.3
HEADER = 100  # bytes of the header of a database
WAL_HEADER, FRAME_HEADER = 32, 24  # bytes; 4.1
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
        offset: where its message went.
        time: when, unix seconds.
    """

    channel: str
    key: str
    offset: int
    time: float


@dataclass(frozen=True, slots=True)
class Loss:
    """
    Why what is written now would not be found at the next start.

    Args:
        reason: the end of a sentence about the file.
        damaged: the file itself is broken, and of no more use.
    """

    reason: str
    damaged: bool = False


@dataclass(slots=True)
class Usage:
    """
    What a channel has in the file.
    """

    count: int
    bytes: int


Question = tuple[Sequence[str], Since]
Row = tuple[int, bytes, int]  # offset, channel, bytes


class Store:
    """
    A log in a file; opened, and locked against others, by being made.

    `append`, `tidy` and `close` are for one thread, `replay` and `close_reading`
    for another.

    Args:
        path: the file; made if need be. Beside it are its write-ahead log, that
            log's index, and a lock file.
        keep: what each channel remembers; an eighth more may be found.
        limit: bytes of the file, about.
        seconds: the time, unix seconds.
        boot: what names this run of the machine; tests give their own.

    Raises:
        Unusable: it is in use, another program's, or cannot be written.
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
        self.moved = ""  # where a damaged file went that was found here
        self._retention = retention
        self._limit = limit
        self._seconds = seconds
        self.missing = ""  # what has become of a file that was here before
        self._closed = False
        self._parts: dict[str, int] = {}
        look_at(path)
        self._lock = _lock(path)
        self._db = sqlite3.connect(":memory:")  # that there is one to close
        self._loads: OrderedDict[bytes, Usage] = OrderedDict()
        self._touched: dict[bytes, None] = {}
        self._unmeasured = MEASURED
        self._look_at_age = self._look_at_horizons = 0.0
        try:
            try:
                self._open(_boot() if boot is None else boot)
            except sqlite3.Error as error:
                # A table or a column is missing: what a working journal never says.
                if not is_damage(error) and _code(error) != sqlite3.SQLITE_ERROR:
                    raise
                self._db.close()
                self.moved = _move_aside(path)
                self._open(_boot() if boot is None else boot)
        except (sqlite3.Error, OSError, UnusableStore) as error:
            self._close()
            reason = getattr(error, "strerror", None) or str(error)
            raise UnusableStore(f"the history file {path} cannot be used: {reason}") from None

    def _open(self, boot: str) -> None:
        # SQLite would let everybody read it; its other files get this one's mode.
        os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        known = bool(os.pread(self._lock, 1, 0))
        db = self._db = self._connect()
        created = not _one(db, "SELECT count(*) FROM sqlite_schema")
        if created:
            self._create()
            self.missing = "was deleted or emptied" if known and not self.moved else ""
        if _one(db, "PRAGMA application_id") != APPLICATION:
            raise UnusableStore("it is another program's")
        if _one(db, "PRAGMA user_version") != VERSION:
            raise UnusableStore("another version wrote it")
        # Not FULL: what is committed survives the process, and a machine that
        # loses power is noticed by its boot id.
        db.execute("PRAGMA synchronous = NORMAL")
        db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
        db.execute("PRAGMA secure_delete = FAST")
        row = db.execute("SELECT epoch, head, floor, boot, clean FROM log").fetchone()
        if row is None:
            damage = sqlite3.DatabaseError("it has no epoch")
            damage.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
            raise damage
        self.epoch, head, floor, last_boot, clean = row
        head = max(head, _one(db, "SELECT max(offset) FROM messages") or 0)
        lossy = os.pread(self._lock, 1, 0) == LOSSY
        if (lossy and not created) or not (clean or boot == last_boot):
            # What readers have seen may be gone from here. Its offsets shall not
            # come again, and who comes back is told.
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
            # Held until the last connection is closed: closing any descriptor of a file
            # gives up all locks that SQLite has on it in this process (fcntl(2)).
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
            db.execute(f"PRAGMA application_id = {APPLICATION}")
            db.execute(f"PRAGMA user_version = {VERSION}")

    # Writing.

    def append(
        self, messages: Sequence[Message], keys: Sequence[KeyUse] = (), lost: int = 0
    ) -> None:
        """
        Write *messages* and *keys*, all or nothing.

        Args:
            messages: in order of position, after all that is here.
            keys: theirs.
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
        Remember whether readers are told messages that are not in the file; in
        a place that needs no room on a full disk.

        Returns:
            whether that was possible.
        """
        try:
            os.pwrite(self._lock, LOSSY if lossy else SOUND, 0)
        except OSError:
            return False
        return True

    def fresh_offset(self, head: int) -> int:
        """
        An offset after *head* that was never given to a message, in the file
        or not: microseconds run ahead of any count of messages.
        """
        return max(head + 1, int(self._seconds() * 1e6))

    def vacuum_step(self) -> bool:
        """
        Forget some of what is over the bounds, in one small step.

        Returns:
            whether there is more to do.

        Raises:
            sqlite3.Error: as for `append`.
        """
        return (
            self._trim_size()
            or self._trim_age()
            or self._trim_channels()
            or self._trim_horizons()
            or self._shrink()
        )

    def reconfigure(self, retention: Retention) -> None:
        """
        Go on with other bounds: of channels when they are written to next, of
        age at once.
        """
        self._retention = retention

    def lost(self) -> Loss | None:
        """
        Whether the next start would find what is written now: somebody may have deleted,
        moved, replaced or truncated the file, its write-ahead log or its lock file. Their
        descriptors would go on working.
        """
        for suffix, held in (*self._parts.items(), (".lock", self._lock)):
            path = self.path + suffix
            try:
                found = os.stat(path)
            except (FileNotFoundError, NotADirectoryError):
                return Loss(f"{path} was deleted or moved")
            except OSError:
                continue  # out of sight, such as by the folder's mode; it may be there
            if not os.path.samestat(found, os.fstat(held)):
                return Loss(f"{path} was replaced by another file")
        header = os.pread(self._parts[""], HEADER, 0)
        if header[: len(MAGIC)] != MAGIC:
            return Loss("it was truncated or overwritten", damaged=True)
        if self._is_short(header) and not self._is_sound():
            return Loss("it was truncated", damaged=True)
        return None

    def _is_at(self, suffix: str, path: str) -> bool:
        """
        Whether the part with this *suffix* that is open is what *path* names.
        """
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._parts[suffix]))
        except (OSError, KeyError):
            return False

    def _is_short(self, header: bytes) -> bool:
        """
        Whether the file or its write-ahead log has fewer bytes than it should.
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
        needed = WAL_HEADER + frames * (FRAME_HEADER + size) if frames else 0
        return os.fstat(self._parts["-wal"]).st_size < needed

    def _is_sound(self) -> bool:
        """
        Read all of it anew, as what is cached may be whole.
        """
        try:
            with closing(self._connect()) as db:
                return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) == "ok"
        except sqlite3.Error:
            return False

    def continue_after(self, offset: int) -> None:
        """
        Give no offset up to *offset* again: it was told, and is missing here.

        Raises:
            sqlite3.Error: that cannot be written.
        """
        if offset > self.head:
            self.head = self.fresh_offset(offset)
            self._db.execute("UPDATE log SET head = ?, floor = ?", (self.head, self.head))

    def close(self) -> None:
        """
        Close after a last word to the next start; `close_reading` comes before.
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
        Close what `lost` says is lost; `close_reading` comes before. What is only in the
        write-ahead log goes to the file first, wherever that is now.

        Returns:
            "", as nothing is moved.
        """
        try:
            self._db.execute("UPDATE log SET head = ?, clean = 1", (self.head,))
            busy = _one(self._db, "PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.Error:
            busy = 1
        if busy:
            self.mark(lossy=True)
        if not self._is_at("", self.path):
            # They are empty, and would be taken for those of the next file.
            for suffix in PARTS[1:]:
                if self._is_at(suffix, self.path + suffix):
                    os.unlink(self.path + suffix)
        self._close()
        return ""

    def discard(self) -> str:
        """
        Close it as damaged and move it aside; `close_reading` comes before.

        Returns:
            where it is.
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
                if self._db.in_transaction:  # some errors end it themselves
                    self._db.execute("ROLLBACK")
            raise

    # Forgetting.

    def _count(self, messages: Sequence[Message]) -> None:
        for message in messages:
            channel = _bytes(message.channel)
            self._touched[channel] = None
            size = len(message.data) + OVERHEAD
            self._unmeasured += size
            load = self._loads.get(channel)
            if load is not None:
                load.count += 1
                load.bytes += size

    def _trim_channels(self) -> bool:
        retention = self._retention
        for channel in tuple(islice(self._touched, STEP)):
            load = self._load(channel)
            # Not one by one: an eighth at a time.
            if load.count <= retention.count * 9 // 8 and load.bytes <= retention.bytes * 9 // 8:
                del self._touched[channel]
                continue
            count, size = load.count, load.bytes
            rows: list[Row] = []
            for row in self._oldest("WHERE channel = ?", (channel,)):
                if count <= retention.count and size <= retention.bytes:
                    break
                rows.append(row)
                count -= 1
                size -= row[2]
            self._forget(rows, "channel = ? AND", (channel,))
            return True
        return bool(self._touched)

    def _load(self, channel: bytes) -> Usage:
        load = self._loads.get(channel)
        if load is None:
            found = self._db.execute(
                "SELECT count(*), sum(length(data)) FROM messages WHERE channel = ?", (channel,)
            ).fetchone()
            load = self._loads[channel] = Usage(found[0], (found[1] or 0) + found[0] * OVERHEAD)
            if len(self._loads) > LOADS:
                self._loads.popitem(last=False)
        self._loads.move_to_end(channel)
        return load

    def _trim_age(self) -> bool:
        now = self._seconds()
        if now < self._look_at_age:
            return False
        oldest = now - self._retention.age
        found = self._db.execute(
            "SELECT offset, channel, length(data), time FROM messages ORDER BY offset LIMIT ?",
            (STEP,),
        ).fetchall()
        old = takewhile(lambda row: row[3] < oldest, found)
        rows = [(offset, channel, size + OVERHEAD) for offset, channel, size, _ in old]
        self._forget(rows)
        first = f"SELECT offset, time FROM keys ORDER BY offset LIMIT {STEP}"
        forgotten = self._db.execute(
            f"DELETE FROM keys WHERE offset <= (SELECT max(offset) FROM ({first}) WHERE time <= ?)",
            (now - KEY_SECONDS,),
        ).rowcount
        if STEP in (len(rows), forgotten):
            return True
        self._look_at_age = now + 1.0
        return False

    def _trim_size(self) -> bool:
        if self._unmeasured < MEASURED:
            return False
        used = _one(self._db, "PRAGMA page_count") - _one(self._db, "PRAGMA freelist_count")
        rows = self._oldest() if used * _one(self._db, "PRAGMA page_size") > self._limit else []
        if not rows:
            self._unmeasured = 0
        self._forget(rows)
        return bool(rows)

    def _trim_horizons(self) -> bool:
        """
        Channels come and go: of those forgotten longest ago only the highest
        horizon is remembered, for all of them.
        """
        now = self._seconds()
        if now < self._look_at_horizons:
            return False
        surplus = _one(self._db, "SELECT count(*) FROM horizons") - START_POSITIONS
        if surplus <= 0:
            self._look_at_horizons = now + 60.0
            return False
        lowest = f"SELECT offset FROM horizons ORDER BY offset LIMIT {min(surplus, STEP)}"
        floor = _one(self._db, f"SELECT max(offset) FROM ({lowest})")
        with self._transaction():
            self._db.execute("UPDATE log SET floor = max(floor, ?)", (floor,))
            self._db.execute("DELETE FROM horizons WHERE offset <= ?", (floor,))
        return True

    def _shrink(self) -> bool:
        """
        Give free pages back to the disk where they are more than a quarter.
        """
        free = _one(self._db, "PRAGMA freelist_count")
        if free <= SPARE or free * 4 <= _one(self._db, "PRAGMA page_count"):
            return False
        self._db.execute(f"PRAGMA incremental_vacuum({VACUUM})").fetchall()
        return True

    def _oldest(self, where: str = "", values: Sequence[object] = ()) -> list[Row]:
        return self._db.execute(
            f"SELECT offset, channel, length(data) + {OVERHEAD} FROM messages {where} "
            f"ORDER BY offset LIMIT {STEP}",
            values,
        ).fetchall()

    def _forget(self, rows: Sequence[Row], where: str = "", values: Sequence[object] = ()) -> None:
        """
        Delete *rows*, the oldest of all or of those *where* says.
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
            # The last message may be among them, and its offset shall not come again.
            self._db.execute("UPDATE log SET head = ?", (self.head,))
        for _, channel, size in rows:
            load = self._loads.get(channel)
            if load is not None:
                load.count -= 1
                load.bytes -= size

    # Reading.

    def replay(self, questions: Sequence[Question], upto: int) -> list[Replay]:
        """
        What is here for each of *questions* (see `IHistory.after`), up to the
        offset *upto*.

        Raises:
            sqlite3.Error: the file cannot be read; see `is_damage`.
        """
        db = self._reading
        db.execute("BEGIN")  # all of it from one moment
        try:
            floor = _one(db, "SELECT floor FROM log")
            return [self._answer(names, since, upto, floor) for names, since in questions]
        finally:
            db.execute("COMMIT")

    def close_reading(self) -> None:
        """
        The last call of the reading thread.
        """
        self._reading.close()

    def _answer(self, names: Iterable[str], since: Since, upto: int, floor: int) -> Replay:
        position = Position(self.epoch, upto)
        after, where, complete = 0, "", True
        values: tuple[float, ...] = ()
        if isinstance(since, After):
            complete = since.position.epoch == self.epoch
            after = since.position.offset if complete else 0
            if after > upto:  # nothing here is news, and what was before may be lost
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
                complete = (_one(self._reading, horizon, (channel,)) or 0) <= after
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


def look(path: str) -> None:
    """
    Whether the file may be opened, as far as can be seen without doing so.

    Raises:
        Unusable: another daemon has it, or nobody can write there.
    """
    if not os.access(os.path.dirname(path), os.W_OK):
        raise UnusableStore(f"the history file {path} cannot be used: its folder cannot be written")
    look_at(path)
    if os.path.exists(f"{path}.lock"):
        os.close(_lock(path))


def look_at(path: str) -> None:
    """
    Whether the file is ours, or is not there yet. Only what was ours once may be moved aside
    when it is damaged: its header says so, or the lock file beside it, which has a byte.

    Raises:
        Unusable: it is another program's, a folder or a device.
    """
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            raise UnusableStore(f"the history file {path} cannot be used: it is not a regular file")
        if status.st_size == 0 or _size(f"{path}.lock"):
            return
        with open(path, "rb") as file:
            header = file.read(HEADER)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableStore(f"the history file {path} cannot be used: {error.strerror}") from None
    application = int.from_bytes(header[68:72])
    # Until it is copied from the write-ahead log, the header has no number.
    pending = application == 0 and _size(f"{path}-wal")
    if header[: len(MAGIC)] != MAGIC or not (application == APPLICATION or pending):
        raise UnusableStore(
            f"the history file {path} cannot be used: it is another program's; "
            "nothing of it was changed"
        )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def is_damage(error: sqlite3.Error) -> bool:
    """
    Whether the file is broken, and not only out of reach.
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


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _one(db: sqlite3.Connection, statement: str, values: Sequence[object] = ()) -> int:
    row = db.execute(statement, values).fetchone()
    return row[0] if row is not None else 0


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # JSON can name half a pair


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
