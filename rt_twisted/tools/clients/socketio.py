"""
Socket.IO 5 client on Engine.IO 4, in a WebSocket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urljoin

from rt_twisted.codecs import engineio, socketio
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType
from rt_twisted.tools.clients.http import path_for
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest, SessionState
from rt_twisted.tools.clients.websocket_connection import MAX_MESSAGE, WebSocketConnection


class SocketIOClientConnection:
    """
    Client side of a Socket.IO session.

    It subscribes to its channels by an event `subscribe` with the position. With *session*,
    the server restores the subscription, as in connection state recovery, if it can.

    Args:
        channels: their names.
        position: where the previous session ended.
        session: of the previous connections; None for no recovery.
    """

    def __init__(
        self, channels: Sequence[str], position: str, session: SessionState | None = None
    ) -> None:
        self.position = position
        self.opened = False
        self.close_reason = ""
        self.sid = ""  # of the session
        self._channels = list(channels)
        self._session = session
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
        packets, self._outgoing = self._outgoing, []
        return packets

    def _open(self, data: str) -> None:
        said = socketio.load(data)
        if not isinstance(said, dict) or not isinstance(said.get("sid"), str):
            raise RemoteProtocolError("the session has no id")
        self.sid = said["sid"]
        claim = None
        if self._session is not None and self._session.key:
            claim = {"pid": self._session.key}
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
        last = arguments[-1]
        if not isinstance(last, str):
            raise RemoteProtocolError("an event has no position")
        if event == "position" and self._ignoring_positions:
            return None
        self.opened = True
        self.position = last
        return None if event == "position" else ClientEvent(str(arguments[0]), last)


def _is_recovered(session: SessionState, said: Any) -> bool:
    """
    Return whether the server recovered the session, and store its key.
    """
    key = said.get("pid") if isinstance(said, dict) else None
    if not isinstance(key, str):
        raise RemoteProtocolError("the server sent no `pid` to recover the session with")
    known = key == session.key
    session.key = key
    session.recovered += known
    session.subscribed = session.subscribed and known
    return known


class SocketIOClient:
    """
    Socket.IO in a WebSocket; every second one offers compression.

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
        self._connection = SocketIOClientConnection(client_request.channels, position, session)
        path = path_for(client_request.url, ())
        path += f"{'&' if '?' in path else '?'}EIO=4&transport=websocket"
        self._frames = WebSocketConnection(
            urljoin(client_request.url, path), client_request.number % 2 == 1
        )

    def begin(self) -> bytes:
        return self._frames.begin()

    def feed(self, data: bytes) -> list[ClientEvent]:
        frames, connection = self._frames, self._connection
        received = []
        for message in frames.feed(data):
            said = connection.feed(message)
            if said is not None:
                received.append(said)
        for text in connection.data_to_send():
            frames.send_text(text)
        self.position, self.opened = connection.position, connection.opened
        self.close_reason = self.close_reason or connection.close_reason or frames.close_reason
        return received

    def data_to_send(self) -> bytes:
        return self._frames.data_to_send()
