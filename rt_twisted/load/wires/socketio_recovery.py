"""
Socket.IO with connection state recovery.
"""

from __future__ import annotations

from dataclasses import replace

from rt_twisted.load.wires.contract import Asking, Wire
from rt_twisted.load.wires.socketio import SocketioWire
from rt_twisted.load.wires.socketio_polling import SocketioPollingWire


def recovering(asking: Asking, position: str) -> Wire:
    """
    A websocket for every second reader, polls for the others: with the key and
    the offset of the session before, so that the server finds its channels. Where
    it is not known again, they are asked for from the position on.

    Args:
        asking: what is asked for.
        position: where the connection before this one ended.
    """
    half = replace(asking, number=asking.number // 2)
    if asking.number % 2:
        return SocketioPollingWire(half, position, asking.memory)
    return SocketioWire(half, position, asking.memory)
