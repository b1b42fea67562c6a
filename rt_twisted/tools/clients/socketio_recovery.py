"""
Socket.IO client with connection state recovery.
"""

from __future__ import annotations

from dataclasses import replace

from rt_twisted.tools.clients.interfaces import ClientRequest, IClient
from rt_twisted.tools.clients.socketio import SocketIOClient
from rt_twisted.tools.clients.socketio_polling import SocketIOPollingClient


def make_recovering_client(client_request: ClientRequest, position: str) -> IClient:
    """
    Return a WebSocket client for even numbers, and a polling client for odd ones.

    Both send the key and offset of the previous session, so that the server can restore
    the channels.
    If it cannot, they subscribe from the position.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
    """
    half = replace(client_request, number=client_request.number // 2)
    if client_request.number % 2:
        return SocketIOPollingClient(half, position, client_request.session)
    return SocketIOClient(half, position, client_request.session)
