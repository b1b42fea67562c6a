"""
Socket.IO 5 on Engine.IO 4, in a websocket.
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


class SocketIOConnection:
    """
    A client's side of a session: joins its channels by an event `subscribe`,
    and says there from where. With a memory it lets the server do both for it,
    as clients with connection state recovery do, where the server knows it still.

    Args:
        channels: their names.
        position: where the session before this one ended.
        memory: of the sessions before; None not to recover any.
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
        # Where the session is says nothing about channels that are not yet ours.
        self._ignoring_positions = bool(position)
        self._packets = socketio.Decoder(MAX_MESSAGE)
        self._outgoing: list[str] = []

    def feed(self, message: str | bytes) -> ClientEvent | None:
        """
        Take the next packet of Engine.IO.
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
        The packets of Engine.IO that are to be said now.
        """
        said, self._outgoing = self._outgoing, []
        return said

    def _open(self, data: str) -> None:
        said = socketio.load(data)
        if not isinstance(said, dict) or not isinstance(said.get("sid"), str):
            raise RemoteProtocolError("a session without an id")
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
                self.close_reason = "not let into the channels"
                return None
            if session is not None:
                session.subscribed = True
            if self.position:  # who comes back may have missed nothing, and is told nothing
                self.opened = True
            return None
        if packet.kind is not SocketIOPacketType.EVENT:
            self.close_reason = (
                "not let in" if packet.kind is SocketIOPacketType.CONNECT_ERROR else "disconnected"
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
    Whether the server has *said* that it knows the client again; remembers its key.
    """
    key = said.get("pid") if isinstance(said, dict) else None
    if not isinstance(key, str):
        raise RemoteProtocolError("nothing to recover the session by")
    known = key == session.key
    session.key = key
    session.recovered += known
    session.subscribed = session.subscribed and known
    return known


class SocketIOClient:
    """
    A websocket from the beginning; every second offers compression.

    Args:
        asking: what is asked for.
        position: where the connection before this one ended.
        memory: see `Member`.
    """

    def __init__(
        self, client_request: ClientRequest, position: str, session: SessionState | None = None
    ) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.close_reason = ""
        self._connection = SocketIOConnection(client_request.channels, position, session)
        path = path_for(client_request.url, ())
        path += f"{'&' if '?' in path else '?'}EIO=4&transport=websocket"
        self._frames = WebSocketConnection(
            urljoin(client_request.url, path), client_request.number % 2 == 1
        )

    def begin(self) -> bytes:
        """
        See `Wire`.
        """
        return self._frames.begin()

    def feed(self, data: bytes) -> list[ClientEvent]:
        """
        See `Wire`.
        """
        frames, connection = self._frames, self._connection
        heard = []
        for message in frames.feed(data):
            said = connection.feed(message)
            if said is not None:
                heard.append(said)
        for text in connection.data_to_send():
            frames.send_text(text)
        self.position, self.opened = connection.position, connection.opened
        self.close_reason = self.close_reason or connection.close_reason or frames.close_reason
        return heard

    def data_to_send(self) -> bytes:
        """
        See `Wire`.
        """
        return self._frames.data_to_send()
