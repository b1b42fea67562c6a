"""
What a client is told that has come back and asks once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.socketio.resumed import Resumed
from rt_twisted.codecs.engineio_framing import Framing, Poll4, Socket4
from rt_twisted.formats.socketio import ResumedSocketIOEvents, SocketIOEvents
from rt_twisted.hub.hub import Hub
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay, Since, Within
from tests.fakes import started
from tests.unit.hub.test_catchup import Archived, old

ALL = Within(3600.0)
WHERE = Position("e", 50)


class Ear:
    """
    Remembers what it is told.
    """

    def __init__(self) -> None:
        self.framing: Framing = Poll4()
        self.settled = True
        self.told: list[tuple[bytes, bool]] = []

    def write(self, frames: bytes) -> None:
        self.told.append((frames, False))

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        assert not names
        self.told.append((head, True))

    def leave(self, names: Sequence[str]) -> None:
        raise NotImplementedError


class Place:
    """
    A client that has come back, and a broker that answers when the test does.
    """

    def __init__(self) -> None:
        self.broker = Archived()
        self.clock = Clock()
        self.hub = Hub(self.broker, self.clock)
        self.ear = Ear()
        self.resumed = Resumed(ActionContext(self.hub, self.clock), WHERE)
        self.resumed.names |= {"a", "b"}

    def ask(self, *names: str) -> None:
        self.resumed.tell(names, ALL, self.ear, SocketIOEvents(self.ear.framing))

    def answer(self, *messages: Message) -> None:
        self.broker.asked[-1][2].callback(Replay(messages, True, self.broker.head))
        self.clock.advance(0)


@pytest.mark.parametrize("framing", [Poll4(), Socket4()])
@pytest.mark.parametrize("settled", [True, False])
def test_what_came_before_is_told_once(framing: Framing, settled: bool) -> None:
    """
    However long the broker takes, and by whatever the client has gone over to; what is
    said of where it is has to be true, so nothing is before it hears all that it wants.
    """
    place = Place()
    place.ask("a", "c")
    place.broker.hear("a")
    place.ear.framing, place.ear.settled = framing, settled
    place.broker.bring("a", b"live")
    place.answer(*old("a", 40, 50, 60))
    place.broker.bring("a", b"live")
    place.clock.advance(0)
    place.ask("a")

    texts = (b'42["message","old","e.40"]', b'42["message","old","e.50"]', b'42["position","e.50"]')
    assert place.ear.told == [(b"".join(map(framing.text, texts)), settled)]
    assert len(place.broker.asked) == 1
    assert place.hub.current_metrics().subscribers == 0


def test_nothing_else_is_told() -> None:
    """
    What comes in the meantime, the client hears elsewhere.
    """
    earlier = ResumedSocketIOEvents(SocketIOEvents(Poll4()), WHERE)

    assert verifyObject(IFormat, earlier)
    [message] = old("a", 60)
    assert earlier.encode(message) == b""
    nothing = (earlier.heartbeat, earlier.cursor(WHERE), earlier.gap(WHERE), earlier.end(2000))
    assert not any(nothing)
    assert started(earlier, Replay((), False, Position("e", 60))) == (
        b'42["gap",{"position":"e.60"}]\x1e42["position","e.50"]\x1e'
    )


def test_nothing_may_be_there() -> None:
    """
    Then only where it was is said; and of a log that has begun anew since then it has
    been told all.
    """
    place = Place()
    place.ask("a")
    place.ask("b")
    place.broker.hear("a", "b")
    place.answer(Message("b", b"another", Position("f", 7)))

    told: Any = (Poll4().text(b'42["position","e.50"]'), True)
    assert place.ear.told == [told]
    assert place.hub.current_metrics().subscribers == 1


def test_nobody_waits_for_who_is_gone() -> None:
    """
    Nor does the broker have to answer.
    """
    place = Place()
    place.ask("a")
    assert place.hub.current_metrics().subscribers == 1
    place.resumed.close()
    assert place.hub.current_metrics().subscribers == 0

    place.broker.hear("a")
    place.clock.advance(0)
    assert place.ear.told == []
