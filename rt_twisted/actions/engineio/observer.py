"""
Who speaks by a session of Engine.IO.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.model.interfaces import IFormat

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.session import Session


class SessionObserver(Protocol):
    """
    Who speaks by a session: Socket.IO.
    """

    def opened(self, session: Session) -> None:
        """
        It may be written to. Called once, before anything else.
        """

    def message(self, data: str | bytes) -> None:
        """
        A message.

        Raises:
            RemoteProtocolError: it has no meaning: the session ends.
        """

    def closed(self, why: str) -> None:
        """
        It is over. Called once, after everything else.

        Args:
            why: in the words of Socket.IO: `ping timeout`, `transport close`...
        """

    def idle(self) -> bool:
        """
        Whether the client could as well not be there: it has joined nothing.
        """

    def format(self, framing: Framing, quiet: bool = False, welcome: bytes = b"") -> IFormat:
        """
        How what the hub tells looks to the session's reader; *quiet* to be told
        nothing on joining but whole frames of *welcome*.
        """
