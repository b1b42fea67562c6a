"""
Socket.IO in a session: clients join namespaces, events come and go, and are
acknowledged.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from functools import lru_cache, partial
from inspect import iscoroutine
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from twisted.internet.defer import Deferred, ensureDeferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.socketio.namespace_seat import (
    ChannelSubscription,
    NamespaceSeat,
    NamespaceSubscription,
)
from rt_twisted.actions.socketio.resumed import Resumed
from rt_twisted.actions.socketio.session_store import SavedSession, SessionStore
from rt_twisted.actions.socketio.socket import Socket
from rt_twisted.codecs.engineio_framing import Framing
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.socketio import Decoder, SocketIOPacket, SocketIOPacketType
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.metrics.responses import SUBSCRIBERS, count_refusal
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Position
from rt_twisted.net.inbound_memory import Reservation

if TYPE_CHECKING:
    from collections.abc import Callable

    from rt_twisted.actions.socketio.handshake import Handshake

_log = Logger()

MAX_NAMESPACES = 20  # of one session
MAX_WAITING = 1000  # events of one session that wait for their application...
MAX_PAYLOADS = 4  # ...and as many bytes of them as so many of the largest posts

MSGPACK_LOG = 60.0  # seconds between two log lines about clients with msgpack

_OURS = frozenset(("EIO", "transport", "sid", "t", "b64"))  # of a query
_RESUMABLE = frozenset(("transport close", "transport error", "ping timeout"))


@dataclass(slots=True)
class MsgpackWarnings:
    """
    Limits the log lines about clients that use msgpack.

    Args:
        not_before: when the next one may be written, by the reactor's clock.
    """

    not_before: float = 0.0


class SocketIOConnection:
    """
    All clients of one session.

    Args:
        house: the daemon.
        recovery: where clients are remembered that may come back.
        app: provides `ISocketApp`.
        handshake: of the session's first request.
        version: of Engine.IO: 3 for Socket.IO 4, 4 for Socket.IO 5.
        positions: events say them, and clients may recover.
        address: as the limits count it.
    """

    __slots__ = (
        "_address",
        "_app",
        "_clients",
        "_context",
        "_decoder",
        "_handshake",
        "_joining",
        "_positions",
        "_recovery",
        "_reserved",
        "_session",
        "_size",
        "_version",
        "_waiting",
        "_waiting_size",
    )

    def __init__(
        self,
        context: ActionContext,
        recovery: SessionStore,
        app: Any,
        handshake: Handshake,
        version: int,
        positions: bool,
        address: str,
    ) -> None:
        self._context = context
        self._recovery = recovery
        self._app = app
        self._handshake = handshake
        self._version = version
        self._positions = positions
        self._address = address
        self._session: Any = None
        self._decoder = Decoder(context.socketio.max_payload)
        self._clients: dict[str, tuple[Socket, NamespaceSeat]] = {}
        self._joining: tuple[str, ...] = ()  # namespaces that are thought about
        self._size = 0  # of the packet that comes
        self._reserved: Reservation | None = None  # for it, while attachments are missing
        self._waiting = 0
        self._waiting_size = 0

    # What the session calls.

    def opened(self, session: Session) -> None:
        """
        See `Speaker`.
        """
        self._session = session
        if self._version == 3:  # everybody is in the main namespace, without a word
            query = self._handshake.query.items()
            self._connect("/", {name: said[-1] for name, said in query if name not in _OURS})

    def message(self, data: str | bytes) -> None:
        """
        See `Speaker`.
        """
        if isinstance(data, bytes) and not self._decoder.waiting:
            self._refuse_binary(data)
        self._size += len(data)
        packet = self._decoder.feed(data)
        if packet is None:
            self._reserve(len(data))
            return
        self._release()
        size, self._size = self._size, 0
        if packet.kind is SocketIOPacketType.CONNECT:
            self._hear_connect(packet)
            return
        found = self._clients.get(packet.namespace)
        if found is None:
            # A client leaves or speaks before it has received that it was refused or
            # disconnected. The server of Socket.IO 2 ignores such packets, the one of 3
            # and 4 ends the session.
            crossed = (
                packet.kind is SocketIOPacketType.DISCONNECT or packet.namespace in self._joining
            )
            if crossed or self._version == 3:
                return
            raise RemoteProtocolError("the namespace was not joined")
        if packet.kind is SocketIOPacketType.CONNECT_ERROR:
            # Such as `44"encode error"` of Socket.IO 2: the client could not send an event.
            _log.debug("a client reported an error in namespace {name}", name=packet.namespace)
            return
        client = found[0]
        if packet.kind is SocketIOPacketType.EVENT:
            self._hear_event(client, packet, size)
        elif packet.kind is SocketIOPacketType.ACK:
            client.acknowledged(packet.id or 0, packet.data)
        else:
            self._remove(packet.namespace, "client namespace disconnect")

    def closed(self, why: str) -> None:
        """
        See `Speaker`.
        """
        self._release()
        for namespace in tuple(self._clients):
            self._remove(namespace, why)

    # What `InboundMemory` calls. A session cannot be paused, only its transport can: each
    # message of a client is complete, only the packet is not.

    def pause_input(self) -> None:
        """
        See `IncompleteInput`.
        """

    def resume_input(self) -> None:
        """
        See `IncompleteInput`.
        """

    def drop_input(self) -> None:
        """
        See `IncompleteInput`.
        """
        self._reserved = None
        self._session.close("transport error", reason="too many unfinished packets")

    def _reserve(self, size: int) -> None:
        if self._reserved is None:
            self._reserved = self._context.inbound.open(self)
        self._reserved.grow(size)

    def _release(self) -> None:
        reserved, self._reserved = self._reserved, None
        if reserved is not None:
            reserved.close()

    def idle(self) -> bool:
        """
        See `Speaker`.
        """
        return not self._clients

    def format(
        self,
        framing: Framing,
        quiet: bool = False,
        welcome: bytes = b"",
        namespace: str = "/",
    ) -> SocketIOEvents:
        """
        See `Speaker`; the same for a client's *namespace*.
        """
        if quiet:
            return SocketIOEvents(framing, namespace, self._positions, welcome, quiet=True)
        return _plain(framing, namespace, self._positions)

    # Namespaces.

    def _hear_connect(self, packet: SocketIOPacket) -> None:
        namespace, auth = packet.namespace, packet.data or {}
        if self._version == 3:
            namespace, _, query = namespace.partition("?")
            auth = dict(parse_qsl(query, keep_blank_values=True, max_num_fields=None))
            if namespace == "/" and (namespace in self._clients or namespace in self._joining):
                return  # it is there already, unless it has left
        if namespace in self._clients or namespace in self._joining:
            raise RemoteProtocolError("the namespace was joined before")
        if len(self._clients) + len(self._joining) >= MAX_NAMESPACES:
            raise RemoteProtocolError("too many namespaces")
        self._connect(namespace, auth)

    def _connect(self, namespace: str, auth: dict[str, Any]) -> None:
        self._joining += (namespace,)
        pid, offset = auth.pop("pid", None), auth.pop("offset", None)
        left = None
        if self._recovers and isinstance(pid, str):
            left = self._recovery.find(pid, self._session)
            # Who does not say where it was holds itself for new, and asks for all again.
            if left is not None and (left.namespace != namespace or not isinstance(offset, str)):
                left = None
        session = self._session
        ear: ChannelSubscription = session
        if namespace != "/":
            format = self.format(session.framing, quiet=True, namespace=namespace)
            ear = NamespaceSubscription(self._context, session, format, self._address)
        seat = NamespaceSeat(self, ear, namespace)
        client = Socket(self._context, seat, self._new_id(namespace), namespace, self._handshake)
        if left is not None:
            client.id, client.data, client.recovered = left.id, left.data, True
        try:
            session.admit()
        except HttpError:
            decided: Deferred[Any] = fail()
        else:
            decided = _result_of(self._app.on_connect, client, auth)
        decided.addCallback(self._let_in, client, seat, left, pid, offset)
        decided.addErrback(self._turn_away, client, seat)

    @property
    def _recovers(self) -> bool:
        return self._version == 4 and self._positions and self._context.socketio.recovery > 0

    def _new_id(self, namespace: str) -> str:
        if self._version == 4:
            return secrets.token_urlsafe(15)
        # Clients of revision 3 make it up themselves, from the session's.
        sid: str = self._session.sid
        return sid if namespace == "/" else f"{namespace}#{sid}"

    def _let_in(
        self,
        _: object,
        client: Socket,
        seat: NamespaceSeat,
        left: SavedSession | None,
        pid: Any,
        offset: Any,
    ) -> None:
        namespace = client.namespace
        self._decided(namespace)
        if self._session.closed or seat.expelled:
            seat.abandon()
            return
        self._clients[namespace] = client, seat
        self._session.joined()
        resumed = None
        if self._recovers and isinstance(offset, str):
            resumed = Resumed(self._context, Position.parse(offset))
        if left is not None:
            self._recovery.find(pid, self._session)  # who was let in by it meanwhile has to go
            self._recovery.drop(pid)
            seat.join(left.channels, None)
        first = back = SocketIOPacket(SocketIOPacketType.CONNECT, namespace)
        if self._version == 4:
            said = {"sid": client.id}
            first = back = SocketIOPacket(SocketIOPacketType.CONNECT, namespace, said)
            if self._recovers:
                fresh = secrets.token_urlsafe(15)
                first = back = SocketIOPacket(
                    SocketIOPacketType.CONNECT, namespace, {**said, "pid": fresh}
                )
                seat.keys = (fresh,)
                if left is not None:
                    back = SocketIOPacket(
                        SocketIOPacketType.CONNECT, namespace, {**said, "pid": pid}
                    )
                    seat.keys = (fresh, pid)
        for key in seat.keys:
            self._recovery.here(key, self._session)
        seat.welcome(first, back, resumed)

    def _turn_away(self, failure: Failure, client: Socket, seat: NamespaceSeat) -> None:
        namespace = client.namespace
        self._decided(namespace)
        found = self._clients.pop(namespace, None)
        error = failure.value
        if isinstance(error, HttpError) and found is None:
            status, reason = error.status, str(error)
            count_refusal(self._context.hub.metrics, SUBSCRIBERS, status)
        else:
            _log.failure("while a client joined namespace {name}", failure, name=namespace)
            status, reason = 500, "internal error"
        for key in seat.keys:
            self._recovery.drop(key)
        said: Any = {"message": reason, "data": {"status": status}}
        if self._version == 3:
            said = reason
        seat.say(SocketIOPacket(SocketIOPacketType.CONNECT_ERROR, namespace, said))
        seat.abandon()

    def _decided(self, namespace: str) -> None:
        self._joining = tuple([name for name in self._joining if name != namespace])

    def expel(self, namespace: str) -> None:
        """
        Have the client in *namespace* leave, if there is one.
        """
        found = self._clients.get(namespace)
        if found is None:
            return
        found[1].say(SocketIOPacket(SocketIOPacketType.DISCONNECT, namespace))
        self._remove(namespace, "server namespace disconnect")

    def _remove(self, namespace: str, why: str) -> None:
        client, seat = self._clients.pop(namespace)
        channels = seat.channels
        if not self._session.closed:
            seat.leave(channels)
            if not self._clients:
                self._session.left()
        seat.abandon()
        until = self._context.reactor.seconds() + self._context.socketio.recovery
        left = SavedSession(client.id, namespace, channels, client.data, until)
        for key in seat.keys:
            if why in _RESUMABLE:
                self._recovery.persist(key, left)
            else:
                self._recovery.drop(key)
        client.gone()
        told = _result_of(self._app.on_disconnect, client, why)
        told.addErrback(partial(_log.failure, "while an application heard that a client left"))

    def _refuse_binary(self, data: bytes) -> None:
        """
        Name the cause where it can only be guessed from outside: clients with
        another parser get no answer that they understand.

        Raises:
            RemoteProtocolError: always.
        """
        now = self._context.reactor.seconds()
        warnings = self._context.shared.get(MsgpackWarnings, MsgpackWarnings)
        # socket.io-msgpack-parser sends each packet as a map of up to 15 fields.
        if data[:1] and 0x80 <= data[0] <= 0x8F and now >= warnings.not_before:
            warnings.not_before = now + MSGPACK_LOG
            _log.warn(
                "a Socket.IO client at {address} sent a binary packet that looks like msgpack: "
                "socket.io-msgpack-parser is not supported; use the default parser",
                address=self._handshake.address,
            )
        raise RemoteProtocolError(
            "binary data without a text packet: use the default parser of Socket.IO, not msgpack"
        )

    # Events.

    def _hear_event(self, client: Socket, packet: SocketIOPacket, size: int) -> None:
        most = MAX_PAYLOADS * self._context.socketio.max_payload
        if self._waiting >= MAX_WAITING or self._waiting_size + size > most:
            raise RemoteProtocolError("too many events at once")
        self._waiting += 1
        self._waiting_size += size
        done = _result_of(self._app.on_event, client, *packet.data)
        done.addErrback(_refused, packet.data[0])
        done.addCallback(self._acknowledge, client, packet.id, size)
        done.addErrback(partial(_log.failure, "while acknowledging an event"))

    def _acknowledge(self, result: Any, client: Socket, id: int | None, size: int) -> None:
        self._waiting -= 1
        self._waiting_size -= size
        if id is None:
            return
        values = [] if result is None else list(result) if type(result) is tuple else [result]
        found = self._clients.get(client.namespace)
        if found is not None and found[0] is client:
            found[1].say(SocketIOPacket(SocketIOPacketType.ACK, client.namespace, values, id))


@lru_cache(256)
def _plain(framing: Framing, namespace: str, positions: bool) -> SocketIOEvents:
    """
    One for all: readers would else remember one each.
    """
    return SocketIOEvents(framing, namespace, positions)


def _refused(failure: Failure, event: str) -> dict[str, str]:
    if failure.check(HttpError):
        return {"status": "error", "error": failure.getErrorMessage()}
    _log.failure("in an application, on event {event}", failure, event=event)
    return {"status": "error", "error": "internal error"}


def _result_of(call: Callable[..., object], *arguments: Any) -> Deferred[Any]:
    try:
        result = call(*arguments)
    except Exception:
        return fail()
    if iscoroutine(result):
        return ensureDeferred(result)
    return result if isinstance(result, Deferred) else succeed(result)
