"""
The hub: subscribers receive everything in order, once, or a gap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IBroker, IHistory, IReceiver
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub import channel_table as channels_module
from rt_twisted.hub import fanout as fanout_module
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import LIVE
from rt_twisted.model.message import (
    After,
    Draft,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
    Within,
)
from tests.defaults import make_backlog_limits, make_hub, make_hub_limits, make_retention
from tests.fakes import FakeTransport

EVENT = re.compile(rb"data: (.*)\nid: e\.(\d+)\n\n")


class LocalHub:
    """
    A hub on a clock, and subscribers on socket pairs.
    """

    def __init__(self, broker: Any = None, **hub: Any) -> None:
        self.clock = Clock()
        self.broker = broker or MemoryBroker(self.clock, "e")
        self.hub = make_hub(self.broker, self.clock, **hub)
        self.hub.start()
        self.lines: list[FakeTransport] = []

    def join(
        self,
        *channels: Selector,
        since: Since | None = None,
        format: EventStream | None = None,
        buffer: int = 1 << 20,
        backlog_limits: BacklogLimits | None = None,
        address: str = "",
    ) -> FakeTransport:
        line = FakeTransport(buffer)
        self.lines.append(line)
        subscriber = Subscriber(
            line,
            format or EventStream(),
            self.hub,
            backlog_limits or make_backlog_limits(),
            address,
        )
        self.hub.join(subscriber, channels, since)
        return line

    def publish(self, *pairs: tuple[str, bytes]) -> None:
        self.hub.publish([Draft(channel, data) for channel, data in pairs])

    def turn(self) -> None:
        self.clock.advance(0)

    def step(self) -> None:
        """
        Run what is due now; what that schedules for at once waits for the next step.
        """
        due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
        for call in due:
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


@pytest.fixture
def make() -> Iterator[Callable[..., LocalHub]]:
    """
    Build hubs, and close their connections after the test.
    """
    hubs: list[LocalHub] = []

    def build(**arguments: Any) -> LocalHub:
        hubs.append(LocalHub(**arguments))
        return hubs[-1]

    yield build
    for context in hubs:
        for line in context.lines:
            line.close()


def events(data: bytes) -> list[tuple[int, bytes]]:
    return [(int(number), text) for text, number in EVENT.findall(data)]


def texts(data: bytes) -> list[bytes]:
    return [text for _, text in events(data)]


def test_a_message_reaches_the_subscribers_of_its_channel(make: Callable[..., LocalHub]) -> None:
    """
    Subscribers of other channels do not receive it.
    """
    context = make()
    news, other = context.join("news"), context.join("other")

    context.publish(("news", b"1"), ("news", b"2"))
    context.turn()

    assert texts(news.read()) == [b"1", b"2"]
    assert texts(other.read()) == []


def test_messages_of_one_iteration_are_one_write(make: Callable[..., LocalHub]) -> None:
    """
    What is published within one reactor iteration arrives together.
    """
    context = make()
    line = context.join("news")
    line.read()
    sent: list[bytes] = []

    class Sink:
        def send(self, frame: bytes) -> int:
            sent.append(frame)
            return len(frame)

    line.protocol._sink = Sink()

    context.publish(*[("news", b"%d" % number) for number in range(16)])
    context.turn()

    assert len(sent) == 1
    assert texts(sent[0]) == [b"%d" % number for number in range(16)]


def test_equal_formats_share_one_encoding(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A message is encoded once for a thousand subscribers.
    """
    context = make()
    lines = [context.join("news", format=EventStream(retry=5)) for _ in range(20)]
    encoded: list[Message] = []
    original = EventStream.encode

    def encode(self: EventStream, message: Message) -> bytes:
        encoded.append(message)
        return original(self, message)

    monkeypatch.setattr(EventStream, "encode", encode)
    context.publish(("news", b"1"))
    context.turn()

    assert len(encoded) == 1
    assert all(texts(line.read()) == [b"1"] for line in lines)


def test_channels_are_merged_in_order(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber of several channels receives their messages by position, so that its
    last id covers everything before it.
    """
    context = make()
    both, single = context.join("a", "b"), context.join("b")

    context.publish(("b", b"1"), ("a", b"2"), ("c", b"3"), ("b", b"4"), ("a", b"5"))
    context.turn()

    assert events(both.read()) == [(1, b"1"), (2, b"2"), (4, b"4"), (5, b"5")]
    assert events(single.read()) == [(1, b"1"), (4, b"4")]


def test_one_cursor_resumes_all_channels(make: Callable[..., LocalHub]) -> None:
    """
    The history is merged as the live stream is.
    """
    context = make()
    context.publish(("a", b"1"), ("b", b"2"), ("c", b"3"), ("a", b"4"), ("b", b"5"))
    context.turn()

    line = context.join("b", "a", since=After(Position("e", 1)))

    assert events(line.read()) == [(2, b"2"), (4, b"4"), (5, b"5")]


def test_an_undelivered_message_is_not_replayed_too(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber that joins between a publish and its flush receives the message once.
    """
    context = make()
    context.join("a")
    context.publish(("a", b"1"))
    context.turn()
    context.publish(("a", b"2"), ("b", b"3"))

    line = context.join("a", "b", since=After(Position("e", 0)))
    context.publish(("a", b"4"))
    context.turn()

    assert events(line.read()) == [(1, b"1"), (2, b"2"), (3, b"3"), (4, b"4")]


def test_a_new_subscriber_gets_a_cursor(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber that has received no message yet can resume.
    """
    context = make()
    context.publish(("a", b"1"))
    context.turn()

    line = context.join("a")

    assert b":\nid: e.1\n\n" in line.read()


def test_a_gap_precedes_the_retained_messages(make: Callable[..., LocalHub]) -> None:
    """
    Positions that are dropped, unknown or from a lost future get a gap, then what is
    retained.
    """
    context = make(retention=make_retention(count=2))
    context.publish(*[("a", b"%d" % number) for number in range(1, 6)])
    context.turn()

    for position in (Position("e", 1), Position("f", 5), Position("e", 99), Position("", 0)):
        got = context.join("a", since=After(position)).read()
        gap = got.index(b"event: gap\n")
        if position == Position("e", 99):
            assert texts(got) == []
        else:
            assert gap < got.index(b"data: 4\n")
            assert texts(got) == [b"4", b"5"]
    assert b"gap" not in context.join("a", since=After(Position("e", 3))).read()
    assert context.hub.current_metrics().gaps == 4


def test_newest_and_within_are_no_gaps(make: Callable[..., LocalHub]) -> None:
    """
    Requests for retained messages get them over all channels, without a gap.
    """
    context = make(retention=make_retention(count=3))
    for number in range(1, 9):
        context.publish(("ab"[number % 2], b"%d" % number))
        context.clock.advance(1)
    context.turn()

    assert texts(context.join("a", "b", since=Newest(4)).read()) == [b"5", b"6", b"7", b"8"]
    assert texts(context.join("a", "b", since=Newest(0)).read()) == []
    assert texts(context.join("a", since=Within(3)).read()) == [b"6", b"8"]
    got = context.join("a", since=Within(math.inf)).read()
    assert texts(got) == [b"4", b"6", b"8"]
    assert b"gap" not in got


def test_history_outlives_its_subscribers(make: Callable[..., LocalHub]) -> None:
    """
    The only subscriber may reconnect: messages of the meantime are retained.
    """
    context = make()
    context.join("a").hang_up()

    context.publish(("a", b"1"))
    context.turn()
    context.clock.pump([1.0] * 200)

    assert texts(context.join("a", since=After(Position("e", 0))).read()) == [b"1"]


def test_a_dropped_channel_is_a_gap(make: Callable[..., LocalHub]) -> None:
    """
    A dropped channel leaves its start position behind, so that no loss is silent.
    """
    context = make(retention=make_retention(age=10), limits=make_hub_limits(linger=5))
    context.publish(("a", b"1"), ("b", b"2"))
    context.turn()
    context.clock.pump([1.0] * 60)
    assert context.hub.current_metrics().history_bytes == 0

    assert b"gap" in context.join("a", since=After(Position("e", 0))).read()
    assert b"gap" not in context.join("a", since=After(Position("e", 2))).read()


def test_memory_of_all_channels_is_bounded(make: Callable[..., LocalHub]) -> None:
    """
    However many channels are published to, memory is bounded; the least recent go first.
    """
    limit = 1 << 20
    context = make(limits=make_hub_limits(history_bytes=limit))
    context.join("reader")
    for number in range(5000):
        context.publish((f"channel{number}", bytes(1000)), ("reader", b""))
        assert context.hub.current_metrics().history_bytes <= limit
        if number % 100 == 0:
            context.turn()
    context.turn()

    newest = context.join("channel4999", since=After(Position("e", 9990)))
    assert b"gap" not in newest.read()
    assert b"gap" in context.join("channel0", since=After(Position("e", 0))).read()


def test_messages_are_delivered_without_retention(
    make: Callable[..., LocalHub],
) -> None:
    """
    A subscriber that joins before the flush receives the channel's messages, although
    none of them may be retained.
    """
    context = make(limits=make_hub_limits(history_bytes=0))
    context.join("reader")
    context.publish(("reader", b"1"), ("a", b"2"), ("b", b"3"))
    lines = [context.join(name, since=After(Position("e", 0))) for name in "ab"]
    context.turn()

    for line, event in zip(lines, [(2, b"2"), (3, b"3")], strict=True):
        got = line.read()
        assert b'event: gap\ndata: {"position": "e.0"}\n' in got
        assert events(got) == [event]
    assert context.hub.current_metrics().history_bytes == 0


def test_a_replay_is_bounded(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber gets the newest messages and a gap; one message of any size is always
    allowed.
    """
    context = make(
        retention=make_retention(bytes=1 << 30), limits=make_hub_limits(replay_bytes=3500)
    )
    context.publish(*[("a", b"%d" % number + bytes(1000)) for number in range(1, 11)])
    context.publish(("b", bytes(5000)))
    context.turn()

    got = context.join("a", since=Within(math.inf)).read()
    assert got.index(b"event: gap\n") < got.index(b"id: e.8\n")
    assert [number for number, _ in events(got)] == [8, 9, 10]
    got = context.join("b", since=Within(math.inf)).read()
    assert b"gap" not in got
    assert [number for number, _ in events(got)] == [11]


def test_channels_that_subscribers_invent_are_bounded(make: Callable[..., LocalHub]) -> None:
    """
    A client that requests ever new channels cannot evict the history of others.
    """
    context = make(limits=make_hub_limits(history_bytes=1 << 20))
    context.publish(("orders", b"1"))
    context.turn()
    for number in range(200):
        line = context.join(*[f"made-up-{number}-{each}" for each in range(100)])
        line.hang_up()
        context.lines.remove(line)
    context.publish(("orders", b"2"), ("other", b""))
    context.turn()

    assert len(list(context.hub._channels)) <= channels_module.MAX_UNUSED + 2
    got = context.join("orders", since=After(Position("e", 0))).read()
    assert b"gap" not in got
    assert texts(got) == [b"1", b"2"]


def test_an_error_in_the_fan_out_loses_no_messages(
    make: Callable[..., LocalHub], clean_reactor: list[Failure]
) -> None:
    """
    Subscribers of the failed chunk are disconnected and resume; the others receive all.
    """

    class Speechless(EventStream):
        def gap(self, position: Position) -> bytes:
            raise ZeroDivisionError

    context = make()
    backlog_limits = make_backlog_limits(bytes=1000, policy=SlowConsumerPolicy.SKIP)
    bad = context.join("a", format=Speechless(), buffer=4096, backlog_limits=backlog_limits)
    good = context.join("a")
    for number in range(60):
        context.publish(("a", b"%d" % number + b"x" * 1000))
        context.turn()

    assert bad.aborted
    assert len(texts(good.read())) == 60
    assert clean_reactor.pop().check(ZeroDivisionError)
    assert not clean_reactor


def test_leaving_during_a_flush_is_safe(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A flush yields between slices; a subscriber that leaves then is not written to.
    """
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(fanout_module, "CHUNK_SIZE", 1)
    context = make()
    lines = [context.join("a") for _ in range(5)]
    context.publish(("a", b"1"))
    context.step()  # the first chunk

    delivered = [bool(texts(line.read())) for line in lines]
    assert delivered.count(True) == 1
    leaving = lines[delivered.index(False)]
    leaving.hang_up()
    lines.remove(leaving)
    late = context.join("a", since=After(Position("e", 0)))
    context.publish(("a", b"2"))
    context.turn()

    assert [texts(line.read()) for line in lines].count([b"1", b"2"]) == 3
    assert texts(late.read()) == [b"1", b"2"]


def test_subscribers_of_many_channels_are_merged_in_slices(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Other work is done meanwhile; what is published then comes behind.
    """
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(fanout_module, "MERGE_SIZE", 1)
    context = make()
    lines = [context.join("a", "b") for _ in range(3)]
    context.publish(("a", b"1"), ("b", b"2"))
    for _ in range(6):
        context.step()
    assert [texts(line.read()) for line in lines] == [[]] * 3
    lines.pop().hang_up()
    context.publish(("b", b"3"))
    context.turn()

    assert [texts(line.read()) for line in lines] == [[b"1", b"2", b"3"]] * 2


def test_a_bad_format_disconnects_only_its_subscribers(
    make: Callable[..., LocalHub], clean_reactor: list[Failure]
) -> None:
    """
    They can reconnect; no message is lost silently.
    """

    class Broken(EventStream):
        def encode(self, message: Message) -> bytes:
            raise ZeroDivisionError

    context = make()
    good, bad = context.join("a"), context.join("a", format=Broken())
    context.publish(("a", b"1"))
    context.turn()

    assert texts(good.read()) == [b"1"]
    assert bad.aborted
    assert clean_reactor.pop().check(ZeroDivisionError)


def test_heartbeats_come_from_one_timer(make: Callable[..., LocalHub]) -> None:
    """
    Each subscriber gets one heartbeat per interval; they are spread over it.
    """
    context = make(limits=make_hub_limits(heartbeat=10))
    lines = [context.join("a") for _ in range(20)]
    for line in lines:
        line.read()
    beats = []
    for _ in range(10):
        context.clock.advance(1)
        got = [line.read() for line in lines]
        assert set(got) <= {b"", b":\n"}
        beats.append(sum(map(bool, got)))

    assert beats == [2] * 10
    assert len(context.clock.getDelayedCalls()) == 1


def test_a_quiet_stream_gets_its_cursor_moved(make: Callable[..., LocalHub]) -> None:
    """
    The cursor of a quiet channel advances with the log of a busy one.
    """
    context = make(retention=make_retention(count=3), limits=make_hub_limits(heartbeat=10))
    quiet = context.join("quiet")
    context.publish(*[("busy", b"")] * 50)
    context.turn()
    quiet.read()

    context.clock.pump([1.0] * 10)
    assert quiet.read() == b"id: e.50\n\n"
    context.clock.pump([1.0] * 10)
    assert quiet.read() == b":\n"


def test_no_cursor_overtakes_a_message(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A heartbeat between two slices of a flush does not move the cursor of subscribers
    that the flush has not reached yet.
    """
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(fanout_module, "CHUNK_SIZE", 1)
    context = make(limits=make_hub_limits(heartbeat=1))
    lines = [context.join("a") for _ in range(3)]
    context.publish(("a", b"1"))
    context.step()
    context.hub._sweep_once()

    got = [line.read() for line in lines]

    assert sorted(map(texts, got)) == [[], [], [b"1"]]
    assert all(data.endswith(b":\n") for data in got)
    assert [b"id: e.1" in data for data in got] == [bool(texts(data)) for data in got]


def test_an_interval_of_0_disables_heartbeats(make: Callable[..., LocalHub]) -> None:
    """
    Nothing is written to idle streams then.
    """
    context = make(limits=make_hub_limits(heartbeat=0))
    line = context.join("a")
    line.read()

    context.clock.pump([1.0] * 100)

    assert line.read() == b""


def test_a_stalled_subscriber_is_disconnected(make: Callable[..., LocalHub]) -> None:
    """
    The backlog limits of its route apply, and the reason is counted.
    """
    context = make()
    backlog_limits = make_backlog_limits(seconds=5)
    line = context.join("a", buffer=4096, backlog_limits=backlog_limits)
    context.publish(("a", bytes(100_000)))
    context.turn()
    assert context.hub.current_metrics().behind == 1

    context.clock.pump([1.0] * 7)

    assert line.aborted
    numbers = context.hub.current_metrics()
    assert (numbers.behind, numbers.subscribers) == (0, 0)
    assert numbers.closed == {"stalled": 1}


def test_a_skipping_subscriber_stays_connected(make: Callable[..., LocalHub]) -> None:
    """
    A slow subscriber with the skip policy receives a gap, and then the newest messages.
    """
    context = make()
    backlog_limits = make_backlog_limits(bytes=1000, policy=SlowConsumerPolicy.SKIP)
    line = context.join("a", buffer=4096, backlog_limits=backlog_limits)
    for _ in range(100):
        context.publish(("a", b"x" * 1000))
        context.turn()
    context.publish(("a", b"newest"))
    context.turn()

    got = line.read_all()

    assert b"event: gap\n" in got
    assert texts(got)[-1] == b"newest"
    assert context.hub.current_metrics().gaps > 0
    assert context.hub.current_metrics().subscribers == 1


def test_limits_on_subscribers(make: Callable[..., LocalHub]) -> None:
    """
    The status is 503 when full and 429 for an address with too many, with Retry-After.
    """
    context = make(limits=make_hub_limits(subscribers=3, subscribers_per_address=2))
    context.join("a", address="1")
    first = context.join("a", address="1")

    with pytest.raises(HttpError) as refused:
        context.hub.admit("1")
    assert (refused.value.status, refused.value.headers[0][0]) == (429, "Retry-After")
    context.hub.admit("2")
    context.join("a", address="2")
    with pytest.raises(HttpError) as refused:
        context.hub.admit("2")
    assert (refused.value.status, refused.value.headers[0][0]) == (503, "Retry-After")

    first.hang_up()
    context.hub.admit("1")


def test_current_metrics(make: Callable[..., LocalHub]) -> None:
    """
    Exporters get totals, and channels with subscribers; messages between processes of the
    daemon are not among them.
    """
    context = make()
    line = context.join("a", "b")
    context.join("b")
    context.publish(("a", b""), ("b", b""), (LIVE, b""), ("c", b""))
    context.turn()
    line.hang_up()

    numbers = context.hub.current_metrics()

    assert numbers.channels == {"b": 1}
    assert (numbers.subscribers, numbers.joined) == (1, 2)
    assert (numbers.published, numbers.delivered) == (3, 3)
    assert numbers.closed == {"client": 1}
    assert context.hub.subscribers_of("b") == 1
    assert context.hub.subscribers_of("nobody") == 0


def test_a_stop_spreads_reconnects(make: Callable[..., LocalHub]) -> None:
    """
    Subscribers receive what is undelivered, then a time to reconnect, each another one.
    """
    context = make()
    lines = [context.join("a") for _ in range(4)]
    context.publish(("a", b"last"))

    context.hub.stop(1000)

    got = [line.read() for line in lines]
    assert all(texts(data) == [b"last"] for data in got)
    retries = sorted(int(re.findall(rb"retry: (\d+)", data)[-1]) for data in got)
    assert retries == [1000, 1250, 1500, 1750]
    assert all(line.closed for line in lines)
    with pytest.raises(HttpError):
        context.hub.admit("")
    context.turn()
    assert context.clock.getDelayedCalls() == []


@implementer(IBroker, IHistory)
class DelayedHistory:
    """
    A broker with a history that responds when the test makes it.
    """

    def __init__(self) -> None:
        self.log: list[Message] = []
        self.queries: list[tuple[list[str], Since, Deferred[Replay]]] = []
        self.subscribed: list[str] = []
        self._epoch = "e"
        self.offset = 100

    def attach(self, receiver: IReceiver) -> None:
        self.receiver = receiver

    def position(self) -> Position:
        return Position(self._epoch, self.offset)

    def subscribe(self, channel: str) -> Deferred[Position]:
        self.subscribed.append(channel)
        return succeed(self.position())

    def unsubscribe(self, channel: str) -> None:
        self.subscribed.remove(channel)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        raise NotImplementedError

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        answer: Deferred[Replay] = Deferred()
        self.queries.append((list(channels), since, answer))
        return answer

    def bring(self, data: bytes, epoch: str = "e") -> None:
        self.offset += 1
        self.receiver.receive(Message("a", data, Position(epoch, self.offset)))


def old(*offsets: int) -> tuple[Message, ...]:
    return tuple(Message("a", b"old", Position("e", offset)) for offset in offsets)


def test_a_late_history_meets_the_live_stream(make: Callable[..., LocalHub]) -> None:
    """
    The broker's messages come first, then those received meanwhile, each once.
    """
    broker = DelayedHistory()
    context = make(broker=broker)
    line = context.join("a", since=After(Position("e", 90)))
    assert broker.subscribed == ["a"]
    [(channels, since, answer)] = broker.queries
    assert (channels, since) == (["a"], After(Position("e", 90)))
    broker.bring(b"101")
    context.turn()
    broker.bring(b"102")
    assert line.read() == b""

    answer.callback(Replay(old(95, 101), True, Position("e", 101)))
    context.turn()
    broker.bring(b"103")
    context.turn()

    assert [number for number, _ in events(line.read())] == [95, 101, 102, 103]


def test_a_late_history_may_fail(
    make: Callable[..., LocalHub], clean_reactor: list[Failure]
) -> None:
    """
    The subscriber receives a gap, and stays connected.
    """
    broker = DelayedHistory()
    context = make(broker=broker)
    line = context.join("a", since=After(Position("e", 90)))

    broker.queries[0][2].errback(ZeroDivisionError())
    broker.bring(b"101")
    context.turn()

    got = line.read()
    assert b"event: gap\n" in got
    assert texts(got) == [b"101"]
    assert clean_reactor.pop().check(ZeroDivisionError)


def test_a_subscriber_may_leave_before_the_history_responds(make: Callable[..., LocalHub]) -> None:
    """
    No state of it is kept.
    """
    broker = DelayedHistory()
    context = make(broker=broker)
    context.join("a", since=After(Position("e", 90))).hang_up()

    broker.queries[0][2].callback(Replay(old(95), True, Position("e", 100)))

    assert context.hub.current_metrics().subscribers == 0
    assert context.hub.current_metrics().channels == {}


def test_a_new_log_is_a_gap_for_all_that_resume(make: Callable[..., LocalHub]) -> None:
    """
    The broker lost its log: old positions are unknown, new ones are complete.
    """
    broker = DelayedHistory()
    context = make(broker=broker)
    line = context.join("a")
    broker.bring(b"old")
    broker.offset = 0
    broker.bring(b"new", epoch="f")
    context.turn()
    assert b"data: old\n" in (got := line.read())
    assert got.endswith(b"data: new\nid: f.1\n\n")
    assert events(got) == [(101, b"old")]

    context.join("a", since=After(Position("e", 101)))
    [(_, _, answer)] = broker.queries
    answer.callback(Replay((), False, Position("f", 1)))
    assert b"event: gap\n" in context.lines[-1].read()
    assert b"gap" not in context.join("a", since=After(Position("f", 0))).read()


def test_the_hub_unsubscribes_from_idle_channels(make: Callable[..., LocalHub]) -> None:
    """
    The hub unsubscribes after the linger time, as a single subscriber may reconnect.
    """
    broker = DelayedHistory()
    context = make(broker=broker, limits=make_hub_limits(linger=10))
    context.join("a").hang_up()
    context.clock.pump([1.0] * 9)
    assert broker.subscribed == ["a"]

    context.clock.pump([1.0] * 5)

    assert broker.subscribed == []


CHANNELS = "abc"
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.sampled_from(CHANNELS), max_size=5)),
    st.tuples(
        st.just("join"), st.lists(st.sampled_from(CHANNELS), min_size=1, max_size=3, unique=True)
    ),
    st.tuples(st.just("cut"), st.integers(0, 9)),
    st.tuples(st.just("back"), st.integers(0, 9)),
    st.tuples(st.just("step"), st.integers(1, 4)),
    st.tuples(st.just("read"), st.integers(1, 5000)),
    st.tuples(st.just("wait"), st.integers(1, 3)),
)


class Client:
    """
    A subscriber that behaves like EventSource: it resumes from its last id.
    """

    def __init__(self, context: LocalHub, channels: list[str]) -> None:
        self._context = context
        self.channels = channels
        self.last: Position | None = None
        self.got: list[int] = []
        self.line: FakeTransport | None = None
        self.since = 0  # its first cursor: it misses nothing after it
        self._buffer = b""
        self.connect()

    def connect(self) -> None:
        if self.line is None:
            since = After(self.last) if self.last is not None else None
            self.line = self._context.join(*self.channels, since=since, buffer=2304)
            self._buffer = b""

    def read(self, most: int) -> None:
        if self.line is None:
            return
        self.line.pump()
        self._buffer += self.line.read(most)
        *blocks, self._buffer = self._buffer.split(b"\n\n")
        for block in blocks:
            fields = dict(line.partition(b": ")[::2] for line in block.split(b"\n"))
            assert fields.get(b"event") != b"gap"
            if b"data" in fields:
                self.got.append(int(fields[b"data"].rstrip(b"x")))
            if b"id" in fields and self.last is None:
                assert b"data" not in fields
                self.since = Position.parse(fields[b"id"].decode()).offset
            if b"id" in fields:
                self.last = Position.parse(fields[b"id"].decode())

    def cut(self) -> None:
        if self.line is not None:
            self.line.hang_up()
            self._context.lines.remove(self.line)
            self.line = None


@settings(max_examples=150)
@given(st.lists(STEPS, max_size=60), st.sampled_from([1, 2, 64]))
def test_nothing_lost_repeated_or_out_of_order(steps: list[tuple[str, Any]], chunk: int) -> None:
    """
    Every subscriber ends with exactly what its channels received since it first came,
    for any order of publishing, joining, cuts at any byte, slices of a flush, slow
    reading and heartbeats.
    """
    names = ("SLICE_SECONDS", "CHUNK_SIZE", "MERGE_SIZE")
    before = {name: getattr(fanout_module, name) for name in names}
    fanout_module.SLICE_SECONDS = -1.0
    fanout_module.CHUNK_SIZE = fanout_module.MERGE_SIZE = chunk
    context = LocalHub(
        retention=make_retention(count=10_000, bytes=1 << 30), limits=make_hub_limits(heartbeat=2)
    )
    clients: list[Client] = []
    published: list[tuple[int, str]] = []
    try:
        for word, value in steps:
            if word == "publish":
                for channel in value:
                    published.append((len(published) + 1, channel))
                    context.publish((channel, b"%dxxxxxxxxx" % len(published) + b"x" * 300))
            elif word == "join":
                clients.append(Client(context, value))
            elif word == "cut" and clients:
                clients[value % len(clients)].cut()
            elif word == "back" and clients:
                clients[value % len(clients)].connect()
            elif word == "step":
                for _ in range(value):
                    context.step()
            elif word == "read":
                for client in clients:
                    client.read(value)
            elif word == "wait":
                context.clock.pump([1.0] * value)
        for client in clients:
            client.connect()
        for _ in range(20):
            context.turn()
            for client in clients:
                client.read(1 << 20)
        for client in clients:
            subscribed = [n for n, ch in published if ch in client.channels and n > client.since]
            assert client.got == subscribed
    finally:
        for name, value in before.items():
            setattr(fanout_module, name, value)
        for line in context.lines:
            line.close()


class Failing(MemoryBroker):
    """
    A broker that cannot subscribe.
    """

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        raise RuntimeError("no")


def test_a_failing_broker_keeps_no_subscriber(
    make: Callable[..., LocalHub],
) -> None:
    """
    The subscriber is dropped and may reconnect; it does not count any more.
    """
    context = make(broker=Failing(Clock(), "e"))
    with pytest.raises(RuntimeError):
        context.join("news")

    assert context.hub.subscribers == 0


def test_a_position_of_the_next_flush_resumes_after_it(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber that resumes from an undelivered position gets what follows it, once.
    """
    context = make()
    context.join("news")
    context.publish(("news", b"1"), ("news", b"2"))
    line = context.join("news", since=After(Position("e", 1)))
    context.turn()
    context.turn()

    assert texts(line.read()) == [b"2"]


def test_every_subscriber_gets_heartbeats(make: Callable[..., LocalHub]) -> None:
    """
    Subscribers of the first bucket can be added to channels like all others.
    """
    context = make(limits=make_hub_limits(heartbeat=2))
    for _ in range(4):
        line = context.join("a")
        [subscriber] = [one for one in context.hub._heartbeats if one.transport is line]
        context.hub.add_channels(subscriber, ["b"])
    context.publish(("b", b"1"))
    context.turn()

    assert [texts(line.read()) for line in context.lines] == [[b"1"]] * 4


def test_a_subscriber_that_left_is_subtracted_once(make: Callable[..., LocalHub]) -> None:
    """
    The limit of its address holds after some have left, too.
    """
    context = make(limits=make_hub_limits(subscribers_per_address=3))
    lines = [context.join("a", address="h") for _ in range(3)]
    [subscriber] = [one for one in context.hub._heartbeats if one.transport is lines[0]]
    subscriber.drop(DisconnectReason.LOST)
    context.hub.admit("h")
    context.join("a", address="h")

    with pytest.raises(HttpError) as caught:
        context.hub.admit("h")
    assert caught.value.status == 429


def test_a_stopping_hub_suggests_a_short_retry(make: Callable[..., LocalHub]) -> None:
    """
    Clients retry in two to four seconds, when the next daemon is up.
    """
    context = make()
    context.hub.stop(1000)
    for _ in range(20):
        with pytest.raises(HttpError) as caught:
            context.hub.admit("")
        assert caught.value.status == 503
        assert 2 <= caught.value.retry <= 4


def test_a_smaller_retention_applies_at_once(make: Callable[..., LocalHub]) -> None:
    """
    After a reload no more is replayed than is now retained.
    """
    context = make()
    context.publish(*[("news", b"%d" % number) for number in range(5)])
    context.hub.reconfigure(make_retention(count=2), make_hub_limits())

    assert texts(context.join("news", since=Newest(9)).read()) == [b"3", b"4"]


def test_the_other_channels_are_counted_without_the_shown_ones(
    make: Callable[..., LocalHub],
) -> None:
    """
    The counts of shown and other channels add up to those of all.
    """
    context = make()
    context.join("big")
    context.publish(("big", b"1"), ("big", b"2"), ("small", b"3"))
    context.turn()
    shown, others = context.hub.statistics.busiest(1)

    assert [(one.name, one.messages) for one in shown] == [("big", 2)]
    assert (others.messages, others.channels) == (1, 1)


def test_the_time_of_the_fan_out_is_observed(make: Callable[..., LocalHub]) -> None:
    """
    The histogram gets one observation for each flush that reached a subscriber.
    """
    context = make()
    context.join("news")
    before = sum(context.hub.metrics.fanout.buckets)
    context.publish(("news", b"1"))
    context.turn()
    context.turn()

    assert sum(context.hub.metrics.fanout.buckets) == before + 1


def test_rates_are_known_within_the_first_second(make: Callable[..., LocalHub]) -> None:
    """
    The start is the first sample.
    """
    context = make()
    context.publish(("a", b"1"), ("a", b"2"))
    context.clock.advance(0.5)

    assert context.hub.current_metrics().rates[10]["published"] == 4
