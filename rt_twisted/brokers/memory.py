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

from rt_twisted.interfaces import IBroker, Receive
from rt_twisted.message import Draft, Message, Position

KEY_MEMORY = 300.0  # seconds; five minutes, as Centrifugo keeps idempotency keys
KEYS = 10_000  # of those, before the oldest are forgotten early


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
        self._keys: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()
        self._receive: Receive

    def attach(self, receive: Receive) -> None:
        """
        See `IBroker.attach`.
        """
        self._receive = receive

    def position(self) -> Position:
        """
        The last number given.
        """
        return Position(self._epoch, self._offset)

    def subscribe(self, channel: str) -> None:
        """
        Nothing to do: every channel is received.
        """

    def unsubscribe(self, channel: str) -> None:
        """
        Nothing to do either.
        """

    def publish(self, drafts: Sequence[Draft]) -> Deferred[list[Position]]:
        """
        Fires at once; cannot fail.
        """
        return succeed([self._append(draft) for draft in drafts])

    def _append(self, draft: Draft) -> Position:
        if draft.key is not None:
            known = self._keys.get((draft.channel, draft.key))
            if known is not None and known[0] > self._clock.seconds():
                return known[1]
        self._offset += 1
        position = Position(self._epoch, self._offset)
        if draft.key is not None:
            self._remember((draft.channel, draft.key), position)
        self._receive(Message(draft.channel, draft.data, position, draft.event))
        return position

    def _remember(self, key: tuple[str, str], position: Position) -> None:
        now = self._clock.seconds()
        keys = self._keys
        keys[key] = (now + KEY_MEMORY, position)
        keys.move_to_end(key)
        while len(keys) > KEYS or next(iter(keys.values()))[0] <= now:
            keys.popitem(last=False)
