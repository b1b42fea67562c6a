"""
The Engine.IO sessions of this node: found by their ids, looked at once a
second.
"""

from __future__ import annotations

import secrets
import string
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from rt_twisted.subscriber import Cause

if TYPE_CHECKING:
    from rt_twisted.actions.engineio_session import Session

_log = Logger()

MAX_LEFT = 10_000  # of whom something is kept for when they come back...
MAX_LEFT_CHANNELS = 200_000  # ...and what all of them together heard
_LETTERS = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Left:
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


class Sessions:
    """
    All of them, whatever route they came by; they outlive a reload.

    Session ids begin with a word for this node: one that another node gave out
    is told from one that is over.

    Args:
        clock: the reactor.
        node: that word; "" makes one.
    """

    def __init__(self, clock: Any, node: str = "") -> None:
        self.clock = clock
        self.node = node or "".join(secrets.choice(_LETTERS) for _ in range(6))
        self._sessions: dict[str, Session] = {}
        self._here: dict[str, Session] = {}
        self._left: OrderedDict[str, Left] = OrderedDict()
        self._left_channels = 0
        self._sweep: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def new_id(self) -> str:
        """
        An id that nobody can guess.
        """
        return f"{self.node}-{secrets.token_urlsafe(18)}"

    def find(self, sid: str) -> Session | None:
        """
        The session with this id.
        """
        return self._sessions.get(sid)

    def add(self, session: Session) -> None:
        """
        Look after *session* until it is over.
        """
        self._sessions[session.sid] = session
        if self._sweep is None:
            self._sweep = self.clock.callLater(1.0, self._swept)

    def forget(self, session: Session) -> None:
        """
        It is over.
        """
        self._sessions.pop(session.sid, None)
        if not self._sessions and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def here(self, key: str, session: Session) -> None:
        """
        Who has *key* is in *session*, until it is kept or dropped.
        """
        self._here[key] = session

    def drop(self, key: str) -> None:
        """
        Who had *key* will not come back.
        """
        self._here.pop(key, None)

    def keep(self, key: str, left: Left) -> None:
        """
        Remember a client that may come back with *key*.
        """
        self.drop(key)
        self._take(key)
        self._left[key] = left
        self._left_channels += len(left.channels)
        while len(self._left) > MAX_LEFT or self._left_channels > MAX_LEFT_CHANNELS:
            self._take(next(iter(self._left)))

    def take_back(self, key: str, session: Session) -> Left | None:
        """
        What is remembered of a client that has come back with *key* by *session*;
        once. One whose last answer was lost may come back before it is missed.
        """
        before = self._here.get(key)
        if before is not None and before is not session:
            before.close("transport close", cause=Cause.LOST)
        left = self._take(key)
        return left if left is not None and left.until > self.clock.seconds() else None

    def _take(self, key: str) -> Left | None:
        left = self._left.pop(key, None)
        if left is not None:
            self._left_channels -= len(left.channels)
        return left

    def _swept(self) -> None:
        self._sweep = self.clock.callLater(1.0, self._swept)
        now = self.clock.seconds()
        while self._left and self._left[first := next(iter(self._left))].until <= now:
            self._take(first)
        due = [session for session in self._sessions.values() if session.due <= now]
        for session in due:
            try:
                session.look(now)
            except Exception:
                _log.failure("while looking after a session")


def sessions_of(kept: dict[str, Any], clock: Any, node: str = "") -> Sessions:
    """
    The sessions among what actions keep over a reload; see `Sessions`.
    """
    found = kept.get("engineio")
    if found is None:
        found = kept["engineio"] = Sessions(clock, node)
    assert isinstance(found, Sessions)
    return found
