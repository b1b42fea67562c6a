"""
Tests of the transport for subscribers whose clients poll.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.poll_buffer import PORTION, PollBuffer
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.sse import RawEventStream
from rt_twisted.hub.limits import BacklogLimits, SlowConsumerPolicy
from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.message import Draft
from tests.defaults import make_backlog_limits, make_hub

BIG = b"x" * 100_000


class BufferedSubscriber:
    """
    A hub with one subscriber over a poll buffer.
    """

    def __init__(self, backlog_limits: BacklogLimits = make_backlog_limits()) -> None:
        self.clock = Clock()
        self.hub = make_hub(MemoryBroker(self.clock, "e"), self.clock)
        self.hub.start()
        self.closed: list[bool] = []
        self.buffer = PollBuffer(self.clock, self.closed.append)
        self.subscriber = Subscriber(self.buffer, RawEventStream(), self.hub, backlog_limits)
        self.hub.join(self.subscriber, ["news"], None)
        self.delivered: list[bytes] = []

    def publish(self, *messages: bytes) -> None:
        self.hub.publish([Draft("news", message) for message in messages])
        self.clock.advance(0)
        self.clock.advance(0)

    def fetch(self) -> None:
        self.buffer.fetch(self.delivered.append)


@pytest.fixture
def polled() -> BufferedSubscriber:
    """
    Return a subscriber whose first frame was fetched.
    """
    polled = BufferedSubscriber()
    polled.fetch()
    assert polled.delivered == [b":\n"]
    polled.delivered.clear()
    return polled


def test_a_fetch_delivers_all_waiting_frames_at_once(polled: BufferedSubscriber) -> None:
    """
    Frames of any size are delivered in order, once each.
    """
    polled.publish(b"1", BIG)
    polled.publish(b"2")
    assert polled.subscriber.behind

    polled.fetch()

    assert polled.delivered == [b"1" + BIG + b"2"]
    assert not polled.buffer.fetching


def test_a_fetch_waits_for_the_next_frames(polled: BufferedSubscriber) -> None:
    """
    Frames of one turn of the reactor are delivered together; later ones wait.
    """
    polled.fetch()
    assert polled.buffer.fetching
    assert not polled.subscriber.behind
    polled.subscriber.write(b"a")
    polled.subscriber.write(BIG)
    assert polled.delivered == []
    polled.clock.advance(0)
    assert polled.delivered == [b"a" + BIG]

    polled.publish(b"b")
    assert polled.delivered == [b"a" + BIG]
    polled.fetch()
    assert polled.delivered[1:] == [b"b"]


def test_a_delivery_may_fetch_again(polled: BufferedSubscriber) -> None:
    """
    The next fetch may be made within the call that delivers.
    """
    delivered: list[bytes] = []

    def deliver(frames: bytes) -> None:
        delivered.append(frames)
        polled.buffer.fetch(deliver)

    polled.buffer.fetch(deliver)
    for word in (b"a", b"b", b"c"):
        polled.publish(word)

    assert delivered == [b"a", b"b", b"c"]


@pytest.mark.parametrize("messages", [0, 1])
def test_a_subscriber_that_is_not_fetched_is_dropped(messages: int) -> None:
    """
    The backlog limits apply while no fetch waits, whether frames wait or not.
    """
    polled = BufferedSubscriber(make_backlog_limits(seconds=5))
    polled.fetch()
    polled.fetch()  # waits
    polled.clock.pump([1.0] * 20)
    assert not polled.subscriber.closed
    polled.publish(*[b"x"] * (1 + messages))
    polled.clock.pump([1.0] * 7)

    assert polled.subscriber.closed
    assert polled.closed == [True]
    assert polled.hub.metrics.closed[DisconnectReason.STALLED.value] == 1


def test_waiting_frames_are_bounded() -> None:
    """
    Beyond the backlog limits the subscriber gets a gap or is dropped.
    """
    for policy, closed in (
        (SlowConsumerPolicy.DISCONNECT, [True]),
        (SlowConsumerPolicy.SKIP, []),
    ):
        polled = BufferedSubscriber(make_backlog_limits(bytes=1000, policy=policy))
        for _ in range(100):
            polled.publish(b"x" * 100)
        assert polled.closed == closed
        if not closed:
            polled.fetch()
            assert len(polled.delivered[0]) < 3000
            assert b"event: gap" in polled.delivered[0]


def cut_after_spaces(frames: bytes, limit: int) -> int:
    """
    Return where the last word within *limit* ends.
    """
    return frames.rfind(b" ", 0, limit) + 1 or frames.find(b" ", limit) + 1


def test_a_fetch_may_ask_for_a_portion(polled: BufferedSubscriber) -> None:
    """
    A portion has whole frames up to its size, or one larger frame; the rest waits, counted
    by the subscriber.
    """
    words = [b"%d " % number for number in range(30_000)]
    words.insert(20_000, b"x" * (5 * PORTION) + b" ")
    polled.publish(*words[:1000], b"".join(words[1000:]))
    waiting = polled.subscriber.backlog_bytes
    assert waiting == len(b"".join(words))

    polled.buffer.fetch(polled.delivered.append, cut_after_spaces)
    polled.publish(b"last ")
    while True:
        polled.buffer.fetch(polled.delivered.append, cut_after_spaces)
        if polled.buffer.fetching:
            break
        left = waiting + 5 - len(b"".join(polled.delivered))
        assert polled.subscriber.backlog_bytes > left - 3 * PORTION
    assert polled.subscriber.backlog_bytes == 0
    assert b"".join(polled.delivered) == b"".join(words) + b"last "
    assert all(portion.endswith(b" ") for portion in polled.delivered)
    assert max(map(len, polled.delivered)) == 5 * PORTION + 1
    assert sorted(map(len, polled.delivered))[-2] <= PORTION

    polled.publish(b"new ")
    assert polled.delivered[-1] == b"new "


def test_the_rest_of_a_portion_can_be_fetched_at_once(polled: BufferedSubscriber) -> None:
    """
    A fetch without a bound gets everything that is left.
    """
    text = b"word " * PORTION
    polled.publish(text)
    polled.buffer.fetch(polled.delivered.append, cut_after_spaces)
    assert len(polled.delivered[0]) <= PORTION
    polled.fetch()

    assert b"".join(polled.delivered) == text
    assert len(polled.delivered) == 2


def test_a_waiting_fetch_gets_a_portion_of_one_turn(polled: BufferedSubscriber) -> None:
    """
    Frames that are written in one turn are cut as well.
    """
    polled.buffer.fetch(polled.delivered.append, cut_after_spaces)
    for _ in range(5):
        polled.subscriber.write(b"word " * (PORTION // 10))
    polled.clock.advance(0)

    assert [len(portion) for portion in polled.delivered] == [PORTION // 5 * 5]
    assert polled.subscriber.backlog_bytes > PORTION


def test_a_client_that_fetches_portions_is_not_dropped() -> None:
    """
    Each fetch restarts the timeout of the backlog, however long all of them take.
    """
    polled = BufferedSubscriber(make_backlog_limits(seconds=5))
    polled.fetch()
    polled.publish(b"word " * PORTION)
    while polled.subscriber.backlog_bytes:
        polled.clock.pump([1.0] * 3)
        polled.buffer.fetch(polled.delivered.append, cut_after_spaces)

    assert len(polled.delivered) > 4
    assert not polled.subscriber.closed


@pytest.mark.parametrize(
    "end", [lambda polled: polled.buffer.close(), lambda polled: polled.hub.stop(0)]
)
def test_on_close_is_called_once(
    polled: BufferedSubscriber, end: Callable[[BufferedSubscriber], Any]
) -> None:
    """
    After that nothing is delivered.
    """
    polled.fetch()
    polled.subscriber.write(b"last")
    end(polled)
    end(polled)
    polled.clock.advance(0)

    assert polled.closed == [False]
    assert polled.subscriber.closed
    assert polled.hub.current_metrics().subscribers == 0
    assert polled.delivered in ([], [b"last"])
