"""
One Engine.IO session: packets in and out, over the transport of the moment.

Messages of channels are written to the transport's subscriber; on a websocket that is the
websocket's own, so that broadcasts take the direct path.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.channel_subscription import ChannelSubscription
from rt_twisted.actions.engineio.keepalive import Keepalive, KeepaliveAction
from rt_twisted.actions.engineio.polling import NOOP, PollingTransport
from rt_twisted.actions.engineio.registry import SessionRegistry
from rt_twisted.actions.engineio.transport import POLLING, WEBSOCKET, Transport
from rt_twisted.actions.engineio.upgrade import Upgrade
from rt_twisted.codecs.engineio import (
    EngineIOPacket,
    EngineIOPacketType,
    decode,
    decode3,
    encode_text,
    open_payload,
)
from rt_twisted.codecs.engineio_framing import Framing, PollFraming, Socket3, Socket4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import CloseCode, WebSocketHandshake
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, PublishResult

_CLOSE = encode_text(EngineIOPacketType.CLOSE)
_PING = encode_text(EngineIOPacketType.PING)
_CLOSE_CODES = {  # by the status of an error
    401: CloseCode.POLICY,
    403: CloseCode.POLICY,
    413: CloseCode.TOO_BIG,
    503: CloseCode.TRY_LATER,
}

Drop = Callable[[Sequence[Selector]], object]


class SessionObserver(Protocol):
    """
    The protocol above a session, such as Socket.IO.
    """

    def opened(self, session: Session) -> None:
        """
        *session* may be written to. Called once, before anything else.
        """

    def message(self, data: str | bytes) -> None:
        """
        Process a message of the client.

        Raises:
            RemoteProtocolError: the message is malformed or not permitted; the session is
                closed.
        """

    def closed(self, why: str) -> None:
        """
        The session is closed. Called once, after everything else.

        Args:
            why: in Socket.IO's words: `ping timeout`, `transport close`...
        """

    def idle(self) -> bool:
        """
        Return whether the client has joined nothing: it is disconnected after a time.
        """

    def format(self, framing: Framing, quiet: bool = False, welcome: bytes = b"") -> IFormat:
        """
        Return the format of channel messages on a transport with *framing*.

        Args:
            framing: of the transport.
            quiet: `start` returns nothing but *welcome*.
            welcome: whole frames.
        """


class Session:
    """
    A session, from its handshake to its end.

    A session is pending until its client has connected to a namespace and, if it polls,
    has sent a second request: it does not count as a subscriber. The number of pending
    sessions and their time are limited.

    Args:
        registry: of all sessions.
        context: settings and hub.
        observer: gets the messages.
        version: of Engine.IO: 3 or 4.
        address: the client's, as the limits count it.
        text_only: the client cannot receive binary data.

    Attributes:
        transport: of the moment; an upgrade replaces it.
        channels: to which the client subscribes in the main namespace.
        due: when to call `check` next.
    """

    __slots__ = (
        "_address",
        "_confirm_by",
        "_connect_by",
        "_context",
        "_counted",
        "_ends",
        "_grant",
        "_joined",
        "_keepalive",
        "_observer",
        "_registry",
        "_text_only",
        "_upgrade",
        "channels",
        "closed",
        "due",
        "sid",
        "transport",
        "version",
    )

    def __init__(
        self,
        registry: SessionRegistry[Session],
        context: ActionContext,
        observer: SessionObserver,
        version: int,
        address: str,
        text_only: bool,
    ) -> None:
        now = context.reactor.seconds()
        self.sid = registry.new_id()
        self.version = version
        self.closed = False
        self.transport: Transport
        self.channels: ChannelSubscription
        self._registry = registry
        self._context = context
        self._observer = observer
        self._address = address
        self._text_only = text_only
        self._keepalive = Keepalive(version, context.socketio, now)
        self._upgrade: Upgrade | None = None  # if the session began by polling
        self._connect_by = now + context.socketio.connect_seconds
        self._confirm_by = now + context.socketio.handshake_seconds  # inf: confirmed
        self._joined = False  # see `joined`
        self._counted = False  # as a subscriber
        self._ends = math.inf  # when the grant of the client does
        self._grant: tuple[Any, Drop | None] | None = None
        self.due = min(self._keepalive.due, self._connect_by)

    @property
    def framing(self) -> Framing:
        """
        How packets become bytes on the transport of the moment.
        """
        return self.transport.framing

    def write(self, frames: bytes) -> None:
        """
        Send whole frames of the session's framing, after all that was sent before.
        """
        if not self.closed:
            self.transport.write(frames)

    def publish(self, drafts: Sequence[Draft]) -> PublishResult | Deferred[PublishResult]:
        """
        Publish messages of the client; see `Transport.publish`.
        """
        return self.transport.publish(drafts)

    def set_grant(self, grant: Any, left: float, drop: Drop | None = None) -> None:
        """
        Note the *grant* of the client, and end the session in *left* seconds; infinity for never.

        The transport is closed, so that the client opens another session.

        Args:
            grant: of the client.
            left: seconds until it ends.
            drop: see `GrantHolder`.
        """
        if not self.closed:
            self._ends = self._now() + left
            self._grant = grant, drop
            subscriber = self.transport.subscriber
            self._context.hub.set_grant(subscriber, grant, left, self._on_expired, drop)

    def _on_expired(self) -> None:
        # Clients reconnect by themselves only if the transport ends.
        self.close("transport close", last=NOOP, cause=DisconnectReason.EXPIRED)

    # Polling.

    def open_polling(self, framing: PollFraming, address: str = "") -> None:
        """
        Begin by polling: the response to the first poll describes the session.

        Args:
            framing: of the polls.
            address: the client's, whether the limits count it or not.
        """
        context, observer = self._context, self._observer
        format, quiet = observer.format(framing), observer.format(framing, quiet=True)
        polling = PollingTransport(
            context, framing, format, quiet, self._address, self._on_polling_closed
        )
        self.transport = polling
        self.channels = ChannelSubscription(context.hub, polling.subscriber)
        self._upgrade = Upgrade(
            polling, self.channels, context.reactor, context.socketio.upgrade_seconds
        )
        polling.write(self._open_packet(framing, [WEBSOCKET]))
        self.due = min(self.due, self._confirm_by)
        self._registry.add_pending(self, address, context.socketio.max_pending)
        self._begin()

    def poll(self, exchange: IExchange) -> None:
        """
        Respond to *exchange* with the packets that wait, or with the next ones.

        Raises:
            RemoteProtocolError: another poll waits already; the session is closed.
        """
        polling, upgrade = self._polling(), self._upgrade
        assert upgrade is not None
        # A ping may wait behind much that is fetched in portions.
        self._keepalive.on_packet(self._now(), heartbeat=False)
        try:
            polling.poll(exchange, self._on_poll_lost)
        except RemoteProtocolError:
            self.close("transport error")
            raise
        upgrade.on_poll()

    async def post(self, exchange: IExchange, framing: PollFraming) -> None:
        """
        Process the packets in the body of *exchange*.

        Raises:
            RemoteProtocolError: the body is malformed, or another post is still being
                processed; the session is closed.
            HttpError: see `IExchange.read`.
        """
        try:
            await self._polling().post(exchange, framing, self._receive)
        except RemoteProtocolError:
            self.close("parse error")
            raise

    def _polling(self) -> PollingTransport:
        assert isinstance(self.transport, PollingTransport)
        return self.transport

    def _on_poll_lost(self) -> None:
        self.close("transport close", cause=DisconnectReason.LOST)

    def _on_polling_closed(self, dropped: bool) -> None:
        if self.transport.name == POLLING:
            self.close("transport close", b"", cause=DisconnectReason.LOST)

    # Websocket.

    def websocket_framing(self, handshake: WebSocketHandshake) -> Framing:
        """
        Return the framing of a websocket with the opening handshake *handshake*.
        """
        framing = Socket4 if self.version == 4 else Socket3
        return framing(handshake.deflate, self._text_only)

    def opening_format(self, handshake: WebSocketHandshake) -> IFormat:
        """
        Return the format with which a websocket begins: it describes the session.
        """
        framing = self.websocket_framing(handshake)
        welcome = self._open_packet(framing, [])
        return self._observer.format(framing, quiet=True, welcome=welcome)

    def candidate_format(self, handshake: WebSocketHandshake) -> IFormat:
        """
        Return the format of a websocket that may take over: nothing is sent until it does.
        """
        return self._observer.format(self.websocket_framing(handshake), quiet=True)

    @property
    def upgradable(self) -> bool:
        """
        Whether a websocket may be proposed.
        """
        return self._upgrade is not None and self._upgrade.available

    def websocket_opened(self, transport: Transport) -> None:
        """
        Use *transport* if the session is new; else wait for it to ask for the upgrade.
        """
        upgrade = self._upgrade
        if upgrade is not None:
            upgrade.propose(transport)
            self.due = min(self.due, upgrade.due)
            return
        self.channels = ChannelSubscription(self._context.hub, transport.subscriber)
        self._confirm_by = math.inf
        self._use(transport)
        self._begin()

    def websocket_message(self, transport: Transport, data: bytes, binary: bool) -> None:
        """
        Process a message of a websocket.
        """
        decoded = decode if self.version == 4 else decode3
        upgrade = self._upgrade
        candidate = upgrade is not None and upgrade.candidate is transport
        try:
            packet = decoded(data if binary else data.decode())
            if upgrade is not None and candidate:
                if upgrade.receive(packet):
                    self._use(transport)
                    upgrade.drain_to(
                        transport, self._observer.format(transport.framing, quiet=True)
                    )
                self.due = min(self.due, upgrade.due)
            elif transport is self.transport:
                self._receive(packet)
        except RemoteProtocolError as error:
            if upgrade is not None and candidate:
                upgrade.refuse()
            else:
                self.close("parse error", reason=error.reason, status=error.status)

    def websocket_closed(self, transport: Transport) -> None:
        """
        Close the session, if *transport* is its own; else go on polling.
        """
        if transport is self.transport:
            self.close("transport close")
        elif self._upgrade is not None and self._upgrade.candidate is transport:
            self._upgrade.withdraw()

    def _use(self, transport: Transport) -> None:
        """
        Make the websocket *transport* the session's; it counts as a subscriber already.
        """
        if self._upgrade is not None:  # polling is drained for a while
            self._context.hub.drop_grant(self.transport.subscriber)
        self.transport = transport
        self._counted = True
        self._registry.confirm(self)
        transport.subscriber.format = self._observer.format(transport.framing)
        if self._grant is not None:
            self.set_grant(self._grant[0], self._ends - self._now(), self._grant[1])

    # Counting.

    def confirm(self) -> None:
        """
        The client of a polling session has sent a second request.

        Raises:
            HttpError: there are too many subscribers to count the session as one; it is
                closed.
        """
        if self._confirm_by != math.inf:
            self._confirm_by = math.inf
            self._count()

    def admit(self) -> None:
        """
        Check that the client may connect to a namespace.

        Raises:
            HttpError: there are too many subscribers to count the session as one.
        """
        if not self._counted:
            self._context.hub.admit(self._address)

    def joined(self) -> None:
        """
        The client has joined something, such as a namespace, after `admit`.
        """
        self._joined = True
        self._count(admitted=True)

    def namespaces_left(self) -> None:
        """
        The client has left its last namespace; it has `connect_seconds` for another one.
        """
        self._connect_by = self._now() + self._context.socketio.connect_seconds
        self.due = min(self.due, self._connect_by)

    def _count(self, admitted: bool = False) -> None:
        if self._counted or not self._joined or self._confirm_by != math.inf:
            return
        if not admitted:
            try:
                self.admit()
            except HttpError:
                self.close("transport close", cause=DisconnectReason.LOST)
                raise
        self._counted = True
        self._registry.confirm(self)
        self._context.hub.count_subscriber(self.transport.subscriber)

    # Packets.

    def _receive(self, packet: EngineIOPacket) -> None:
        if self.closed:
            return
        kind = packet.kind
        if kind is EngineIOPacketType.MESSAGE:
            self._keepalive.on_packet(self._now(), heartbeat=False)
            self._observer.message(packet.data)
        elif kind is (EngineIOPacketType.PING if self.version == 3 else EngineIOPacketType.PONG):
            self._keepalive.on_packet(self._now(), heartbeat=True)
            self.due = min(self.due, self._keepalive.due)
            if self.version == 3:
                pong = encode_text(EngineIOPacketType.PONG, str(packet.data).encode())
                self.write(self.framing.text(pong))
        elif kind is EngineIOPacketType.PING or kind is EngineIOPacketType.PONG:
            raise RemoteProtocolError("a ping or pong which only the server may send")
        elif kind is EngineIOPacketType.CLOSE:
            self.close("transport close", last=NOOP)

    def _open_packet(self, framing: Framing, upgrades: list[str]) -> bytes:
        limits = self._context.socketio
        data = open_payload(
            self.sid, upgrades, limits.ping_interval, limits.ping_timeout, limits.max_payload
        )
        return framing.text(encode_text(EngineIOPacketType.OPEN, data))

    # Life cycle.

    def _begin(self) -> None:
        self._registry.add(self)
        self._observer.opened(self)

    def check(self, now: float) -> None:
        """
        Do what is due at the time *now*: ping, time out, go on with the upgrade.
        """
        upgrade = self._upgrade
        if upgrade is not None:
            upgrade.check(now)
            if upgrade.done:
                upgrade = self._upgrade = None
        if (now >= self._connect_by and self._observer.idle()) or now >= self._confirm_by:
            self.close("nothing was joined")
            return
        action = self._keepalive.check(now)
        if action is KeepaliveAction.TIMEOUT:
            # A poll that waits gets no CLOSE: python-socketio would not reconnect.
            self.close("ping timeout", last=NOOP, cause=DisconnectReason.LOST)
            return
        if action is KeepaliveAction.PING:
            self.write(self.framing.text(_PING))
        self.due = self._keepalive.due
        if upgrade is not None:
            self.due = min(self.due, upgrade.due)
        if now < self._connect_by:
            self.due = min(self.due, self._connect_by, self._confirm_by)

    def expire(self) -> None:
        """
        Close the session, as there are too many pending ones.
        """
        self.close("nothing was joined", last=NOOP)

    def close(
        self,
        why: str,
        last: bytes = _CLOSE,
        cause: DisconnectReason = DisconnectReason.CLIENT,
        reason: str = "",
        status: int = 400,
    ) -> None:
        """
        Close the session. A second call changes nothing.

        Args:
            why: for the observer.
            last: a packet that answers a waiting poll; b"" lets the poll fail.
            cause: for the metrics.
            reason: an error, for the close frame of a websocket.
            status: the error's in HTTP.
        """
        if self.closed:
            return
        self.closed = True
        self._registry.remove(self)
        if self._upgrade is not None:
            self._upgrade.close(cause)
        code = _CLOSE_CODES.get(status, CloseCode.PROTOCOL_ERROR) if reason else CloseCode.NORMAL
        self.transport.close(cause, last, code, reason)
        self._observer.closed(why)
        del self._observer  # a reference cycle; a closed session has no use for it

    def _now(self) -> float:
        now: float = self._context.reactor.seconds()
        return now
