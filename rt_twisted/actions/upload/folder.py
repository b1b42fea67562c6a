"""
The folder of uploaded files: hidden parts, which get a name when they are complete.

The functions here block, and run in threads.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, EFBIG, EMLINK, ENOSPC, EOPNOTSUPP, EPERM

from rt_twisted.codecs.file_names import labeled_name
from rt_twisted.model.errors import HttpError

PREFIX = ".upload-"  # of hidden files in the folder
PART = ".part"
ID_BYTES = 16

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_FULL = frozenset((ENOSPC, EDQUOT, EFBIG))
_NO_LINKS = frozenset((EPERM, EOPNOTSUPP, EMLINK))  # of file systems without hard links
_NUMBERED = 9  # names that are tried in order before a random one


@dataclass(frozen=True, slots=True)
class UploadFolder:
    """
    Where uploads are stored.

    Args:
        path: of the folder, absolute.
        file: name of the file that each upload replaces; "" if each gets its own name.
    """

    path: str
    file: str = ""

    def part_path(self, id: str) -> str:
        """
        Return the path of the bytes of the upload *id*, until it is complete.
        """
        return f"{self.path}/{PREFIX}{id}{PART}"

    def create_part(self, id: str) -> int:
        """
        Create the part of a new upload, and return its file descriptor.
        """
        return os.open(self.part_path(id), os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)

    def open_part(self, id: str) -> int:
        """
        Open the part of an upload, and return its file descriptor.
        """
        return os.open(self.part_path(id), os.O_RDWR | _FLAGS)

    def names(self, name: str) -> Iterable[str]:
        """
        Yield the names to be tried for a file that is to be called *name*, without an end.
        """
        if self.file:
            yield self.file
            return
        yield name
        for number in range(2, _NUMBERED + 1):
            yield labeled_name(name, str(number))
        while True:
            yield labeled_name(name, secrets.token_hex(4))

    def publish(self, part: str, name: str) -> bool:
        """
        Give the file *part* the name *name*, unless another file has it.

        Returns:
            whether that was done.
        """
        path = f"{self.path}/{name}"
        if self.file:
            os.replace(part, path)
            return True
        try:
            os.link(part, path, follow_symlinks=False)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return _reserve_and_move(part, path)
        os.unlink(part)
        return True

    def sync(self) -> None:
        """
        Write the names in the folder to the disk.
        """
        folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def expire(self, seconds: float) -> int:
        """
        Remove the hidden files of uploads that got nothing for *seconds*.

        Returns:
            how many uploads were removed.
        """
        newest: dict[str, float] = {}
        paths: dict[str, list[str]] = {}
        with os.scandir(self.path) as entries:
            for entry in entries:
                if not entry.name.startswith(PREFIX):
                    continue
                id = entry.name.removeprefix(PREFIX).partition(".")[0]
                with suppress(FileNotFoundError):
                    changed = entry.stat(follow_symlinks=False).st_mtime
                    newest[id] = max(changed, newest.get(id, 0.0))
                    paths.setdefault(id, []).append(entry.path)
        old = time.time() - seconds
        expired = [id for id, changed in newest.items() if changed < old]
        for id in expired:
            for path in paths[id]:
                with suppress(FileNotFoundError):
                    os.unlink(path)
        return len(expired)


def new_id() -> str:
    """
    Return a random id for a new upload, of 128 bits.
    """
    return secrets.token_hex(ID_BYTES)


def _reserve_and_move(part: str, path: str) -> bool:
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666))
    except FileExistsError:
        return False
    os.replace(part, path)
    return True


def write_all(file: int, data: bytearray | bytes, offset: int) -> int:
    """
    Write *data* at *offset*.

    Returns:
        how many bytes were written: less than all if the disk is full.

    Raises:
        OSError: another error.
    """
    view = memoryview(data)
    written = 0
    while written < len(view):
        try:
            written += os.pwrite(file, view[written:], offset + written)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            break
    return written


def is_full(error: OSError) -> bool:
    """
    Return whether *error* says that the disk, or the user's part of it, is full.
    """
    return error.errno in _FULL


def disk_full() -> HttpError:
    """
    Return the error for an upload that does not fit on the disk.
    """
    return HttpError(507, "the disk is full")
