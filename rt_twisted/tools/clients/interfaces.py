"""
Interface of the clients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from rt_twisted.tools.clients.tokens import TokenSource


@dataclass(slots=True)
class SessionState:
    """
    State that a subscriber keeps from one connection to the next, besides its position.

    Args:
        key: the server's private session id (`pid`); "" for none.
        subscribed: the server has confirmed the subscription.
        recovered: how often the server recovered the session.
        tokens: of the subscriber; None if it needs none.
    """

    key: str = ""
    subscribed: bool = False
    recovered: int = 0
    tokens: TokenSource | None = None


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """
    Subscription of one subscriber, the same on each of its connections.

    Args:
        url: of the transport's route.
        channels: to subscribe to; empty if the URL names them.
        number: of the subscriber; it selects the variant of the transport.
        size: bytes of a message, for transports without message boundaries.
        session: the subscriber's session.
    """

    url: str
    channels: Sequence[str] = ()
    number: int = 0
    size: int = 0
    session: SessionState = field(default_factory=SessionState)


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """
    Message or gap that a client received.

    Args:
        text: of the message; "" for a gap.
        position: of the message, or of the end of the gap; "" if the transport has none.
        gap: messages up to *position* may be missing.
    """

    text: str
    position: str = ""
    gap: bool = False


class IClient(Protocol):
    """
    One connection of a subscriber, without I/O. A client is used for one connection.
    """

    position: str  # to resume from; "" for none yet
    retry: float | None  # seconds to a reconnect; None if the server sent none
    opened: bool  # subscribed: messages published from now on are delivered
    close_reason: str  # why the connection is to be closed; "" while it stays open

    def begin(self) -> bytes:
        """
        Return the first bytes to send. Called once.
        """

    def feed(self, data: bytes) -> list[ClientEvent]:
        """
        Parse the next bytes. Do not call it when `close_reason` is set.

        Raises:
            RemoteProtocolError: the server broke the protocol; the client cannot be used again.
        """

    def data_to_send(self) -> bytes:
        """
        Return the bytes to send now; often b"".
        """
