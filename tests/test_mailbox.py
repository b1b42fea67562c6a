"""
Readers that come now and then to ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.engineio.mailbox import PORTION, Mailbox
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.sse import RawEventStream
from rt_twisted.hub import Hub
from rt_twisted.message import Draft
from rt_twisted.subscriber import Cause, Patience, Policy, Subscriber

BIG = b"x" * 100_000


class House:
    """
    A hub with one reader behind a mailbox.
    """

    def __init__(self, patience: Patience = Patience()) -> None:
        self.clock = Clock()
        self.hub = Hub(MemoryBroker(self.clock, "e"), self.clock)
        self.hub.start()
        self.closed = 0
        self.mailbox = Mailbox(self.clock, self._count)
        self.reader = Subscriber(self.mailbox, RawEventStream(), self.hub, patience)
        self.hub.join(self.reader, ["news"], None)
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
def house() -> House:
    """
    Nobody has asked yet; the first thing to be had is what the hub begins with.
    """
    house = House()
    house.ask()
    assert house.taken == [b":\n"]
    house.taken.clear()
    return house


def test_what_waits_is_had_at_once(house: House) -> None:
    """
    Everything, in order, each once, however large.
    """
    house.publish(b"1", BIG)
    house.publish(b"2")
    assert house.reader.behind

    house.ask()

    assert house.taken == [b"1" + BIG + b"2"]
    assert not house.mailbox.asked


def test_who_asks_waits_for_what_comes(house: House) -> None:
    """
    What comes in one turn is one answer; what comes later is for the next.
    """
    house.ask()
    assert house.mailbox.asked
    assert not house.reader.behind
    house.reader.write(b"a")
    house.reader.write(BIG)
    assert house.taken == []
    house.clock.advance(0)
    assert house.taken == [b"a" + BIG]

    house.publish(b"b")
    assert house.taken == [b"a" + BIG]
    house.ask()
    assert house.taken[1:] == [b"b"]


def test_who_has_gone_away_takes_nothing(house: House) -> None:
    """
    It waits for the next, even what came in the same turn.
    """
    house.ask()
    house.reader.write(b"a")
    house.mailbox.hush()
    house.clock.advance(0)
    house.publish(b"b")
    assert house.taken == []

    house.ask()

    assert house.taken == [b"ab"]


def test_who_takes_may_ask_again(house: House) -> None:
    """
    Within the call that hands over.
    """
    taken: list[bytes] = []

    def take(frames: bytes) -> None:
        taken.append(frames)
        house.mailbox.ask(take)

    house.mailbox.ask(take)
    for word in (b"a", b"b", b"c"):
        house.publish(word)

    assert taken == [b"a", b"b", b"c"]


def test_who_does_not_come_is_dropped() -> None:
    """
    After the reader's patience, whether something waits or not; one who waits
    for an answer is not meant.
    """
    house = House(Patience(seconds=5))
    house.ask()
    house.ask()  # waits
    house.clock.pump([1.0] * 20)
    assert not house.reader.gone
    house.mailbox.hush()
    house.clock.pump([1.0] * 7)

    assert house.reader.gone
    assert house.closed == 1
    assert house.hub.counts.closed[Cause.STALLED.value] == 1


def test_what_waits_is_bounded() -> None:
    """
    By the reader's patience; it is told of a gap, or dropped.
    """
    for policy, gone in ((Policy.DISCONNECT, 1), (Policy.SKIP, 0)):
        house = House(Patience(bytes=1000, policy=policy))
        for _ in range(100):
            house.publish(b"x" * 100)
        assert house.closed == gone
        if not gone:
            house.ask()
            assert len(house.taken[0]) < 3000
            assert b"event: gap" in house.taken[0]


def cut_behind_blanks(frames: bytes, most: int) -> int:
    """
    Cuts behind blanks.
    """
    return frames.rfind(b" ", 0, most) + 1 or frames.find(b" ", most) + 1


def test_portions(house: House) -> None:
    """
    Who wants no more gets whole frames up to that, or a larger one; the rest
    waits, with what came meanwhile, and its subscriber knows how much that is.
    """
    words = [b"%d " % number for number in range(30_000)]
    words.insert(20_000, b"x" * (5 * PORTION) + b" ")
    house.publish(*words[:1000], b"".join(words[1000:]))
    left = house.reader.waiting
    assert left == len(b"".join(words))

    house.mailbox.ask(house.taken.append, cut_behind_blanks)
    house.publish(b"last ")
    while True:
        house.mailbox.ask(house.taken.append, cut_behind_blanks)
        if house.mailbox.asked:
            break
        assert house.reader.waiting > left + 5 - len(b"".join(house.taken)) - 3 * PORTION
    assert house.reader.waiting == 0
    assert b"".join(house.taken) == b"".join(words) + b"last "
    assert all(portion.endswith(b" ") for portion in house.taken)
    assert max(map(len, house.taken)) == 5 * PORTION + 1
    assert sorted(map(len, house.taken))[-2] <= PORTION

    house.publish(b"new ")
    assert house.taken[-1] == b"new "


def test_the_rest_of_a_portion_may_be_had_at_once(house: House) -> None:
    """
    By who asks without a bound.
    """
    text = b"word " * PORTION
    house.publish(text)
    house.mailbox.ask(house.taken.append, cut_behind_blanks)
    assert len(house.taken[0]) <= PORTION
    house.ask()

    assert b"".join(house.taken) == text
    assert len(house.taken) == 2


def test_portions_of_what_comes_in_one_turn(house: House) -> None:
    """
    To who waits for it already.
    """
    house.mailbox.ask(house.taken.append, cut_behind_blanks)
    for _ in range(5):
        house.reader.write(b"word " * (PORTION // 10))
    house.clock.advance(0)

    assert [len(portion) for portion in house.taken] == [PORTION // 5 * 5]
    assert house.reader.waiting > PORTION


def test_who_takes_portions_is_not_dropped() -> None:
    """
    However long it takes: its patience begins anew with each.
    """
    house = House(Patience(seconds=5))
    house.ask()
    house.publish(b"word " * PORTION)
    while house.reader.waiting:
        house.clock.pump([1.0] * 3)
        house.mailbox.ask(house.taken.append, cut_behind_blanks)

    assert len(house.taken) > 4
    assert not house.reader.gone


@pytest.mark.parametrize(
    "end", [lambda house: house.mailbox.lose(), lambda house: house.hub.stop(0)]
)
def test_the_end(house: House, end: Callable[[House], Any]) -> None:
    """
    Told once; nothing reaches anybody afterwards.
    """
    house.ask()
    house.reader.write(b"last")
    end(house)
    end(house)
    house.clock.advance(0)

    assert house.closed == 1
    assert house.reader.gone
    assert house.hub.numbers().readers == 0
    assert house.taken in ([], [b"last"])
