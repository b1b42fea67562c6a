"""
Patterns of channels in the hub: each message once, in order, with replay and gap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IPatterns
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.hub import channel_table as table_module
from rt_twisted.hub import patterns as patterns_module
from rt_twisted.hub.subscriber import DisconnectReason
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import After, Newest, Position, Since, Within
from tests.defaults import make_hub_limits, make_retention
from tests.fakes import FakeTransport
from tests.unit.hub.test_catchup import ManualBroker
from tests.unit.hub.test_hub import LocalHub, events, make, texts

__all__ = ["make"]  # the fixture

NEWS = Wildcard.of("news.*")
ALL = Wildcard.of("*")


@implementer(IPatterns)
class ManualPatternBroker(ManualBroker):
    """
    A manual broker that carries patterns.
    """

    def check_pattern(self, pattern: Wildcard) -> None:
        pass


def published(context: LocalHub, *pairs: tuple[str, bytes]) -> None:
    context.publish(*pairs)
    context.turn()


def test_a_pattern_has_the_messages_of_matching_channels(make: Callable[..., LocalHub]) -> None:
    """
    They come in order, also of channels that nobody has named, and no others.
    """
    context = make()
    line = context.join(NEWS)

    published(context, ("news.a", b"1"), ("sport", b"2"), ("news.b", b"3"))
    published(context, ("news", b"4"), ("news.", b"5"), ("news.a", b"6"))

    assert events(line.read()) == [(1, b"1"), (3, b"3"), (5, b"5"), (6, b"6")]


def test_a_message_comes_once(make: Callable[..., LocalHub]) -> None:
    """
    Several patterns may match a channel that the subscriber has also named.
    """
    context = make()
    several = context.join("sport", NEWS, "news.a", Wildcard.of("*.a"))
    single = context.join("news.a")

    published(context, ("news.a", b"1"), ("x.a", b"2"), ("sport", b"3"), ("news.b", b"4"))
    published(context, ("news.a", b"5"))

    assert texts(several.read()) == [b"1", b"2", b"3", b"4", b"5"]
    assert texts(single.read()) == [b"1", b"5"]


def test_a_channel_of_that_name_is_no_pattern(make: Callable[..., LocalHub]) -> None:
    """
    A channel may be called like a pattern; its subscribers get its messages only.
    """
    context = make()
    channel = context.join("news.*")
    pattern = context.join(NEWS)

    published(context, ("news.a", b"1"), ("news.*", b"2"))

    assert texts(channel.read()) == [b"2"]
    assert texts(pattern.read()) == [b"1", b"2"]


def test_a_pattern_resumes(make: Callable[..., LocalHub]) -> None:
    """
    A subscriber continues after its position, over all matching channels.
    """
    context = make()
    for number in range(1, 9):
        context.publish((f"news.{number % 3}" if number % 4 else "sport", b"%d" % number))

    line = context.join(NEWS, since=After(Position("e", 2)))
    newest = context.join(NEWS, since=Newest(2))
    all_ = context.join(NEWS, "sport", since=Within(math.inf))
    published(context, ("news.9", b"9"))

    got = line.read()
    assert texts(got) == [b"3", b"5", b"6", b"7", b"9"]
    assert b"gap" not in got
    assert texts(newest.read()) == [b"6", b"7", b"9"]
    assert texts(all_.read()) == [b"%d" % number for number in range(1, 10)]


def test_a_gap_of_one_channel_is_one_of_the_pattern(make: Callable[..., LocalHub]) -> None:
    """
    A replay is incomplete where a matching channel has forgotten messages, only there.
    """
    context = make(retention=make_retention(count=2))
    for number in range(1, 6):
        context.publish(("news.a", b"%d" % number), ("sport", b"-"))

    behind = context.join(NEWS, since=After(Position("e", 3)))
    current = context.join(NEWS, since=After(Position("e", 5)))
    other = context.join("sport", since=After(Position("e", 7)))

    assert b"gap" in behind.read()
    got = current.read()
    assert b"gap" not in got
    assert texts(got) == [b"4", b"5"]
    assert b"gap" not in other.read()


def test_channels_that_are_dropped_leave_a_gap(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    That is so for channels without room, and for those beyond the bound of a pattern.
    """
    monkeypatch.setattr(patterns_module, "MAX_MATCHED", 3)
    context = make()
    context.join(NEWS)
    for number in range(1, 6):
        published(context, (f"news.{number}", b"%d" % number))

    assert b"gap" in context.join(NEWS, since=After(Position("e", 1))).read()
    whole = context.join(NEWS, since=After(Position("e", 2))).read()
    assert b"gap" not in whole
    assert texts(whole) == [b"3", b"4", b"5"]

    context = make(limits=make_hub_limits(history_bytes=4000))
    context.join(NEWS)
    for number in range(1, 9):
        published(context, (f"news.{number}", b"x" * 100))
    assert b"gap" in context.join(NEWS, since=After(Position("e", 1))).read()
    assert b"gap" not in context.join(NEWS, since=After(Position("e", 7))).read()


def test_a_new_pattern_finds_the_open_channels(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A pattern that nobody had before replays what channels have retained, up to its bound.
    """
    monkeypatch.setattr(patterns_module, "MAX_MATCHED", 2)
    context = make()
    published(context, *[(f"news.{number}", b"%d" % number) for number in range(1, 5)])

    whole = context.join(NEWS, since=After(Position("e", 2))).read()
    more = context.join(Wildcard.of("news*"), since=After(Position("e", 1))).read()

    assert b"gap" not in whole
    assert texts(whole) == texts(more) == [b"3", b"4"]
    assert b"gap" in more


def test_a_long_replay_has_no_holes(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    What is beyond the bound is a gap before the rest, and not within it.
    """
    monkeypatch.setattr(patterns_module, "MAX_REPLAYED", 10)
    context = make()
    published(context, *[(f"news.{number % 10}", b"%d" % number) for number in range(100)])

    got = context.join(NEWS, since=After(Position("e", 0))).read()

    assert b"gap" in got
    received = [number for number, _ in events(got)]
    assert received == list(range(received[0], 101))
    assert texts(context.join(NEWS, since=Newest(3)).read()) == [b"97", b"98", b"99"]


def test_an_age_selects_by_time(make: Callable[..., LocalHub]) -> None:
    """
    `since=10s` replays what was received in the last ten seconds, over all channels.
    """
    context = make(retention=make_retention(age=100.0))
    published(context, ("news.old", b"1"), ("news.a", b"2"))
    context.clock.advance(20)
    published(context, ("news.a", b"3"), ("news.b", b"4"))

    assert texts(context.join(NEWS, since=Within(10)).read()) == [b"3", b"4"]
    context.clock.advance(90)
    assert texts(context.join(NEWS, since=Within(math.inf)).read()) == [b"3", b"4"]


def test_another_log_is_a_gap(make: Callable[..., LocalHub]) -> None:
    """
    Subscribers of a pattern are notified of a new log, and nothing of the old one is replayed.
    """
    broker = ManualPatternBroker()
    context = make(broker=broker)
    line = context.join(NEWS)
    broker.confirm(NEWS)  # type: ignore[arg-type]  # a pattern is its own name
    broker.bring("news.a", b"1")
    context.turn()
    line.read()

    broker.head = Position("f", 7)
    broker.receiver.reached(broker.head)
    context.turn()

    assert b"gap" in line.read()
    other = context.join(NEWS, since=Within(math.inf)).read()
    assert texts(other) == []
    assert b"id: f.7" in other


def test_missed_messages_reach_the_pattern(make: Callable[..., LocalHub]) -> None:
    """
    A gap of a channel is a gap of patterns that match it, also if nobody has named the channel.
    """
    broker = ManualPatternBroker()
    context = make(broker=broker)
    line = context.join(NEWS)
    other = context.join(Wildcard.of("sport.*"))
    broker.confirm(NEWS, Wildcard.of("sport.*"))  # type: ignore[arg-type]  # as above
    line.read()
    other.read()

    broker.head = Position("e", 105)
    broker.receiver.missed("news.x", broker.head)
    context.turn()

    assert b"gap" in line.read()
    assert b"gap" not in other.read()
    assert b"gap" in context.join(NEWS, since=After(Position("e", 104))).read()
    assert b"gap" not in context.join(NEWS, since=After(Position("e", 105))).read()


def test_a_channel_keeps_what_its_pattern_received(make: Callable[..., LocalHub]) -> None:
    """
    A channel that is named after a pattern has received it replays from where the pattern began.
    """
    broker = ManualPatternBroker()
    context = make(broker=broker)
    context.join(NEWS)
    broker.confirm(NEWS)  # type: ignore[arg-type]  # as above
    broker.bring("news.a", b"1")
    line = context.join("news.a", since=After(Position("e", 100)))
    late = context.join("news.a", since=After(Position("e", 99)))
    broker.confirm("news.a")
    context.turn()

    got = line.read()
    assert texts(got) == [b"1"]
    assert b"gap" not in got
    assert b"gap" in late.read()


def test_a_pattern_lingers_and_is_dropped(make: Callable[..., LocalHub]) -> None:
    """
    The broker stays subscribed for a while, so that its last subscriber can resume.
    """
    broker = ManualPatternBroker()
    context = make(broker=broker, limits=make_hub_limits(linger=60))
    line = context.join(NEWS)
    broker.confirm(NEWS)  # type: ignore[arg-type]  # as above
    broker.bring("news.a", b"1")
    context.turn()
    line.protocol.drop(DisconnectReason.LOST)
    broker.bring("news.a", b"2")

    again = context.join(NEWS, since=After(Position("e", 101)))
    assert texts(again.read()) == [b"2"]
    again.protocol.drop(DisconnectReason.LOST)
    for _ in range(200):
        context.clock.advance(1)

    assert not broker.requested
    assert len(context.hub._channels.patterns) == 0
    channel = context.hub._channels.get("news.a")
    assert channel is None or channel.patterns == ()


def test_unused_patterns_are_bounded(
    make: Callable[..., LocalHub], monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    Clients may be able to invent patterns by values of their requests.
    """
    monkeypatch.setattr(table_module, "MAX_UNUSED_PATTERNS", 5)
    context = make()
    for number in range(20):
        line = context.join(Wildcard.of(f"user-{number}.*"))
        line.protocol.drop(DisconnectReason.LOST)

    assert len(context.hub._channels.patterns) == 5
    assert context.hub.current_metrics().patterns == 5


def test_statistics_count_pattern_subscribers(make: Callable[..., LocalHub]) -> None:
    """
    A pattern has a line of its own; a publisher's response counts its subscribers too.
    """
    context = make()
    context.join(NEWS)
    context.join(NEWS, "news.a")
    published(context, ("news.a", b"1"), ("news.b", b"2"))

    metrics = context.hub.current_metrics()
    assert metrics.channels == {"news.*": 2, "news.a": 1}
    assert (metrics.subscribers, metrics.patterns, metrics.delivered) == (2, 1, 4)
    assert context.hub.subscribers_of("news.a") == 3
    assert context.hub.subscribers_of("news.new") == 2
    assert context.hub.subscribers_of("sport") == 0
    counts = context.hub.statistics.counts_of("news.*")
    assert (counts.subscribers, counts.messages, counts.position) == (2, 2, "e.2")
    shown, _ = context.hub.statistics.busiest(1)
    assert [one.name for one in shown] == ["news.*"]


def test_a_broker_without_patterns_rejects_them(make: Callable[..., LocalHub]) -> None:
    """
    The daemon checks this at its start, for each pattern of a route line.
    """
    context = make(broker=ManualBroker())
    with pytest.raises(HttpError, match="the broker carries no patterns"):
        context.hub.capabilities.check_channel(NEWS)


def test_channels_of_another_prefix_are_not_looked_at(make: Callable[..., LocalHub]) -> None:
    """
    Each of many users can have a pattern: opening one does not visit the channels of others.
    """
    context = make()
    context.join(ALL)
    published(context, *[(f"user-{number:04}.mail", b"1") for number in range(2000)])
    tried: list[str] = []

    class Noted(Wildcard):
        def matches(self, text: str) -> bool:
            tried.append(text)
            return Wildcard.of(self.source).matches(text)

    one = Wildcard.of("user-0042.*")
    line = context.join(Noted(one.source, one.pieces), since=Within(math.inf))

    assert texts(line.read()) == [b"1"]
    assert tried == ["user-0042.mail"]


NAMES = ("a", "a.1", "a.2", "b.1", "b.2")
SELECTORS: tuple[Selector, ...] = (
    "a",
    "a.1",
    "b.2",
    *[Wildcard.of(source) for source in ("*", "a*", "a.*", "*.1", "b.*")],
)
ACTIONS = st.one_of(
    st.tuples(st.just("publish"), st.lists(st.sampled_from(NAMES), min_size=1, max_size=4)),
    st.tuples(
        st.just("join"),
        st.lists(st.sampled_from(SELECTORS), min_size=1, max_size=4, unique=True),
        st.integers(0, 30),
    ),
    st.tuples(st.just("step"), st.none()),
    st.tuples(st.just("leave"), st.integers(0, 10)),
    st.tuples(st.just("pass"), st.integers(1, 100)),
)


def wanted(selectors: list[Selector], name: str) -> bool:
    return any(one == name if isinstance(one, str) else one.matches(name) for one in selectors)


@settings(deadline=None, max_examples=300)
@given(st.lists(ACTIONS, max_size=40))
def test_each_message_once_in_order_or_a_gap(actions: list[Any]) -> None:
    """
    Whatever is published, joined and left in between: no subscriber gets a message twice, out
    of order or of another channel, and none is missing unless a gap was reported.
    """
    context = LocalHub(retention=make_retention(count=5, age=50.0))
    log: list[str] = []
    joined: list[tuple[FakeTransport, list[Selector], int]] = []
    left: set[int] = set()
    try:
        for kind, *arguments in actions:
            if kind == "publish":
                log += arguments[0]
                context.publish(*[(name, b"x") for name in arguments[0]])
            elif kind == "join":
                selectors, position = arguments
                since: Since | None = After(Position("e", position)) if position else None
                joined.append(
                    (
                        context.join(*selectors, since=since),
                        selectors,
                        position if position else len(log),
                    )
                )
            elif kind == "step":
                context.step()
            elif kind == "pass":
                context.clock.advance(arguments[0])
            elif arguments[0] < len(joined) and arguments[0] not in left:
                left.add(arguments[0])
                joined[arguments[0]][0].protocol.drop(DisconnectReason.LOST)
        for _ in range(5):
            context.turn()
        for index, (line, selectors, start) in enumerate(joined):
            got = line.read()
            received = [number for number, _ in events(got)]
            assert received == sorted(set(received))
            assert all(wanted(selectors, log[number - 1]) for number in received)
            if index in left or b"gap" in got:
                continue
            expected = [
                number
                for number, name in enumerate(log, 1)
                if number > start and wanted(selectors, name)
            ]
            # One that joins the live stream may get what others have not got yet either.
            assert [number for number in received if number > start] == expected
    finally:
        for line in context.lines:
            line.close()


def test_publishing_costs_a_channel_without_patterns_nothing(
    make: Callable[..., LocalHub],
) -> None:
    """
    A channel is matched when it is opened, not when it is published to.
    """
    context = make()
    context.join(NEWS)
    published(context, ("sport", b"1"))
    matching = context.hub._channels.patterns._index.matching
    tried: list[str] = []

    def noted(name: str) -> list[Wildcard]:
        tried.append(name)
        return matching(name)

    context.hub._channels.patterns._index = type("Index", (), {"matching": staticmethod(noted)})()
    for _ in range(10):
        published(context, ("sport", b"2"), ("news.a", b"3"))

    assert tried == ["news.a"]
