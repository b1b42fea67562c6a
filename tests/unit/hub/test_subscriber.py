"""
Subscribers: writing at once if possible, always in order, within bounds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.replay_frames import ReplayFrames, shared_frames
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber, broadcast
from rt_twisted.model.message import Message, Position
from tests.defaults import make_backlog_limits
from tests.fakes import FakeTransport

FRAME = b"0123456789" * 500


class Recorder:
    """
    An observer that records its events.
    """

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.now = 0.0

    def seconds(self) -> float:
        return self.now

    def position(self) -> Position:
        return Position("e", 9)

    def stream_ended(self, subscriber: Subscriber, last: Message | None) -> None: ...

    def fell_behind(self, subscriber: Subscriber) -> None:
        self.events.append("behind")

    def caught_up(self, subscriber: Subscriber) -> None:
        self.events.append("caught up")

    def skipped(self, subscriber: Subscriber) -> None:
        self.events.append("skipped")

    def parked(self, subscriber: Subscriber) -> None:
        self.events.append("parked")

    def leave(self, subscriber: Subscriber, cause: DisconnectReason) -> None:
        self.events.append(cause)


@pytest.fixture
def line() -> Iterator[FakeTransport]:
    """
    A connection that holds some 20 KB.
    """
    line = FakeTransport()
    yield line
    line.close()


@pytest.fixture
def notes() -> Recorder:
    """
    The observer of the test's subscriber.
    """
    return Recorder()


def make_subscriber(line: Any, notes: Recorder, **backlog_limits: Any) -> Subscriber:
    return Subscriber(line, EventStream(), notes, make_backlog_limits(**backlog_limits))


def fill(subscriber: Subscriber, frames: int = 30) -> bytes:
    """
    Write more than the connection holds.
    """
    sent = [b"%d:%s" % (number, FRAME) for number in range(frames)]
    for frame in sent:
        subscriber.write(frame)
    return b"".join(sent)


def test_a_frame_is_sent_at_once(line: FakeTransport, notes: Recorder) -> None:
    """
    A frame is written without waiting for a reactor iteration.
    """
    make_subscriber(line, notes).write(b"hello")

    assert line.read() == b"hello"
    assert notes.events == []


def test_the_end_of_the_connection_is_reported_once(line: FakeTransport, notes: Recorder) -> None:
    """
    The subscriber is the connection's protocol from the beginning.
    """
    subscriber = make_subscriber(line, notes)
    assert line.protocol is subscriber

    subscriber.dataReceived(b"whatever")
    subscriber.connectionLost(Failure(ConnectionLost()))
    subscriber.connectionLost(Failure(ConnectionLost()))

    assert notes.events == [DisconnectReason.LOST]
    assert subscriber.closed


def test_what_does_not_fit_follows_in_order(line: FakeTransport, notes: Recorder) -> None:
    """
    Every byte is sent once, whatever the kernel accepts at a time.
    """
    subscriber = make_subscriber(line, notes)
    sent = fill(subscriber)
    assert notes.events == ["behind"]

    got = line.read_all()
    subscriber.write(b"end")

    assert got + line.read_all() == sent + b"end"
    assert notes.events == ["behind", "caught up"]


def test_a_subscriber_may_fall_behind_again(line: FakeTransport, notes: Recorder) -> None:
    """
    A connection that is slow from time to time gets every byte each time.
    """
    subscriber = make_subscriber(line, notes)
    for _ in range(3):
        sent = fill(subscriber)
        assert subscriber.behind
        assert line.read_all() == sent
        assert not subscriber.behind

    assert notes.events == ["behind", "caught up"] * 3


def test_a_connection_that_breaks_during_catch_up_is_lost(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    A subscriber whose socket refuses its backlog leaves, as with a frame that is sent at once.
    """
    subscriber = make_subscriber(line, notes)
    fill(subscriber)
    line.close()

    subscriber.resumeProducing()

    assert subscriber.closed
    assert line.aborted
    assert notes.events == ["behind", "caught up", DisconnectReason.LOST]


def test_a_broken_connection_does_not_end_the_fan_out(line: FakeTransport, notes: Recorder) -> None:
    """
    A subscriber whose socket refuses a frame leaves; those behind it receive the frame.
    """
    other, others_notes = FakeTransport(), Recorder()
    broken, whole = make_subscriber(line, notes), make_subscriber(other, others_notes)
    line.close()
    broadcast([broken, whole], b"hello")

    assert broken.closed
    assert line.aborted
    assert notes.events == [DisconnectReason.LOST]
    assert other.read() == b"hello"
    assert others_notes.events == []
    other.close()


def replay_of(count: int) -> tuple[ReplayFrames, bytes]:
    """
    Return the rest of a replay, and its bytes.
    """
    format = EventStream()
    messages = [Message("a", FRAME, Position("e", number)) for number in range(count)]
    frames = b"".join(map(format.encode, messages))
    return ReplayFrames(format, messages, shared_frames()), frames


def test_a_replay_waits_behind_a_full_socket(line: FakeTransport, notes: Recorder) -> None:
    """
    A socket that accepts nothing makes the replay the backlog, which follows whole.
    """
    subscriber = make_subscriber(line, notes)
    filling = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            filling += line.getHandle().send(b"f" * 100)
    replay, frames = replay_of(20)
    subscriber.write_replay(replay)

    assert notes.events == ["behind"]
    assert line.read_all() == b"f" * filling + frames
    assert notes.events == ["behind", "caught up"]


def test_a_connection_that_breaks_during_a_replay_is_lost(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    A subscriber whose socket refuses its replay leaves, as with a frame.
    """
    subscriber = make_subscriber(line, notes)
    line.close()
    subscriber.write_replay(replay_of(2)[0])

    assert subscriber.closed
    assert line.aborted
    assert notes.events == [DisconnectReason.LOST]


def test_frames_written_during_catch_up_keep_their_order(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    Frames written between two pieces follow the backlog.
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
    assert notes.events[-1] == "caught up"


def test_too_many_bytes_disconnect(line: FakeTransport, notes: Recorder) -> None:
    """
    The bound applies to what is queued behind the frame that is being sent.
    """
    subscriber = make_subscriber(line, notes, bytes=20_000)

    fill(subscriber)

    assert line.aborted
    assert notes.events == ["behind", "caught up", DisconnectReason.BEHIND]


def test_one_frame_of_any_size_is_allowed(line: FakeTransport, notes: Recorder) -> None:
    """
    A large replay, or a large message, does not end the connection.
    """
    subscriber = make_subscriber(line, notes, bytes=10)
    large = bytes(1_000_000)

    subscriber.write(large)
    subscriber.write(b"next")

    assert not line.aborted
    assert line.read_all() == large + b"next"


def test_skipping_drops_whole_frames_and_sends_a_gap(line: FakeTransport, notes: Recorder) -> None:
    """
    The frame that is being sent is finished, then come the gap and the newest.
    """
    subscriber = make_subscriber(line, notes, bytes=20_000, policy=SlowConsumerPolicy.SKIP)
    fill(subscriber)
    subscriber.write(b"[newest]")

    got = line.read_all()

    assert "skipped" in notes.events
    assert not line.aborted
    assert got.count(b"event: gap\n") == 1
    assert got.endswith(b"[newest]")
    before, _, _ = got.partition(b"event: gap\n")
    assert before.endswith(FRAME)  # no frame is cut off in the middle


def test_a_stall_timeout_disconnects(line: FakeTransport, notes: Recorder) -> None:
    """
    The hub compares the time with `stalled_since`.
    """
    subscriber = make_subscriber(line, notes)
    fill(subscriber)
    notes.now = 7.0
    line.read(16384)
    line.pump()
    assert subscriber.stalled_since == 7.0

    subscriber.on_stall_timeout()

    assert line.aborted
    assert notes.events[-1] is DisconnectReason.STALLED


def test_a_stalled_skipping_subscriber_gets_one_gap(line: FakeTransport, notes: Recorder) -> None:
    """
    Further stall timeouts change nothing.
    """
    subscriber = make_subscriber(line, notes, policy=SlowConsumerPolicy.SKIP)
    fill(subscriber)

    for _ in range(3):
        subscriber.on_stall_timeout()

    assert notes.events == ["behind", "skipped"]
    assert line.read_all().count(b"event: gap\n") == 1


def test_only_the_newest_frame_waits(line: FakeTransport, notes: Recorder) -> None:
    """
    The frame that is being sent is finished, without a gap event behind it, however long the
    connection accepts nothing.
    """
    subscriber = make_subscriber(line, notes, bytes=0, policy=SlowConsumerPolicy.NEWEST)
    fill(subscriber)
    for number in range(3):
        subscriber.write(b"[%d]" % number)
    subscriber.on_stall_timeout()
    assert subscriber.backlog_bytes <= len(b"29:" + FRAME + b"[2]")

    got = line.read_all()

    assert got.endswith(FRAME + b"[2]")
    assert b"[0]" not in got
    assert b"[1]" not in got
    assert b"gap" not in got
    assert not line.aborted
    assert "skipped" in notes.events


def test_writes_after_the_end_are_discarded(line: FakeTransport, notes: Recorder) -> None:
    """
    A fan-out in progress need not check which subscribers have left.
    """
    subscriber = make_subscriber(line, notes)
    subscriber.drop(DisconnectReason.SHUTDOWN)

    subscriber.write(b"late")

    assert line.read() == b""
    assert notes.events == [DisconnectReason.SHUTDOWN]


def test_the_end_sends_when_to_reconnect(line: FakeTransport, notes: Recorder) -> None:
    """
    The connection is closed in order after it.
    """
    make_subscriber(line, notes).end(DisconnectReason.SHUTDOWN, 3000)

    assert line.read() == b"retry: 3000\n\n"
    assert line.closed
    assert notes.events == [DisconnectReason.SHUTDOWN]


def test_the_end_of_a_slow_subscriber_is_at_once(line: FakeTransport, notes: Recorder) -> None:
    """
    A slow subscriber is disconnected at once, as it can resume from its position.
    """
    subscriber = make_subscriber(line, notes)
    fill(subscriber)

    subscriber.end(DisconnectReason.SHUTDOWN, 3000)

    assert line.aborted
    assert notes.events == ["behind", "caught up", DisconnectReason.SHUTDOWN]


def test_a_limited_stream_ends_in_order(line: FakeTransport, notes: Recorder) -> None:
    """
    The stream ends after the frame that reaches the limit, with the end of its framing.
    """
    subscriber = Subscriber(line, Chunked(EventStream()), notes, make_backlog_limits(), limit=10)

    subscriber.write(b"12345")
    assert not line.closed
    subscriber.write(b"67890")
    subscriber.write(b"late")

    assert line.read() == b"1234567890" + b"0\r\n\r\n"
    assert line.closed
    assert notes.events == [DisconnectReason.LIMIT]


def test_a_limited_stream_that_lags_ends_too(line: FakeTransport, notes: Recorder) -> None:
    """
    The kernel may have accepted only a part of the frame that reaches the limit.
    """
    subscriber = Subscriber(
        line, Chunked(EventStream()), notes, make_backlog_limits(), limit=30_000
    )
    sent = fill(subscriber)

    got = line.read_all()
    subscriber.write(b"next")
    got += line.read_all()

    assert got == sent + b"next" + b"0\r\n\r\n"
    assert line.closed
    assert notes.events[-1] is DisconnectReason.LIMIT


def slow() -> Any:
    """
    A transport without a socket of its own, such as TLS.
    """
    return StringTransport()


def test_without_a_socket_the_transport_pauses_its_producer(notes: Recorder) -> None:
    """
    TLS and HTTP/2 subscribers have the same bounds and the same order.
    """
    transport = slow()
    subscriber = make_subscriber(transport, notes)
    subscriber.write(b"1")
    subscriber.pauseProducing()
    subscriber.write(b"2")
    subscriber.write(b"3")
    assert transport.value() == b"1"
    assert notes.events == ["behind"]

    subscriber.resumeProducing()
    subscriber.write(b"4")

    assert transport.value() == b"1234"
    assert notes.events == ["behind", "caught up"]


def test_without_a_socket_the_bounds_apply(notes: Recorder) -> None:
    """
    A TLS subscriber whose connection accepts nothing is disconnected like any other.
    """
    transport = slow()
    subscriber = make_subscriber(transport, notes, bytes=100)
    subscriber.pauseProducing()

    for _ in range(4):
        subscriber.write(bytes(100))

    assert transport.disconnected
    assert notes.events[-1] is DisconnectReason.BEHIND


class PausingTransport(StringTransport):
    """
    A transport without a socket that pauses its producer after each write.
    """

    def write(self, data: bytes) -> None:
        super().write(data)  # type: ignore[no-untyped-call]  # Twisted's
        if self.producer is not None:
            self.producer.pauseProducing()


def test_a_subscriber_that_is_paused_by_its_last_frame_stays_behind(
    notes: Recorder,
) -> None:
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


def parked(line: FakeTransport, notes: Recorder) -> tuple[Subscriber, bytes]:
    """
    Return a subscriber that has just been parked, and what was queued for it.
    """
    subscriber = make_subscriber(line, notes, bytes=20_000, policy=SlowConsumerPolicy.SYNC)
    queued = b""
    while "parked" not in notes.events:
        before = subscriber.backlog_bytes
        subscriber.write(FRAME)
        if "parked" not in notes.events or subscriber.backlog_bytes != before:
            queued += FRAME
    return subscriber, queued


def test_a_parked_subscriber_keeps_what_is_queued(line: FakeTransport, notes: Recorder) -> None:
    """
    With the policy SYNC the backlog is sent whole, and what follows is discarded, also when
    the backlog is sent.
    """
    subscriber, queued = parked(line, notes)

    subscriber.write(b"[refused]")
    got = line.read_all()
    subscriber.write(b"[refused]")

    assert got + line.read_all() == queued
    assert notes.events == ["behind", "parked"]
    assert not line.aborted


def test_a_parked_subscriber_resumes_behind_its_backlog(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    What is written after `resume` follows what is still queued.
    """
    subscriber, queued = parked(line, notes)
    got = line.read(3000)
    assert not subscriber.may_resume

    while not subscriber.may_resume:
        line.pump()
        got += line.read(3000)
    subscriber.resume()
    subscriber.write(b"[next]")
    got += line.read_all()
    subscriber.write(b"[last]")

    assert got + line.read_all() == queued + b"[next][last]"
    assert notes.events == ["behind", "parked", "caught up"]


def test_a_drained_subscriber_resumes_at_once(line: FakeTransport, notes: Recorder) -> None:
    """
    If the whole backlog is sent, `resume` ends it.
    """
    subscriber, queued = parked(line, notes)
    assert line.read_all() == queued
    assert subscriber.behind
    assert subscriber.may_resume

    subscriber.resume()

    assert not subscriber.behind
    assert notes.events == ["behind", "parked", "caught up"]
    subscriber.write(b"[next]")
    assert line.read() == b"[next]"


def test_a_parked_subscriber_is_not_disconnected_by_a_stall(
    line: FakeTransport, notes: Recorder
) -> None:
    """
    A parked subscriber costs no more memory, however long its client pauses.
    """
    subscriber, queued = parked(line, notes)

    subscriber.on_stall_timeout()

    assert not line.aborted
    assert line.read_all() == queued


def test_a_parked_transport_without_a_socket_resumes(notes: Recorder) -> None:
    """
    TLS and HTTP/2 pause their producer instead; nothing overtakes what they hold.
    """
    transport = StringTransport()
    subscriber = make_subscriber(transport, notes, bytes=10, policy=SlowConsumerPolicy.SYNC)
    subscriber.pauseProducing()
    for _ in range(4):
        subscriber.write(b"0123456789")
    assert notes.events == ["behind", "parked"]

    subscriber.resumeProducing()
    subscriber.write(b"[refused]")
    subscriber.pauseProducing()
    subscriber.resume()
    subscriber.write(b"[next]")
    assert transport.value() == b"0123456789" * 3

    subscriber.resumeProducing()

    assert transport.value() == b"0123456789" * 3 + b"[next]"
    assert notes.events == ["behind", "parked", "caught up"]


def test_a_stream_ends_after_its_backlog(line: FakeTransport, notes: Recorder) -> None:
    """
    Everything that is queued is sent before the connection is closed.
    """
    subscriber = make_subscriber(line, notes)
    sent = fill(subscriber)

    subscriber.end_after_backlog()
    subscriber.write(b"[refused]")

    assert not line.closed
    got = line.read_all()
    assert got.startswith(sent)
    assert b"refused" not in got
    assert line.closed
    assert notes.events == ["behind", "caught up", DisconnectReason.ENDED]


def test_a_stream_without_a_backlog_ends_at_once(line: FakeTransport, notes: Recorder) -> None:
    """
    There is nothing to wait for, also for one that was parked and has read everything.
    """
    subscriber, queued = parked(line, notes)
    assert line.read_all() == queued

    subscriber.end_after_backlog()

    assert line.closed
    assert notes.events[-1] is DisconnectReason.ENDED


def test_an_ending_stream_that_stalls_is_dropped(line: FakeTransport, notes: Recorder) -> None:
    """
    A client that never reads the end does not hold its connection.
    """
    subscriber, _ = parked(line, notes)
    subscriber.end_after_backlog()

    subscriber.on_stall_timeout()

    assert line.aborted
    assert notes.events[-1] is DisconnectReason.STALLED
