"""
The Engine.IO sessions of this node: found by their ids, looked at once a
second.
"""

from __future__ import annotations

import secrets
import string
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from rt_twisted.net.address_groups import AddressGroups

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.session import Session

_log = Logger()

_LETTERS = string.ascii_letters + string.digits


class SessionRegistry:
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
        self._sweep: IDelayedCall | None = None
        self._pending: AddressGroups[Session] = AddressGroups()

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

    def add_pending(self, session: Session, address: str, most: int) -> None:
        """
        Count *session* among those that have only shaken hands. One more than
        *most* ends the oldest of the address that has most of them.
        """
        self._pending.add(session, address)
        if len(self._pending) > most:
            oldest = self._pending.oldest_of_largest()
            assert oldest is not None
            oldest.expire()

    def confirm(self, session: Session) -> None:
        """
        *session* is pending no longer.
        """
        self._pending.discard(session)

    def forget(self, session: Session) -> None:
        """
        It is over.
        """
        self._pending.discard(session)
        self._sessions.pop(session.sid, None)
        if not self._sessions and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _swept(self) -> None:
        self._sweep = self.clock.callLater(1.0, self._swept)
        now = self.clock.seconds()
        due = [session for session in self._sessions.values() if session.due <= now]
        for session in due:
            try:
                session.look(now)
            except Exception:
                _log.failure("while looking after a session")
