"""
The Engine.IO sessions of this node: found by id, checked once a second.
"""

from __future__ import annotations

import secrets
import string
from typing import Generic, Protocol, TypeVar

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rt_twisted.net.address_groups import AddressGroups

_log = Logger()

_LETTERS = string.ascii_letters + string.digits


class RegisteredSession(Protocol):
    """
    What the registry needs of a session.
    """

    @property
    def sid(self) -> str:
        """
        The session's id.
        """

    @property
    def due(self) -> float:
        """
        When to call `check` next.
        """

    def check(self, now: float) -> None:
        """
        Do what is due at the time *now*: ping, time out.
        """

    def expire(self) -> None:
        """
        Close the session, as there are too many pending ones.
        """


S = TypeVar("S", bound=RegisteredSession)


class SessionRegistry(Generic[S]):
    """
    All open sessions.

    Session ids begin with a word for this node: closed sessions can be distinguished from
    those of other nodes.

    Args:
        clock: the reactor.
        node: the word; "" makes a random one.
    """

    def __init__(self, clock: IReactorTime, node: str = "") -> None:
        self._clock = clock
        self.node = node or "".join(secrets.choice(_LETTERS) for _ in range(6))
        self._sessions: dict[str, S] = {}
        self._sweep: IDelayedCall | None = None
        self._pending: AddressGroups[S] = AddressGroups()

    def __len__(self) -> int:
        return len(self._sessions)

    def new_id(self) -> str:
        """
        Return a session id that cannot be guessed.
        """
        return f"{self.node}-{secrets.token_urlsafe(18)}"

    def find(self, sid: str) -> S | None:
        """
        Return the open session with the id *sid*.
        """
        return self._sessions.get(sid)

    def add(self, session: S) -> None:
        """
        Check *session* when it is due, until it is removed.
        """
        self._sessions[session.sid] = session
        if self._sweep is None:
            self._sweep = self._clock.callLater(1.0, self._check_due)

    def add_pending(self, session: S, address: str, limit: int) -> None:
        """
        Count *session* as pending: its client has sent the handshake only.

        Above the limit the oldest pending session of the address with the most of
        them expires.

        Args:
            session: new.
            address: the client's.
            limit: how many sessions may be pending.
        """
        self._pending.add(session, address)
        if len(self._pending) > limit:
            oldest = self._pending.oldest_of_largest()
            assert oldest is not None
            oldest.expire()

    def confirm(self, session: S) -> None:
        """
        Stop counting *session* as pending.
        """
        self._pending.discard(session)

    def remove(self, session: S) -> None:
        """
        Forget *session*, which is closed.
        """
        self._pending.discard(session)
        self._sessions.pop(session.sid, None)
        if not self._sessions and self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _check_due(self) -> None:
        self._sweep = self._clock.callLater(1.0, self._check_due)
        now = self._clock.seconds()
        due = [session for session in self._sessions.values() if session.due <= now]
        for session in due:
            try:
                session.check(now)
            except Exception:
                _log.failure("error while checking an Engine.IO session")
