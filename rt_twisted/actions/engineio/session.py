"""
One Engine.IO session: packets in and out, by polls or a websocket, or first by
polls and then by a websocket.

What the hub tells it goes to its reader. On a websocket that is the websocket's
own, and broadcasts take the direct way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.keepalive import Keepalive, KeepaliveAction
from rt_twisted.actions.engineio.observer import SessionObserver
from rt_twisted.actions.engineio.polling import NOOP, PollingTransport
from rt_twisted.actions.engineio.upgrade import Upgrade
from rt_twisted.actions.websocket.connection import WebSocket
from rt_twisted.codecs.engineio import (
    EngineIOPacket,
    EngineIOPacketType,
    decode,
    decode3,
    open_data,
    text_of,
)
from rt_twisted.codecs.engineio_framing import Framing, PollFraming, Socket3, Socket4
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.websocket import CloseCode, WebSocketHandshake
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Since

if TYPE_CHECKING:
    from rt_twisted.actions.engineio.registry import SessionRegistry

WEBSOCKET = "websocket"
POLLING = "polling"

_CLOSE = text_of(EngineIOPacketType.CLOSE)
_PING = text_of(EngineIOPacketType.PING)


class Session:
    """
    A session, from its first request to its end.

    Args:
        sessions: all of them.
        house: the daemon.
        dialogue: who speaks by it.
        version: of Engine.IO: 3 or 4.
        address: the client's, as the limits count it.
        text_only: the client takes no bytes.

    Until its client has joined something, and has sent a second request if it
    polls, a session is no subscriber: it is pending. There may be only so many of
    these, and not for long.
    """

    __slots__ = (
        "_address",
        "_confirm_by",
        "_connect_by",
        "_context",
        "_counted",
        "_dialogue",
        "_heart",
        "_joined",
        "_sessions",
        "_text_only",
        "_upgrade",
        "_websocket",
        "channels",
        "closed",
        "due",
        "framing",
        "sid",
        "subscriber",
        "version",
    )

    def __init__(
        self,
        sessions: SessionRegistry,
        context: ActionContext,
        dialogue: SessionObserver,
        version: int,
        address: str,
        text_only: bool,
    ) -> None:
        now = context.reactor.seconds()
        self.sid = sessions.new_id()
        self.version = version
        self.closed = False
        self.subscriber: Subscriber
        self.framing: Framing
        self._sessions = sessions
        self._context = context
        self._dialogue = dialogue
        self._address = address
        self._text_only = text_only
        self._heart = Keepalive(version, context.socketio, now)
        self._upgrade: Upgrade | None = None  # if it began by polls
        self._websocket: WebSocket | None = None
        self.channels: tuple[str, ...] = ()  # that it hears, or wants to
        self._connect_by = now + context.socketio.connect_seconds
        self._confirm_by = now + context.socketio.handshake_seconds  # inf: it has been confirmed
        self._joined = False
        self._counted = False  # as a subscriber
        self.due = min(self._heart.due, self._connect_by)  # when to `look`

    @property
    def transport(self) -> str:
        """
        The transport's name, as requests have it.
        """
        return WEBSOCKET if self._websocket is not None else POLLING

    # What it says.

    def write(self, frames: bytes) -> None:
        """
        Send whole frames of the session's framing, behind all that was sent.
        """
        if not self.closed:
            self.subscriber.write(frames)

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        """
        Let it hear the channels *names* too.

        Args:
            names: distinct, and it hears none of them.
            since: what it is told of them first.
            format: whose `start` tells it; equal to the dialogue's.
            head: whole frames, sent in front of that.
        """
        self.channels += tuple(names)
        self.enter(names, since, format, head)

    def leave(self, names: Sequence[str]) -> None:
        """
        Let it hear the channels *names* no more.
        """
        self.channels = tuple([name for name in self.channels if name not in names])
        self._context.hub.remove_channels(self._hearing, names)

    @property
    def settled(self) -> bool:
        """
        Whether it hears all that it wants to; it may have to wait for a broker.
        """
        heard = {channel.name for channel in self._hearing.channels}
        return heard.issuperset(self.channels)

    @property
    def _hearing(self) -> Subscriber:
        return self._upgrade.hearing if self._upgrade is not None else self.subscriber

    # By polls.

    def open_polls(self, framing: PollFraming, address: str = "") -> None:
        """
        Begin by polls: the first one is told about the session.

        Args:
            framing: of the polls.
            address: the client's, whether the limits count it or not.
        """
        format = self._dialogue.format(framing, quiet=True)
        polls = PollingTransport(
            self._context, framing, format, self._address, self._subscriber_left
        )
        self.framing = framing
        self.subscriber = polls.subscriber
        self.subscriber.format = self._dialogue.format(framing)
        self._upgrade = Upgrade(self, polls, self._context)
        self.subscriber.write(self._opening(framing, [WEBSOCKET]))
        self.due = min(self.due, self._confirm_by)
        self._sessions.add_pending(self, address, self._context.socketio.max_pending)
        self._begin()

    def confirm(self) -> None:
        """
        The client of a session by polls has sent another request than the first.

        Raises:
            Refusal: there are too many subscribers, and the session would be one
                more; it ends.
        """
        if self._confirm_by != math.inf:
            self._confirm_by = math.inf
            self._count()

    def admit(self) -> None:
        """
        Check that the client may join something.

        Raises:
            Refusal: there are too many subscribers, and the session would be one more.
        """
        if not self._counted:
            self._context.hub.admit(self._address)

    def joined(self) -> None:
        """
        The client has joined something, after `admit`.
        """
        self._joined = True
        self._count(admitted=True)

    def left(self) -> None:
        """
        The client has left all that it had joined, and may join something again.
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
        self._sessions.confirm(self)
        self._context.hub.count_subscriber(self.subscriber)

    def expire(self) -> None:
        """
        There are too many pending sessions.
        """
        self.close("nothing was joined", last=NOOP)

    def poll(self, exchange: IExchange) -> None:
        """
        Answer *exchange* with what waits, or with what comes next.

        Raises:
            RemoteProtocolError: another poll waits already: the session ends.
        """
        upgrade = self._upgrade
        assert upgrade is not None
        # A ping may wait behind much that is fetched in portions.
        self._heart.heard(self._now(), beat=False)
        try:
            upgrade.polls.poll(exchange, self._poll_lost)
        except RemoteProtocolError:
            self.close("transport error")
            raise
        upgrade.polled()

    async def post(self, exchange: IExchange, framing: PollFraming) -> None:
        """
        Hear what *exchange* posts.

        Raises:
            RemoteProtocolError: it makes no sense, or another post has not come
                to its end: the session ends.
            Refusal: see `IExchange.read`.
        """
        assert self._upgrade is not None
        try:
            await self._upgrade.polls.post(exchange, framing, self._hear)
        except RemoteProtocolError:
            self.close("parse error")
            raise

    def _poll_lost(self) -> None:
        self.close("transport close", cause=DisconnectReason.LOST)

    def _subscriber_left(self) -> None:
        """
        The reader under polling was dropped: too far behind, or the daemon stops.
        """
        if self._websocket is None:
            self._over("transport close", DisconnectReason.LOST)

    # By a websocket.

    def opening(self, agreement: WebSocketHandshake) -> IFormat:
        """
        How a websocket begins that is to be opened: with a word about the session.
        """
        framing = self._framing_of(agreement)
        return self._dialogue.format(framing, quiet=True, welcome=self._opening(framing, []))

    def open_socket(self, websocket: WebSocket) -> None:
        """
        Begin by a websocket, which was told so.
        """
        self._confirm_by = math.inf
        self.take(websocket)
        self._begin()

    @property
    def may_change(self) -> bool:
        """
        Whether a websocket may take over.
        """
        return self._upgrade is not None and self._upgrade.free

    def propose(self, websocket: WebSocket) -> None:
        """
        *websocket* wants to take over; it has to say so first.
        """
        assert self._upgrade is not None
        self._upgrade.propose(websocket)
        self.due = min(self.due, self._upgrade.due)

    def said(self, websocket: WebSocket, data: bytes, binary: bool) -> None:
        """
        A message came by a websocket.
        """
        decoded = decode if self.version == 4 else decode3
        upgrade = self._upgrade
        candidate = upgrade if upgrade is not None and upgrade.is_by(websocket) else None
        try:
            packet = decoded(data if binary else data.decode())
            if candidate is not None:
                candidate.hear(packet)
                self.due = min(self.due, candidate.due)
            elif websocket is self._websocket:
                self._hear(packet)
        except RemoteProtocolError as error:
            if candidate is not None:
                candidate.refuse()
            else:
                self.close("parse error", reason=error.reason)

    def lost(self, websocket: WebSocket) -> None:
        """
        A websocket is over.
        """
        if websocket is self._websocket:
            self._over("transport close", DisconnectReason.CLIENT)
        elif self._upgrade is not None and self._upgrade.is_by(websocket):
            self._upgrade.lost()

    # What `Upgrade` asks of it.

    def take(self, websocket: WebSocket) -> None:
        """
        Speak by *websocket* from now on.
        """
        self.framing = self._framing_of(websocket.handshake)
        self._websocket = websocket
        self.subscriber = websocket.subscriber  # a connection counts as a subscriber
        self._counted = True
        self._sessions.confirm(self)
        self.subscriber.format = self._dialogue.format(self.framing)

    def silent(self) -> IFormat:
        """
        A format of its own that says nothing when its reader joins.
        """
        return self._dialogue.format(self.framing, quiet=True)

    def enter(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        """
        Have the reader of the moment join *names*, told by *format*, with *head*
        in front.
        """
        self._context.hub.add_channels(self._hearing, names, since, head, format)

    # What it hears.

    def _hear(self, packet: EngineIOPacket) -> None:
        if self.closed:
            return
        kind = packet.kind
        if kind is EngineIOPacketType.MESSAGE:
            self._heart.heard(self._now(), beat=False)
            self._dialogue.message(packet.data)
        elif kind is (EngineIOPacketType.PING if self.version == 3 else EngineIOPacketType.PONG):
            self._heart.heard(self._now(), beat=True)
            self.due = min(self.due, self._heart.due)
            if self.version == 3:
                self.write(
                    self.framing.text(text_of(EngineIOPacketType.PONG, str(packet.data).encode()))
                )
        elif kind is EngineIOPacketType.PING or kind is EngineIOPacketType.PONG:
            raise RemoteProtocolError("a ping from the wrong side")
        elif kind is EngineIOPacketType.CLOSE:
            self.close("transport close", last=NOOP)

    # Its life.

    def look(self, now: float) -> None:
        """
        Ping, or find that it is over; called when it is `due`, or soon after.
        """
        if self._upgrade is not None:
            self._upgrade.look(now)
            if self._upgrade.done:
                self._upgrade = None
        if (now >= self._connect_by and self._dialogue.idle()) or now >= self._confirm_by:
            self.close("nothing was joined")
            return
        pulse = self._heart.look(now)
        if pulse is KeepaliveAction.GONE:
            # A poll that waits gets no CLOSE: python-socketio would stay away for good.
            self.close("ping timeout", last=NOOP, cause=DisconnectReason.LOST)
            return
        if pulse is KeepaliveAction.PING:
            self.write(self.framing.text(_PING))
        self.due = self._heart.due
        if self._upgrade is not None:
            self.due = min(self.due, self._upgrade.due)
        if now < self._connect_by:
            self.due = min(self.due, self._connect_by, self._confirm_by)

    def close(
        self,
        why: str,
        last: bytes = _CLOSE,
        cause: DisconnectReason = DisconnectReason.CLIENT,
        reason: str = "",
    ) -> None:
        """
        End it.

        Args:
            why: for the dialogue.
            last: the packet for a poll that waits.
            cause: for the counts.
            reason: for a client that has made a mistake, if it has a websocket.
        """
        if self.closed:
            return
        websocket, upgrade = self._websocket, self._upgrade
        if websocket is None and upgrade is not None:
            upgrade.polls.end_poll(last)
        self._over(why, cause)
        if websocket is not None:
            websocket.close(CloseCode.PROTOCOL_ERROR if reason else CloseCode.NORMAL, reason)

    def _over(self, why: str, cause: DisconnectReason) -> None:
        if self.closed:
            return
        self.closed = True
        self._sessions.forget(self)
        if self._upgrade is not None:
            self._upgrade.close(cause)
        self._dialogue.closed(why)

    def _framing_of(self, agreement: WebSocketHandshake) -> Framing:
        framing = Socket4 if self.version == 4 else Socket3
        return framing(agreement.deflate, self._text_only)

    def _opening(self, framing: Framing, upgrades: list[str]) -> bytes:
        limits = self._context.socketio
        said = open_data(
            self.sid, upgrades, limits.ping_interval, limits.ping_timeout, limits.max_payload
        )
        return framing.text(text_of(EngineIOPacketType.OPEN, said))

    def _begin(self) -> None:
        self._sessions.add(self)
        self._dialogue.opened(self)

    def _now(self) -> float:
        now: float = self._context.reactor.seconds()
        return now
