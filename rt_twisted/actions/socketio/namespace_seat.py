"""
A client's place in a session: what it is told, and the channels it hears.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.engineio.poll_buffer import PollBuffer
from rt_twisted.actions.engineio.session import Session
from rt_twisted.actions.socketio.resumed import Resumed
from rt_twisted.codecs.engineio_framing import Framing, reframed
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType, encode
from rt_twisted.formats.socketio import SocketIOEvents, framed, frames_of
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Since

if TYPE_CHECKING:
    from rt_twisted.actions.socketio.connection import SocketIOConnection


class ChannelSubscription(Protocol):
    """
    What hears channels, and writes: the session itself, or a branch of it.
    """

    @property
    def framing(self) -> Framing:
        """
        How packets lie on its wire now.
        """

    @property
    def settled(self) -> bool:
        """
        Whether it hears all that it wants to.
        """

    def write(self, frames: bytes) -> None:
        """
        Send whole frames behind all that was sent.
        """

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        """
        Hear channels too that it does not; *head* comes first, then what the
        *format* says.
        """

    def leave(self, names: Sequence[str]) -> None:
        """
        Hear channels no more.
        """


class NamespaceSubscription:
    """
    A further reader of a session, for what another namespace hears.

    Args:
        house: the daemon.
        session: it writes there.
        format: whose `start` says nothing.
        address: the client's, as the limits count it.
    """

    __slots__ = ("_hub", "_mailbox", "_names", "_session", "_subscriber", "framing")

    def __init__(
        self, context: ActionContext, session: Session, format: IFormat, address: str
    ) -> None:
        self.framing: Framing = session.framing
        self._hub = context.hub
        self._session = session
        self._names: set[str] = set()
        self._mailbox = PollBuffer(context.reactor, lambda: None)
        self._subscriber = Subscriber(
            self._mailbox, format, context.hub, context.backlog_limits, address
        )
        context.hub.join(self._subscriber, (), None, counted=False)
        self._mailbox.ask(self._hand_off)

    @property
    def settled(self) -> bool:
        """
        See `Ear`.
        """
        return {channel.name for channel in self._subscriber.channels}.issuperset(self._names)

    def write(self, frames: bytes) -> None:
        """
        See `Ear`.
        """
        self._subscriber.write(frames)

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        """
        See `Ear`.
        """
        self._names.update(names)
        self._hub.add_channels(self._subscriber, names, since, head, format)

    def leave(self, names: Sequence[str]) -> None:
        """
        See `Ear`.
        """
        self._names.difference_update(names)
        self._hub.remove_channels(self._subscriber, names)

    def count(self) -> None:
        """
        The namespace is joined: the reader counts as a subscriber.
        """
        self._hub.count_subscriber(self._subscriber)

    def close(self) -> None:
        """
        The namespace is left; what was said before still goes out.
        """
        self._mailbox.deliver()
        self._subscriber.drop(DisconnectReason.CLIENT)

    def _hand_off(self, frames: bytes) -> None:
        session = self._session
        if session.framing != self.framing:  # it has changed over to a websocket
            before: Any = self.framing  # that of polls: no other changes
            frames = reframed(frames, before, session.framing)
        session.write(frames)
        self._mailbox.ask(self._hand_off)


@dataclass(slots=True)
class PendingConnect:
    """
    What a client shall be told and hear as soon as it is welcome.

    Args:
        joined: channels, and what it is told of them first.
        said: packets, encoded.
    """

    joined: list[tuple[list[str], Since | None]] = field(default_factory=list)
    said: list[list[bytes]] = field(default_factory=list)


class NamespaceSeat:
    """
    What a client has of its session. Before it is welcome, what it shall be told
    and hear is kept for then.

    Args:
        dialogue: where it sits.
        ear: its own, or the session.
        namespace: of the client.

    Attributes:
        channels: what it hears, or wants to.
        keys: with which it may come back.
        expelled: it has to go, or may not come.
    """

    __slots__ = (
        "_dialogue",
        "_ear",
        "_early",
        "_namespace",
        "_resumed",
        "channels",
        "expelled",
        "keys",
        "open",
    )

    def __init__(
        self, dialogue: SocketIOConnection, ear: ChannelSubscription, namespace: str
    ) -> None:
        self.open = True
        self.expelled = False
        self.channels: tuple[str, ...] = ()
        self.keys: tuple[str, ...] = ()
        self._dialogue = dialogue
        self._ear = ear
        self._namespace = namespace
        self._early: PendingConnect | None = PendingConnect()
        self._resumed: Resumed | None = None

    def say(self, packet: SocketIOPacket) -> None:
        """
        Tell the client *packet*, if it is there.

        Raises:
            TypeError: JSON cannot say that.
            ValueError: neither that.
        """
        if not self.open:
            return
        pieces = encode(packet)
        if self._early is not None and packet.kind is not SocketIOPacketType.CONNECT_ERROR:
            self._early.said.append(pieces)
            return
        self._ear.write(framed(pieces, self._ear.framing))

    def join(self, names: Sequence[str], since: Since | None) -> None:
        """
        Hear *names* too; see `Client.join`.
        """
        if not self.open:
            return
        if self._resumed is not None and since is not None:
            self._resumed.tell(names, since, self._ear, self._format())
        fresh = [name for name in dict.fromkeys(names) if name not in self.channels]
        if not fresh:
            return
        self.channels += tuple(fresh)
        if self._early is not None:
            self._early.joined.append((fresh, since))
            return
        self._ear.join(fresh, since, self._format())

    def leave(self, names: Sequence[str]) -> None:
        """
        Hear *names* no more.
        """
        here = [name for name in self.channels if name in names]
        self.channels = tuple([name for name in self.channels if name not in here])
        early = self._early
        if early is not None:
            early.joined = [([n for n in some if n not in here], s) for some, s in early.joined]
        elif here and self.open:
            self._ear.leave(here)
        if self._resumed is not None:
            self._resumed.names.difference_update(here)

    def expel(self) -> None:
        """
        It has to go, or may not come.
        """
        self.expelled = True
        self._dialogue.expel(self._namespace)

    def abandon(self) -> None:
        """
        Nobody sits here any more.
        """
        self.open = False
        if self._resumed is not None:
            self._resumed.close()
        if isinstance(self._ear, NamespaceSubscription):
            self._ear.close()

    def welcome(self, first: SocketIOPacket, back: SocketIOPacket, resumed: Resumed | None) -> None:
        """
        Let it in.

        Args:
            first: what it is told.
            back: instead, if it hears all that came after it left.
            resumed: from where it goes on; None if it does not say.
        """
        if isinstance(self._ear, NamespaceSubscription):
            self._ear.count()
        early, self._early = self._early or PendingConnect(), None
        framing = self._ear.framing
        fresh = frames_of(first if resumed is None or self.channels else back, framing)
        if resumed is None or not self.channels:
            for names, since in early.joined:
                if names:
                    self._ear.join(names, since, self._format(), fresh)
                    fresh = b""
            self._ear.write(fresh)
        else:
            format = self._format()
            resuming = replace(format, welcome=fresh, welcome_back=frames_of(back, framing))
            self._resumed = resumed
            resumed.names.update(self.channels)
            self._ear.join(self.channels, After(resumed.position), resuming)
            if not self._ear.settled:  # it is asked for elsewhere, and that takes time
                self._ear.write(fresh)
        for pieces in early.said:
            self._ear.write(framed(pieces, self._ear.framing))

    def _format(self) -> SocketIOEvents:
        return self._dialogue.format(self._ear.framing, namespace=self._namespace)
