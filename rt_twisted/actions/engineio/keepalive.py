"""
Who pings whom, and when one of them is gone.
"""

from __future__ import annotations

from enum import Enum

from rt_twisted.actions.context import SocketIOLimits


class KeepaliveAction(Enum):
    """
    What is to be done now.
    """

    NOTHING = "nothing"
    PING = "ping"
    GONE = "gone"


class Keepalive:
    """
    Clients of revision 3 ping, and are gone if they do not for too long. Those
    of revision 4 are pinged, and are gone if they do not answer.

    Args:
        version: 3 or 4.
        limits: how long is too long.
        now: seconds.
    """

    __slots__ = ("_limits", "_pinged", "_version", "due")

    def __init__(self, version: int, limits: SocketIOLimits, now: float) -> None:
        self._version = version
        self._limits = limits
        self._pinged = False
        self.due = now + limits.ping_interval  # when to `look`
        if version == 3:
            self.due += limits.ping_timeout

    def heard(self, now: float, beat: bool) -> None:
        """
        The client said something; *beat*: a ping, or an answer to one.
        """
        limits = self._limits
        if self._version == 3:
            self.due = now + limits.ping_interval + limits.ping_timeout
        elif self._pinged and beat:
            self._pinged = False
            self.due = now + limits.ping_interval
        elif self._pinged:
            self.due = now + limits.ping_timeout

    def look(self, now: float) -> KeepaliveAction:
        """
        What to do *now*.
        """
        if now < self.due:
            return KeepaliveAction.NOTHING
        if self._version == 3 or self._pinged:
            return KeepaliveAction.GONE
        self._pinged = True
        self.due = now + self._limits.ping_timeout
        return KeepaliveAction.PING
