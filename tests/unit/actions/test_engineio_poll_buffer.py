"""
Readers that come now and then to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.engineio.poll_buffer import PORTION, PollBuffer
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.sse import RawEventStream
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Draft

BIG = b"x" * 100_000


class House:
    """
    A hub with one reader behind a mailbox.
    """

    def __init__(self, backlog_limits: BacklogLimits = BacklogLimits()) -> None:
        self.clock = Clock()
        self.hub = Hub(MemoryBroker(self.clock, "e"), self.clock)
        self.hub.start()
        self.closed = 0
        self.mailbox = PollBuffer(self.clock, self._count)
        self.subscriber = Subscriber(self.mailbox, RawEventStream(), self.hub, backlog_limits)
        self.hub.join(self.subscriber, ["news"], None)
        self.taken: list[bytes] = []

    def _count(self) -> None:
        self.closed += 1

    def publish(self, *messages: bytes) -> None:
        self.hub.publish([Draft("news", message) for message in messages])
        self.clock.advance(0)
        self.clock.advance(0)

    def ask(self) -> None:
        self.mailbox.ask(self.taken.append)


@pytest.fixture
def context() -> House:
    """
    Nobody has asked yet; the first thing to be had is what the hub begins with.
    """
    context = House()
    context.ask()
    assert context.taken == [b":\n"]
    context.taken.clear()
    return context


def test_what_waits_is_had_at_once(context: House) -> None:
    """
    Everything, in order, each once, however large.
    """
    context.publish(b"1", BIG)
    context.publish(b"2")
    assert context.subscriber.behind

    context.ask()

    assert context.taken == [b"1" + BIG + b"2"]
    assert not context.mailbox.asked


def test_who_asks_waits_for_what_comes(context: House) -> None:
    """
    What comes in one turn is one answer; what comes later is for the next.
    """
    context.ask()
    assert context.mailbox.asked
    assert not context.subscriber.behind
    context.subscriber.write(b"a")
    context.subscriber.write(BIG)
    assert context.taken == []
    context.clock.advance(0)
    assert context.taken == [b"a" + BIG]

    context.publish(b"b")
    assert context.taken == [b"a" + BIG]
    context.ask()
    assert context.taken[1:] == [b"b"]


def test_who_has_gone_away_takes_nothing(context: House) -> None:
    """
    It waits for the next, even what came in the same turn.
    """
    context.ask()
    context.subscriber.write(b"a")
    context.mailbox.hush()
    context.clock.advance(0)
    context.publish(b"b")
    assert context.taken == []

    context.ask()

    assert context.taken == [b"ab"]


def test_who_takes_may_ask_again(context: House) -> None:
    """
    Within the call that hands over.
    """
    taken: list[bytes] = []

    def take(frames: bytes) -> None:
        taken.append(frames)
        context.mailbox.ask(take)

    context.mailbox.ask(take)
    for word in (b"a", b"b", b"c"):
        context.publish(word)

    assert taken == [b"a", b"b", b"c"]


def test_who_does_not_come_is_dropped() -> None:
    """
    After the reader's patience, whether something waits or not; one who waits
    for an answer is not meant.
    """
    context = House(BacklogLimits(seconds=5))
    context.ask()
    context.ask()  # waits
    context.clock.pump([1.0] * 20)
    assert not context.subscriber.closed
    context.mailbox.hush()
    context.clock.pump([1.0] * 7)

    assert context.subscriber.closed
    assert context.closed == 1
    assert context.hub.metrics.closed[DisconnectReason.STALLED.value] == 1


def test_what_waits_is_bounded() -> None:
    """
    By the reader's patience; it is told of a gap, or dropped.
    """
    for policy, gone in ((SlowConsumerPolicy.DISCONNECT, 1), (SlowConsumerPolicy.SKIP, 0)):
        context = House(BacklogLimits(bytes=1000, policy=policy))
        for _ in range(100):
            context.publish(b"x" * 100)
        assert context.closed == gone
        if not gone:
            context.ask()
            assert len(context.taken[0]) < 3000
            assert b"event: gap" in context.taken[0]


def cut_behind_blanks(frames: bytes, most: int) -> int:
    """
    Cuts behind blanks.
    """
    return frames.rfind(b" ", 0, most) + 1 or frames.find(b" ", most) + 1


def test_portions(context: House) -> None:
    """
    Who wants no more gets whole frames up to that, or a larger one; the rest
    waits, with what came meanwhile, and its subscriber knows how much that is.
    """
    words = [b"%d " % number for number in range(30_000)]
    words.insert(20_000, b"x" * (5 * PORTION) + b" ")
    context.publish(*words[:1000], b"".join(words[1000:]))
    left = context.subscriber.backlog_bytes
    assert left == len(b"".join(words))

    context.mailbox.ask(context.taken.append, cut_behind_blanks)
    context.publish(b"last ")
    while True:
        context.mailbox.ask(context.taken.append, cut_behind_blanks)
        if context.mailbox.asked:
            break
        assert (
            context.subscriber.backlog_bytes > left + 5 - len(b"".join(context.taken)) - 3 * PORTION
        )
    assert context.subscriber.backlog_bytes == 0
    assert b"".join(context.taken) == b"".join(words) + b"last "
    assert all(portion.endswith(b" ") for portion in context.taken)
    assert max(map(len, context.taken)) == 5 * PORTION + 1
    assert sorted(map(len, context.taken))[-2] <= PORTION

    context.publish(b"new ")
    assert context.taken[-1] == b"new "


def test_the_rest_of_a_portion_may_be_had_at_once(context: House) -> None:
    """
    By who asks without a bound.
    """
    text = b"word " * PORTION
    context.publish(text)
    context.mailbox.ask(context.taken.append, cut_behind_blanks)
    assert len(context.taken[0]) <= PORTION
    context.ask()

    assert b"".join(context.taken) == text
    assert len(context.taken) == 2


def test_portions_of_what_comes_in_one_turn(context: House) -> None:
    """
    To who waits for it already.
    """
    context.mailbox.ask(context.taken.append, cut_behind_blanks)
    for _ in range(5):
        context.subscriber.write(b"word " * (PORTION // 10))
    context.clock.advance(0)

    assert [len(portion) for portion in context.taken] == [PORTION // 5 * 5]
    assert context.subscriber.backlog_bytes > PORTION


def test_who_takes_portions_is_not_dropped() -> None:
    """
    However long it takes: its patience begins anew with each.
    """
    context = House(BacklogLimits(seconds=5))
    context.ask()
    context.publish(b"word " * PORTION)
    while context.subscriber.backlog_bytes:
        context.clock.pump([1.0] * 3)
        context.mailbox.ask(context.taken.append, cut_behind_blanks)

    assert len(context.taken) > 4
    assert not context.subscriber.closed


@pytest.mark.parametrize(
    "end", [lambda context: context.mailbox.lose(), lambda context: context.hub.stop(0)]
)
def test_the_end(context: House, end: Callable[[House], Any]) -> None:
    """
    Told once; nothing reaches anybody afterwards.
    """
    context.ask()
    context.subscriber.write(b"last")
    end(context)
    end(context)
    context.clock.advance(0)

    assert context.closed == 1
    assert context.subscriber.closed
    assert context.hub.current_metrics().subscribers == 0
    assert context.taken in ([], [b"last"])
