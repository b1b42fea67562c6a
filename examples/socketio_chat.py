r"""
An application for Socket.IO clients: it has a namespace and events, and decides who may connect.

    PYTHONPATH=. twistd -n realtime --port=8080 \
        --route='^/socket\.io/ socket.io:app=socketio_chat.Chat'

    const chat = io("http://127.0.0.1:8080/chat", {auth: {name: "Ann"}})
    chat.on("said", (line, position) => console.log(line.name, line.text))
    chat.emit("say", "Hello!", answer => console.log(answer))
"""

from __future__ import annotations

import json
from typing import Any

from zope.interface import implementer

from rt_twisted.api import ActionContext, HttpError, ISocketIOApp, Socket


@implementer(ISocketIOApp)
class Chat:
    """
    Subscribe every client that sends a name to the channel `chat`.
    """

    def __init__(self, context: ActionContext) -> None:
        self.context = context

    def on_connect(self, client: Socket, auth: dict[str, Any]) -> None:
        if client.namespace != "/chat" or not auth.get("name"):
            raise HttpError(403, "this is /chat, for people with a name")
        client.data["name"] = auth["name"]
        client.join("chat")

    async def on_event(self, client: Socket, event: str, *arguments: Any) -> dict[str, Any]:
        line = {"name": client.data["name"], "text": arguments[0]}
        position = await client.publish("chat", json.dumps(line).encode(), "said")
        return {"position": str(position)}

    def on_disconnect(self, client: Socket, reason: str) -> None:
        pass
