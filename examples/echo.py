"""
A protocol of your own on a websocket: it says what it hears.

    PYTHONPATH=. twistd -n realtime --port=8080 --route='^/echo$ websocket:app=echo.Echo'

What is made for each websocket is told of its messages. `house.hub` publishes;
with `subscribe=news` in the line the client hears that channel too.
"""

from __future__ import annotations

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IWebSocketApp
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.http.interfaces import IExchange


@implementer(IWebSocketApp)
class Echo:
    """
    Sends every message back, text as text and bytes as bytes.
    """

    def __init__(self, context: ActionContext, exchange: IExchange) -> None: ...

    def opened(self, websocket: WebSocket) -> None:
        """
        Somebody is there.
        """
        self.websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        """
        A whole message came.
        """
        self.websocket.send(data, binary)

    def closed(self, code: int, reason: str) -> None:
        """
        Nobody is there any more.
        """
