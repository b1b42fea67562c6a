"""
Uploads that are resumed: tus 1.0.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

from rt_twisted.actions.upload.disk_writer import DiskWriter
from rt_twisted.actions.upload.events import UploadedFile, UploadEvents
from rt_twisted.actions.upload.folder import new_id
from rt_twisted.actions.upload.locks import UploadLock, UploadLocks
from rt_twisted.actions.upload.partial import (
    Displaced,
    PartialHash,
    PartialUpload,
    UploadInfo,
    acquire,
    create,
)
from rt_twisted.actions.upload.rules import UploadRules, file_type
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.file_names import safe_name
from rt_twisted.codecs.query import media_type
from rt_twisted.codecs.tus import (
    BODY_TYPE,
    CHECKSUM_MISMATCH,
    RESPONSE_HEADERS,
    VERSION,
    UploadChecksum,
    read_checksum,
    read_metadata,
    read_number,
)
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

ID = re.compile(r"[0-9a-f]{32}")
_EXPOSED = ("Access-Control-Expose-Headers", ", ".join((*RESPONSE_HEADERS, "X-File-Name")))
_NAMES = ("filename", "name")  # of Uppy and tus-js-client, and of others
_TYPES = ("filetype", "type", "contentType")


class ResumedUploads:
    """
    Serves the requests of tus on one route.

    Args:
        rules: of the route.
        channel: of the events; "" for none.
    """

    def __init__(self, rules: UploadRules, channel: str) -> None:
        self._rules = rules
        self._channel = channel
        self._threads = rules.threads
        self._locks = rules.context.shared.get(UploadLocks, UploadLocks)

    async def act(self, exchange: IExchange, method: str, id: str) -> None:
        """
        Answer a request.

        Args:
            exchange: authorized.
            method: POST for a new upload; else HEAD, PATCH or DELETE.
            id: of the upload; "" for a new one.

        Raises:
            HttpError: see the protocol. Its headers are complete.
            ConnectionLost: the client has disconnected. What it has sent is stored.
        """
        try:
            if exchange.header("tus-resumable") != VERSION:
                supported = [("Tus-Version", VERSION)]
                raise HttpError(412, f"Tus-Resumable must be {VERSION}", supported)
            if method == "POST":
                await self._create(exchange)
            elif method == "HEAD":
                await self._describe(exchange, id)
            elif method == "PATCH":
                await self._append(exchange, id)
            else:
                await self._remove(exchange, id)
        except RemoteProtocolError as error:
            raise HttpError(error.status, error.reason, _tus()) from None
        except Displaced:
            reason = "another request goes on with the upload"
            raise HttpError(423, reason, _tus()) from None
        except HttpError as error:
            raise HttpError(error.status, error.reason, _tus(*error.headers)) from None

    async def _create(self, exchange: IExchange) -> None:
        for name in ("Upload-Defer-Length", "Upload-Concat"):
            if exchange.header(name.lower()) is not None:
                raise HttpError(400, f"{name} is not supported")
        length = read_number("Upload-Length", exchange.header("upload-length"))
        has_body = exchange.length != 0
        if has_body:
            _check_body_type(exchange)
        self._rules.check_length(length)
        if (exchange.length or 0) > length:
            raise HttpError(413, "the body is larger than the upload")
        given = exchange.header("upload-metadata") or ""
        metadata = read_metadata(given)
        name = safe_name(next(filter(None, map(metadata.get, _NAMES)), ""))
        kind = next(filter(None, map(metadata.get, _TYPES)), "")
        info = UploadInfo(new_id(), length, name, file_type(kind, name), given, self._channel)
        self._rules.check_type(info.type)
        checksum = _checksum(exchange)
        headers = [("Location", _location(exchange, info.id))]
        async with self._lock(info.id) as lock:
            upload = await self._threads.run(create, self._rules.folder, info)
            try:
                await self._receive(exchange, upload, lock, checksum, 201, headers)
            finally:
                await self._threads.run(upload.close)

    async def _append(self, exchange: IExchange, id: str) -> None:
        _check_body_type(exchange)
        offset = read_number("Upload-Offset", exchange.header("upload-offset"))
        checksum = _checksum(exchange)
        async with self._lock(id) as lock:
            upload = await self._threads.run(acquire, self._rules.folder, id, self._channel)
            try:
                if offset != upload.size:
                    stored = [("Upload-Offset", str(upload.size))]
                    raise HttpError(409, f"the upload has {upload.size} bytes", stored)
                await self._receive(exchange, upload, lock, checksum, 204, [])
            finally:
                await self._threads.run(upload.close)

    async def _describe(self, exchange: IExchange, id: str) -> None:
        async with self._lock(id) as lock:
            upload = await self._threads.run(acquire, self._rules.folder, id, self._channel)
            try:
                headers = [
                    ("Cache-Control", "no-store"),
                    ("Upload-Length", str(upload.info.length)),
                ]
                if upload.info.metadata:
                    headers.append(("Upload-Metadata", upload.info.metadata))
                headers += await self._finish(upload, lock)
            finally:
                await self._threads.run(upload.close)
        exchange.answer(200, headers=_tus(*headers))

    async def _remove(self, exchange: IExchange, id: str) -> None:
        async with self._lock(id):
            upload = await self._threads.run(acquire, self._rules.folder, id, self._channel)
            try:
                await self._threads.run(upload.remove)
            finally:
                await self._threads.run(upload.close)
        exchange.answer(204, headers=_tus())

    @asynccontextmanager
    async def _lock(self, id: str) -> AsyncIterator[UploadLock]:
        lock = await self._locks.acquire(id)
        keep = False
        try:
            yield lock
            keep = lock.hash.offset > 0
        except Displaced:
            raise
        except BaseException:
            keep = lock.hash.offset > 0
            raise
        finally:
            self._locks.release(id, lock, keep)

    async def _receive(
        self,
        exchange: IExchange,
        upload: PartialUpload,
        lock: UploadLock,
        checksum: UploadChecksum | None,
        status: int,
        headers: list[Header],
    ) -> None:
        """
        Append the body of a request, and answer it.
        """
        start, missing = upload.size, upload.info.length - upload.size
        if (exchange.length or 0) > missing or (exchange.length is None and not missing):
            raise HttpError(413, "the body is larger than what the upload lacks")
        if exchange.length != 0:
            digest = None if checksum is None else hashlib.new(checksum.algorithm)
            await self._threads.run(upload.begin, checksum is not None)
            events = self._events(upload)
            writer = DiskWriter(
                exchange,
                self._threads,
                self._rules.context.reactor,
                lambda block: _append(upload, block, lock.hash, digest),
                missing,
                lambda written: events.progress(start + written),
            )
            lock.stop = writer.stop
            writer.start()
            try:
                await writer.done
                if checksum is not None and digest is not None:
                    if not hmac.compare_digest(digest.digest(), checksum.digest):
                        raise HttpError(CHECKSUM_MISMATCH, "the checksum is another one")
                    await self._threads.run(upload.accept)
            except Displaced:
                raise
            except BaseException:
                if checksum is not None:
                    lock.hash = PartialHash()
                    await self._threads.run(upload.reject, start)
                raise
        headers += await self._finish(upload, lock)
        exchange.answer(status, headers=_tus(*headers))

    async def _finish(self, upload: PartialUpload, lock: UploadLock) -> list[Header]:
        """
        Give an upload its name if it is complete and has none.

        Returns:
            headers that say how far it is.
        """
        headers = [("Upload-Offset", str(upload.size))]
        if not upload.complete:
            expires = formatdate(time.time() + self._rules.expire, usegmt=True)
            return [*headers, ("Upload-Expires", expires)]
        if upload.result is None:
            if lock.hash.offset > upload.size:
                lock.hash = PartialHash()
            name, digest = await self._threads.run(upload.finish, lock.hash)
            info = upload.info
            file = UploadedFile(published_id(info.id), name, info.length, info.type, digest)
            await self._events(upload).uploaded(file)
        lock.hash = PartialHash()  # not needed again
        name = upload.result[0] if upload.result is not None else ""
        return [*headers, ("X-File-Name", quote(name, safe=""))]

    def _events(self, upload: PartialUpload) -> UploadEvents:
        info = upload.info
        id = published_id(info.id)
        return UploadEvents(self._rules.context, self._channel, id, info.name, info.length)


def published_id(id: str) -> str:
    """
    Return the name of the upload *id* in events. The id is secret: it permits writing the upload.
    """
    return hashlib.sha256(id.encode()).hexdigest()[:32]


def _append(upload: PartialUpload, block: bytearray, known: PartialHash, digest: Any) -> None:
    """
    Write a block, in a thread.
    """
    upload.append(block, known)
    if digest is not None:
        digest.update(block)


def _tus(*headers: Header) -> list[Header]:
    return [("Tus-Resumable", VERSION), *headers, _EXPOSED]


def _check_body_type(exchange: IExchange) -> None:
    if media_type(exchange.header("content-type") or "") != BODY_TYPE:
        raise HttpError(415, f"the Content-Type must be {BODY_TYPE}")


def _checksum(exchange: IExchange) -> UploadChecksum | None:
    value = exchange.header("upload-checksum")
    return None if value is None else read_checksum(value)


def _location(exchange: IExchange, id: str) -> str:
    """
    Return the URL of an upload, relative to the one that was requested: a proxy may have
    changed the beginning of its path.
    """
    last = quote(exchange.path.rpartition("/")[2], safe="")
    return f"{last}/{id}" if last else id
