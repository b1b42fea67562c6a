"""
Check whether a transport is available.
"""

from __future__ import annotations

from rt_twisted.tools.clients.interfaces import ClientEvent
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState


class Probe:
    """
    Owner of a connection that checks whether the server accepts a subscription.
    """

    def __init__(self) -> None:
        self.why = ""  # why the subscription failed

    def on_open(self, subscriber: ClientConnection) -> None:
        subscriber.state = ClientState.OPEN

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        Ignore messages: a probe only connects.
        """

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Ignore position changes.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        self.why = why
