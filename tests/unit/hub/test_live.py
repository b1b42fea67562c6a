"""
Live streams in the hub: where viewers begin, how slow ones go on, and what is retained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, capturedLogs, formatEvent, globalLogPublisher
from zope.interface import implementer, provider

from rt_twisted.brokers.interfaces import IBroker, IHistory
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.sse import EventStream
from rt_twisted.hub import fanout as fanout_module
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.interfaces import IFormat, ISyncFormat
from rt_twisted.model.message import (
    Draft,
    Mark,
    Message,
    Newest,
    Position,
    PublishResult,
    Replay,
    Since,
    Sync,
)
from tests.defaults import make_backlog_limits, make_hub, make_hub_limits, make_retention
from tests.fakes import FakeTransport

HEAD, UNIT, END = "unit/h", "unit/k 1", "unit/e"


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class Frames:
    """
    Writes heads as `H`, units as they are, and shows where a stream begins and goes on.
    """

    resumed_from: bytes = b""

    content_type = "video/test"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        assert replay.messages[0].mark is Mark.HEAD
        return [b"<", *replay.messages]

    def encode(self, message: Message) -> bytes:
        return {Mark.HEAD: b"H", Mark.END: b""}.get(message.mark, message.data + b" ")

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b">"

    def is_resync_point(self, message: Message) -> bool:
        return message.mark is Mark.HEAD

    def must_restart(self, message: Message) -> bool:
        return message.mark is Mark.HEAD and message.data == b"other codec"

    def resumed(self, last: Message | None, first: Message) -> IFormat:
        return Frames(last.data if last is not None else b"nothing")


class LiveHub:
    """
    A hub on a clock, and viewers on socket pairs.
    """

    def __init__(self, broker: Any = None, **hub: Any) -> None:
        self.clock = Clock()
        self.broker = broker or MemoryBroker(self.clock, "e")
        self.hub = make_hub(self.broker, self.clock, **hub)
        self.hub.start()
        self.lines: list[FakeTransport] = []
        self.viewers: list[Subscriber] = []

    def join(
        self,
        since: Since | None = None,
        format: IFormat | None = None,
        backlog_limits: BacklogLimits | None = None,
    ) -> FakeTransport:
        """
        Join a viewer of the channel `cam`; without *since* at the newest head.
        """
        line = FakeTransport()
        self.lines.append(line)
        limits = backlog_limits or make_backlog_limits(policy=SlowConsumerPolicy.SYNC)
        viewer = Subscriber(line, format or Frames(), self.hub, limits)
        self.viewers.append(viewer)
        self.hub.join(viewer, ["cam"], since or Sync(), b"[200]")
        return line

    def publish(self, *messages: tuple[str, bytes] | bytes) -> None:
        """
        Publish messages to `cam` in one turn: units as bytes, others with their event type.
        """
        pairs = [(UNIT, each) if isinstance(each, bytes) else each for each in messages]
        self.hub.publish([Draft("cam", data, event, transient=True) for event, data in pairs])

    def turn(self) -> None:
        self.clock.advance(0)

    def send(self, *messages: tuple[str, bytes] | bytes) -> None:
        self.publish(*messages)
        self.turn()

    def step(self) -> None:
        """
        Run what is due now; what that schedules for at once waits for the next step.
        """
        due = [call for call in self.clock.calls if call.getTime() <= self.clock.seconds()]
        for call in due:
            self.clock.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


H = (HEAD, b"head")
E = (END, b"")


@pytest.fixture
def make() -> Iterator[Callable[..., LiveHub]]:
    """
    Build hubs, and close their connections after the test.
    """
    hubs: list[LiveHub] = []

    def build(**arguments: Any) -> LiveHub:
        hubs.append(LiveHub(**arguments))
        return hubs[-1]

    yield build
    for context in hubs:
        for line in context.lines:
            line.close()


def small(bytes: int = 20_000) -> BacklogLimits:
    return make_backlog_limits(bytes=bytes, policy=SlowConsumerPolicy.SYNC)


# Where viewers begin.


def test_a_late_viewer_begins_at_the_newest_head(make: Callable[..., LiveHub]) -> None:
    """
    The viewer is sent the newest group and then the live stream.
    """
    context = make()
    context.send(H, b"1", b"2", H, b"3", b"4")

    line = context.join()
    context.send(b"5")

    assert line.read() == b"[200]<H3 4 5 "


def test_a_viewer_begins_at_a_head_that_is_old_enough(make: Callable[..., LiveHub]) -> None:
    """
    `Sync(seconds)` selects the newest head of at least that age, else the oldest one.
    """
    context = make()
    for name in (b"1", b"2", b"3"):
        context.send(H, name)
        context.clock.advance(2)

    assert context.join(Sync(3)).read() == b"[200]<H2 H3 "
    assert context.join(Sync(60)).read() == b"[200]<H1 H2 H3 "


def test_a_viewer_waits_for_the_first_head(make: Callable[..., LiveHub]) -> None:
    """
    The viewer is sent nothing of a group whose head it has missed.
    """
    context = make()
    line = context.join()
    assert line.read() == b"[200]"

    context.send(b"0")
    context.send(b"1", H, b"2")
    context.send(b"3")

    assert line.read() == b"<H2 3 "
    assert context.hub.subscribers_of("cam") == 1


def test_a_waiting_viewer_can_leave(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that leaves before the stream begins is forgotten.
    """
    context = make()
    line = context.join()

    line.hang_up()
    context.send(H, b"1")

    assert context.hub.subscribers_of("cam") == 0
    assert context.hub.subscribers == 0


def test_units_of_the_same_turn_are_delivered_once(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that joins between a publication and its flush gets each unit once.
    """
    context = make()
    first = context.join()
    context.send(H, b"1")

    context.publish(b"2")
    second = context.join()
    context.publish(b"3")
    context.turn()

    assert first.read() == b"[200]<H1 2 3 "
    assert second.read() == b"[200]<H1 2 3 "


def test_text_subscribers_receive_nothing_of_a_live_stream(make: Callable[..., LiveHub]) -> None:
    """
    A channel's event stream has its plain messages only, and no empty writes.
    """
    context = make()
    line = context.join(Newest(10), EventStream(), make_backlog_limits())
    line.read()
    before = context.hub.metrics.delivered

    context.send(H, b"1")
    assert context.hub.metrics.delivered == before
    context.hub.publish([Draft("cam", b"hello")])
    context.turn()

    assert line.read().startswith(b"data: hello\n")


@pytest.mark.parametrize(
    ("names", "format", "policy"),
    [
        (["a", "b"], Frames(), SlowConsumerPolicy.SKIP),
        (["a"], EventStream(), SlowConsumerPolicy.SKIP),
        (["a"], EventStream(), SlowConsumerPolicy.SYNC),
    ],
)
def test_sync_needs_one_channel_and_resync_points(
    make: Callable[..., LiveHub], names: list[str], format: IFormat, policy: SlowConsumerPolicy
) -> None:
    """
    The order of several live channels would have no meaning; a text format has no heads.
    """
    context = make()
    line = FakeTransport()
    context.lines.append(line)
    viewer = Subscriber(line, format, context.hub, make_backlog_limits(policy=policy))

    with pytest.raises(ValueError, match="one channel and a format with resync points"):
        context.hub.join(viewer, names, Sync())

    assert context.hub.subscribers == 0


# Slow viewers.


def stall(context: LiveHub, line: FakeTransport) -> None:
    """
    Send units until the viewer at *line*, which does not read, is parked.
    """
    skips = context.hub.metrics.skips
    number = 0
    while context.hub.metrics.skips == skips:
        number += 1
        context.send(b"%d" % number + b"." * 4000)


def test_a_slow_viewer_goes_on_at_a_later_head(make: Callable[..., LiveHub]) -> None:
    """
    What was queued arrives whole; then follows a head, in a format that continues from the
    last unit that was queued. There is no second beginning.
    """
    context = make()
    line = context.join(backlog_limits=small())
    context.send(H)

    stall(context, line)
    got = line.read_all()
    context.send(b"missed")
    context.send(b"missed too", H, b"next")
    context.send(b"last")
    got += line.read_all()

    assert got.startswith(b"[200]<H1.")
    assert got.endswith(b". Hnext last ")
    assert b"missed" not in got
    assert got.count(b"<") == 1
    sent = [int(unit.rstrip(b".")) for unit in got[7:].split()[:-2]]
    assert sent == list(range(1, len(sent) + 1))
    [viewer] = context.viewers
    assert viewer.format == Frames(b"%d" % sent[-1] + b"." * 4000)
    assert context.hub.metrics.closed.total() == 0


def test_a_slow_viewer_is_named_in_the_log(make: Callable[..., LiveHub]) -> None:
    """
    One line has its address, its channel and what was done, among many viewers, once.
    """
    context = make()
    lines = [context.join(backlog_limits=small()) for _ in range(20)]
    lines[0].peer = IPv4Address("TCP", "10.0.0.8", 4711)
    context.send(H)
    with capturedLogs() as captured:
        for number in range(20):
            context.send(H, b"%d" % number + b"." * 4000)
            for line in lines[1:]:
                line.read_all()

    assert [formatEvent(event) for event in captured] == [
        "a viewer of cam is too slow and skips to later keyframes (10.0.0.8)"
    ]


def test_a_stalled_viewer_stays_parked_until_it_reads(make: Callable[..., LiveHub]) -> None:
    """
    Heads go by while more than half of the backlog is left: nothing more is queued.
    """
    context = make()
    line = context.join(backlog_limits=small())
    context.send(H)
    stall(context, line)
    [viewer] = context.viewers
    queued = viewer.backlog_bytes

    for _ in range(10):
        context.send(H, b"x" * 4000)
        context.clock.advance(20)

    assert viewer.backlog_bytes == queued
    assert context.hub.metrics.skips == 1
    got = line.read_all()
    context.send(H, b"now")
    assert (got + line.read_all()).endswith(b". Hnow ")


def test_a_burst_does_not_count_against_the_bound(make: Callable[..., LiveHub]) -> None:
    """
    A viewer is not parked because the group that it begins with is larger than its bound.
    """
    context = make()
    context.send(H, *[b"%02d" % number + b"." * 4000 for number in range(50)])

    line = context.join(backlog_limits=small(8000))
    context.send(b"next")

    assert context.hub.metrics.skips == 0
    assert line.read_all().endswith(b". next ")


def test_viewers_with_the_same_skip_share_a_format(make: Callable[..., LiveHub]) -> None:
    """
    Equal shifts of the timeline are one group of subscribers again.
    """
    context = make()
    lines = [context.join(backlog_limits=small()) for _ in range(3)]
    context.send(H)
    stall(context, lines[0])
    for line in lines:
        line.read_all()

    context.send(H, b"next")

    assert len({viewer.format for viewer in context.viewers}) == 1
    assert [line.read_all() for line in lines] == [b"Hnext "] * 3


def test_a_slow_viewer_costs_the_others_nothing(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that reads gets every unit.
    """
    context = make()
    slow = context.join(backlog_limits=small())
    fast = context.join(backlog_limits=small())
    context.send(H)
    got = b""
    for number in range(20):
        context.send(b"%d" % number + b"." * 4000)
        got += fast.read_all()

    assert context.hub.metrics.skips == 1
    assert [unit.rstrip(b".") for unit in got[7:].split()] == [b"%d" % n for n in range(20)]
    assert not slow.aborted


def test_a_parked_viewer_can_leave(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that leaves while it is parked is forgotten.
    """
    context = make()
    line = context.join(backlog_limits=small())
    context.send(H)
    stall(context, line)

    line.hang_up()
    context.send(H, b"1")

    assert context.hub.subscribers_of("cam") == 0
    assert context.hub.current_metrics().behind == 0


def test_flushes_that_were_taken_before_do_not_reach_a_parked_viewer(
    make: Callable[..., LiveHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A flush may be taken while an earlier one, which parks a viewer, is in progress.
    """
    monkeypatch.setattr(fanout_module, "CHUNK_SIZE", 1)
    monkeypatch.setattr(fanout_module, "SLICE_SECONDS", -1.0)
    context = make()
    lines = [context.join(backlog_limits=small()) for _ in range(2)]
    context.send(H)
    for number in range(1, 9):
        context.publish(b"%d" % number + b"." * 4000)
        context.hub._fanout.start_flush()
    context.publish(H, b"next")
    for _ in range(60):
        context.step()

    outputs = []
    for line in lines:
        outputs.append(line.read_all())
    context.send(H, b"last")
    for _ in range(20):
        context.step()

    for line, output in zip(lines, outputs, strict=True):
        output += line.read_all()
        names = [unit.strip(b".").lstrip(b"H") for unit in output[7:].split()]
        numbers = [int(name) for name in names if name.isdigit()]
        assert numbers == list(range(1, len(numbers) + 1))
        assert names[len(numbers) :] in ([b"last"], [b"next", b"last"])


# Gaps and ends.


def test_a_gap_parks_the_viewers(make: Callable[..., LiveHub]) -> None:
    """
    After missed messages viewers go on at the next head; other formats are sent a gap.
    """
    context = make()
    line = context.join()
    text = context.join(Newest(1), EventStream(), make_backlog_limits())
    context.send(H, b"1")
    line.read(), text.read()

    context.hub.missed("cam", Position("e", 10))
    context.hub.receive(Message("cam", b"2", Position("e", 11), UNIT))
    context.turn()
    assert line.read() == b""
    context.hub.receive(Message("cam", b"", Position("e", 12), HEAD))
    context.hub.receive(Message("cam", b"3", Position("e", 13), UNIT))
    context.turn()

    assert line.read() == b"H3 "
    assert context.viewers[0].format == Frames(b"1")
    assert b"event: gap\n" in text.read()


def test_a_new_epoch_parks_the_viewers(make: Callable[..., LiveHub]) -> None:
    """
    A broker that has lost its log is handled as a gap, and nothing old is replayed.
    """
    context = make()
    line = context.join()
    context.send(H, b"1")
    line.read()

    context.hub.receive(Message("cam", b"2", Position("f", 5), UNIT))
    context.turn()
    late = context.join()
    context.hub.receive(Message("cam", b"", Position("f", 6), HEAD))
    context.turn()

    assert line.read() == b"H"
    assert late.read() == b"[200]<H"


def test_a_viewer_does_not_begin_before_a_gap(make: Callable[..., LiveHub]) -> None:
    """
    What precedes missed messages is not joined with what follows.
    """
    context = make()
    context.send(H, b"1")
    context.hub.missed("cam", Position("e", 10))
    context.hub.receive(Message("cam", b"2", Position("e", 11), UNIT))
    context.turn()

    assert context.join().read() == b"[200]"


def test_an_end_ends_the_viewers(make: Callable[..., LiveHub]) -> None:
    """
    All that precedes the end is sent; an event stream of the channel goes on.
    """
    context = make()
    line = context.join()
    text = context.join(Newest(1), EventStream(), make_backlog_limits())
    context.send(H, b"1")

    context.send(b"2", E, b"after")

    assert line.read() == b"[200]<H1 2 >"
    assert line.closed
    assert not text.closed
    assert context.hub.subscribers_of("cam") == 1
    assert context.hub.metrics.closed["ended"] == 1


def test_a_slow_viewer_receives_what_precedes_the_end(make: Callable[..., LiveHub]) -> None:
    """
    The backlog is sent before the connection is closed, parked or not.
    """
    context = make()
    parked = context.join(backlog_limits=small())
    behind = context.join(backlog_limits=small(1 << 20))
    context.send(H)
    stall(context, parked)

    context.send(E)

    for line in (parked, behind):
        assert not line.closed
        assert line.read_all().endswith(b". >")
        assert line.closed
    assert context.hub.subscribers == 0


def test_a_waiting_viewer_survives_the_end(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that was sent nothing yet waits for the next publisher.
    """
    context = make()
    line = context.join()

    context.send(E)
    context.send(H, b"1")

    assert line.read() == b"[200]<H1 "


def test_nothing_is_replayed_after_the_end(make: Callable[..., LiveHub]) -> None:
    """
    A viewer that joins later waits for a new publisher.
    """
    context = make()
    context.send(H, b"1", E)

    line = context.join()
    context.send(H, b"new")

    assert line.read() == b"[200]<Hnew "


def test_another_codec_ends_streams_that_have_begun(make: Callable[..., LiveHub]) -> None:
    """
    Viewers may connect again and begin at the new head.
    """
    context = make()
    line = context.join()
    context.send(H, b"1")

    context.send(b"2", (HEAD, b"other codec"), b"3")

    assert line.read() == b"[200]<H1 2 >"
    assert context.join().read() == b"[200]<H3 "


# Retention.


def retained(context: LiveHub) -> bytes:
    return context.join(Sync(1e9)).read_all().removeprefix(b"[200]")


def test_whole_groups_are_retained(make: Callable[..., LiveHub]) -> None:
    """
    The settings of text channels do not apply; the oldest group goes first.
    """
    context = make(retention=make_retention(count=1, age=1.0, live_bytes=10_000))
    for name in (b"1", b"2", b"3"):
        context.send(H, *[name + b"." * 999] * 3)
    context.clock.advance(5)

    assert [unit.rstrip(b".") for unit in retained(context).split()] == [
        b"<H2",
        b"2",
        b"2",
        b"H3",
        b"3",
        b"3",
    ]
    assert 0 < context.hub.current_metrics().live_bytes <= 10_000
    assert context.hub.current_metrics().history_bytes == 0


def test_groups_are_retained_for_some_seconds(make: Callable[..., LiveHub]) -> None:
    """
    A group that began too long ago is dropped as a whole.
    """
    context = make(retention=make_retention(live_seconds=5.0))
    for name in (b"1", b"2", b"3"):
        context.send(H, name)
        context.clock.advance(2)

    assert retained(context) == b"<H2 H3 "


def test_a_group_over_a_bound_cannot_be_joined(
    make: Callable[..., LiveHub],
) -> None:
    """
    New viewers wait for the next keyframe; the log names the interval, once.
    """
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: dict[str, Any]) -> None:
        if "log_format" in event and "keyframe interval" in event["log_format"]:
            lines.append(event["log_format"].format(**event))

    context = make(retention=make_retention(live_seconds=5.0))
    globalLogPublisher.addObserver(observe)
    try:
        for _ in range(3):
            context.send(H)
            for number in range(8):
                context.send(b"%d" % number)
                context.clock.advance(1)
        assert retained(context) == b""
        context.send(H, b"new")
    finally:
        globalLogPublisher.removeObserver(observe)

    assert retained(context) == b"<Hnew "
    [line] = lines
    assert "channel cam: its keyframe interval of 8.0 seconds" in line


def test_viewers_within_a_dropped_group_go_on(make: Callable[..., LiveHub]) -> None:
    """
    Only those who join are affected by the bounds.
    """
    context = make(retention=make_retention(live_bytes=3000))
    line = context.join()
    context.send(H)
    for number in range(5):
        context.send(b"%d" % number + b"." * 999)

    assert [unit.rstrip(b".") for unit in line.read_all()[7:].split()] == [
        b"0",
        b"1",
        b"2",
        b"3",
        b"4",
    ]
    assert context.hub.current_metrics().live_bytes == 0


def test_all_streams_share_a_bound_of_their_own(make: Callable[..., LiveHub]) -> None:
    """
    Cameras lose their oldest groups, and never push out the history of text channels.
    """
    context = make(limits=make_hub_limits(live_memory=30_000, history_bytes=10_000))
    context.hub.publish([Draft("news", b"text")])
    for _ in range(4):
        for camera in range(4):
            drafts = [
                Draft(f"cam{camera}", data, event) for event, data in (H, (UNIT, b"." * 2000))
            ]
            context.hub.publish(drafts)
            assert context.hub.current_metrics().live_bytes <= 30_000
    context.turn()

    heads = [
        sum(message.mark is Mark.HEAD for _, message in channel.history.newest_first())
        for channel in context.hub._channels
        if channel.name != "news"
    ]
    assert min(heads) >= 2
    assert context.hub.current_metrics().history_bytes > 0


def test_the_memory_of_a_stream_is_given_back(make: Callable[..., LiveHub]) -> None:
    """
    After its end, or when nobody publishes any more, nothing is retained.
    """
    context = make(limits=make_hub_limits(linger=1.0))
    context.send(H, b"1" * 1000)
    assert context.hub.current_metrics().live_bytes > 1000

    context.send(E)
    assert context.hub.current_metrics().live_bytes == 0
    context.send(H, b"1" * 1000)
    context.clock.pump([1.0] * 100)

    assert context.hub.current_metrics().live_bytes == 0
    assert list(context.hub._channels) == []


def test_bounds_can_be_reloaded(make: Callable[..., LiveHub]) -> None:
    """
    Other bounds apply from the next message on.
    """
    context = make()
    for name in (b"1", b"2", b"3"):
        context.send(H, name)

    context.hub.reconfigure(make_retention(live_bytes=1200), make_hub_limits())
    context.send(b"4")

    assert retained(context) == b"<H3 4 "


# A broker with a history.


@implementer(IBroker, IHistory)
class StoringBroker:
    """
    A broker that stores what this node has not received.
    """

    def __init__(self) -> None:
        self.requests: list[tuple[tuple[str, ...], Since, Deferred[Replay]]] = []

    def attach(self, receiver: Any) -> None:
        pass

    def position(self) -> Position:
        return Position("e", 10)

    def subscribe(self, channel: str) -> Deferred[Position]:
        done: Deferred[Position] = Deferred()
        done.callback(Position("e", 10))
        return done

    def unsubscribe(self, channel: str) -> None:
        pass

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        raise NotImplementedError

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        done: Deferred[Replay] = Deferred()
        self.requests.append((tuple(channels), since, done))
        return done


def stored(*messages: tuple[str, bytes]) -> tuple[Message, ...]:
    first = 11 - len(messages)
    return tuple(
        [
            Message("cam", data, Position("e", first + index), event)
            for index, (event, data) in enumerate(messages)
        ]
    )


def test_a_viewer_on_another_node_begins_with_the_brokers_history(
    make: Callable[..., LiveHub],
) -> None:
    """
    What the broker stores is cut at the newest head; what arrives meanwhile follows.
    """
    broker = StoringBroker()
    context = make(broker=broker)
    line = context.join()
    [(names, since, done)] = broker.requests
    assert (names, since) == (("cam",), Newest(4096))

    context.hub.receive(Message("cam", b"3", Position("e", 11), UNIT))
    done.callback(
        Replay(stored((UNIT, b"0"), H, (UNIT, b"1"), H, (UNIT, b"2")), True, Position("e", 10))
    )
    context.turn()

    assert line.read() == b"[200]<H2 3 "


@pytest.mark.parametrize(
    ("messages", "complete"),
    [
        ((), True),
        (((UNIT, b"1"),), True),
        ((H, (UNIT, b"1"), E), True),
        ((H, (UNIT, b"1")), False),
    ],
)
def test_a_viewer_waits_if_the_broker_has_no_head(
    make: Callable[..., LiveHub], messages: tuple[tuple[str, bytes], ...], complete: bool
) -> None:
    """
    Nothing, no head, an end behind the head, or a gap somewhere: the next head is the
    beginning. The broker is not asked again by the next viewer.
    """
    broker = StoringBroker()
    context = make(broker=broker)
    line = context.join()
    broker.requests[0][2].callback(Replay(stored(*messages), complete, Position("e", 10)))
    second = context.join()

    context.hub.receive(Message("cam", b"2", Position("e", 11), UNIT))
    context.hub.receive(Message("cam", b"", Position("e", 12), HEAD))
    context.turn()

    assert line.read() == second.read() == b"[200]<H"
    assert len(broker.requests) == 1


def test_a_viewer_waits_while_the_brokers_history_fails(make: Callable[..., LiveHub]) -> None:
    """
    A broker that cannot answer costs a viewer the time to the next head, not the stream.
    """
    broker = StoringBroker()
    context = make(broker=broker)
    line = context.join()

    broker.requests[0][2].errback(Unavailable("down"))
    context.hub.receive(Message("cam", b"", Position("e", 11), HEAD))
    context.turn()

    assert line.read() == b"[200]<H"


# The node's own clock.


def test_a_node_ends_viewers_without_a_publisher(make: Callable[..., LiveHub]) -> None:
    """
    The publisher's node may have been killed: it announces no end.
    """
    context = make(limits=make_hub_limits(live_timeout=10.0, live_grace=10.0, linger=600.0))
    line = context.join()
    slow = context.join(backlog_limits=small())
    text = context.join(Newest(1), EventStream(), make_backlog_limits())
    context.send(H)
    stall(context, slow)
    line.read_all()

    context.clock.pump([1.0] * 20)
    assert not line.closed
    context.clock.advance(1)

    assert line.read() == b">"
    assert line.closed
    assert slow.read_all().endswith(b". >")
    assert not text.closed
    late = context.join()
    assert late.read() == b"[200]"
    context.send(H, b"again")
    assert late.read() == b"<Hagain "


def test_a_node_does_not_end_the_viewers_of_its_publisher(make: Callable[..., LiveHub]) -> None:
    """
    A route may have a longer timeout than the settings.
    """
    context = make(limits=make_hub_limits(live_timeout=10.0, live_grace=10.0))
    claim = context.hub.live.publishers.claim
    claimed = ensureDeferred(claim("cam", "run", False, timeout=60.0, grace=10.0))
    line = context.join()
    context.send(H, b"1")

    context.clock.pump([1.0] * 50)
    assert not line.closed
    context.clock.pump([1.0] * 21)

    assert claimed.called
    assert line.closed
