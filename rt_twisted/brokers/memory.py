"""
The embedded broker in memory: one process, one log, nothing survives a restart.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.brokers.interfaces import IBroker, IPatterns, IReceiver
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import Draft, Message, Position, PublishResult


@implementer(IBroker, IPatterns)
class MemoryBroker:
    """
    Gives drafts positions and hands them straight to the hub.

    Its epoch is new with every start, so that a subscriber that reconnects after a
    restart receives a gap.

    Args:
        clock: for the age of idempotency keys.
        epoch: set by tests only.
    """

    def __init__(self, clock: IReactorTime, epoch: str = "") -> None:
        self._clock = clock
        self._epoch = epoch or secrets.token_hex(4)
        self._offset = 0
        self._keys = IdempotencyKeys()
        self._receiver: IReceiver

    def attach(self, receiver: IReceiver) -> None:
        self._receiver = receiver

    def position(self) -> Position:
        return Position(self._epoch, self._offset)

    def check_pattern(self, pattern: Wildcard) -> None:
        pass

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        return succeed(Position(self._epoch, 0))

    def unsubscribe(self, channel: Selector) -> None:
        pass

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        return succeed(PublishResult(tuple(map(self._append, drafts))))

    def _append(self, draft: Draft) -> Position:
        channel, key = draft.channel, draft.key
        if key is not None:
            known = self._keys.find(channel, key, self._clock.seconds())
            if known is not None:
                return known
        self._offset += 1
        position = Position(self._epoch, self._offset)
        if key is not None:
            self._keys.remember(channel, key, position, self._clock.seconds())
        self._receiver.receive(Message(channel, draft.data, position, draft.event))
        return position
