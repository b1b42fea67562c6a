"""
Connection state recovery: who has left and may come back, and what it heard.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rt_twisted.hub.subscriber import DisconnectReason

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.session import Session

MAX_SAVED = 10_000  # of whom something is kept...
MAX_SAVED_CHANNELS = 200_000  # ...and what all of them together heard


@dataclass(frozen=True, slots=True)
class SavedSession:
    """
    What is kept of a client that may come back.

    Args:
        id: its own, which it keeps.
        namespace: where it was.
        channels: that it heard.
        data: whatever its application kept there.
        until: when it is forgotten.
    """

    id: str
    namespace: str
    channels: tuple[str, ...]
    data: dict[str, Any]
    until: float


class SessionStore:
    """
    All clients of this node that can come back with a key, whatever route they came
    by; outlives a reload.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._here: dict[str, Session] = {}
        self._left: OrderedDict[str, SavedSession] = OrderedDict()  # who is forgotten first first
        self._channels = 0  # of those who left
        self._forgetting: Any = None  # the call

    def here(self, key: str, session: Session) -> None:
        """
        Who has *key* is in *session*, until it is kept or dropped.
        """
        self._here[key] = session

    def drop(self, key: str) -> None:
        """
        Nobody comes back with *key* any more.
        """
        self._here.pop(key, None)
        self._take(key)

    def persist(self, key: str, left: SavedSession) -> None:
        """
        Remember a client that may come back with *key*.
        """
        self.drop(key)
        self._left[key] = left
        self._channels += len(left.channels)
        while len(self._left) > MAX_SAVED or self._channels > MAX_SAVED_CHANNELS:
            self._take(next(iter(self._left)))
        self._forget_later()

    def find(self, key: str, session: Session) -> SavedSession | None:
        """
        What is remembered of a client that comes back with *key* by *session*, until
        it is let in and *key* dropped: who is refused may try again, with another
        token, say. One whose last answer was lost may come back before it is missed.
        """
        before = self._here.get(key)
        if before is not None and before is not session:
            before.close("transport close", cause=DisconnectReason.LOST)
        left = self._left.get(key)
        return left if left is not None and left.until > self._clock.seconds() else None

    def _take(self, key: str) -> None:
        left = self._left.pop(key, None)
        if left is not None:
            self._channels -= len(left.channels)

    def _forget_later(self) -> None:
        if self._left and self._forgetting is None:
            first = next(iter(self._left.values()))
            wait = max(1.0, first.until - self._clock.seconds())
            self._forgetting = self._clock.callLater(wait, self._forget)

    def _forget(self) -> None:
        self._forgetting = None
        now = self._clock.seconds()
        while self._left:
            first = next(iter(self._left))
            if self._left[first].until > now:
                break
            self._take(first)
        self._forget_later()
