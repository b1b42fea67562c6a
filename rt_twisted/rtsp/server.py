"""
What all RTSP connections of this process share.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.rtsp.access import RtspAccess

HANDSHAKE_SECONDS = 10.0  # until a connection has a session
SESSION_SECONDS = 60.0  # without a byte from the client, after which a session ends
SESSION_GRACE = 5.0  # the client may be about to send
MAX_IDLE_SESSIONS = 100  # of one address, that neither play nor record


class RtspServer:
    """
    The state that outlives connections and reloads.

    Args:
        reactor: the reactor.
        inbound: bounds incomplete input of all connections together.

    Attributes:
        reactor, inbound: likewise.
        access: authorizes requests.
        idle_sessions: sessions that neither play nor record, by the address of their clients.
        tunnels: the connections in HTTP, by the cookie and the address of the client.
    """

    def __init__(self, reactor: Any, inbound: InboundMemory) -> None:
        self.reactor = reactor
        self.inbound = inbound
        self.access = RtspAccess(reactor.seconds)
        self.idle_sessions: Counter[str] = Counter()
        self.tunnels: dict[tuple[str, str], object] = {}
