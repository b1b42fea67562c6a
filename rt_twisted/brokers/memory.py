"""
The embedded broker: one process, one log, nothing survives a restart.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IBroker, IReceiver
from rt_twisted.model.message import Draft, Message, Position, PublishResult

KEY_MEMORY = 300.0  # seconds; five minutes, as Centrifugo keeps idempotency keys
KEYS = 10_000  # of those, before the oldest are forgotten early


class KnownKeys:
    """
    Idempotency keys and where their messages went, for `KEY_MEMORY` seconds.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()

    def find(self, channel: str, key: str, now: float) -> Position | None:
        """
        Where the message of *channel* with *key* went; None for a new one.
        """
        known = self._known.get((channel, key))
        return known[1] if known is not None and known[0] > now else None

    def remember(self, channel: str, key: str, position: Position, now: float) -> None:
        """
        The message of *channel* with *key* went to *position* at *now* (seconds).
        """
        known = self._known
        known[channel, key] = (now + KEY_MEMORY, position)
        known.move_to_end((channel, key))
        while len(known) > KEYS or next(iter(known.values()))[0] <= now:
            known.popitem(last=False)


@implementer(IBroker)
class MemoryBroker:
    """
    Numbers drafts and hands them straight to the hub.

    Its epoch is new with every start, so a reader that comes back after a
    restart is told of the gap.

    Args:
        clock: for the age of idempotency keys.
        epoch: only tests name one.
    """

    def __init__(self, clock: IReactorTime, epoch: str = "") -> None:
        self._clock = clock
        self._epoch = epoch or secrets.token_hex(4)
        self._offset = 0
        self._keys = KnownKeys()
        self._receiver: IReceiver

    def attach(self, receiver: IReceiver) -> None:
        """
        See `IBroker.attach`.
        """
        self._receiver = receiver

    def position(self) -> Position:
        """
        The last number given.
        """
        return Position(self._epoch, self._offset)

    def subscribe(self, channel: str) -> Deferred[Position]:
        """
        Fires at once: every channel is received, from the first message.
        """
        return succeed(Position(self._epoch, 0))

    def unsubscribe(self, channel: str) -> None:
        """
        Nothing to do either.
        """

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Fires at once; cannot fail.
        """
        return succeed(PublishResult(tuple([self._append(draft) for draft in drafts])))

    def _append(self, draft: Draft) -> Position:
        if draft.key is not None:
            known = self._keys.find(draft.channel, draft.key, self._clock.seconds())
            if known is not None:
                return known
        self._offset += 1
        position = Position(self._epoch, self._offset)
        if draft.key is not None:
            self._keys.remember(draft.channel, draft.key, position, self._clock.seconds())
        self._receiver.receive(Message(draft.channel, draft.data, position, draft.event))
        return position
