"""
What a client is told, and hears, from when it may come in.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from rt_twisted.actions.socketio.namespace_seat import NamespaceSeat
from rt_twisted.codecs.engineio_framing import Framing, Poll4
from rt_twisted.codecs.socketio import SocketIOPacket, SocketIOPacketType
from rt_twisted.formats.socketio import SocketIOEvents
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Newest, Since

WELCOME = SocketIOPacket(SocketIOPacketType.CONNECT, "/", {"sid": "me"})


class Ear:
    """
    Remembers, in order, what it was told to write and to hear.
    """

    framing: Framing = Poll4()
    settled = True

    def __init__(self) -> None:
        self.done: list[Any] = []

    def write(self, frames: bytes) -> None:
        if frames:
            self.done.append(frames)

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        self.done.append((list(names), since, head))

    def leave(self, names: Sequence[str]) -> None:
        self.done.append(list(names))


class Dialogue:
    """
    Where the client sits.
    """

    def format(self, framing: Framing, namespace: str) -> SocketIOEvents:
        return SocketIOEvents(framing, namespace)


def seated() -> tuple[Ear, NamespaceSeat]:
    """
    A client of which is thought about.
    """
    ear = Ear()
    dialogue: Any = Dialogue()
    return ear, NamespaceSeat(dialogue, ear, "/")


def test_what_was_said_before_the_welcome_comes_after_it() -> None:
    """
    The welcome goes out with what the first channels tell: one write fewer for
    each new client.
    """
    ear, seat = seated()
    seat.say(SocketIOPacket(SocketIOPacketType.EVENT, "/", ["hello"]))
    seat.join(["a", "b", "a"], Newest(3))
    seat.join(["b", "c"], None)
    seat.leave(["a"])
    assert ear.done == []
    assert seat.channels == ("b", "c")

    seat.welcome(WELCOME, WELCOME, None)
    assert ear.done == [
        (["b"], Newest(3), b'40{"sid":"me"}\x1e'),
        (["c"], None, b""),
        b'42["hello"]\x1e',
    ]


def test_who_hears_nothing_is_welcome_too() -> None:
    """
    Also who joined channels and left them again; it may join them later.
    """
    ear, seat = seated()
    seat.join(["a"], None)
    seat.leave(["a", "z"])
    seat.welcome(WELCOME, WELCOME, None)
    seat.join(["a"], None)
    seat.join(["a"], None)
    seat.leave(["a", "z"])

    assert ear.done == [b'40{"sid":"me"}\x1e', (["a"], None, b""), ["a"]]


@pytest.mark.parametrize("wrong", [object(), float("nan")])
def test_what_cannot_be_said_is_refused_at_once(wrong: object) -> None:
    """
    While the client is thought about too: whoever says it is to blame, and the
    client is welcome.
    """
    ear, seat = seated()
    with pytest.raises((TypeError, ValueError)):
        seat.say(SocketIOPacket(SocketIOPacketType.EVENT, "/", ["a", wrong]))

    seat.welcome(WELCOME, WELCOME, None)
    assert ear.done == [b'40{"sid":"me"}\x1e']
