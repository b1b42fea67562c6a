"""
A Socket.IO client in one namespace, as applications see it (`ISocketIOApp`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone

from rt_twisted.access.grants import ANYONE
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.socketio.handshake import Handshake
from rt_twisted.actions.socketio.missed_replay import MissedReplay
from rt_twisted.actions.socketio.publishing import publish_checked
from rt_twisted.actions.socketio.stream import NamespaceStream, SocketStream
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.publication import SERVER_EVENTS
from rt_twisted.codecs.socketio import RESERVED, SocketIOPacket, SocketIOPacketType, encode
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.socketio import UNSUBSCRIBED, SocketIOEvents, encode_packet, frame_packet
from rt_twisted.model.message import After, Draft, Position, Since

MAX_CALLS = 1000  # that wait for one client's acknowledgement


class SocketOwner(Protocol):
    """
    The connection of a socket.
    """

    def events_format(self, framing: Framing, namespace: str) -> SocketIOEvents:
        """
        Return the format of channel messages in *namespace*.
        """

    def disconnect_socket(self, socket: Socket) -> None:
        """
        Disconnect the client from the socket's namespace.
        """


@dataclass(slots=True)
class PendingOutput:
    """
    What an application does with a socket before the client is accepted.

    Args:
        joins: channels, and where to start.
        packets: encoded.
    """

    joins: list[tuple[list[Selector], Since | None]] = field(default_factory=list)
    packets: list[list[bytes]] = field(default_factory=list)


class Socket:
    """
    A client in one namespace; socket.io calls this a socket.

    Args:
        context: settings and hub.
        owner: the client's connection.
        stream: the session, or the namespace's own subscriber.
        id: of the client.
        namespace: begins with a slash.
        handshake: of the session.

    Attributes:
        id: of this client in this namespace; the session's id is another one, and secret.
        namespace: begins with a slash.
        handshake: address, query, cookies and headers of the session's first request.
        recovered: whether the client has reconnected in time: its channels are
            subscribed again, from its last position on; the event `gap` says if messages
            are missing.
        connected: whether what is emitted may still arrive.
        channels: that are subscribed, or requested from the broker.
        grant: of the client; `rt_twisted.api.ANYONE` where none is needed.
    """

    __slots__ = (
        "_acknowledgements",
        "_calls",
        "_context",
        "_data",
        "_missed",
        "_owner",
        "_pending",
        "_stream",
        "channels",
        "connected",
        "grant",
        "handshake",
        "id",
        "namespace",
        "recovered",
        "recovery_keys",
        "rejected",
    )

    def __init__(
        self,
        context: ActionContext,
        owner: SocketOwner,
        stream: SocketStream,
        id: str,
        namespace: str,
        handshake: Handshake,
    ) -> None:
        self.id = id
        self.namespace = namespace
        self.handshake = handshake
        self.recovered = False
        self.connected = True
        self.grant = ANYONE
        self.channels: tuple[Selector, ...] = ()
        self.recovery_keys: tuple[str, ...] = ()  # with which the client may recover
        self.rejected = False  # by `disconnect`, perhaps before it was accepted
        self._context = context
        self._owner = owner
        self._stream = stream
        self._pending: PendingOutput | None = PendingOutput()
        self._missed: MissedReplay | None = None
        self._data: dict[str, Any] | None = None
        self._calls: dict[int, Deferred[list[Any]]] | None = None
        self._acknowledgements = 0

    @property
    def data(self) -> dict[str, Any]:
        """
        The application's own data; a client that recovers gets it back.
        """
        if self._data is None:  # most applications store nothing
            self._data = {}
        return self._data

    @data.setter
    def data(self, data: dict[str, Any]) -> None:
        self._data = data

    def emit(self, event: str, *arguments: Any) -> None:
        """
        Send an event to this client only; it is not stored.

        Args:
            event: not one of those that clients reserve, such as `connect`, and not
                `gap` or `position`, which the server sends.
            arguments: values that JSON can express, and bytes.

        Raises:
            ValueError: *event* is reserved, or an argument is NaN or nested too deeply.
            TypeError: JSON cannot express an argument.
        """
        self._emit(event, arguments, None)

    def call(self, event: str, *arguments: Any) -> Deferred[list[Any]]:
        """
        Send an event, and wait for the acknowledgement.

        Args:
            event: see `emit`.
            arguments: see `emit`.

        Returns:
            the values of the acknowledgement. There is no timeout: add one with
            `addTimeout`.

        Raises:
            ValueError: see `emit`; or MAX_CALLS calls wait already.
            TypeError: see `emit`.
            ConnectionDone: the client has disconnected (in the Deferred).
        """
        calls = self._calls
        if calls is None:
            calls = self._calls = {}
        if len(calls) >= MAX_CALLS:
            raise ValueError(f"{MAX_CALLS} calls wait for the client's acknowledgement")
        self._acknowledgements += 1
        number = self._acknowledgements
        called: Deferred[list[Any]] = Deferred(partial(self._cancel_call, number))
        if not self.connected:
            called.errback(ConnectionDone())
            return called
        calls[number] = called
        self._emit(event, arguments, number)
        return called

    def join(self, names: Selector | Sequence[Selector], since: Since | None = None) -> None:
        """
        Subscribe the client to channels, up to `max-reader-channels`.

        Joining a channel again changes nothing. But a client that has `recovered` may have
        been disconnected before it received the replay: once, what lies before its
        position is replayed again.

        Args:
            names: one channel or pattern (`Wildcard.of("news.*")`), or several.
            since: where the replay starts; None for no replay.

        Raises:
            HttpError: 400, the name of a channel is not allowed, or there are too many.
        """
        names = [names] if isinstance(names, Selector) else list(names)
        self._context.names.check_all(names, self.channels)
        self.subscribe(names, since)

    def leave(self, names: Selector | Sequence[Selector]) -> None:
        """
        Unsubscribe the client from channels; those that it has not joined are ignored.
        """
        names = [names] if isinstance(names, Selector) else list(names)
        left = [name for name in self.channels if name in names]
        self.channels = tuple([name for name in self.channels if name not in left])
        pending = self._pending
        if pending is not None:
            pending.joins = [([n for n in some if n not in left], s) for some, s in pending.joins]
        elif left and self.connected:
            self._stream.channels.leave(left)
        if self._missed is not None:
            self._missed.names.difference_update(left)

    def drop_channels(self, names: Sequence[Selector]) -> None:
        """
        Unsubscribe the client from channels by the event `unsubscribed`.
        """
        if names:
            self.leave(names)
            self._emit(UNSUBSCRIBED, ({"channels": [str(name) for name in names]},), None)

    async def publish(self, channel: str, data: bytes, event: str | None = None) -> Position:
        """
        Publish to all subscribers of *channel*; the application decides who may do so.

        Raises:
            HttpError: 400 for the name, 413 for more than `max-message`, 503 if the
                broker is not available.
        """
        result = await publish_checked(self._context, [Draft(channel, data, event)])
        return result.positions[0]

    def disconnect(self) -> None:
        """
        Disconnect the client from the namespace; it does not reconnect by itself.
        """
        self.rejected = True
        self._owner.disconnect_socket(self)

    # What the connection calls.

    def send(self, packet: SocketIOPacket) -> None:
        """
        Send *packet*, or store it until the client is accepted.

        Raises:
            TypeError: JSON cannot express its data.
            ValueError: its data has NaN or infinity, or is nested too deeply.
        """
        if not self.connected:
            return
        pieces = encode(packet)
        if self._pending is not None and packet.kind is not SocketIOPacketType.CONNECT_ERROR:
            self._pending.packets.append(pieces)
            return
        self._stream.write(frame_packet(pieces, self._stream.framing))

    def subscribe(self, names: Sequence[Selector], since: Since | None) -> None:
        """
        Join channels whose names were checked; see `join`.
        """
        if not self.connected:
            return
        stream = self._stream
        if self._missed is not None and since is not None:
            self._missed.replay(names, since, stream, self._format())
        new = [name for name in dict.fromkeys(names) if name not in self.channels]
        if not new:
            return
        self.channels += tuple(new)
        if self._pending is not None:
            self._pending.joins.append((new, since))
            return
        stream.channels.join(new, since, self._format())

    def when_subscribed(self) -> Deferred[None] | None:
        """
        Subscribe this node to the channels that the client will join; see `Hub.when_subscribed`.
        """
        names = [name for some, _ in self._pending.joins for name in some] if self._pending else []
        return self._context.hub.when_subscribed(names)

    def accept(
        self, answer: SocketIOPacket, recovered: SocketIOPacket, missed: MissedReplay | None
    ) -> None:
        """
        Send *answer*, then subscribe and send what was stored.

        Args:
            answer: the CONNECT packet.
            recovered: replaces it if the client misses no message of its channels.
            missed: has the client's last position; None if the client sent none.
        """
        stream = self._stream
        if isinstance(stream, NamespaceStream):
            stream.count()
        pending, self._pending = self._pending or PendingOutput(), None
        framing = stream.framing
        frames = encode_packet(answer if missed is None or self.channels else recovered, framing)
        if missed is None or not self.channels:
            for names, since in pending.joins:
                if names:
                    stream.channels.join(names, since, self._format(), frames)
                    frames = b""
            stream.write(frames)
        else:
            format = self._format()
            resuming = replace(
                format, welcome=frames, recovered_welcome=encode_packet(recovered, framing)
            )
            self._missed = missed
            missed.names.update(self.channels)
            stream.channels.join(self.channels, After(missed.position), resuming)
            if not stream.channels.complete:  # the broker has not confirmed them
                stream.write(frames)
        for pieces in pending.packets:
            stream.write(frame_packet(pieces, stream.framing))

    def acknowledge(self, number: int, values: list[Any]) -> None:
        """
        Fire the call *number* with the client's acknowledgement; ignore unknown numbers.
        """
        called = self._calls.pop(number, None) if self._calls else None
        if called is not None:
            called.callback(values)

    def close(self) -> None:
        """
        Send nothing any more, and fail the calls that wait.
        """
        self.connected = False
        if self._missed is not None:
            self._missed.close()
        if isinstance(self._stream, NamespaceStream):
            self._stream.close()
        calls, self._calls = self._calls, None
        for called in (calls or {}).values():
            called.errback(ConnectionDone())

    def _cancel_call(self, number: int, called: Deferred[list[Any]]) -> None:
        if self._calls:
            self._calls.pop(number, None)

    def _emit(self, event: str, arguments: tuple[Any, ...], number: int | None) -> None:
        if event in RESERVED:
            raise ValueError(f"the event {event!r} is reserved by clients")
        if event in SERVER_EVENTS:
            raise ValueError(f"the event {event!r} is reserved by the server")
        data = [event, *arguments]
        self.send(SocketIOPacket(SocketIOPacketType.EVENT, self.namespace, data, number))

    def _format(self) -> SocketIOEvents:
        return self._owner.events_format(self._stream.framing, self.namespace)
