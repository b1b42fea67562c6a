"""
Socket.IO over one Engine.IO session: its namespaces, events and acknowledgements.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from inspect import iscoroutine
from typing import Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.access.grants import ANYONE
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.socketio.channel_app import ChannelApp
from rt_twisted.actions.socketio.handshake import Handshake
from rt_twisted.actions.socketio.missed_replay import MissedReplay
from rt_twisted.actions.socketio.msgpack_warnings import MsgpackWarnings, is_msgpack
from rt_twisted.actions.socketio.session_access import TOKEN, SessionAccess
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.actions.socketio.stream import NamespaceStream, SocketStream
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import Decoder, SocketIOPacket, SocketIOPacketType
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.metrics.responses import SUBSCRIBERS, count_refusal
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Position
from rt_twisted.net.inbound_memory import Reservation

_log = Logger()

MAX_NAMESPACES = 20  # of one session
MAX_WAITING = 1000  # events of one session that wait for the application...
MAX_PAYLOADS = 4  # ...and their bytes, in posts of the largest size

_ENGINE_FIELDS = frozenset(("EIO", "transport", "sid", "t", "b64"))  # of a query
_RECOVERABLE = frozenset(("transport close", "transport error", "ping timeout"))


class SocketIOConnection:
    """
    The sockets of one session, one per namespace.

    Args:
        context: settings and hub.
        store: saves clients that may recover.
        app: provides `ISocketIOApp`.
        handshake: of the session.
        version: of Engine.IO: 3 for Socket.IO 2, 4 for Socket.IO 3 and 4.
        positions: whether events have their position, so that clients may recover.
        address: the client's, as the limits count it.
        access: the grant of the session; None where clients need none.
    """

    __slots__ = (
        "_access",
        "_address",
        "_app",
        "_connecting",
        "_context",
        "_decoder",
        "_handshake",
        "_packet_size",
        "_positions",
        "_reservation",
        "_session",
        "_sockets",
        "_store",
        "_version",
        "_waiting",
        "_waiting_size",
    )

    def __init__(
        self,
        context: ActionContext,
        store: SessionStore,
        app: Any,
        handshake: Handshake,
        version: int,
        positions: bool,
        address: str,
        access: SessionAccess | None = None,
    ) -> None:
        self._access = access
        self._context = context
        self._store = store
        self._app = app
        self._handshake = handshake
        self._version = version
        self._positions = positions
        self._address = address
        self._session: Session
        self._decoder = Decoder(context.socketio.max_payload)
        self._sockets: dict[str, Socket] = {}  # by namespace
        self._connecting: tuple[str, ...] = ()  # namespaces that wait for the application
        self._packet_size = 0  # of the packet so far
        self._reservation: Reservation | None = None  # for it, while attachments are missing
        self._waiting = 0  # events for the application...
        self._waiting_size = 0  # ...and their bytes

    # What the session calls.

    def opened(self, session: Session) -> None:
        self._session = session
        if self._version == 3:  # clients connect to the main namespace without a packet
            query = self._handshake.query.items()
            fields = {name: values[-1] for name, values in query if name not in _ENGINE_FIELDS}
            self._connect("/", fields)

    def message(self, data: str | bytes) -> None:
        if isinstance(data, bytes) and not self._decoder.waiting:
            self._refuse_binary(data)
        self._packet_size += len(data)
        packet = self._decoder.feed(data)
        if packet is None:
            self._reserve(len(data))
            return
        self._release()
        size, self._packet_size = self._packet_size, 0
        if packet.kind is SocketIOPacketType.CONNECT:
            self._on_connect(packet)
            return
        socket = self._sockets.get(packet.namespace)
        if socket is None:
            # The client has sent this before it received that it was rejected or
            # disconnected. The server of Socket.IO 2 ignores such packets, the one of 3
            # and 4 closes the session.
            crossed = (
                packet.kind is SocketIOPacketType.DISCONNECT or packet.namespace in self._connecting
            )
            if crossed or self._version == 3:
                return
            raise RemoteProtocolError("the namespace is not joined")
        if packet.kind is SocketIOPacketType.CONNECT_ERROR:
            # Such as `44"encode error"` of Socket.IO 2: the client could not send an event.
            _log.debug("a client reported an error in namespace {name}", name=packet.namespace)
        elif packet.kind is SocketIOPacketType.EVENT:
            self._on_event(socket, packet, size)
        elif packet.kind is SocketIOPacketType.ACK:
            socket.acknowledge(packet.id or 0, packet.data)
        else:
            self._remove(socket, "client namespace disconnect")

    def closed(self, why: str) -> None:
        self._release()
        for socket in tuple(self._sockets.values()):
            self._remove(socket, why)

    def idle(self) -> bool:
        return not self._sockets

    def format(self, framing: Framing, quiet: bool = False, welcome: bytes = b"") -> SocketIOEvents:
        if quiet:
            return self._quiet_format(framing, "/", welcome)
        return self.events_format(framing, "/")

    # What `InboundMemory` calls. A session cannot be paused, only its transport can: each
    # message of a client is complete, only the packet is not.

    def pause_input(self) -> None:
        pass

    def resume_input(self) -> None:
        pass

    def drop_input(self) -> None:
        self._reservation = None
        self._session.close("transport error", reason="too many unfinished packets")

    def _reserve(self, size: int) -> None:
        if self._reservation is None:
            self._reservation = self._context.inbound.open(self)
        self._reservation.grow(size)

    def _release(self) -> None:
        reservation, self._reservation = self._reservation, None
        if reservation is not None:
            reservation.close()

    # What sockets call.

    def events_format(self, framing: Framing, namespace: str) -> SocketIOEvents:
        return _shared_format(framing, namespace, self._positions)

    def disconnect_socket(self, socket: Socket) -> None:
        if self._sockets.get(socket.namespace) is socket:
            socket.send(SocketIOPacket(SocketIOPacketType.DISCONNECT, socket.namespace))
            self._remove(socket, "server namespace disconnect")

    def _quiet_format(
        self, framing: Framing, namespace: str, welcome: bytes = b""
    ) -> SocketIOEvents:
        return SocketIOEvents(framing, namespace, self._positions, welcome, quiet=True)

    # Namespaces.

    def _on_connect(self, packet: SocketIOPacket) -> None:
        namespace, auth = packet.namespace, packet.data or {}
        if self._version == 3:
            namespace, _, query = namespace.partition("?")
            auth = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=None))
            if namespace == "/" and (namespace in self._sockets or namespace in self._connecting):
                return  # it is connected already, unless it has left
        if namespace in self._sockets or namespace in self._connecting:
            raise RemoteProtocolError("the namespace is joined already")
        if len(self._sockets) + len(self._connecting) >= MAX_NAMESPACES:
            raise RemoteProtocolError("too many namespaces")
        self._connect(namespace, auth)

    def _connect(self, namespace: str, auth: dict[str, Any]) -> None:
        """
        Have the application accept or reject a client.

        Args:
            namespace: of the client.
            auth: sent by it; the fields of recovery are removed.
        """
        self._connecting += (namespace,)
        key, offset = auth.pop("pid", None), auth.pop("offset", None)
        session = self._session
        saved = None
        if self._recovers and isinstance(key, str):
            saved = self._store.restore(key, session)
            # A client without an offset regards itself as new, and joins its channels again.
            if saved is not None and (saved.namespace != namespace or not isinstance(offset, str)):
                saved = None
        socket = Socket(
            self._context,
            self,
            self._stream(namespace),
            self._new_id(namespace),
            namespace,
            self._handshake,
        )
        if saved is not None:
            socket.id, socket.data, socket.recovered = saved.id, saved.data, True
        try:
            session.admit()
        except HttpError:
            accepted: Deferred[Any] = fail()
        else:
            accepted = _call(self._enter, socket, auth)
        accepted.addCallback(lambda _: socket.when_subscribed())
        accepted.addCallback(self._accept, socket, saved, key, offset)
        accepted.addErrback(self._reject, socket)

    def _enter(self, socket: Socket, auth: dict[str, Any]) -> object:
        """
        Have the application accept *socket*, when it has a grant.
        """
        if self._access is not None:
            return self._enter_granted(self._access, socket, auth)
        return self._app.on_connect(socket, auth)

    async def _enter_granted(
        self, access: SessionAccess, socket: Socket, auth: dict[str, Any]
    ) -> None:
        socket.grant = await access.connect(auth)
        auth.pop(TOKEN, None)
        await _call(self._app.on_connect, socket, auth)

    @property
    def _recovers(self) -> bool:
        return self._version == 4 and self._positions and self._context.socketio.recovery > 0

    def _stream(self, namespace: str) -> SocketStream:
        session = self._session
        if namespace == "/":
            return session
        framing = session.framing
        format, quiet = (
            self.events_format(framing, namespace),
            self._quiet_format(framing, namespace),
        )
        return NamespaceStream(self._context, session, format, quiet, self._address)

    def _new_id(self, namespace: str) -> str:
        if self._version == 4:
            return secrets.token_urlsafe(15)
        # Clients of revision 3 derive it from the session's id themselves.
        sid = self._session.sid
        return sid if namespace == "/" else f"{namespace}#{sid}"

    def _accept(
        self, _: object, socket: Socket, saved: SavedSession | None, key: Any, offset: Any
    ) -> None:
        """
        Connect *socket*, which the application accepts.

        Args:
            socket: new.
            saved: state of the client to recover.
            key: with which it recovers, as it was sent.
            offset: the client's last position, as it was sent.
        """
        namespace, session = socket.namespace, self._session
        self._decided(namespace)
        if session.closed or socket.rejected:
            socket.close()
            return
        self._sockets[namespace] = socket
        session.joined()
        if self._access is not None:
            self._note_grant(self._access)
            if saved is not None:
                saved = self._permitted(saved)
                socket.recovered = saved is not None
        missed = None
        if self._recovers and isinstance(offset, str):
            missed = MissedReplay(self._context, Position.parse(offset))
        if saved is not None:
            # Another session may have been accepted with the key meanwhile: close it.
            self._store.restore(key, session)
            self._store.discard(key)
            socket.subscribe(saved.channels, None)
        answer = recovered = SocketIOPacket(SocketIOPacketType.CONNECT, namespace)
        if self._version == 4:
            data = {"sid": socket.id}
            if self._recovers:
                data["pid"] = secrets.token_urlsafe(15)
                socket.recovery_keys = (data["pid"],)
            answer = recovered = SocketIOPacket(SocketIOPacketType.CONNECT, namespace, data)
            if saved is not None:
                socket.recovery_keys += (key,)
                # Clients regard themselves as recovered if they get the key that they sent.
                data = {**data, "pid": key}
                recovered = SocketIOPacket(SocketIOPacketType.CONNECT, namespace, data)
        for valid in socket.recovery_keys:
            self._store.bind(valid, session)
        socket.accept(answer, recovered, missed)

    def _permitted(self, saved: SavedSession) -> SavedSession | None:
        """
        Return *saved* with the channels that the grant covers; None if it is another client's.
        """
        assert self._access is not None
        grant = self._access.grant
        if saved.subject != grant.subject:
            return None
        if isinstance(self._app, ChannelApp):
            covered = [name for name in saved.channels if self._app.covers(grant, name)]
            return replace(saved, channels=tuple(covered))
        return saved

    def _note_grant(self, access: SessionAccess) -> None:
        if access.grant is not ANYONE:
            self._session.set_grant(access.grant, access.seconds_left, self._drop_channels)

    def _drop_channels(self, names: Sequence[Selector]) -> None:
        for socket in self._sockets.values():
            socket.drop_channels([name for name in socket.channels if name in names])

    def _renew(self, arguments: Sequence[Any]) -> dict[str, Any]:
        """
        Replace the grant by that of a token; its channels that are not covered are left.
        """
        access = self._access
        assert access is not None
        access.renew(arguments[0] if arguments else None)
        self._note_grant(access)
        for socket in self._sockets.values():
            socket.grant = access.grant
            if isinstance(self._app, ChannelApp):
                covers = partial(self._app.covers, access.grant)
                socket.drop_channels([name for name in socket.channels if not covers(name)])
        return {"status": "ok"}

    def _reject(self, failure: Failure, socket: Socket) -> None:
        """
        Send the client why it is not connected: rejected, or an error in the application.
        """
        namespace = socket.namespace
        self._decided(namespace)
        accepted = self._sockets.pop(namespace, None)
        error = failure.value
        if isinstance(error, HttpError) and accepted is None:
            status, reason = error.status, str(error)
            count_refusal(self._context.metrics, SUBSCRIBERS, status)
        else:
            _log.failure(
                "error while connecting a client to namespace {name}", failure, name=namespace
            )
            status, reason = 500, "internal error"
        for key in socket.recovery_keys:
            self._store.discard(key)
        data: Any = {"message": reason, "data": {"status": status}}
        if self._version == 3:
            data = reason
        socket.send(SocketIOPacket(SocketIOPacketType.CONNECT_ERROR, namespace, data))
        socket.close()

    def _decided(self, namespace: str) -> None:
        self._connecting = tuple([name for name in self._connecting if name != namespace])

    def _remove(self, socket: Socket, why: str) -> None:
        """
        Disconnect *socket*, and save it if it may recover.

        Args:
            socket: connected.
            why: for the application.
        """
        del self._sockets[socket.namespace]
        channels = socket.channels
        if not self._session.closed:
            socket.leave(channels)
            if not self._sockets:
                self._session.namespaces_left()
        until = self._context.reactor.seconds() + self._context.socketio.recovery
        subject = socket.grant.subject
        saved = SavedSession(socket.id, socket.namespace, channels, socket.data, until, subject)
        for key in socket.recovery_keys:
            if why in _RECOVERABLE:
                self._store.persist(key, saved)
            else:
                self._store.discard(key)
        socket.close()
        done = _call(self._app.on_disconnect, socket, why)
        done.addErrback(partial(_log.failure, "error in an application's on_disconnect"))

    def _refuse_binary(self, data: bytes) -> None:
        """
        Refuse binary data which is no attachment, and log the likely cause.

        Clients with another parser get no answer that they understand.

        Raises:
            RemoteProtocolError: always.
        """
        if is_msgpack(data):
            warnings = self._context.shared.get(MsgpackWarnings, MsgpackWarnings)
            warnings.warn(self._handshake.address, self._context.reactor.seconds())
        raise RemoteProtocolError(
            "binary data without a text packet: use the default parser of Socket.IO, not msgpack"
        )

    # Events.

    def _on_event(self, socket: Socket, packet: SocketIOPacket, size: int) -> None:
        limit = MAX_PAYLOADS * self._context.socketio.max_payload
        if self._waiting >= MAX_WAITING or self._waiting_size + size > limit:
            raise RemoteProtocolError("too many events at once")
        self._waiting += 1
        self._waiting_size += size
        if self._access is not None and packet.data[0] == TOKEN:
            done = _call(self._renew, packet.data[1:])
        else:
            done = _call(self._app.on_event, socket, *packet.data)
        done.addErrback(_error_answer, packet.data[0])
        done.addCallback(self._acknowledge, socket, packet.id, size)
        done.addErrback(partial(_log.failure, "error while acknowledging an event"))

    def _acknowledge(self, result: Any, socket: Socket, id: int | None, size: int) -> None:
        self._waiting -= 1
        self._waiting_size -= size
        if id is None:
            return
        values = [] if result is None else list(result) if type(result) is tuple else [result]
        if self._sockets.get(socket.namespace) is socket:
            socket.send(SocketIOPacket(SocketIOPacketType.ACK, socket.namespace, values, id))


@lru_cache(256)
def _shared_format(framing: Framing, namespace: str, positions: bool) -> SocketIOEvents:
    """
    Return one format for all subscribers, so that each does not store its own.
    """
    return SocketIOEvents(framing, namespace, positions)


def _error_answer(failure: Failure, event: str) -> dict[str, str]:
    if failure.check(HttpError):
        return {"status": "error", "error": failure.getErrorMessage()}
    _log.failure("error in an application's on_event, event {event}", failure, event=event)
    return {"status": "error", "error": "internal error"}


def _call(function: Callable[..., object], *arguments: Any) -> Deferred[Any]:
    """
    Call *function*, and return its result, or error, as a Deferred.
    """
    try:
        result = function(*arguments)
    except Exception:
        return fail()
    if iscoroutine(result):
        return ensureDeferred(result)
    return result if isinstance(result, Deferred) else succeed(result)
