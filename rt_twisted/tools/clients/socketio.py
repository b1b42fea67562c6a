"""
Socket.IO 5 client on Engine.IO 4, with connection state recovery.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from rt_twisted.codecs import engineio, socketio
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType
from rt_twisted.model.message import EXPIRE
from rt_twisted.tools.clients.engineio import (
    EngineIOPollingClient,
    EngineIOWebSocketClient,
    IEngineIOClientTransport,
)
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest, SessionState
from rt_twisted.tools.clients.tokens import TokenRenewal, TokenSource
from rt_twisted.tools.clients.websocket_connection import MAX_MESSAGE


class SocketIOClientConnection:
    """
    Client side of a Socket.IO session.

    It subscribes to its channels by an event `subscribe` with the position. With *session*,
    the server restores the subscription, as in connection state recovery, if it can.

    Args:
        channels: their names.
        position: where the previous session ended.
        session: of the previous connections; None for no recovery.
        tokens: that it sends to connect; None for none.
        renewal: of the token.
    """

    def __init__(
        self,
        channels: Sequence[str],
        position: str,
        session: SessionState | None = None,
        tokens: TokenSource | None = None,
        renewal: TokenRenewal | None = None,
    ) -> None:
        self.position = position
        self.opened = False
        self.close_reason = ""
        self.sid = ""  # of the session
        self._channels = list(channels)
        self._session = session
        self._tokens = tokens
        self._renewal = renewal or TokenRenewal(None, 0)
        # Until the subscription is confirmed, positions do not refer to its channels.
        self._ignoring_positions = bool(position)
        self._packets = socketio.Decoder(MAX_MESSAGE)
        self._outgoing: list[str] = []

    def feed(self, message: str | bytes) -> ClientEvent | None:
        """
        Process the next Engine.IO packet.

        Returns:
            The message or gap in it, if any.
        """
        packet = engineio.decode(message)
        if packet.kind is engineio.EngineIOPacketType.PING:
            self._outgoing.append(f"{engineio.EngineIOPacketType.PONG:d}{packet.data!s}")
        elif packet.kind is engineio.EngineIOPacketType.OPEN:
            self._open(str(packet.data))
        elif packet.kind is engineio.EngineIOPacketType.CLOSE:
            self.close_reason = self.close_reason or "closed by the server"
        elif packet.kind is engineio.EngineIOPacketType.MESSAGE:
            return self._read(self._packets.feed(packet.data))
        return None

    def data_to_send(self) -> list[str]:
        """
        Return the Engine.IO packets to send now.
        """
        token = self._renewal.token_to_send() if self.opened else ""
        if token:
            self._send(SocketIOPacket(SocketIOPacketType.EVENT, data=["token", token]))
        packets, self._outgoing = self._outgoing, []
        return packets

    def _open(self, data: str) -> None:
        handshake = socketio.load(data)
        if not isinstance(handshake, dict) or not isinstance(handshake.get("sid"), str):
            raise RemoteProtocolError("the session has no id")
        self.sid = handshake["sid"]
        claim = None if self._tokens is None else {"token": self._tokens.current()}
        if self._session is not None and self._session.key:
            claim = {**(claim or {}), "pid": self._session.key}
            if self.position:
                claim["offset"] = self.position
        self._send(SocketIOPacket(SocketIOPacketType.CONNECT, data=claim))

    def _send(self, packet: SocketIOPacket) -> None:
        (text,) = socketio.encode(packet)
        self._outgoing.append(
            engineio.encode_text(engineio.EngineIOPacketType.MESSAGE, text).decode()
        )

    def _read(self, packet: SocketIOPacket | None) -> ClientEvent | None:
        if packet is None:
            return None
        session = self._session
        if packet.kind is SocketIOPacketType.CONNECT:
            if session is not None and _is_recovered(session, packet.data) and session.subscribed:
                self._ignoring_positions, self.opened = False, True
                return None
            since = {"since": self.position} if self.position else {}
            self._send(
                SocketIOPacket(
                    SocketIOPacketType.EVENT, data=["subscribe", self._channels, since], id=0
                )
            )
            return None
        if packet.kind is SocketIOPacketType.ACK:
            self._ignoring_positions = False
            answer = packet.data[0] if packet.data else None
            if not isinstance(answer, dict) or answer.get("status") != "ok":
                self.close_reason = "subscription refused"
                return None
            if session is not None:
                session.subscribed = True
            if self.position:  # after a resume without missed messages, no event follows
                self.opened = True
            return None
        if packet.kind is not SocketIOPacketType.EVENT:
            self.close_reason = (
                "connection refused"
                if packet.kind is SocketIOPacketType.CONNECT_ERROR
                else "disconnected"
            )
            return None
        return self._on_event(*packet.data)

    def _on_event(self, event: str, *arguments: Any) -> ClientEvent | None:
        if not arguments:
            return None
        if event == "gap":
            position = arguments[0].get("position") if isinstance(arguments[0], dict) else None
            return ClientEvent("", position if isinstance(position, str) else "", True)
        if event == EXPIRE:
            self._renewal.on_notice(arguments[0]["seconds"])
            return None
        last = arguments[-1]
        if not isinstance(last, str):
            raise RemoteProtocolError("an event has no position")
        if event == "position" and self._ignoring_positions:
            return None
        self.opened = True
        self.position = last
        return None if event == "position" else ClientEvent(str(arguments[0]), last)


def _is_recovered(session: SessionState, connected: Any) -> bool:
    """
    Return whether the server recovered the session, and store its key.
    """
    key = connected.get("pid") if isinstance(connected, dict) else None
    if not isinstance(key, str):
        raise RemoteProtocolError("the server sent no `pid` to recover the session with")
    known = key == session.key
    session.key = key
    session.recovered += known
    session.subscribed = session.subscribed and known
    return known


class SocketIOClient:
    """
    Socket.IO 5 client.

    Args:
        transport: carries its packets.
        client_request: the subscription.
        position: where the previous connection ended.
        session: see `SocketIOClientConnection`.
    """

    def __init__(
        self,
        transport: IEngineIOClientTransport,
        client_request: ClientRequest,
        position: str,
        session: SessionState | None = None,
    ) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._transport = transport
        number, tokens = client_request.number, client_request.session.tokens
        self._connection = SocketIOClientConnection(
            client_request.channels,
            position,
            session,
            None if _by_header(client_request) else tokens,
            TokenRenewal(tokens, number),
        )

    def begin(self) -> bytes:
        return self._transport.begin()

    def feed(self, data: bytes) -> list[ClientEvent]:
        transport, connection = self._transport, self._connection
        found = [connection.feed(packet) for packet in transport.feed(data)]
        transport.send(connection.data_to_send(), connection.sid)
        self.position, self.opened = connection.position, connection.opened
        self.retry = transport.retry
        self.close_reason = connection.close_reason or transport.close_reason
        return [event for event in found if event is not None]

    def data_to_send(self) -> bytes:
        return self._transport.data_to_send()


def _by_header(client_request: ClientRequest) -> bool:
    """
    Return whether the token is sent in a header, and not with the packet that connects.
    """
    return client_request.number // 2 % 2 == 0


def make_websocket_client(
    client_request: ClientRequest, position: str, session: SessionState | None = None
) -> SocketIOClient:
    """
    Return a client in a WebSocket; every second one offers compression.

    See `SocketIOClient` for the arguments.
    """
    tokens = client_request.session.tokens if _by_header(client_request) else None
    transport = EngineIOWebSocketClient(client_request.url, client_request.number % 2 == 1, tokens)
    return SocketIOClient(transport, client_request, position, session)


def make_polling_client(
    client_request: ClientRequest, position: str, session: SessionState | None = None
) -> SocketIOClient:
    """
    Return a client that polls.

    See `SocketIOClient` for the arguments.
    """
    tokens = client_request.session.tokens if _by_header(client_request) else None
    transport = EngineIOPollingClient(client_request.url, tokens)
    return SocketIOClient(transport, client_request, position, session)


def make_recovering_client(client_request: ClientRequest, position: str) -> SocketIOClient:
    """
    Return a WebSocket client for even numbers, and a polling client for odd ones.

    Both send the key and offset of the previous session, so that the server can restore
    the channels.
    If it cannot, they subscribe from the position.

    Args:
        client_request: the subscription.
        position: where the previous connection ended.
    """
    half = replace(client_request, number=client_request.number // 2)
    make = make_polling_client if client_request.number % 2 else make_websocket_client
    return make(half, position, client_request.session)
