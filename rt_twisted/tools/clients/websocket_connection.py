"""
Client side of a WebSocket, on the sans-I/O protocol of the `websockets` library.
"""

from __future__ import annotations

from collections.abc import Iterable

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.tools.clients.tokens import TokenSource

MAX_MESSAGE = 64 * 1024 * 1024  # bytes of a message
_BODIES = (Opcode.TEXT, Opcode.BINARY, Opcode.CONT)


class WebSocketConnection:
    """
    Messages of a WebSocket.

    Args:
        url: http:// or https://, with path and query.
        deflate: whether to offer compression.
        headers: of the request.
        tokens: of the subscriber; None if it sends none here.
    """

    def __init__(
        self,
        url: str,
        deflate: bool = False,
        headers: Iterable[tuple[str, str]] = (),
        tokens: TokenSource | None = None,
    ) -> None:
        offered = [ClientPerMessageDeflateFactory()] if deflate else None
        uri = parse_uri("ws" + url.removeprefix("http"))
        self._protocol = ClientProtocol(uri, extensions=offered, max_size=MAX_MESSAGE)
        self._headers = tuple(headers)
        self._tokens = tokens
        self._pieces: list[bytes] = []
        self._text = True

    def begin(self) -> bytes:
        """
        Return the bytes of the handshake request.
        """
        request = self._protocol.connect()
        for name, value in self._headers:
            request.headers[name] = value
        if self._tokens is not None:
            request.headers["Authorization"] = f"Bearer {self._tokens.current()}"
        self._protocol.send_request(request)
        return self.data_to_send()

    @property
    def open(self) -> bool:
        """
        Return whether the handshake is complete.
        """
        return self._protocol.state is State.OPEN

    @property
    def close_reason(self) -> str:
        """
        Return why the connection ended; "" while it is open.
        """
        protocol = self._protocol
        refused = protocol.handshake_exc
        if isinstance(refused, InvalidStatus):
            return f"status {refused.response.status_code}"
        if refused is not None:
            return "malformed"
        if protocol.close_rcvd is not None:
            return f"closed with {protocol.close_rcvd.code:d}"
        return "malformed" if protocol.close_sent is not None else ""

    @property
    def reason(self) -> str:
        """
        Return the reason in the server's close frame.
        """
        received = self._protocol.close_rcvd
        return received.reason if received is not None else ""

    def feed(self, data: bytes) -> list[str | bytes]:
        """
        Parse the next bytes.

        Returns:
            The messages that they complete.

        Raises:
            RemoteProtocolError: a text message is not UTF-8.
        """
        protocol = self._protocol
        protocol.receive_data(data)
        messages: list[str | bytes] = []
        for event in protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in _BODIES:
                continue
            if event.opcode is not Opcode.CONT:
                self._text = event.opcode is Opcode.TEXT
            self._pieces.append(bytes(event.data))
            if event.fin:
                whole, self._pieces = b"".join(self._pieces), []
                messages.append(self._decode(whole) if self._text else whole)
        return messages

    def _decode(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise RemoteProtocolError("a text message is not UTF-8") from None

    def send_text(self, text: str) -> None:
        """
        Queue a text message.
        """
        self._protocol.send_text(text.encode())

    def data_to_send(self) -> bytes:
        """
        Return the bytes to send now, including pongs.
        """
        return b"".join(self._protocol.data_to_send())
