"""
Idempotency keys of published messages.
"""

from __future__ import annotations

from collections import OrderedDict

from rt_twisted.model.message import Position

KEY_SECONDS = 300.0  # a key is known for five minutes, as in Centrifugo
MAX_KEYS = 10_000  # beyond these the oldest are forgotten early


class IdempotencyKeys:
    """
    Positions of messages by idempotency key, for `KEY_SECONDS`.
    """

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[str, str], tuple[float, Position]] = OrderedDict()

    def find(self, channel: str, key: str, now: float) -> Position | None:
        """
        Return the position of the message of *channel* with *key*; None for a new key.
        """
        known = self._known.get((channel, key))
        return known[1] if known is not None and known[0] > now else None

    def remember(self, channel: str, key: str, position: Position, now: float) -> None:
        """
        Store the *position* of a message that was published at *now* (seconds).
        """
        known = self._known
        known[channel, key] = (now + KEY_SECONDS, position)
        known.move_to_end((channel, key))
        while len(known) > MAX_KEYS or next(iter(known.values()))[0] <= now:
            known.popitem(last=False)
