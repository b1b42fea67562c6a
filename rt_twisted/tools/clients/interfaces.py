"""
What readers know of a wire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(slots=True)
class SessionState:
    """
    What a reader's connection leaves for the next, beside the position.

    Args:
        key: by which the server knows the reader again; "" for none.
        joined: the server has said that the reader is in its channels.
        recovered: how often the reader was known again.
    """

    key: str = ""
    subscribed: bool = False
    recovered: int = 0


@dataclass(frozen=True, slots=True)
class ClientRequest:
    """
    What a reader asks for, on each of its connections.

    Args:
        url: of the wire's route.
        channels: what it listens to; empty if the URL names them.
        number: of the reader; where a wire can do a thing in two ways, it
            decides.
        size: bytes of a message of ours, for wires that do not tell where one ends.
        memory: of the reader.
    """

    url: str
    channels: Sequence[str] = ()
    number: int = 0
    size: int = 0
    session: SessionState = field(default_factory=SessionState)


@dataclass(frozen=True, slots=True)
class ClientEvent:
    """
    What the server has said.

    Args:
        text: of a message; "" of a gap.
        position: of the message, or where the gap ends; "" if the wire does
            not tell.
        gap: messages up to *position* may be missing.
    """

    text: str
    position: str = ""
    gap: bool = False


class IClient(Protocol):
    """
    One connection of a reader, without the connection. Made anew for each.
    """

    position: str  # to come back with; "" for none yet
    retry: float | None  # seconds after which to come back; None if not said
    opened: bool  # what is published from now on will be told
    close_reason: str  # why the connection is to be ended; "" as long as it is not

    def begin(self) -> bytes:
        """
        What to say first. Called once.
        """

    def feed(self, data: bytes) -> list[ClientEvent]:
        """
        Take the next bytes; nothing is taken any more once `over` says something.

        Raises:
            RemoteProtocolError: they are nonsense; the wire is of no further use.
        """

    def data_to_send(self) -> bytes:
        """
        What is to be said now; often nothing.
        """
