"""
Whether a transport is there.
"""

from __future__ import annotations

from rt_twisted.tools.clients.interfaces import ClientEvent
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState


class Probe:
    """
    Whether a reader is let in (an `Owner`).
    """

    def __init__(self) -> None:
        self.why = ""  # not

    def opened(self, reader: ClientConnection) -> None:
        """
        It is.
        """
        reader.state = ClientState.OPEN

    def heard(self, reader: ClientConnection, heard: ClientEvent) -> None:
        """
        Not asked for.
        """

    def moved(self, reader: ClientConnection) -> None:
        """
        Nor this.
        """

    def ended(self, reader: ClientConnection, why: str) -> None:
        """
        It is not, if it was not before.
        """
        self.why = why
