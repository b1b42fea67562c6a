"""
Whether a transport is there.
"""

from __future__ import annotations

from rt_twisted.tools.clients.interfaces import ClientEvent
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState


class Probe:
    """
    Finds out whether a subscriber is admitted (an `Owner`).
    """

    def __init__(self) -> None:
        self.why = ""  # not

    def on_open(self, subscriber: ClientConnection) -> None:
        subscriber.state = ClientState.OPEN

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        Ignore events: a probe only connects.
        """

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Ignore positions: a probe only connects.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        self.why = why
