"""
Registry of the transports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from rt_twisted.tools.clients.interfaces import ClientRequest, IClient
from rt_twisted.tools.clients.poll import PollClient
from rt_twisted.tools.clients.socketio import (
    make_polling_client,
    make_recovering_client,
    make_websocket_client,
)
from rt_twisted.tools.clients.sse import SseClient
from rt_twisted.tools.clients.stream import StreamClient
from rt_twisted.tools.clients.websocket import WebSocketClient
from rt_twisted.tools.errors import SetupError


@dataclass(frozen=True, slots=True)
class ClientType:
    """
    A transport that the tools can use.

    Args:
        name: for the command line.
        path: the daemon's default route, relative to that of event streams.
        make: creates the client of a connection, from a request and a position.
        resumes: whether its subscribers can resume from a position.
    """

    name: str
    path: str
    make: Callable[[ClientRequest, str], IClient]
    resumes: bool = True

    def url(self, base: str, path: str = "") -> str:
        """
        Return the URL of the transport's route, without `channels`, which the client adds.

        Args:
            base: URL of the event streams.
            path: URL or path; "" for the daemon's default.
        """
        found = urlsplit(urljoin(base, path or self.path))
        query = found.query or ("" if path else urlsplit(base).query)
        kept = [(name, value) for name, value in parse_qsl(query, True) if name != "channels"]
        return urlunsplit(found._replace(query=urlencode(kept)))


CLIENT_TYPES = {
    each.name: each
    for each in (
        ClientType("sse", "", SseClient),
        ClientType("websocket", "ws", WebSocketClient),
        ClientType("poll", "poll", PollClient),
        ClientType("stream", "stream", StreamClient, resumes=False),
        ClientType("socketio", "socket.io/", make_websocket_client),
        ClientType("socketio-polling", "socket.io/", make_polling_client),
        ClientType("socketio-recovery", "socket.io/", make_recovering_client),
    )
}


def parse_transport(text: str) -> tuple[ClientType, str]:
    """
    Parse `NAME` or `NAME=PATH`.

    Returns:
        The transport, and its path; "" for the daemon's default.

    Raises:
        SetupError: the transport is unknown.
    """
    name, _, path = text.partition("=")
    choice = CLIENT_TYPES.get(name)
    if choice is None:
        raise SetupError(f"{name!r} is none of {', '.join(CLIENT_TYPES)}")
    return choice, path
