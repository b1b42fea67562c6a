"""
The transport of subscribers inside the daemon, which are sent nothing.
"""

from __future__ import annotations

from typing import Any


class NoTransport:
    """
    Discards everything that is written to it.
    """

    protocol: Any = None

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
