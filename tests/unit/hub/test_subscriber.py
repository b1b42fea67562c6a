"""
A reader's end of the connection: at once if possible, in order always, within
bounds when it does not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Position
from tests.fakes import Line

FRAME = b"0123456789" * 500


class Notes:
    """
    An audience that writes down what it is told.
    """

    def __init__(self) -> None:
        self.said: list[Any] = []
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def position(self) -> Position:
        return Position("e", 9)

    def fell_behind(self, subscriber: Subscriber) -> None:
        self.said.append("behind")

    def caught_up(self, subscriber: Subscriber) -> None:
        self.said.append("caught up")

    def skipped(self, subscriber: Subscriber) -> None:
        self.said.append("skipped")

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        self.said.append(cause)


@pytest.fixture
def line() -> Iterator[Line]:
    """
    A connection that holds some 20 KB.
    """
    line = Line()
    yield line
    line.close()


@pytest.fixture
def notes() -> Notes:
    """
    Who is told.
    """
    return Notes()


def make_subscriber(line: Any, notes: Notes, **backlog_limits: Any) -> Subscriber:
    return Subscriber(line, EventStream(), notes, BacklogLimits(**backlog_limits))


def fill(subscriber: Subscriber, frames: int = 30) -> bytes:
    """
    Write more than the connection holds.
    """
    sent = [b"%d:%s" % (number, FRAME) for number in range(frames)]
    for frame in sent:
        subscriber.write(frame)
    return b"".join(sent)


def test_a_frame_is_there_at_once(line: Line, notes: Notes) -> None:
    """
    Without a turn of the reactor in between.
    """
    make_subscriber(line, notes).write(b"hello")

    assert line.read() == b"hello"
    assert notes.said == []


def test_it_hears_of_its_connection(line: Line, notes: Notes) -> None:
    """
    It is the connection's protocol from the beginning.
    """
    subscriber = make_subscriber(line, notes)
    assert line.protocol is subscriber

    subscriber.dataReceived(b"whatever")
    subscriber.connectionLost(Failure(ConnectionLost()))
    subscriber.connectionLost(Failure(ConnectionLost()))

    assert notes.said == [DisconnectReason.LOST]
    assert subscriber.closed


def test_what_does_not_fit_follows_in_order(line: Line, notes: Notes) -> None:
    """
    Every byte once, whatever the kernel takes at a time.
    """
    subscriber = make_subscriber(line, notes)
    sent = fill(subscriber)
    assert notes.said == ["behind"]

    got = line.read_all()
    subscriber.write(b"end")

    assert got + line.read_all() == sent + b"end"
    assert notes.said == ["behind", "caught up"]


def test_more_may_come_while_it_catches_up(line: Line, notes: Notes) -> None:
    """
    Frames written between two pieces keep their place.
    """
    subscriber = make_subscriber(line, notes)
    sent = fill(subscriber)
    got = b""
    for number in range(40):
        line.pump()
        got += line.read(3000)
        frame = b"<%d>" % number
        subscriber.write(frame)
        sent += frame

    assert got + line.read_all() == sent
    assert notes.said[-1] == "caught up"


def test_too_many_bytes_disconnect(line: Line, notes: Notes) -> None:
    """
    The bound is on what waits behind the frame under way.
    """
    subscriber = make_subscriber(line, notes, bytes=20_000)

    fill(subscriber)

    assert line.aborted
    assert notes.said == ["behind", "caught up", DisconnectReason.BEHIND]


def test_one_frame_of_any_size_is_allowed(line: Line, notes: Notes) -> None:
    """
    A large replay, or a large message, does not cost the connection.
    """
    subscriber = make_subscriber(line, notes, bytes=10)
    large = bytes(1_000_000)

    subscriber.write(large)
    subscriber.write(b"next")

    assert not line.aborted
    assert line.read_all() == large + b"next"


def test_skipping_drops_whole_frames_and_says_so(line: Line, notes: Notes) -> None:
    """
    The frame under way is finished, then comes the gap, then the newest.
    """
    subscriber = make_subscriber(line, notes, bytes=20_000, policy=SlowConsumerPolicy.SKIP)
    fill(subscriber)
    subscriber.write(b"[newest]")

    got = line.read_all()

    assert "skipped" in notes.said
    assert not line.aborted
    assert got.count(b"event: gap\n") == 1
    assert got.endswith(b"[newest]")
    before, _, _ = got.partition(b"event: gap\n")
    assert before.endswith(FRAME)  # no frame is cut off in the middle


def test_taking_nothing_for_too_long_disconnects(line: Line, notes: Notes) -> None:
    """
    The hub looks at the time; the reader knows when it last took something.
    """
    subscriber = make_subscriber(line, notes)
    fill(subscriber)
    notes.now = 7.0
    line.read(16384)
    line.pump()
    assert subscriber.stalled_since == 7.0

    subscriber.on_stall_timeout()

    assert line.aborted
    assert notes.said[-1] is DisconnectReason.STALLED


def test_a_skipping_reader_that_takes_nothing_is_told_once(line: Line, notes: Notes) -> None:
    """
    However often the hub comes by.
    """
    subscriber = make_subscriber(line, notes, policy=SlowConsumerPolicy.SKIP)
    fill(subscriber)

    for _ in range(3):
        subscriber.on_stall_timeout()

    assert notes.said == ["behind", "skipped"]
    assert line.read_all().count(b"event: gap\n") == 1


def test_what_is_written_to_the_gone_goes_nowhere(line: Line, notes: Notes) -> None:
    """
    A fan-out under way need not look who has left meanwhile.
    """
    subscriber = make_subscriber(line, notes)
    subscriber.drop(DisconnectReason.SHUTDOWN)

    subscriber.write(b"late")

    assert line.read() == b""
    assert notes.said == [DisconnectReason.SHUTDOWN]


def test_the_end_says_when_to_come_back(line: Line, notes: Notes) -> None:
    """
    And the connection is closed in order.
    """
    make_subscriber(line, notes).end(DisconnectReason.SHUTDOWN, 3000)

    assert line.read() == b"retry: 3000\n\n"
    assert line.closed
    assert notes.said == [DisconnectReason.SHUTDOWN]


def test_the_end_of_one_that_is_behind_is_at_once(line: Line, notes: Notes) -> None:
    """
    It resumes from its position; nobody waits for it.
    """
    subscriber = make_subscriber(line, notes)
    fill(subscriber)

    subscriber.end(DisconnectReason.SHUTDOWN, 3000)

    assert line.aborted
    assert notes.said == ["behind", "caught up", DisconnectReason.SHUTDOWN]


def test_a_limited_stream_ends_in_order(line: Line, notes: Notes) -> None:
    """
    After the frame that reaches the limit, with the end of its framing.
    """
    subscriber = Subscriber(line, Chunked(EventStream()), notes, BacklogLimits(), limit=10)

    subscriber.write(b"12345")
    assert not line.closed
    subscriber.write(b"67890")
    subscriber.write(b"late")

    assert line.read() == b"1234567890" + b"0\r\n\r\n"
    assert line.closed
    assert notes.said == [DisconnectReason.LIMIT]


def test_a_limited_stream_that_lags_ends_too(line: Line, notes: Notes) -> None:
    """
    Also if the kernel took only a part of the frame that reaches the limit.
    """
    subscriber = Subscriber(line, Chunked(EventStream()), notes, BacklogLimits(), limit=30_000)
    sent = fill(subscriber)

    got = line.read_all()
    subscriber.write(b"next")
    got += line.read_all()

    assert got == sent + b"next" + b"0\r\n\r\n"
    assert line.closed
    assert notes.said[-1] is DisconnectReason.LIMIT


def slow() -> Any:
    """
    A transport without a socket of its own, as TLS has it.
    """
    return StringTransport()


def test_without_a_socket_the_transport_says_when_to_wait(notes: Notes) -> None:
    """
    TLS and HTTP/2 readers are held to the same bounds, in the same order.
    """
    transport = slow()
    subscriber = make_subscriber(transport, notes)
    subscriber.write(b"1")
    subscriber.pauseProducing()
    subscriber.write(b"2")
    subscriber.write(b"3")
    assert transport.value() == b"1"
    assert notes.said == ["behind"]

    subscriber.resumeProducing()
    subscriber.write(b"4")

    assert transport.value() == b"1234"
    assert notes.said == ["behind", "caught up"]


def test_without_a_socket_the_bounds_hold_too(notes: Notes) -> None:
    """
    A TLS reader that takes nothing is disconnected like any other.
    """
    transport = slow()
    subscriber = make_subscriber(transport, notes, bytes=100)
    subscriber.pauseProducing()

    for _ in range(4):
        subscriber.write(bytes(100))

    assert transport.disconnected
    assert notes.said[-1] is DisconnectReason.BEHIND


class PausingTransport(StringTransport):
    """
    A transport without a socket that pauses its producer after each write.
    """

    def write(self, data: bytes) -> None:
        super().write(data)  # type: ignore[no-untyped-call]  # Twisted's
        if self.producer is not None:
            self.producer.pauseProducing()


def test_a_subscriber_that_is_paused_by_its_last_frame_stays_behind(notes: Notes) -> None:
    """
    The transport's buffer is full: further frames are queued until it resumes.
    """
    transport = PausingTransport()  # type: ignore[no-untyped-call]  # Twisted's
    subscriber = make_subscriber(transport, notes)
    subscriber.write(b"1")
    subscriber.write(b"2")

    subscriber.resumeProducing()
    assert subscriber.behind
    subscriber.write(b"3")
    assert transport.value() == b"12"  # type: ignore[no-untyped-call]  # Twisted's

    subscriber.resumeProducing()
    subscriber.resumeProducing()
    assert transport.value() == b"123"  # type: ignore[no-untyped-call]  # Twisted's
    assert not subscriber.behind
