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


class UploadTurn:
    """
    One request's turn to write an upload.

    Attributes:
        stop: ends it soon; set by who writes.
        hash: of the bytes that this process has written.
    """

    def __init__(self, hash: PartialHash) -> None:
        self.stop: Callable[[HttpError], object] = _ignore
        self.hash = hash
        self.waiting: list[Deferred[None]] = []


class UploadTurns:
    """
    Lets one request of this process write an upload at a time; shared by all routes.

    A request that asks for a turn ends the one before it: a client that has lost its connection
    goes on at once.
    """

    def __init__(self) -> None:
        self._turns: dict[str, UploadTurn] = {}
        self._hashes: OrderedDict[str, PartialHash] = OrderedDict()

    async def take(self, id: str) -> UploadTurn:
        """
        Return the turn to write the upload *id*, when what others have received is written.
        """
        while (turn := self._turns.get(id)) is not None:
            ended: Deferred[None] = Deferred()
            turn.waiting.append(ended)
            turn.stop(HttpError(423, "another request goes on with the upload"))
            await ended
        known = self._hashes.pop(id) if id in self._hashes else PartialHash()
        turn = self._turns[id] = UploadTurn(known)
        return turn

    def release(self, id: str, turn: UploadTurn, keep: bool) -> None:
        """
        End a turn.

        Args:
            id: of the upload.
            turn: of the caller.
            keep: the hash is that of the stored bytes, and may be needed again.
        """
        del self._turns[id]
        if keep:
            self._hashes[id] = turn.hash
            if len(self._hashes) > MAX_HASHES:
                self._hashes.popitem(last=False)
        for ended in turn.waiting:
            ended.callback(None)


def _ignore(reason: HttpError) -> None:
    pass
