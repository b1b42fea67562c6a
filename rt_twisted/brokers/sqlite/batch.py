"""
Batches of messages for the history file, and their positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.brokers.sqlite.database import KeyUse
from rt_twisted.model.message import Draft, Message, Position, PublishResult


@dataclass(slots=True)
class SqlitePublication:
    """
    The drafts of one call of `publish`.
    """

    drafts: Sequence[Draft]
    done: Deferred[PublishResult]
    positions: tuple[Position, ...] = field(default=(), init=False)


@dataclass(slots=True)
class SqliteBatch:
    """
    What is written in one transaction: first *delivered* messages that were delivered
    already, while the file could not be written, then those of *publications*.
    """

    publications: Sequence[SqlitePublication]
    delivered: int
    messages: list[Message]
    keys: list[KeyUse]


class BatchBuilder:
    """
    Assigns positions to drafts, the old one where an idempotency key is known.

    Args:
        clock: for the age of idempotency keys.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._keys = IdempotencyKeys()
        self._last = Position("", 0)

    def continue_after(self, position: Position) -> None:
        """
        Assign the positions after *position* from now on.
        """
        self._last = position

    def build(
        self,
        publications: Sequence[SqlitePublication],
        messages: list[Message],
        keys: list[KeyUse],
    ) -> SqliteBatch:
        """
        Return a batch of *publications* after *messages*, which were delivered already.

        Only the last position is kept: a batch that fails may be built again, after
        `continue_after`.
        """
        batch = SqliteBatch(publications, len(messages), messages, keys)
        now = self._clock.seconds()
        used: dict[tuple[str, str], Position] = {}
        for publication in publications:
            publication.positions = tuple(
                [self._assign(draft, batch, used, now) for draft in publication.drafts]
            )
        return batch

    def _assign(
        self, draft: Draft, batch: SqliteBatch, used: dict[tuple[str, str], Position], now: float
    ) -> Position:
        if draft.key is not None:
            known = used.get((draft.channel, draft.key))
            known = known or self._keys.find(draft.channel, draft.key, now)
            if known is not None:
                return known
        position = self._last = Position(self._last.epoch, self._last.offset + 1)
        batch.messages.append(Message(draft.channel, draft.data, position, draft.event))
        if draft.key is not None:
            used[draft.channel, draft.key] = position
            batch.keys.append(KeyUse(draft.channel, draft.key, position.offset, now))
        return position

    def remember(self, epoch: str, keys: Sequence[KeyUse]) -> None:
        """
        Remember the idempotency keys of messages of *epoch*.
        """
        for use in keys:
            self._keys.remember(use.channel, use.key, Position(epoch, use.offset), use.time)
