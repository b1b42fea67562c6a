"""
The tables of the history file, and what all its statements need.
"""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

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

WAL_LIMIT = 16 << 20  # bytes the write-ahead log keeps when it starts over


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


class UnusableStore(Exception):
    """
    The file cannot be opened; the text is one sentence about it.
    """


def connect(path: str) -> sqlite3.Connection:
    """
    Open the database; each connection is used by one thread at a time.
    """
    return sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)


def prepare(db: sqlite3.Connection) -> bool:
    """
    Create the tables in an empty file, and set how the file is written.

    Returns:
        whether the file was empty.

    Raises:
        UnusableStore: the file belongs to another program or version.
        sqlite3.Error: the file cannot be used.
    """
    empty = not single_value(db, "SELECT count(*) FROM sqlite_schema")
    if empty:
        db.execute("PRAGMA auto_vacuum = INCREMENTAL")
        db.execute("PRAGMA journal_mode = WAL")
        with transaction(db):
            for statement in SCHEMA.split(";")[:-1]:
                db.execute(statement)
            row = (secrets.token_hex(4), 0, 0, "", 1)
            db.execute("INSERT INTO log VALUES (?, ?, ?, ?, ?)", row)
            db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            db.execute(f"PRAGMA user_version = {VERSION}")
    if single_value(db, "PRAGMA application_id") != APPLICATION_ID:
        raise UnusableStore("it belongs to another program")
    if single_value(db, "PRAGMA user_version") != VERSION:
        raise UnusableStore("it was written by another version")
    # Not FULL: what is committed survives the process, and a power loss is detected
    # by the boot id.
    db.execute("PRAGMA synchronous = NORMAL")
    db.execute(f"PRAGMA journal_size_limit = {WAL_LIMIT}")
    db.execute("PRAGMA secure_delete = FAST")
    return empty


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """
    Commit what is written inside, or roll it back after an exception.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            if db.in_transaction:  # some errors have ended it
                db.execute("ROLLBACK")
        raise


def single_value(db: sqlite3.Connection, statement: str, values: Sequence[object] = ()) -> int:
    """
    Return the first value of the first row; 0 without a row.
    """
    row = db.execute(statement, values).fetchone()
    return row[0] if row is not None else 0


def is_damage(error: sqlite3.Error) -> bool:
    """
    Return whether the file is broken, and not only inaccessible.
    """
    return error_code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def error_code(error: sqlite3.Error) -> int:
    """
    Return SQLite's primary result code.
    """
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF


def to_blob(text: str) -> bytes:
    """
    Encode a name for the file; JSON can have a lone surrogate.
    """
    return text.encode("utf-8", "surrogatepass")


def from_blob(data: bytes) -> str:
    """
    Decode what `to_blob` returned.
    """
    return data.decode("utf-8", "surrogatepass")
