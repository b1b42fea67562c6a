"""
Socket.IO with connection state recovery.
"""

from __future__ import annotations

from dataclasses import replace

from rt_twisted.tools.clients.interfaces import ClientRequest, IClient
from rt_twisted.tools.clients.socketio import SocketIOClient
from rt_twisted.tools.clients.socketio_polling import SocketIOPollingClient


def make_recovering_client(client_request: ClientRequest, position: str) -> IClient:
    """
    A websocket for every second reader, polls for the others: with the key and
    the offset of the session before, so that the server finds its channels. Where
    it is not known again, they are asked for from the position on.

    Args:
        asking: what is asked for.
        position: where the connection before this one ended.
    """
    half = replace(client_request, number=client_request.number // 2)
    if client_request.number % 2:
        return SocketIOPollingClient(half, position, client_request.session)
    return SocketIOClient(half, position, client_request.session)
