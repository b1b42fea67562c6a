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
from rt_twisted.tools.clients.websocket_connection import LARGEST, WebSocketConnection


class SocketIODialogue:
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
        self, channels: Sequence[str], position: str, memory: SessionState | None = None
    ) -> None:
        self.position = position
        self.opened = False
        self.over = ""
        self.sid = ""  # of the session
        self._channels = list(channels)
        self._memory = memory
        # Where the session is says nothing about channels that are not yet ours.
        self._deaf = bool(position)
        self._packets = socketio.Decoder(LARGEST)
        self._said: list[str] = []

    def feed(self, message: str | bytes) -> ClientEvent | None:
        """
        Take the next packet of Engine.IO.
        """
        packet = engineio.decode(message)
        if packet.kind is engineio.EngineIOPacketType.PING:
            self._said.append(f"{engineio.EngineIOPacketType.PONG:d}{packet.data!s}")
        elif packet.kind is engineio.EngineIOPacketType.OPEN:
            self._open(str(packet.data))
        elif packet.kind is engineio.EngineIOPacketType.CLOSE:
            self.over = self.over or "closed by the server"
        elif packet.kind is engineio.EngineIOPacketType.MESSAGE:
            return self._read(self._packets.feed(packet.data))
        return None

    def take(self) -> list[str]:
        """
        The packets of Engine.IO that are to be said now.
        """
        said, self._said = self._said, []
        return said

    def _open(self, data: str) -> None:
        said = socketio.load(data)
        if not isinstance(said, dict) or not isinstance(said.get("sid"), str):
            raise RemoteProtocolError("a session without an id")
        self.sid = said["sid"]
        claim = None
        if self._memory is not None and self._memory.key:
            claim = {"pid": self._memory.key}
            if self.position:
                claim["offset"] = self.position
        self._say(SocketIOPacket(SocketIOPacketType.CONNECT, data=claim))

    def _say(self, packet: SocketIOPacket) -> None:
        (text,) = socketio.encode(packet)
        self._said.append(engineio.encode_text(engineio.EngineIOPacketType.MESSAGE, text).decode())

    def _read(self, packet: SocketIOPacket | None) -> ClientEvent | None:
        if packet is None:
            return None
        memory = self._memory
        if packet.kind is SocketIOPacketType.CONNECT:
            if memory is not None and _is_known(memory, packet.data) and memory.joined:
                self._deaf, self.opened = False, True
                return None
            since = {"since": self.position} if self.position else {}
            self._say(
                SocketIOPacket(
                    SocketIOPacketType.EVENT, data=["subscribe", self._channels, since], id=0
                )
            )
            return None
        if packet.kind is SocketIOPacketType.ACK:
            self._deaf = False
            answer = packet.data[0] if packet.data else None
            if not isinstance(answer, dict) or answer.get("status") != "ok":
                self.over = "not let into the channels"
                return None
            if memory is not None:
                memory.joined = True
            if self.position:  # who comes back may have missed nothing, and is told nothing
                self.opened = True
            return None
        if packet.kind is not SocketIOPacketType.EVENT:
            self.over = (
                "not let in" if packet.kind is SocketIOPacketType.CONNECT_ERROR else "disconnected"
            )
            return None
        return self._hear(*packet.data)

    def _hear(self, event: str, *arguments: Any) -> ClientEvent | None:
        if not arguments:
            return None
        if event == "gap":
            position = arguments[0].get("position") if isinstance(arguments[0], dict) else None
            return ClientEvent("", position if isinstance(position, str) else "", True)
        last = arguments[-1]
        if not isinstance(last, str):
            raise RemoteProtocolError("an event has no position")
        if event == "position" and self._deaf:
            return None
        self.opened = True
        self.position = last
        return None if event == "position" else ClientEvent(str(arguments[0]), last)


def _is_known(memory: SessionState, said: Any) -> bool:
    """
    Whether the server has *said* that it knows the client again; remembers its key.
    """
    key = said.get("pid") if isinstance(said, dict) else None
    if not isinstance(key, str):
        raise RemoteProtocolError("nothing to recover the session by")
    known = key == memory.key
    memory.key = key
    memory.recovered += known
    memory.joined = memory.joined and known
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
        self, asking: ClientRequest, position: str, memory: SessionState | None = None
    ) -> None:
        self.position = position
        self.retry: float | None = None
        self.opened = False
        self.over = ""
        self._member = SocketIODialogue(asking.channels, position, memory)
        path = path_for(asking.url, ())
        path += f"{'&' if '?' in path else '?'}EIO=4&transport=websocket"
        self._frames = WebSocketConnection(urljoin(asking.url, path), asking.number % 2 == 1)

    def begin(self) -> bytes:
        """
        See `Wire`.
        """
        return self._frames.begin()

    def feed(self, data: bytes) -> list[ClientEvent]:
        """
        See `Wire`.
        """
        frames, member = self._frames, self._member
        heard = []
        for message in frames.feed(data):
            said = member.feed(message)
            if said is not None:
                heard.append(said)
        for text in member.take():
            frames.say(text)
        self.position, self.opened = member.position, member.opened
        self.over = self.over or member.over or frames.over
        return heard

    def take(self) -> bytes:
        """
        See `Wire`.
        """
        return self._frames.take()
