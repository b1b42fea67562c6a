"""
Catch-up: subscriptions that wait for the broker, and replays from its history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred, fail
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IBroker, IHistory, IReceiver
from rt_twisted.formats.sse import EventStream, RawEventStream
from rt_twisted.hub import catchup as catchup_module
from rt_twisted.hub import channel_table as table_module
from rt_twisted.hub import fanout as fanout_module
from rt_twisted.hub.catchup import SUBSCRIBE_SECONDS
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import (
    After,
    Draft,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
)
from tests.defaults import make_backlog_limits, make_hub_limits
from tests.fakes import FakeTransport
from tests.unit.hub.test_hub import LocalHub, events, make, texts

__all__ = ["make"]  # the fixture


@implementer(IBroker)
class ManualBroker:
    """
    A broker that does nothing before the test makes it.
    """

    def __init__(self) -> None:
        self.head = Position("e", 100)
        self.requested: dict[str, Deferred[Position]] = {}
        self.receiver: IReceiver

    def attach(self, receiver: IReceiver) -> None:
        self.receiver = receiver

    def position(self) -> Position:
        return self.head

    def subscribe(self, channel: str) -> Deferred[Position]:
        self.requested[channel] = Deferred()
        return self.requested[channel]

    def unsubscribe(self, channel: str) -> None:
        del self.requested[channel]

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        raise NotImplementedError

    def confirm(self, *channels: str) -> None:
        self.receiver.reached(self.head)
        for channel in channels:
            self.requested[channel].callback(self.head)

    def bring(self, channel: str, data: bytes) -> None:
        self.head = Position(self.head.epoch, self.head.offset + 1)
        self.receiver.receive(Message(channel, data, self.head))


@implementer(IHistory)
class ManualHistoryBroker(ManualBroker):
    """
    A manual broker that also has a history.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[tuple[list[str], Since, Deferred[Replay]]] = []

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        self.queries.append((list(channels), since, Deferred()))
        return self.queries[-1][2]


def old(channel: str, *offsets: int) -> tuple[Message, ...]:
    return tuple(Message(channel, b"old", Position("e", offset)) for offset in offsets)


def test_no_stream_starts_before_the_channel_is_subscribed(make: Callable[..., LocalHub]) -> None:
    """
    Otherwise a message right behind the first bytes of a stream would be lost.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    line = context.join("a")
    assert line.read() == b""

    broker.head = Position("e", 120)
    broker.confirm("a")
    broker.bring("a", b"1")
    context.turn()

    got = line.read()
    assert b"id: e.120\n" in got
    assert events(got) == [(121, b"1")]
    assert b"gap" not in got


def test_a_gap_reaches_to_where_the_subscription_begins(make: Callable[..., LocalHub]) -> None:
    """
    This holds within a flush that began before, too, if the history fails.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    other = context.join("a")
    broker.confirm("a")
    broker.bring("a", b"1")
    broker.head = Position("e", 103)  # 102 and 103 were of b
    line = context.join("b", since=After(Position("e", 99)))
    broker.confirm("b")
    [(_, _, answer)] = broker.queries
    broker.bring("b", b"2")
    answer.errback(Unavailable())
    context.turn()

    got = line.read()
    assert b'event: gap\ndata: {"position": "e.104"}\n' in got
    assert texts(got) == [b"2"]
    assert texts(other.read()) == [b"1"]


def test_the_newest_of_several_channels(make: Callable[..., LocalHub]) -> None:
    """
    Enough messages of one channel are not the newest of all while another channel is
    new: the broker's history is read.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    context.join("a")
    broker.confirm("a")
    broker.bring("a", b"1")
    context.turn()
    broker.head = Position("e", 103)  # 102 and 103 were of b
    line = context.join("a", "b", since=Newest(1))
    broker.confirm("b")
    [(names, since, answer)] = broker.queries
    assert (names, since) == (["a", "b"], Newest(1))
    answer.callback(Replay(old("b", 103), True, broker.head))
    assert events(line.read()) == [(103, b"old")]

    broker.bring("b", b"2")
    broker.bring("a", b"3")
    context.turn()
    again = context.join("a", "b", since=Newest(2))
    assert len(broker.queries) == 1
    assert texts(again.read()) == [b"2", b"3"]


def test_a_pending_subscriber_gets_heartbeats(make: Callable[..., LocalHub]) -> None:
    """
    The broker may be unavailable for long.
    """
    context = make(broker=ManualBroker(), limits=make_hub_limits(heartbeat=5, linger=10))
    line = context.join("a")

    context.clock.pump([1] * 60)

    assert context.hub.current_metrics().joining == 1
    assert line.read().count(b":\n") >= 10
    assert context.hub.current_metrics().subscribers == 1


def test_a_pending_subscriber_keeps_its_channel(make: Callable[..., LocalHub]) -> None:
    """
    The subscription outlasts the linger time, until the pending subscriber leaves.
    """
    broker = ManualBroker()
    context = make(broker=broker, limits=make_hub_limits(linger=10))
    stays, goes = context.join("a"), context.join("b")
    context.clock.pump([1] * 70)
    assert list(broker.requested) == ["a", "b"]

    goes.hang_up()
    context.clock.pump([1] * 130)

    assert list(broker.requested) == ["a"]
    broker.confirm("a")
    broker.bring("a", b"1")
    context.turn()
    assert texts(stays.read()) == [b"1"]


def test_a_channel_has_nothing_before_its_subscription(make: Callable[..., LocalHub]) -> None:
    """
    What the hub did not receive is a gap, or in the broker's history.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    broker.bring("a", b"by chance")  # the hub has not subscribed to it
    line = context.join("a", since=After(Position("e", 100)))
    broker.bring("a", b"not heard yet")
    broker.confirm("a")

    assert b"event: gap\n" in line.read()


def test_the_history_is_read_once_all_are_subscribed(
    make: Callable[..., LocalHub],
) -> None:
    """
    Earlier, it could not have what is published in between.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    line = context.join("a", "b", since=After(Position("e", 90)))
    broker.confirm("a")
    assert broker.queries == []
    broker.bring("a", b"101")
    broker.confirm("b")
    [(names, _, answer)] = broker.queries
    assert names == ["a", "b"]
    broker.bring("b", b"102")

    answer.callback(
        Replay((*old("a", 95), *old("b", 99), *old("a", 101)), True, Position("e", 101))
    )
    broker.bring("a", b"103")
    context.turn()

    assert [number for number, _ in events(line.read())] == [95, 99, 101, 102, 103]


def test_an_unavailable_history_is_a_gap(make: Callable[..., LocalHub]) -> None:
    """
    The subscriber gets a gap and what the node retains; it is not logged as an error.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    line = context.join("a", since=After(Position("e", 90)))
    broker.confirm("a")
    broker.bring("a", b"101")

    broker.queries[0][2].errback(Unavailable("away"))
    context.turn()

    got = line.read()
    assert b"event: gap\n" in got
    assert texts(got) == [b"101"]


def test_a_pending_subscriber_that_leaves_is_forgotten(make: Callable[..., LocalHub]) -> None:
    """
    The hub forgets a subscriber that leaves while it waits for the subscription or for the history.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    first, second = (context.join("a", since=Newest(5)) for _ in range(2))
    first.hang_up()
    broker.confirm("a")
    [(_, _, answer)] = broker.queries
    second.hang_up()
    answer.callback(Replay((), True, Position("e", 100)))

    assert context.hub.current_metrics().subscribers == 0
    assert context.hub._catchup.pending_subscriptions == {}
    assert not next(iter(context.hub._channels)).pending_subscriptions


def test_missed_messages_are_a_gap_for_live_subscribers(make: Callable[..., LocalHub]) -> None:
    """
    The gap comes between earlier and later messages, of that channel only. A subscriber
    that resumes from behind it receives nothing twice.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    a, b, both = context.join("a"), context.join("b"), context.join("a", "b")
    broker.confirm("a", "b")
    broker.bring("a", b"1")
    before = broker.head
    broker.head = hole = Position("e", 110)
    broker.receiver.missed("a", hole)
    broker.bring("a", b"2")
    broker.bring("b", b"3")
    context.turn()

    for line, expected in ((a, [b"1", b"2"]), (both, [b"1", b"2", b"3"])):
        got = line.read()
        assert texts(got) == expected
        first, _, second = got.partition(b"event: gap\n")
        assert texts(first) == [b"1"]
        assert b"id: e.110\n" in second
    assert b"gap" not in b.read()
    assert context.hub.current_metrics().gaps == 2

    got = context.join("a", since=After(before)).read()
    assert b"event: gap\n" in got
    assert texts(got) == [b"2"]
    assert b"gap" not in context.join("a", since=After(hole)).read()
    assert b"gap" not in context.join("b", since=After(before)).read()


def test_a_later_subscriber_gets_no_gap_for_missed_messages(make: Callable[..., LocalHub]) -> None:
    """
    Only subscribers that were connected receive it.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    there = context.join("a")
    broker.confirm("a")
    broker.receiver.missed("a", Position("e", 110))
    line = context.join("a")
    context.turn()

    assert b"gap" in there.read()
    assert b"gap" not in line.read()


def test_many_missed_channels_are_one_gap(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber of a hundred channels receives one gap.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    names = [f"c{number}" for number in range(100)]
    line = context.join(*names)
    broker.confirm(*names)
    line.read()
    for name in names:
        broker.receiver.missed(name, Position("e", 110))
    context.turn()

    assert line.read().count(b"event: gap\n") == 1


def test_a_new_log_is_a_gap_at_once(make: Callable[..., LocalHub]) -> None:
    """
    The gap does not wait for the first message of the new log, and is not repeated then.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    line = context.join("a")
    broker.confirm("a")
    broker.bring("a", b"last")
    broker.head = Position("f", 7)
    broker.receiver.reached(broker.head)
    context.turn()

    got = line.read()
    assert texts(got) == [b"last"]
    assert got.index(b"last") < got.index(b"event: gap\n") < got.index(b"id: f.7\n")
    broker.bring("a", b"new")
    context.turn()
    assert line.read() == b"data: new\nid: f.8\n\n"
    assert b"gap" not in context.join("a", since=After(Position("f", 7))).read()


def test_a_cursor_moves_without_messages(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber of a quiet channel does not stay behind a busy log.
    """
    broker = ManualBroker()
    context = make(broker=broker, limits=make_hub_limits(heartbeat=1))
    line = context.join("a")
    broker.confirm("a")
    line.read()

    broker.receiver.reached(Position("e", 500))
    context.clock.advance(1)

    assert line.read() == b"id: e.500\n\n"


# More and fewer channels.


def reader_of(context: LocalHub, line: Any) -> Any:
    return line.protocol


def test_a_subscriber_may_have_no_channel(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber without channels is counted, and gets heartbeats.
    """
    context = make(limits=make_hub_limits(heartbeat=1))
    line = context.join()
    line.read()
    context.clock.advance(1)

    assert line.read() == b":\n"
    assert context.hub.current_metrics().subscribers == 1


def test_channels_can_be_added_and_removed(make: Callable[..., LocalHub]) -> None:
    """
    Each is added with its own replay; a removed one is not received any more.
    """
    context = make()
    line = context.join()
    subscriber = reader_of(context, line)
    context.publish(("a", b"a1"), ("b", b"b1"))
    line.read()

    context.hub.add_channels(subscriber, ["a"], Newest(10), b"hello ")
    got = line.read()
    assert got.startswith(b"hello ")
    assert texts(got) == [b"a1"]
    context.hub.add_channels(subscriber, ["b", "a"])
    assert texts(line.read()) == []
    context.publish(("b", b"b2"), ("a", b"a2"), ("b", b"b3"))
    context.turn()
    assert texts(line.read()) == [b"b2", b"a2", b"b3"]

    context.hub.remove_channels(subscriber, ["b"])
    context.publish(("b", b"b4"), ("a", b"a3"))
    context.turn()
    assert texts(line.read()) == [b"a3"]
    context.hub.remove_channels(subscriber, ["a", "unknown"])
    context.publish(("a", b"a4"))
    context.turn()
    assert line.read() == b""
    assert context.hub.current_metrics().channels == {}
    line.hang_up()
    assert context.hub.current_metrics().subscribers == 0


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.booleans(), st.sets(st.sampled_from("abcd"), min_size=1)), max_size=20)
)
def test_any_sequence_of_additions_and_removals(steps: list[tuple[bool, set[str]]]) -> None:
    """
    Messages of the current channels arrive in order and once, and the counts are right.
    """
    context = LocalHub()
    line, other = context.join(), context.join("a", "b")
    picked: set[str] = set()
    try:
        for adds, names in steps:
            (context.hub.add_channels if adds else context.hub.remove_channels)(
                reader_of(context, line), sorted(names)
            )
            picked = picked | names if adds else picked - names
            for each in (line, other):
                each.read()
            context.publish(*[(name, name.encode()) for name in "dabc"])
            context.turn()
            assert texts(line.read()) == [name.encode() for name in "dabc" if name in picked]
            assert texts(other.read()) == [b"a", b"b"]
            counted = {name: (name in picked) + (name in "ab") for name in "abcd"}
            counts = context.hub.current_metrics().channels
            assert counts == {name: count for name, count in counted.items() if count}
    finally:
        for each in context.lines:
            each.close()


def test_a_channel_added_during_a_flush_waits_for_its_end(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Its replay would move the cursor beyond what the flush still has for the subscriber.
    """
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1.0)
    monkeypatch.setattr(fanout_module, "CHUNK_SIZE", 1)
    context = make()
    lines = [context.join("a") for _ in range(3)]
    context.publish(("a", b"1"))
    context.step()  # the first of them is written
    context.publish(("b", b"2"))
    for line in lines:
        context.hub.add_channels(reader_of(context, line), ["b"], Newest(10))
    for _ in range(8):
        context.step()
    context.publish(("a", b"3"), ("b", b"4"))
    context.turn()

    for line in lines:
        assert texts(line.read()) == [b"1", b"2", b"3", b"4"]


def test_a_subscriber_that_left_cannot_be_added(make: Callable[..., LocalHub]) -> None:
    """
    A session may request channels a moment after its subscriber left: no state may be
    kept that would never be removed.
    """
    context = make(limits=make_hub_limits(linger=1.0))
    line = context.join("a")
    subscriber = reader_of(context, line)
    subscriber.drop(DisconnectReason.LOST)

    context.hub.add_channels(subscriber, ["b"], Newest(10), b"hello ")
    assert context.hub.subscribers_of("b") == 0
    assert context.hub.subscribers == 0

    context.publish(("b", b"b1"))
    context.turn()
    assert subscriber.channels == ()


def test_added_channels_wait_for_subscription_and_history(make: Callable[..., LocalHub]) -> None:
    """
    The subscriber receives its other channels meanwhile; a repeated request changes
    nothing.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    line = context.join("a")
    broker.confirm("a")
    subscriber = reader_of(context, line)
    line.read()
    context.hub.add_channels(subscriber, ["b"], After(Position("e", 90)), b"b: ")
    context.hub.add_channels(subscriber, ["b"], After(Position("e", 90)))
    broker.bring("a", b"101")
    context.turn()
    assert texts(line.read()) == [b"101"]
    broker.confirm("b")
    [(_, _, answer)] = broker.queries
    broker.bring("b", b"102")
    context.turn()

    answer.callback(Replay(old("b", 95), True, Position("e", 101)))
    context.turn()

    got = line.read()
    assert b"b: " in got
    assert [number for number, _ in events(got)] == [95, 102]


def test_a_pending_channel_can_be_removed(make: Callable[..., LocalHub]) -> None:
    """
    A channel that is removed while pending is not received; another one of the same request is.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    line = context.join("a")
    broker.confirm("a")
    subscriber = reader_of(context, line)
    context.hub.add_channels(subscriber, ["b", "c"])
    broker.confirm("c")
    context.hub.remove_channels(subscriber, ["b"])
    broker.bring("c", b"heard")
    context.turn()
    assert texts(line.read()) == [b"heard"]
    broker.confirm("b")
    broker.bring("b", b"removed")
    context.turn()

    assert texts(line.read()) == []


def test_a_replay_of_a_removed_channel_is_not_sent(make: Callable[..., LocalHub]) -> None:
    """
    The history is read again for the rest.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    line = context.join()
    subscriber = reader_of(context, line)
    context.hub.add_channels(subscriber, ["a", "b"], After(Position("e", 90)))
    broker.confirm("a", "b")
    context.hub.remove_channels(subscriber, ["b"])
    (_, _, both), (names, _, rest) = broker.queries
    assert names == ["a"]
    line.read()

    both.callback(Replay((*old("a", 95), *old("b", 96)), True, Position("e", 100)))
    assert line.read() == b""
    rest.callback(Replay(old("a", 95), True, Position("e", 100)))

    assert [number for number, _ in events(line.read())] == [95]
    context.hub.add_channels(subscriber, ["c"], After(Position("e", 90)))
    context.hub.remove_channels(subscriber, ["c"])
    assert len(broker.queries) == 2
    assert context.hub._catchup.pending_subscriptions == {}


def test_a_broker_that_fails_to_subscribe_is_logged(
    make: Callable[..., LocalHub], clean_reactor: list[Any]
) -> None:
    """
    Its contract does not allow that: the operator sees it.
    """
    broker = ManualBroker()
    broker.subscribe = lambda channel: fail(ZeroDivisionError())  # type: ignore[method-assign]
    context = make(broker=broker)
    context.join("a")

    assert clean_reactor.pop().check(ZeroDivisionError)


def test_leaving_cancels_the_read_of_the_history(make: Callable[..., LocalHub]) -> None:
    """
    While a broker is unavailable, subscribers may come and go for hours.
    """
    broker = ManualHistoryBroker()
    context = make(broker=broker)
    line = context.join("a", since=After(Position("e", 90)))
    broker.confirm("a")
    [(_, _, queries)] = broker.queries

    line.hang_up()

    assert queries.called
    assert context.hub.current_metrics().joining == 0


@pytest.mark.parametrize("known", [True, False])
def test_added_channels_can_be_replayed_in_another_format(
    make: Callable[..., LocalHub], known: bool
) -> None:
    """
    The other format writes a replay that is sent at once; the subscriber keeps its own for
    live messages, and for a replay that waits for the broker.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    if known:
        context.join("a")
        broker.confirm("a")
    line = FakeTransport(1 << 20)
    context.lines.append(line)
    subscriber = Subscriber(line, EventStream(), context.hub, make_backlog_limits())
    context.hub.join(subscriber, (), None)
    line.read()

    context.hub.add_channels(subscriber, ["a"], None, b"", RawEventStream())
    if not known:
        broker.confirm("a")
    broker.bring("a", b"1")
    context.turn()

    got = line.read()
    assert (b"id: e.100\n" in got) is not known
    assert events(got) == [(101, b"1")]


def test_a_client_that_is_to_join_waits_for_the_broker(make: Callable[..., LocalHub]) -> None:
    """
    All channels have to be subscribed, and the client then joins at once.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    waiting = context.hub.when_subscribed(["a", "b"])
    assert waiting is not None
    broker.confirm("a")
    assert not waiting.called
    broker.confirm("b")
    assert waiting.called

    assert context.hub.when_subscribed(["a", "b"]) is None
    line = context.join("a", "b")
    assert b"id: e.100\n" in line.read()


def test_a_client_waits_a_second_for_the_broker(make: Callable[..., LocalHub]) -> None:
    """
    The client joins after that, and receives when the broker confirms. Nothing is kept of its wait.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    waiting = context.hub.when_subscribed(["a"])
    assert waiting is not None
    context.clock.advance(SUBSCRIBE_SECONDS)
    assert waiting.called

    line = context.join("a")
    broker.confirm("a")
    broker.bring("a", b"1")
    context.turn()
    assert texts(line.read()) == [b"1"]


def test_a_wait_for_the_broker_can_be_cancelled(make: Callable[..., LocalHub]) -> None:
    """
    Other clients that wait for the same channel still do.
    """
    broker = ManualBroker()
    context = make(broker=broker)
    leaving, staying = context.hub.when_subscribed(["a"]), context.hub.when_subscribed(["a"])
    assert leaving is not None
    assert staying is not None
    leaving.cancel()
    assert leaving.called
    assert not staying.called
    broker.confirm("a")
    assert staying.called


def test_a_channel_that_is_dropped_ends_the_wait_for_it(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The client joins then, and opens the channel anew.
    """
    monkeypatch.setattr(catchup_module, "SUBSCRIBE_SECONDS", 100.0)
    context = make(broker=ManualBroker(), limits=make_hub_limits(linger=1))
    waiting = context.hub.when_subscribed(["a"])
    assert waiting is not None
    context.clock.pump([1] * 5)
    assert waiting.called


def _leave_while_pending(context: LocalHub, name: str) -> None:
    context.join(name).hang_up()


def _leave_before_joining(context: LocalHub, name: str) -> None:
    waiting = context.hub.when_subscribed([name])
    assert waiting is not None
    waiting.cancel()


def _leave_when_confirmed(context: LocalHub, name: str) -> None:
    assert context.hub.when_subscribed([name]) is not None
    broker: Any = context.broker
    broker.confirm(name)


def _unsubscribe_while_pending(context: LocalHub, name: str) -> None:
    line = FakeTransport(1 << 20)
    context.lines.append(line)
    subscriber = Subscriber(line, EventStream(), context.hub, make_backlog_limits())
    context.hub.join(subscriber, (), None)
    context.hub.add_channels(subscriber, [name, "kept"])
    context.hub.remove_channels(subscriber, [name])


@pytest.mark.parametrize(
    "leave",
    [
        _leave_while_pending,
        _leave_before_joining,
        _leave_when_confirmed,
        _unsubscribe_while_pending,
    ],
)
def test_channels_of_clients_that_left_early_are_bounded(
    make: Callable[..., LocalHub],
    monkeypatch: pytest.MonkeyPatch,
    leave: Callable[[LocalHub, str], None],
) -> None:
    """
    Clients can invent names, and leave before the broker confirms them.
    """
    monkeypatch.setattr(table_module, "MAX_UNUSED", 5)
    broker = ManualBroker()
    context = make(broker=broker)
    for number in range(20):
        leave(context, f"invented-{number}")
    assert len([name for name in broker.requested if name != "kept"]) == 5


def test_channels_without_subscribers_are_bounded(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The embedded broker confirms at once; the client may have left nevertheless.
    """
    monkeypatch.setattr(table_module, "MAX_UNUSED", 5)
    context = make()
    for number in range(20):
        assert context.hub.when_subscribed([f"invented-{number}"]) is None
    assert len(list(context.hub._channels)) == 5
