"""
A file that one request uploads whole: hidden until it is complete. Blocks, and runs in threads.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress

from rt_twisted.actions.upload.folder import UploadFolder, disk_full, is_full, write_all
from rt_twisted.actions.upload.writeback import start_writeback


class NewFile:
    """
    A file that is being uploaded.

    Args:
        folder: where it is stored.
        id: of the upload.

    Raises:
        HttpError: 507, the disk is full.
        OSError: it cannot be created.

    Attributes:
        size: bytes that were written.
    """

    def __init__(self, folder: UploadFolder, id: str) -> None:
        self._folder = folder
        self._path = folder.part_path(id)
        self._hash = hashlib.sha256()
        self.size = 0
        self._file = -1
        try:
            self._file = folder.create_part(id)
        except OSError as error:
            raise (disk_full() if is_full(error) else error) from None

    def append(self, block: bytearray | bytes) -> None:
        """
        Write the next bytes.

        Raises:
            HttpError: 507, the disk is full.
        """
        if write_all(self._file, block, self.size) < len(block):
            raise disk_full()
        self._hash.update(block)
        start_writeback(self._file, self.size, self.size + len(block))
        self.size += len(block)

    def end(self) -> None:
        """
        Write the file to the disk, and close it. Does nothing if that was done.

        Raises:
            HttpError: 507, the disk is full.
        """
        if self._file < 0:
            return
        try:
            os.fsync(self._file)
        except OSError as error:
            raise (disk_full() if is_full(error) else error) from None
        self._close()

    def finish(self, name: str) -> tuple[str, str]:
        """
        Write the file to the disk, and give it its name.

        Args:
            name: safe; another one is used if a file has it.

        Returns:
            the name, and the SHA-256 in hexadecimal.
        """
        self.end()
        for final in self._folder.names(name):
            if self._folder.publish(self._path, final):
                break
        self._folder.sync()
        return final, self._hash.hexdigest()

    def discard(self) -> None:
        """
        Remove the file, unless it is finished.
        """
        if self._file >= 0:
            self._close()
        with suppress(FileNotFoundError):  # it has its name
            os.unlink(self._path)

    def _close(self) -> None:
        os.close(self._file)
        self._file = -1
