"""
Tests of replays that recovered clients request again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rt_twisted.actions.socketio.missed_replay import MissedReplay
from rt_twisted.codecs.engineio_framing import Framing, Poll4, Socket4
from rt_twisted.formats.socketio import ResumedSocketIOEvents, SocketIOEvents
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Message, Position, Replay, Since, Within
from tests.defaults import make_context, make_hub
from tests.fakes import started
from tests.unit.hub.test_catchup import ManualHistoryBroker, old

ALL = Within(3600.0)
POSITION = Position("e", 50)


class RecordingStream:
    """
    A stream that records what is written, and whether a cursor follows.
    """

    def __init__(self) -> None:
        self.framing: Framing = Poll4()
        self.complete = True
        self.written: list[tuple[bytes, bool]] = []

    @property
    def channels(self) -> Any:
        return self

    def write(self, frames: bytes) -> None:
        self.written.append((frames, False))

    def join(
        self, names: Sequence[str], since: Since | None, format: IFormat, head: bytes = b""
    ) -> None:
        assert not names
        self.written.append((head, True))


class RecoveredClient:
    """
    A client that has recovered, and a broker that the test controls.
    """

    def __init__(self) -> None:
        self.broker = ManualHistoryBroker()
        self.clock = Clock()
        self.hub = make_hub(self.broker, self.clock)
        self.stream = RecordingStream()
        self.missed = MissedReplay(make_context(self.hub, self.clock), POSITION)
        self.missed.names |= {"a", "b"}

    def request(self, *names: str) -> None:
        self.missed.replay(names, ALL, self.stream, SocketIOEvents(self.stream.framing))

    def answer(self, *messages: Message) -> None:
        self.broker.queries[-1][2].callback(Replay(messages, True, self.broker.head))
        self.clock.advance(0)


@pytest.mark.parametrize("framing", [Poll4(), Socket4()])
@pytest.mark.parametrize("complete", [True, False])
def test_earlier_messages_are_replayed_once(framing: Framing, complete: bool) -> None:
    """
    The broker may take long, and the client may upgrade meanwhile. A cursor follows only if
    all channels are subscribed, as it would not be true otherwise.
    """
    client = RecoveredClient()
    client.request("a", "c")
    client.broker.confirm("a")
    client.stream.framing, client.stream.complete = framing, complete
    client.broker.bring("a", b"live")
    client.answer(*old("a", 40, 50, 60))
    client.broker.bring("a", b"live")
    client.clock.advance(0)
    client.request("a")

    texts = (b'42["message","old","e.40"]', b'42["message","old","e.50"]', b'42["position","e.50"]')
    assert client.stream.written == [(b"".join(map(framing.text, texts)), complete)]
    assert len(client.broker.queries) == 1
    assert client.hub.current_metrics().subscribers == 0


def test_later_messages_are_not_replayed() -> None:
    """
    The client receives live messages elsewhere.
    """
    earlier = ResumedSocketIOEvents(SocketIOEvents(Poll4()), POSITION)

    assert verifyObject(IFormat, earlier)
    [message] = old("a", 60)
    assert earlier.encode(message) == b""
    nothing = (
        earlier.heartbeat,
        earlier.cursor(POSITION),
        earlier.gap(POSITION),
        earlier.end(2000),
    )
    assert not any(nothing)
    assert started(earlier, Replay((), False, Position("e", 60))) == (
        b'42["gap",{"position":"e.60"}]\x1e42["position","e.50"]\x1e'
    )


def test_only_the_position_is_sent_without_earlier_messages() -> None:
    """
    Messages of a new log are later than the position.
    """
    client = RecoveredClient()
    client.request("a")
    client.request("b")
    client.broker.confirm("a", "b")
    client.answer(Message("b", b"another", Position("f", 7)))

    position: Any = (Poll4().text(b'42["position","e.50"]'), True)
    assert client.stream.written == [position]
    assert client.hub.current_metrics().subscribers == 1


def test_close_drops_replays_that_wait() -> None:
    """
    The broker may still answer; nothing is written then.
    """
    client = RecoveredClient()
    client.request("a")
    assert client.hub.current_metrics().subscribers == 1
    client.missed.close()
    assert client.hub.current_metrics().subscribers == 0

    client.broker.confirm("a")
    client.clock.advance(0)
    assert client.stream.written == []
