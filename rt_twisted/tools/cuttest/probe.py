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

    def on_open(self, subscriber: ClientConnection) -> None:
        """
        It is.
        """
        subscriber.state = ClientState.OPEN

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        Not asked for.
        """

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Nor this.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        """
        It is not, if it was not before.
        """
        self.why = why
