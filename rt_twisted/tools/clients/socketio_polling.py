"""
Socket.IO 5 client on Engine.IO 4, by polling.
"""

from __future__ import annotations

from urllib.parse import quote

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.response import ResponseReader
from rt_twisted.tools.clients.http import path_for, request, retry_after
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest, SessionState
from rt_twisted.tools.clients.poll import MAX_RESPONSE
from rt_twisted.tools.clients.socketio import SocketIOClientConnection

_BETWEEN = "\x1e"  # packets of a payload


class SocketIOPollingClient:
    """
    Poll and post alternately on one connection; each post answers what a poll brought.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
        session: see `SocketIOClientConnection`.
    """

    def __init__(
        self, client_request: ClientRequest, position: str, session: SessionState | None = None
    ) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._client_request = client_request
        self._connection = SocketIOClientConnection(client_request.channels, position, session)
        self._response = ResponseReader()
        self._body = bytearray()
        self._polled = True  # the pending response is to a poll
        self._next = b""

    def begin(self) -> bytes:
        return self._request("GET", [])

    def _request(self, method: str, headers: list[str]) -> bytes:
        path = path_for(self._client_request.url, ())
        path += f"{'&' if '?' in path else '?'}EIO=4&transport=polling"
        if self._connection.sid:
            path += f"&sid={quote(self._connection.sid)}"
        return request(self._client_request.url, f"{method} {path}", headers)

    def feed(self, data: bytes) -> list[ClientEvent]:
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
        received = self._read(bytes(self._body)) if self._polled else []
        if not response.keep_alive:
            self.close_reason = self.close_reason or "ended by the server"
            return received
        self._response = ResponseReader()
        self._body.clear()
        said = _BETWEEN.join(self._connection.data_to_send()).encode()
        self._polled = not said
        if said:
            headers = ["Content-Type: text/plain; charset=UTF-8", f"Content-Length: {len(said)}"]
            self._next = self._request("POST", headers) + said
        else:
            self._next = self._request("GET", [])
        return received

    def _read(self, body: bytes) -> list[ClientEvent]:
        connection = self._connection
        try:
            packets = body.decode().split(_BETWEEN)
        except UnicodeDecodeError:
            raise RemoteProtocolError("a payload is not UTF-8") from None
        received = [said for said in map(connection.feed, packets) if said is not None]
        self.position, self.opened, self.close_reason = (
            connection.position,
            connection.opened,
            connection.close_reason,
        )
        return received

    def data_to_send(self) -> bytes:
        said, self._next = self._next, b""
        return said
