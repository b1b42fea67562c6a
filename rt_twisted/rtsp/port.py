"""
RTSP on the ports of the daemon: how its connections are recognized and begin.
"""

from __future__ import annotations

from rt_twisted.actions.context import ActionContext
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.rtsp.connection import RtspConnection
from rt_twisted.rtsp.server import RtspServer


def server_of(context: ActionContext) -> RtspServer:
    """
    Return what all RTSP connections of this process share.
    """
    return context.shared.get(RtspServer, lambda: RtspServer(context.reactor, context.inbound))


def accept_rtsp(context: ActionContext, connection: StreamHandle, peer: PeerInfo) -> None:
    """
    Serve a connection that is RTSP.
    """
    connection.start(RtspConnection(server_of(context), connection.find, peer))
