"""
A replay: encoded as it is taken, so that subscribers that do not read cost references.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from rt_twisted.formats.raw import Raw
from rt_twisted.hub.replay_frames import PIECE, ReplayFrames, shared_frames
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import After, Message, Position, Replay, Within
from tests.defaults import make_backlog_limits, make_hub_limits, make_retention
from tests.fakes import FakeTransport
from tests.unit.hub.test_catchup import ManualHistoryBroker
from tests.unit.hub.test_hub import LocalHub, events, make
from tests.unit.hub.test_subscriber import Recorder, line, notes

__all__ = ["line", "make", "notes"]  # fixtures

LARGE = 3 * PIECE


@implementer(IFormat)
@dataclass(frozen=True)
class Counting:
    """
    Raw messages; counts which messages it has encoded, and fails for some.
    """

    encoded: list[int] = field(default_factory=list, compare=False)

    content_type = ""
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return [b"<", *replay.messages, b">"]

    def encode(self, message: Message) -> bytes:
        if message.channel == "broken":
            raise ValueError("broken")
        self.encoded.append(message.position.offset)
        return message.data

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""


def items(*sizes: int, channel: str = "a") -> list[bytes | Message]:
    return [
        Message(channel, b"%d" % (number % 10) * size, Position("e", number))
        for number, size in enumerate(sizes, 1)
    ]


@given(
    st.lists(st.one_of(st.binary(max_size=9), st.sampled_from([0, 1, 99, PIECE, LARGE]))),
    st.lists(st.integers(1, 2 * PIECE)),
)
def test_every_byte_is_sent_once_in_order(parts: list[Any], cuts: list[int]) -> None:
    """
    Every byte is sent once, whatever the kernel accepts at a time; the replay is not
    empty until all is sent.
    """
    given = [part if isinstance(part, bytes) else items(part)[0] for part in parts]
    expected = b"".join([one if isinstance(one, bytes) else one.data for one in given])
    replay = ReplayFrames(Raw(), given, shared_frames())
    got = b""
    while piece := replay.piece():
        assert replay
        assert len(replay) == len(expected) - len(got)
        size = min(len(piece), cuts.pop() if cuts else len(piece))
        got += piece[:size]
        replay.sent(size)

    assert got == expected
    assert not replay
    assert len(replay) == 0


def test_a_piece_is_encoded_only_when_it_is_needed() -> None:
    """
    Small messages are encoded about PIECE bytes at a time, a large one by itself.
    """
    format = Counting()
    replay = ReplayFrames(format, items(*[PIECE // 4] * 8, LARGE), shared_frames())
    assert format.encoded == []

    for upto in (4, 8, 9):
        replay.sent(len(replay.piece()))
        assert len(format.encoded) == upto


def test_large_frames_are_shared_while_they_are_sent() -> None:
    """
    There is one copy for all subscribers of equal formats.
    """
    shared = shared_frames()
    first, second = Counting(), Counting()
    messages = items(LARGE)
    replays = [ReplayFrames(format, messages, shared) for format in (first, second, first)]
    pieces = [replay.piece() for replay in replays]

    assert first.encoded == [1]
    assert second.encoded == []
    assert all(piece is pieces[0] for piece in pieces)
    for replay in replays:
        replay.sent(10)
        assert len(shared) == 1
        replay.sent(len(replay.piece()))
    assert not shared


def test_a_subscriber_that_does_not_read_has_references(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    Only what the connection accepts is encoded; the rest follows as it is read.
    """
    format = Counting()
    subscriber = Subscriber(line, format, notes, make_backlog_limits())
    messages = items(*[1000] * 2000)
    subscriber.write_replay(ReplayFrames(format, messages, shared_frames()))

    assert notes.events == ["behind"]
    assert len(format.encoded) < 200
    assert 1_800_000 < subscriber.backlog_bytes < 2_000_000
    subscriber.write(b"live")
    expected = b"".join([one.data for one in messages if isinstance(one, Message)])
    assert line.read_all() == expected + b"live"
    assert notes.events == ["behind", "caught up"]
    assert format.encoded == list(range(1, 2001))


def test_a_replay_keeps_its_place_among_frames(line: FakeTransport, notes: Recorder) -> None:
    """
    A replay of further channels waits behind what is queued already.
    """
    subscriber = Subscriber(line, Counting(), notes, make_backlog_limits())
    first, second = items(*[1000] * 100), items(*[LARGE] * 9)
    for replay in (first, second):
        subscriber.write(b"(")
        subscriber.write_replay(ReplayFrames(Counting(), replay, shared_frames()))
        subscriber.write(b")")

    data = [b"".join([m.data for m in each if isinstance(m, Message)]) for each in (first, second)]
    assert line.read_all() == b"(%b)(%b)" % tuple(data)


def test_a_transport_without_a_socket_gets_pieces(notes: Recorder) -> None:
    """
    A transport such as TLS gets the next piece when it has sent the one before.
    """
    transport = StringTransport()
    format = Counting()
    subscriber = Subscriber(transport, format, notes, make_backlog_limits())
    subscriber.pauseProducing()
    subscriber.write_replay(ReplayFrames(format, items(1, LARGE, 1), shared_frames()))
    assert format.encoded == []

    subscriber.resumeProducing()
    assert transport.value() == b"1" + b"2" * LARGE + b"3"
    assert notes.events == ["behind", "caught up"]


@pytest.mark.parametrize("behind", [False, True])
def test_a_subscriber_of_a_format_that_fails_is_dropped(
    line: FakeTransport, notes: Recorder, behind: bool, clean_reactor: list[Any]
) -> None:
    """
    No message is lost silently: the client resumes, or fails visibly.
    """
    subscriber = Subscriber(line, Counting(), notes, make_backlog_limits())
    if behind:
        subscriber.write(bytes(1 << 16))
    broken = ReplayFrames(Counting(), [*items(LARGE), *items(1, channel="broken")], shared_frames())
    subscriber.write_replay(broken)
    line.read_all()

    assert line.aborted
    assert notes.events[-1] is DisconnectReason.LOST
    assert clean_reactor.pop().check(ValueError)


def test_subscribers_that_do_not_read_share_their_replay(
    make: Callable[..., LocalHub],
) -> None:
    """
    All messages of the replay exist once, whatever the number of subscribers.
    """
    context = make(
        retention=make_retention(bytes=1 << 30), limits=make_hub_limits(replay_bytes=1 << 30)
    )
    context.publish(*[("a", b"%d" % number + bytes(50_000)) for number in range(1, 21)])
    context.turn()
    format: Any = Counting()
    lines = [
        context.join("a", since=Within(math.inf), format=format, buffer=4096) for _ in range(30)
    ]

    assert len(format.encoded) == 1
    for one in lines:
        assert len(one.read_all()) == 2 + sum(50_000 + len(str(n)) for n in range(1, 21))
    assert events(context.join("a", since=Within(math.inf)).read())


def test_messages_of_the_brokers_history_exist_once(make: Callable[..., LocalHub]) -> None:
    """
    Each response of the broker has messages of its own; only the first are kept.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    context.join("a")
    broker.confirm("a")
    seconds: list[ref[Message]] = []
    for _ in range(2):
        context.join("a", since=After(Position("e", 9)), buffer=4096)
        found = [Message("a", bytes(LARGE), Position("e", number)) for number in (10, 11)]
        seconds = [ref(message) for message in found]
        broker.queries.pop()[2].callback(Replay(tuple(found), True, broker.head))
        del found

    assert [second() for second in seconds] == [None, None]
    for one in context.lines[1:]:
        assert [number for number, _ in events(one.read_all())] == [10, 11]
