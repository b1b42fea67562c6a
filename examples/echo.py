"""
A websocket application of your own: it echoes every message.

    PYTHONPATH=. twistd -n realtime --port=8080 --route='^/echo$ websocket:app=echo.Echo'

One instance is created for each websocket. An application may publish by
`context.publish`. With `subscribe=news` in the route line, the client also receives
the messages of that channel.
"""

from __future__ import annotations

from zope.interface import implementer

from rt_twisted.api import ActionContext, IExchange, IWebSocketApp, WebSocket


@implementer(IWebSocketApp)
class Echo:
    """
    Send every message back, text as text and bytes as bytes.
    """

    def __init__(self, context: ActionContext, exchange: IExchange) -> None: ...

    def opened(self, websocket: WebSocket) -> None:
        self.websocket = websocket

    def message(self, data: bytes, binary: bool) -> None:
        self.websocket.send(data, binary)

    def closed(self, code: int, reason: str) -> None:
        pass
