"""
A web application of your own, for every path that no route claims.

    PYTHONPATH=. twistd -n realtime --port=8080 --app=own_app.make

The application is a tree of twisted.web resources: Klein, static files and WSGI can be part of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from rt_twisted.api import Draft, Hub


def make(settings: Mapping[str, Any], hub: Hub) -> Resource:
    """
    Return the root of the tree; called once, at start.
    """
    root = Resource()
    root.putChild(b"say", Say(hub))
    return root


class Say(Resource):
    """
    Count the subscribers of `chat` on GET; publish the form field `text` there on POST.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # twisted.web has none
        self._hub = hub

    def render_GET(self, request: Request) -> bytes:
        return f"{self._hub.subscribers_of('chat')} reading\n".encode()

    def render_POST(self, request: Request) -> int:
        text = request.args.get(b"text", [b""])[0]
        published = self._hub.publish([Draft("chat", text)])
        published.addCallback(
            lambda result: request.write(f"said at {result.positions[0]}\n".encode())
        )
        published.addCallbacks(lambda _: request.finish(), request.processingFailed)
        return NOT_DONE_YET
