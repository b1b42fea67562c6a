"""
The transport of subscribers inside the daemon, which are sent nothing.
"""

from __future__ import annotations

from typing import Any


class NoTransport:
    """
    Discards everything that is written to it.
    """

    __slots__ = ()

    @property
    def protocol(self) -> Any:
        """
        Always None: nothing arrives, and a reference to the subscriber would be a cycle.
        """
        return None

    @protocol.setter
    def protocol(self, protocol: Any) -> None:
        pass

    def write(self, data: bytes) -> None:
        """
        Discard *data*, as there is no client.
        """

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        pass

    def unregisterProducer(self) -> None:
        pass

    def loseConnection(self) -> None:
        pass

    def abortConnection(self) -> None:
        pass
