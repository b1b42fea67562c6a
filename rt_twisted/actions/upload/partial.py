"""
An upload that is resumed by further requests, of any worker process, also after a crash.

The functions here block, and run in threads.

`.upload-ID.part` has the bytes. `.upload-ID.info` has a line with the writer, then what the client
said when it created the upload, then the result. A writer locks the second file only while it
writes a block, and checks that no other request has become the writer: a request that goes on with
an upload need not wait until the connection of the one before is lost.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from rt_twisted.actions.upload.folder import (
    PREFIX,
    UploadFolder,
    disk_full,
    is_full,
    write_all,
)
from rt_twisted.actions.upload.writeback import start_writeback
from rt_twisted.codecs.file_names import safe_name
from rt_twisted.model.errors import HttpError

_TOKEN = 16  # characters that name a writer
_LEASE = _TOKEN + 21  # bytes of the first line: the writer, and the offset of unchecked bytes
_MAX_INFO = 65536  # bytes: twice what request headers may have
_READ_SIZE = 1024 * 1024
_CHECKED = -1  # no bytes are unchecked


class Displaced(Exception):
    """
    Another request has become the writer of the upload.
    """


@dataclass(frozen=True, slots=True)
class UploadInfo:
    """
    What is known about an upload from its start.

    Args:
        id: of the upload.
        length: bytes.
        name: safe name that was requested.
        type: media type.
        metadata: header `Upload-Metadata` as received.
        channel: of the events; "" for none.
    """

    id: str
    length: int
    name: str
    type: str
    metadata: str
    channel: str = ""


class PartialHash:
    """
    The SHA-256 of the bytes that this process has written of an upload.
    """

    __slots__ = ("offset", "value")

    def __init__(self) -> None:
        self.value: Any = hashlib.sha256()
        self.offset = 0

    def catch_up(self, file: int, end: int) -> None:
        """
        Read those bytes of *file* up to *end* that are missing.
        """
        while self.offset < end:
            data = os.pread(file, min(_READ_SIZE, end - self.offset), self.offset)
            if not data:
                raise HttpError(500, "the upload has become shorter")
            self.value.update(data)
            self.offset += len(data)


class PartialUpload:
    """
    The right of one request to write an upload, until another request gets it.

    Args:
        folder: where it is stored.
        info: about it.
        lease: file descriptor of `.upload-ID.info`.
        token: names this writer.
        result: name and SHA-256 of the finished file; None while it is not finished.
        size: bytes that are stored.
    """

    def __init__(
        self,
        folder: UploadFolder,
        info: UploadInfo,
        lease: int,
        token: str,
        result: tuple[str, str] | None,
        size: int,
    ) -> None:
        self._folder = folder
        self.info = info
        self._lease = lease
        self._token = token
        self.result = result
        self.size = size
        self._part = -1

    @property
    def complete(self) -> bool:
        """
        Return whether all bytes are stored.
        """
        return self.size == self.info.length

    def begin(self, checked: bool) -> None:
        """
        Prepare to append.

        Args:
            checked: the bytes are removed again unless `accept` follows, also after a crash.
        """
        with self._locked():
            self._part = self._folder.open_part(self.info.id)
            if checked:
                _write_lease(self._lease, self._token, self.size)

    def append(self, block: bytearray | bytes, known: PartialHash | None = None) -> None:
        """
        Write the next bytes; what fits if the disk is full.

        Args:
            block: at most as many bytes as the upload lacks.
            known: is updated if it has all bytes so far.

        Raises:
            Displaced: another request writes now.
            HttpError: 507, the disk is full.
        """
        with self._locked():
            written = write_all(self._part, block, self.size)
        if known is not None and known.offset == self.size:
            known.value.update(memoryview(block)[:written])
            known.offset += written
        start_writeback(self._part, self.size, self.size + written)
        self.size += written
        if written < len(block):
            raise disk_full()

    def accept(self) -> None:
        """
        Keep the bytes that were appended since `begin`.

        Raises:
            Displaced: another request writes now.
        """
        with self._locked():
            _write_lease(self._lease, self._token, _CHECKED)

    def reject(self, size: int) -> None:
        """
        Remove the bytes behind *size*, those that were appended since `begin`.

        Raises:
            Displaced: another request writes now.
        """
        with self._locked():
            os.ftruncate(self._part, size)
            _write_lease(self._lease, self._token, _CHECKED)
        self.size = size

    def finish(self, known: PartialHash) -> tuple[str, str]:
        """
        Give the complete upload its name.

        Args:
            known: the hash of some first bytes; the rest is read.

        Returns:
            the name and the SHA-256 in hexadecimal.

        Raises:
            Displaced: another request writes now.
            HttpError: 507, the disk is full.
        """
        if self.result is not None:
            return self.result
        if self._part < 0:
            self._part = self._folder.open_part(self.info.id)
        try:
            os.fsync(self._part)
        except OSError as error:
            raise (disk_full() if is_full(error) else error) from None
        known.catch_up(self._part, self.info.length)
        digest = known.value.hexdigest()
        path = self._folder.part_path(self.info.id)
        with self._locked():
            at = _LEASE + len(_encode(self.info, self._folder))
            for name in self._folder.names(self.info.name):
                result = json.dumps([name, digest]).encode() + b"\n"
                os.ftruncate(self._lease, at)
                if write_all(self._lease, result, at) < len(result):
                    raise disk_full()
                os.fsync(self._lease)  # after a crash the name is known
                if self._folder.publish(path, name):
                    break
        self._folder.sync()
        self.result = name, digest
        return self.result

    def remove(self) -> None:
        """
        Remove the upload; a finished file stays.
        """
        with self._locked():
            for path in (
                self._folder.part_path(self.info.id),
                info_path(self._folder, self.info.id),
            ):
                with suppress(FileNotFoundError):
                    os.unlink(path)

    def close(self) -> None:
        """
        Close the files. The upload stays.
        """
        for file in (self._lease, self._part):
            if file >= 0:
                os.close(file)
        self._lease = self._part = -1

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lease, fcntl.LOCK_EX)
        try:
            if os.pread(self._lease, _TOKEN, 0) != self._token.encode():
                raise Displaced
            yield
        finally:
            fcntl.flock(self._lease, fcntl.LOCK_UN)


def info_path(folder: UploadFolder, id: str) -> str:
    """
    Return the path of the file that describes the upload *id*.
    """
    return f"{folder.path}/{PREFIX}{id}.info"


def create(folder: UploadFolder, info: UploadInfo) -> PartialUpload:
    """
    Create an upload without bytes.

    Raises:
        HttpError: 507, the disk is full.
    """
    token = secrets.token_hex(_TOKEN // 2)
    path = info_path(folder, info.id)
    try:
        os.close(folder.create_part(info.id))
        lease = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        _discard(folder, info.id)
        raise (disk_full() if is_full(error) else error) from None
    data = _lease_line(token, _CHECKED) + _encode(info, folder)
    if write_all(lease, data, 0) < len(data):
        os.close(lease)
        _discard(folder, info.id)
        raise disk_full()
    return PartialUpload(folder, info, lease, token, None, 0)


def acquire(folder: UploadFolder, id: str, channel: str = "") -> PartialUpload:
    """
    Become the writer of the upload *id*; a request that writes it is displaced.

    Args:
        folder: where it is stored.
        id: of the upload.
        channel: of its events.

    Raises:
        HttpError: 404, there is no such upload with this channel.
    """
    try:
        lease = os.open(info_path(folder, id), os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        raise _missing() from None
    try:
        fcntl.flock(lease, fcntl.LOCK_EX)
        upload = _read(folder, id, lease, channel)
        fcntl.flock(lease, fcntl.LOCK_UN)
    except BaseException:
        os.close(lease)
        raise
    return upload


def _read(folder: UploadFolder, id: str, lease: int, channel: str) -> PartialUpload:
    if not os.fstat(lease).st_nlink:
        raise _missing()  # it was removed meanwhile
    line, _, rest = os.pread(lease, _MAX_INFO, 0).partition(b"\n")
    lines = rest.splitlines(keepends=True)
    try:
        floor = int(line[_TOKEN:])
        about = json.loads(lines[0])
        to = about.pop("to")
        info = UploadInfo(id, **about)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise _missing() from None  # the daemon crashed while it was created
    if safe_name(info.name) != info.name:
        raise _missing()  # written by another program that may write to the folder
    if to != folder.file:
        raise _missing()  # of another route
    if info.channel != channel:
        raise _missing()  # of another client
    result = _read_result(folder, id, lines[1:])
    size = info.length
    token = secrets.token_hex(_TOKEN // 2)
    if result is None:
        try:
            size = os.stat(folder.part_path(id), follow_symlinks=False).st_size
            if 0 <= floor < size:
                part = folder.open_part(id)
                os.ftruncate(part, floor)
                os.close(part)
                size = floor
        except FileNotFoundError:
            raise _missing() from None
    _write_lease(lease, token, _CHECKED)
    return PartialUpload(folder, info, lease, token, result, size)


def _read_result(folder: UploadFolder, id: str, lines: list[bytes]) -> tuple[str, str] | None:
    """
    Return name and SHA-256 of a file that is finished.
    """
    if not lines or not lines[0].endswith(b"\n"):
        return None
    name, digest = json.loads(lines[0])
    part = folder.part_path(id)
    if not os.path.lexists(part):
        return name, digest
    # The daemon crashed before the file had its name, or between this and the next step.
    with suppress(FileNotFoundError):
        if os.path.samefile(part, f"{folder.path}/{name}"):
            os.unlink(part)
            return name, digest
    return None


def _lease_line(token: str, floor: int) -> bytes:
    return f"{token}{floor:>20}\n".encode()


def _write_lease(lease: int, token: str, floor: int) -> None:
    # In place: it needs no space on a full disk.
    os.pwrite(lease, _lease_line(token, floor), 0)


def _encode(info: UploadInfo, folder: UploadFolder) -> bytes:
    about = {
        "length": info.length,
        "name": info.name,
        "type": info.type,
        "metadata": info.metadata,
        "to": folder.file,
    }
    if info.channel:
        about["channel"] = info.channel
    return json.dumps(about).encode() + b"\n"


def _discard(folder: UploadFolder, id: str) -> None:
    for path in (folder.part_path(id), info_path(folder, id)):
        with suppress(FileNotFoundError):
            os.unlink(path)


def _missing() -> HttpError:
    return HttpError(404, "there is no such upload: it may have expired")
