"""
RTMP connections that do not publish yet.
"""

from __future__ import annotations

from typing import Any

from rt_twisted.codecs.addresses import limit_key
from rt_twisted.net.address_groups import AddressGroups

MAX_WAITING = 256  # connections of this process


class WaitingConnections:
    """
    Bounds the connections that do not publish yet.

    If there are too many, the oldest one of the address that has most of them is aborted.
    """

    def __init__(self) -> None:
        self._groups: AddressGroups[Any] = AddressGroups()

    def add(self, connection: Any, host: str) -> None:
        """
        Add *connection* of the client at *host*; it has a method `abort`.
        """
        self._groups.add(connection, limit_key(host))
        if len(self._groups) > MAX_WAITING:
            oldest = self._groups.oldest_of_largest()
            if oldest is not None:
                oldest.abort()

    def discard(self, connection: Any) -> None:
        """
        Remove *connection*: it publishes, or has ended.
        """
        self._groups.discard(connection)
