"""
Pings between an Engine.IO session and its client, and their timeouts.
"""

from __future__ import annotations

from enum import Enum

from rt_twisted.actions.context import SocketIOLimits


class KeepaliveAction(Enum):
    """
    What a session has to do now about its client.
    """

    NOTHING = "nothing"
    PING = "ping"
    TIMEOUT = "timeout"


class Keepalive:
    """
    The ping timer of one session.

    Clients of revision 3 ping; the server pings those of revision 4. Either times
    out if the expected ping or pong is missing for too long.

    Args:
        version: of Engine.IO: 3 or 4.
        limits: ping interval and timeout.
        now: seconds.

    Attributes:
        due: when to call `check` next.
    """

    __slots__ = ("_limits", "_pinged", "_version", "due")

    def __init__(self, version: int, limits: SocketIOLimits, now: float) -> None:
        self._version = version
        self._limits = limits
        self._pinged = False
        self.due = now + limits.ping_interval
        if version == 3:
            self.due += limits.ping_timeout

    def on_packet(self, now: float, heartbeat: bool) -> None:
        """
        Restart the timeout, as the client has sent a packet or a poll.

        Args:
            now: seconds.
            heartbeat: the packet is a ping or a pong.
        """
        limits = self._limits
        if self._version == 3:
            self.due = now + limits.ping_interval + limits.ping_timeout
        elif self._pinged and heartbeat:
            self._pinged = False
            self.due = now + limits.ping_interval
        elif self._pinged:
            self.due = now + limits.ping_timeout

    def check(self, now: float) -> KeepaliveAction:
        """
        Return what to do at the time *now*, in seconds.
        """
        if now < self.due:
            return KeepaliveAction.NOTHING
        if self._version == 3 or self._pinged:
            return KeepaliveAction.TIMEOUT
        self._pinged = True
        self.due = now + self._limits.ping_timeout
        return KeepaliveAction.PING
