"""
The uploads that requests of this process are writing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from twisted.internet.defer import Deferred

from rt_twisted.actions.upload.partial import PartialHash
from rt_twisted.model.errors import HttpError

MAX_HASHES = 1000  # of uploads between two requests; the files of others are read again


class UploadLock:
    """
    The right of one request to write an upload.

    Attributes:
        stop: ends it soon; set by who writes.
        hash: of the bytes that this process has written.
    """

    def __init__(self, hash: PartialHash) -> None:
        self.stop: Callable[[HttpError], object] = _ignore
        self.hash = hash
        self.waiting: list[Deferred[None]] = []


class UploadLocks:
    """
    Lets one request of this process write an upload at a time; shared by all routes.

    A request that asks for a lock ends the one before it: a client that has lost its connection
    goes on at once.
    """

    def __init__(self) -> None:
        self._locks: dict[str, UploadLock] = {}
        self._hashes: OrderedDict[str, PartialHash] = OrderedDict()

    async def acquire(self, id: str) -> UploadLock:
        """
        Return the lock to write the upload *id*, when what others have received is written.
        """
        while (lock := self._locks.get(id)) is not None:
            ended: Deferred[None] = Deferred()
            lock.waiting.append(ended)
            lock.stop(HttpError(423, "another request goes on with the upload"))
            await ended
        known = self._hashes.pop(id) if id in self._hashes else PartialHash()
        lock = self._locks[id] = UploadLock(known)
        return lock

    def release(self, id: str, lock: UploadLock, keep: bool) -> None:
        """
        Release a lock.

        Args:
            id: of the upload.
            lock: of the caller.
            keep: the hash is that of the stored bytes, and may be needed again.
        """
        del self._locks[id]
        if keep:
            self._hashes[id] = lock.hash
            if len(self._hashes) > MAX_HASHES:
                self._hashes.popitem(last=False)
        for ended in lock.waiting:
            ended.callback(None)


def _ignore(reason: HttpError) -> None:
    pass
