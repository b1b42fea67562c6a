"""
RTSP in a pair of HTTP requests: the client sends in a POST and receives from a GET.

Apple's protocol has no RFC. The body of the POST is base64 without end, whatever its
Content-Length says; each write of the client is encoded by itself.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.http.interfaces import IExchange
from rt_twisted.http.stream_handle import PeerInfo
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.connection import RtspConnection
from rt_twisted.rtsp.server import RtspServer

MAX_COOKIE = 256  # characters
TYPE = "application/x-rtsp-tunnelled"

# HTTP/1.0, as some clients accept nothing else.
_HEAD = (
    b"HTTP/1.0 200 OK\r\nConnection: close\r\nCache-Control: no-store\r\nPragma: no-cache\r\n"
    b"Content-Type: application/x-rtsp-tunnelled\r\n\r\n"
)
_BLANK = re.compile(rb"[\r\n\t ]+")


class Base64Stream:
    """
    Decodes base64 that arrives in pieces, with padding anywhere.
    """

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """
        Return what *data* completes.

        Raises:
            RemoteProtocolError: it is not base64.
        """
        data = self._rest + _BLANK.sub(b"", data)
        whole = len(data) // 4 * 4
        self._rest = data[whole:]
        try:
            if b"=" not in data[:whole]:
                return b64decode(data[:whole], validate=True)
            found = []
            position = 0
            while position < whole:
                end = data.find(b"=", position, whole)
                end = whole if end < 0 else end // 4 * 4 + 4  # the end of the quantum
                found.append(b64decode(data[position:end], validate=True))
                position = end
            return b"".join(found)
        except (binascii.Error, ValueError):
            raise RemoteProtocolError("the body of the tunnel is not base64") from None


@dataclass(frozen=True, slots=True)
class TunnelRequest:
    """
    What is left of the GET of a tunnel.

    Args:
        header: returns a header of it.
        local: whether the client is on this machine.
    """

    header: Callable[[str], str | None]
    local: bool


def open_tunnel(server: RtspServer, exchange: IExchange) -> None:
    """
    Take over the connection of a request that is one half of a tunnel.

    Raises:
        HttpError: 400, the cookie is too long or in use, or there is no GET with it from the
            same client; see also `IExchange.take_over`.
    """
    cookie = exchange.header("x-sessioncookie") or ""
    key = (cookie, exchange.address)
    if len(cookie) > MAX_COOKIE:
        raise HttpError(400, "the cookie of the tunnel is too long")
    connection: Any = server.tunnels.get(key)
    if exchange.method == "POST":
        if connection is None:
            raise HttpError(400, "there is no GET with this x-sessioncookie")
        exchange.take_over().start(_TunnelPost(connection))
        return
    if connection is not None:
        raise HttpError(400, "the cookie of the tunnel is in use")
    peer = PeerInfo(exchange.address, exchange.secure)
    request = TunnelRequest(exchange.header, exchange.local)
    connection = RtspConnection(server, exchange.find, peer, request)
    connection.input = TunnelInput()

    def ended() -> None:
        del server.tunnels[key]
        connection.input.close()

    connection.when_lost = ended
    handle = exchange.take_over(_HEAD)  # may raise, and nothing would remove the cookie then
    server.tunnels[key] = connection
    handle.start(connection)


class TunnelInput:
    """
    The receiving side of a tunnel: the transport of its POST, as soon as there is one.
    """

    def __init__(self) -> None:
        self._transport: Any = None
        self._paused = False

    def bind(self, transport: Any) -> None:
        """
        Receive from *transport*, in place of another one.
        """
        self.close()
        self._transport = transport
        if self._paused:
            transport.pauseProducing()

    def unbind(self, transport: Any) -> None:
        """
        Take note that *transport* is lost.
        """
        if self._transport is transport:
            self._transport = None

    def close(self) -> None:
        """
        Close the connection of the POST.
        """
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abortConnection()

    def pauseProducing(self) -> None:
        self._paused = True
        if self._transport is not None:
            self._transport.pauseProducing()

    def resumeProducing(self) -> None:
        self._paused = False
        if self._transport is not None:
            self._transport.resumeProducing()


class _TunnelPost(Protocol):
    """
    Passes the decoded body of a POST to the connection of its GET.
    """

    def __init__(self, connection: RtspConnection) -> None:
        self._connection = connection
        self._stream = Base64Stream()

    def connectionMade(self) -> None:
        self._connection.input.bind(self.transport)

    def dataReceived(self, data: bytes) -> None:
        try:
            decoded = self._stream.feed(data)
        except RemoteProtocolError as error:
            self._connection.abort(error.reason)
            return
        if decoded:
            self._connection.feed(decoded)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._connection.input.unbind(self.transport)
