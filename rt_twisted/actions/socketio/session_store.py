"""
Connection state recovery: what is saved of clients that have disconnected.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.hub.subscriber import DisconnectReason

MAX_SAVED = 10_000  # clients...
MAX_SAVED_CHANNELS = 200_000  # ...and channels of all of them together


class ClosableSession(Protocol):
    """
    What the store needs of a client's session.
    """

    def close(self, why: str, *, cause: DisconnectReason) -> None:
        """
        Close the session.
        """


@dataclass(frozen=True, slots=True)
class SavedSession:
    """
    What is saved of a client that may recover.

    Args:
        id: of the client, which it keeps.
        namespace: to which it was connected.
        channels: that it had joined.
        data: of its application.
        until: when it expires, by the reactor's clock.
        subject: of the client's grant.
    """

    id: str
    namespace: str
    channels: tuple[Selector, ...]
    data: dict[str, Any]
    until: float
    subject: str = ""


class SessionStore:
    """
    The clients of this node that can recover, by key, whatever their route.

    Above MAX_SAVED or MAX_SAVED_CHANNELS those are removed that were saved first.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._connected: dict[str, ClosableSession] = {}
        self._saved: OrderedDict[str, SavedSession] = OrderedDict()  # the first to expire first
        self._channels = 0  # of all saved clients
        self._expiry: IDelayedCall | None = None

    def bind(self, key: str, session: ClosableSession) -> None:
        """
        Note that the client with *key* is connected, by *session*.
        """
        self._connected[key] = session

    def discard(self, key: str) -> None:
        """
        Make *key* invalid.
        """
        self._connected.pop(key, None)
        self._remove(key)

    def persist(self, key: str, saved: SavedSession) -> None:
        """
        Save a client that has disconnected, and may recover with *key*.
        """
        self.discard(key)
        self._saved[key] = saved
        self._channels += len(saved.channels)
        while len(self._saved) > MAX_SAVED or self._channels > MAX_SAVED_CHANNELS:
            self._remove(next(iter(self._saved)))
        self._schedule_expiry()

    def restore(self, key: str, session: ClosableSession) -> SavedSession | None:
        """
        Return what is saved for *key*; it stays valid until `discard`.

        A client that is rejected may try again, with another token for example. If another
        session still has the key, its client has reconnected before the loss of the old
        connection was noticed: that session is closed.

        Args:
            key: sent by the client.
            session: the client's new one.
        """
        before = self._connected.get(key)
        if before is not None and before is not session:
            before.close("transport close", cause=DisconnectReason.LOST)
        saved = self._saved.get(key)
        return saved if saved is not None and saved.until > self._clock.seconds() else None

    def _remove(self, key: str) -> None:
        saved = self._saved.pop(key, None)
        if saved is not None:
            self._channels -= len(saved.channels)

    def _schedule_expiry(self) -> None:
        if self._saved and self._expiry is None:
            first = next(iter(self._saved.values()))
            wait = max(1.0, first.until - self._clock.seconds())
            self._expiry = self._clock.callLater(wait, self._expire)

    def _expire(self) -> None:
        self._expiry = None
        now = self._clock.seconds()
        while self._saved:
            first = next(iter(self._saved))
            if self._saved[first].until > now:
                break
            self._remove(first)
        self._schedule_expiry()
