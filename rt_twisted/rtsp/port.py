"""
RTSP on the ports of the daemon: how its connections are recognized and begin.
"""

from __future__ import annotations

from rt_twisted.actions.context import ActionContext
from rt_twisted.http.interfaces import PeerInfo, StreamHandle
from rt_twisted.rtsp.connection import RtspConnection
from rt_twisted.rtsp.messages import METHODS
from rt_twisted.rtsp.server import RtspServer

_STARTS = tuple([f"{method} ".encode() for method in METHODS])


def is_rtsp(start: bytes) -> bool | None:
    """
    Return whether a connection that begins with *start* is RTSP; None if that is not decided.
    """
    if not start.startswith(_STARTS):
        return None if any(each.startswith(start) for each in _STARTS) else False
    line, newline, _ = start.partition(b"\n")
    return b" RTSP/" in line if newline else None


def server_of(context: ActionContext) -> RtspServer:
    """
    Return what all RTSP connections of this process share.
    """
    return context.shared.get(RtspServer, lambda: RtspServer(context.reactor))


def accept_rtsp(context: ActionContext, connection: StreamHandle, peer: PeerInfo) -> None:
    """
    Serve a connection that is RTSP.
    """
    connection.start(RtspConnection(server_of(context), connection.find, peer))
