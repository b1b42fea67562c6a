"""
The files of a history: which they are, whether they are ours, locked and still there.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import stat
import sys
import time
from contextlib import closing, suppress
from dataclasses import dataclass

from rt_twisted.brokers.sqlite.database import APPLICATION_ID, UnusableStore, connect

SOUND, LOSSY = b" ", b"!"  # the lock file's byte
MAGIC = b"SQLite format 3\0"  # sqlite.org/fileformat2.html, 1.3
HEADER_SIZE = 100  # bytes of the header of a database
PAGE_HEADER_SIZE = 8  # bytes of that of its first page, the root of the table of tables; 1.6
LEAF = b"\x0d"  # the type of that page, as long as there are few tables
WAL_HEADER_SIZE, FRAME_HEADER_SIZE = 32, 24  # bytes; 4.1
PARTS = ("", "-wal", "-shm")  # of a database that is open


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


class StoreFiles:
    """
    The lock file of a history file, and descriptors of its parts. Creating the object locks
    the history file against others.

    Args:
        path: the history file. Beside it are its write-ahead log, that log's index, and
            the lock file.

    Raises:
        UnusableStore: another daemon has it, or the folder cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._lock = _lock(path)
        self._parts: dict[str, int] = {}

    def mark_byte(self) -> bytes:
        """
        Return SOUND or LOSSY, as `mark` has written it; b"" if it never has.
        """
        return os.pread(self._lock, 1, 0)

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

    def create(self) -> None:
        """
        Create the history file if it does not exist.
        """
        # SQLite would make it readable by all; its other files get this one's mode.
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))

    def hold(self) -> None:
        """
        Open the parts, so that `find_loss` can compare them with what is at their paths.
        """
        for suffix in PARTS:
            # Open until the last connection is closed: closing any descriptor of a file
            # releases all locks that SQLite has on it in this process (fcntl(2)).
            with suppress(FileNotFoundError):
                self._parts[suffix] = os.open(self._path + suffix, os.O_RDONLY | os.O_CLOEXEC)

    def close(self) -> None:
        """
        Close all descriptors, after the last connection, and unlock the history file.
        """
        for held in self._parts.values():
            os.close(held)
        self._parts.clear()
        os.close(self._lock)

    def unlink_moved_logs(self) -> None:
        """
        Delete the write-ahead log and its index if the history file is not at its path any
        more: they are empty, and SQLite would use them for the next file.
        """
        if not self._is_at_path(""):
            for suffix in PARTS[1:]:
                if self._is_at_path(suffix):
                    os.unlink(self._path + suffix)

    def find_loss(self) -> Loss | None:
        """
        Check that the next start will find what is written now.

        The file, its write-ahead log or its lock file may have been deleted, moved, replaced
        or truncated. Their open descriptors would still work.
        """
        for suffix, held in (*self._parts.items(), (".lock", self._lock)):
            path = self._path + suffix
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

    def _is_at_path(self, suffix: str) -> bool:
        """
        Return whether the open part with this *suffix* is the file at its path.
        """
        try:
            held = os.fstat(self._parts[suffix])
            return os.path.samestat(os.stat(self._path + suffix), held)
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
            with closing(connect(self._path)) as db:
                return str(db.execute("PRAGMA quick_check(1)").fetchone()[0]) == "ok"
        except sqlite3.Error:
            return False


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
    or a lock file beside it that is not empty. A database without tables counts as one of ours:
    a daemon that is killed while it makes the file leaves that.

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
            page_header = file.read(PAGE_HEADER_SIZE)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableStore(f"the history file {path} cannot be used: {error.strerror}") from None
    application = int.from_bytes(header[68:72])
    # The header has no number until it is copied from the write-ahead log.
    no_tables = page_header[:1] == LEAF and page_header[3:5] == b"\0\0"  # its number of cells
    pending = application == 0 and (no_tables or _size(f"{path}-wal"))
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


def move_aside(path: str) -> str:
    """
    Rename the parts of a damaged file, and return its new path.
    """
    moved = time.strftime(f"{path}.damaged-%Y%m%dT%H%M%S")
    for suffix in PARTS:
        with suppress(FileNotFoundError):
            os.rename(path + suffix, moved + suffix)
    return moved
