"""
Client side of the transports of Engine.IO 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from urllib.parse import quote, urljoin

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import bearer, path_for, request, retry_after
from rt_twisted.tools.clients.poll import MAX_RESPONSE
from rt_twisted.tools.clients.tokens import TokenSource
from rt_twisted.tools.clients.websocket_connection import WebSocketConnection

_SEPARATOR = "\x1e"  # between the packets of a payload


class IEngineIOClientTransport(Protocol):
    """
    Connection that carries Engine.IO packets, without I/O.
    """

    retry: float | None  # seconds to a reconnect; None if the server sent none
    close_reason: str  # why the connection is to be closed; "" while it stays open

    def begin(self) -> bytes:
        """
        Return the first bytes to send. Called once.
        """

    def feed(self, data: bytes) -> Sequence[str | bytes]:
        """
        Parse the next bytes, and return the packets that they complete.

        Raises:
            RemoteProtocolError: the server broke the protocol.
        """

    def send(self, packets: Sequence[str], sid: str) -> None:
        """
        Send *packets*, often none. Called after each `feed`.

        Args:
            packets: Engine.IO packets.
            sid: the session's id; "" before the server sent it.
        """

    def data_to_send(self) -> bytes:
        """
        Return the bytes to send now; often b"".
        """


class EngineIOWebSocketClient:
    """
    Packets are messages of a WebSocket.

    Args:
        url: of the server's route.
        compress: whether to offer compression.
        tokens: of the subscriber; None if it sends none here.
    """

    def __init__(self, url: str, compress: bool, tokens: TokenSource | None = None) -> None:
        self.retry: float | None = None
        self.close_reason = ""
        self._frames = WebSocketConnection(
            urljoin(url, _path(url, "websocket")), compress, tokens=tokens
        )

    def begin(self) -> bytes:
        return self._frames.begin()

    def feed(self, data: bytes) -> Sequence[str | bytes]:
        packets = self._frames.feed(data)
        self.close_reason = self._frames.close_reason
        return packets

    def send(self, packets: Sequence[str], sid: str) -> None:
        for packet in packets if self._frames.open else ():  # the server may have closed it
            self._frames.send_text(packet)

    def data_to_send(self) -> bytes:
        return self._frames.data_to_send()


class EngineIOPollingClient:
    """
    Packets are received by polls and sent by posts, one request at a time on one connection.

    Args:
        url: of the server's route.
        tokens: of the subscriber; None if it sends none here.
    """

    def __init__(self, url: str, tokens: TokenSource | None = None) -> None:
        self.retry: float | None = None
        self.close_reason = ""
        self._url = url
        self._tokens = tokens
        self._response = ResponseReader()
        self._body = bytearray()
        self._polling = True  # the pending response is to a poll
        self._next = b""

    def begin(self) -> bytes:
        return self._request("GET", [], "")

    def _request(self, method: str, headers: list[str], sid: str) -> bytes:
        path = _path(self._url, "polling") + (f"&sid={quote(sid)}" if sid else "")
        return request(self._url, f"{method} {path}", [*headers, *bearer(self._tokens)])

    def feed(self, data: bytes) -> Sequence[str | bytes]:
        response = self._response
        self._body += response.feed(data)
        if len(self._body) > MAX_RESPONSE:
            raise RemoteProtocolError(f"a response has more than {MAX_RESPONSE} bytes")
        if response.head is None or not response.complete:
            return []
        if response.head.status != 200:
            self.retry = retry_after(response.head)
            self.close_reason = f"status {response.head.status}"
            return []
        if not response.keep_alive:
            self.close_reason = "ended by the server"
        if not self._polling:
            return []
        try:
            return self._body.decode().split(_SEPARATOR)
        except UnicodeDecodeError:
            raise RemoteProtocolError("a payload is not UTF-8") from None

    def send(self, packets: Sequence[str], sid: str) -> None:
        if self.close_reason or not self._response.complete:
            return
        self._response = ResponseReader()
        self._body.clear()
        self._polling = not packets
        if self._polling:
            self._next = self._request("GET", [], sid)
            return
        body = _SEPARATOR.join(packets).encode()
        headers = ["Content-Type: text/plain; charset=UTF-8", f"Content-Length: {len(body)}"]
        self._next = self._request("POST", headers, sid) + body

    def data_to_send(self) -> bytes:
        data, self._next = self._next, b""
        return data


def _path(url: str, transport: str) -> str:
    path = path_for(url, ())
    return f"{path}{'&' if '?' in path else '?'}EIO=4&transport={transport}"
