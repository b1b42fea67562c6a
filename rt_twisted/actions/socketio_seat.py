"""
A client's place in a session: what it is told, and the channels it hears.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from rt_twisted.actions.engineio_session import Session
from rt_twisted.actions.mailbox import Mailbox
from rt_twisted.codecs.engineio_framing import Framing, reframed
from rt_twisted.codecs.socketio import Kind, Packet
from rt_twisted.codecs.socketio_events import Events, frames_of
from rt_twisted.house import House
from rt_twisted.interfaces import IFormat
from rt_twisted.message import After, Position, Since
from rt_twisted.subscriber import Cause, Subscriber


class Ear(Protocol):
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

    def join(self, names: Sequence[str], since: Since | None, format: IFormat) -> None:
        """
        Hear channels too; the *format* says what comes first.
        """

    def leave(self, names: Sequence[str]) -> None:
        """
        Hear channels no more.
        """


class Branch:
    """
    A further reader of a session, for what another namespace hears.

    Args:
        house: the daemon.
        session: it writes there.
        format: whose `start` says nothing.
        address: the client's, as the limits count it.
    """

    __slots__ = ("_hub", "_mailbox", "_names", "_reader", "_session", "framing")

    def __init__(self, house: House, session: Session, format: IFormat, address: str) -> None:
        self.framing: Framing = session.framing
        self._hub = house.hub
        self._session = session
        self._names: set[str] = set()
        self._mailbox = Mailbox(house.reactor, lambda: None)
        self._reader = Subscriber(self._mailbox, format, house.hub, house.patience, address)
        house.hub.join(self._reader, (), None)
        self._mailbox.ask(self._pass_on)

    @property
    def settled(self) -> bool:
        """
        See `Ear`.
        """
        return {channel.name for channel in self._reader.channels}.issuperset(self._names)

    def write(self, frames: bytes) -> None:
        """
        See `Ear`.
        """
        self._reader.write(frames)

    def join(self, names: Sequence[str], since: Since | None, format: IFormat) -> None:
        """
        See `Ear`.
        """
        self._names.update(names)
        plain, self._reader.format = self._reader.format, format
        self._hub.add(self._reader, names, since)
        self._reader.format = plain

    def leave(self, names: Sequence[str]) -> None:
        """
        See `Ear`.
        """
        self._names.difference_update(names)
        self._hub.remove(self._reader, names)

    def close(self) -> None:
        """
        The namespace is left; what was said before still goes out.
        """
        self._mailbox.deliver()
        self._reader.drop(Cause.CLIENT)

    def _pass_on(self, frames: bytes) -> None:
        session = self._session
        if session.framing != self.framing:  # it has changed over to a websocket
            before: Any = self.framing  # that of polls: no other changes
            frames = reframed(frames, before, session.framing)
        session.write(frames)
        self._mailbox.ask(self._pass_on)


class Seat:
    """
    What a client has of its session. Before it is welcome, what it shall be told
    and hear is kept for then.

    Args:
        ear: its own, or the session.
        format: of what it hears; equal to the ear's.
        expelled: called when the application wants it to go.
    """

    __slots__ = ("_ear", "_early", "_expelled", "_format", "_names", "_said", "expelled", "open")

    def __init__(self, ear: Ear, format: Events, expelled: Callable[[], object]) -> None:
        self.open = True
        self.expelled = False
        self._expelled = expelled
        self._ear = ear
        self._format = format
        self._names: dict[str, None] = {}
        self._early: list[tuple[list[str], Since | None]] | None = []
        self._said: list[Packet] = []

    @property
    def channels(self) -> tuple[str, ...]:
        """
        What it hears, or wants to.
        """
        return tuple(self._names)

    def say(self, packet: Packet) -> None:
        """
        Tell the client *packet*, if it is there.

        Raises:
            TypeError: JSON cannot say that.
            ValueError: neither that.
        """
        if not self.open:
            return
        if self._early is not None and packet.kind is not Kind.CONNECT_ERROR:
            self._said.append(packet)
            return
        self._ear.write(frames_of(packet, self._ear.framing))

    def join(self, names: Sequence[str], since: Since | None) -> None:
        """
        Hear *names* too; see `Client.join`.
        """
        fresh = [name for name in dict.fromkeys(names) if name not in self._names]
        if not fresh or not self.open:
            return
        self._names.update(dict.fromkeys(fresh))
        if self._early is not None:
            self._early.append((fresh, since))
            return
        self._ear.join(fresh, since, self._plain())

    def leave(self, names: Sequence[str]) -> None:
        """
        Hear *names* no more.
        """
        here = [name for name in names if self._names.pop(name, 0) is None]
        if self._early is not None:
            self._early = [([n for n in some if n not in here], s) for some, s in self._early]
        elif here and self.open:
            self._ear.leave(here)

    def expel(self) -> None:
        """
        It has to go, or may not come.
        """
        self.expelled = True
        self._expelled()

    def welcome(self, first: Packet, back: Packet, position: Position | None) -> None:
        """
        Let it in.

        Args:
            first: what it is told.
            back: instead, if it hears all that came after *position*.
            position: where it was; None if it does not say.
        """
        early, self._early = self._early or [], None
        framing = self._ear.framing
        fresh = frames_of(first, framing)
        if position is None or not self._names:
            self._ear.write(fresh if position is None else frames_of(back, framing))
            for names, since in early:
                if names:
                    self._ear.join(names, since, self._plain())
        else:
            format = replace(self._plain(), welcome=fresh, welcome_back=frames_of(back, framing))
            self._ear.join(tuple(self._names), After(position), format)
            if not self._ear.settled:  # it is asked for elsewhere, and that takes time
                self._ear.write(fresh)
        said, self._said = self._said, []
        for packet in said:
            self.say(packet)

    def _plain(self) -> Events:
        return replace(self._format, framing=self._ear.framing)
