"""
Contracts: tests that every implementation of a broker's interfaces must pass.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from zope.interface.verify import verifyObject

from rt_twisted.brokers.interfaces import ClaimTaken, IBroker, IClaims, IForgetting, IHistory
from rt_twisted.model.message import After, Draft, Message, Newest, Position, Within
from tests.fakes import RecordingReceiver


def a_moment() -> Deferred[None]:
    """
    Fire after the reactor has run what is due.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    return deferLater(clock, 0.01)


class BrokerContract:
    """
    Tests of `IBroker`. Subclasses have the fixture `broker`: it attaches the receiver to a new
    broker, starts it, and returns it when it is ready.
    """

    @pytest.fixture
    def receiver(self) -> RecordingReceiver:
        """
        Records what the broker delivers.
        """
        return RecordingReceiver()

    def test_provides_the_interface(self, broker: Any) -> None:
        """
        The broker provides the interface that the hub uses.
        """
        assert verifyObject(IBroker, broker)

    async def test_messages_arrive_as_published(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Channel, bytes and event type are those of the draft.
        """
        await broker.subscribe("news")
        data = bytes(range(256))

        [position] = (await broker.publish([Draft("news", data, "comment")])).positions

        assert await receiver.until(1) == [Message("news", data, position, "comment")]

    async def test_any_bytes_and_any_name(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        No bytes in names or data have a meaning for the broker.
        """
        names = ["42", "a.b", "*", "a.*", "#", "é☃", "a b", "[a]?", "{a}", "message", "x" * 200]
        texts = [b"", b"42", b"1.5", b"\r\n", b"\xff\x00", "é☃".encode(), b"null", b"*3\r\n$1"]
        await gatherResults([broker.subscribe(name) for name in names])

        for name in names:
            await broker.publish([Draft(name, data) for data in texts])

        received = await receiver.until(len(names) * len(texts))
        assert [(m.channel, m.data) for m in received] == [(n, t) for n in names for t in texts]

    async def test_positions_grow(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        Offsets grow over all channels, in the order of publishing, in one epoch.
        """
        for channel in "ab":
            await broker.subscribe(channel)

        first = (
            await broker.publish([Draft("a", b"1"), Draft("b", b"2"), Draft("a", b"3")])
        ).positions
        second = (await broker.publish([Draft("b", b"4")])).positions

        positions = first + second
        received = await receiver.until(4)
        assert [message.data for message in received] == [b"1", b"2", b"3", b"4"]
        assert tuple([message.position for message in received]) == positions
        assert len({position.epoch for position in positions}) == 1
        offsets = [position.offset for position in positions]
        assert offsets == sorted(set(offsets))

    async def test_position_is_that_of_the_last_message(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        `position()` is before a message until it is received, and then not before it.
        """
        latest = await broker.subscribe("a")
        before = broker.position()

        [position] = (await broker.publish([Draft("a", b"")])).positions

        await receiver.until(1)
        assert latest.epoch == before.epoch == position.epoch
        assert latest.offset <= before.offset < position.offset
        assert broker.position().epoch == position.epoch
        assert broker.position().offset >= position.offset

    async def test_messages_are_received_once_subscribed(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Everything that is published after `subscribe` has fired is received.
        """
        for number in range(20):
            channel = f"c{number}"
            await broker.subscribe(channel)
            await broker.publish([Draft(channel, b"first")])

        received = await receiver.until(20)
        assert [message.channel for message in received] == [f"c{n}" for n in range(20)]

    async def test_subscribing_twice_is_subscribing_once(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Each message is received once, however often its channel was subscribed to.
        """
        await gatherResults([broker.subscribe("a"), broker.subscribe("a")])
        await broker.subscribe("a")

        await broker.publish([Draft("a", b"1"), Draft("a", b"2")])

        assert [message.data for message in await receiver.until(2)] == [b"1", b"2"]

    async def test_a_subscription_can_be_ended_and_renewed(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        A channel can be unsubscribed from and subscribed to again, without a pause.
        """
        await broker.subscribe("a")
        broker.unsubscribe("a")
        broker.subscribe("a")
        broker.unsubscribe("a")
        await broker.subscribe("a")

        await broker.publish([Draft("a", b"1")])

        assert [message.data for message in await receiver.until(1)] == [b"1"]

    async def test_the_same_key_is_published_once(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        A publisher that sends again gets the old position, subscribers get nothing.
        """
        await broker.subscribe("a")
        [first] = (await broker.publish([Draft("a", b"1", key="k")])).positions
        [again] = (await broker.publish([Draft("a", b"1", key="k")])).positions
        [other] = (await broker.publish([Draft("a", b"2", key="l")])).positions

        assert first == again != other
        assert [message.data for message in await receiver.until(2)] == [b"1", b"2"]

    async def test_a_key_holds_for_its_channel(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        One key for several channels is one message for each.
        """
        for channel in "ab":
            await broker.subscribe(channel)
        await broker.publish([Draft("a", b"1", key="k"), Draft("b", b"1", key="k")])

        assert [message.channel for message in await receiver.until(2)] == ["a", "b"]

    async def test_many_at_once(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        Publications that are in flight together keep their order.
        """
        await broker.subscribe("a")
        drafts = [[Draft("a", b"%d.%d" % (n, m)) for m in range(10)] for n in range(50)]

        results = await gatherResults([broker.publish(some) for some in drafts])

        received = await receiver.until(500)
        assert [m.data for m in received] == [draft.data for some in drafts for draft in some]
        assert [m.position for m in received] == [p for each in results for p in each.positions]


class HistoryContract:
    """
    Tests of `IHistory`, beside `BrokerContract`; the broker's bounds are not exceeded.
    """

    def test_provides_the_history(self, broker: Any) -> None:
        """
        The broker provides the interface from which the hub reads the history.
        """
        assert verifyObject(IHistory, broker)

    async def test_it_replays(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        A replay has the messages of the requested channels after the position, in order.
        """
        for channel in "abc":
            await broker.subscribe(channel)
        drafts = [Draft("abc"[n % 3], b"%d" % n, "odd" if n % 2 else None) for n in range(30)]
        positions = (await broker.publish(drafts)).positions
        log = await receiver.until(30)

        replay = await broker.after(["a", "c"], After(positions[7]))
        assert replay.complete
        assert list(replay.messages) == [m for m in log[8:] if m.channel != "b"]
        assert not replay.position.offset > broker.position().offset
        assert replay.position.offset >= positions[-1].offset

        replay = await broker.after(["a", "c"], Newest(3))
        assert list(replay.messages) == [m for m in log if m.channel != "b"][-3:]
        replay = await broker.after(["b"], Within(math.inf))
        assert list(replay.messages) == [m for m in log if m.channel == "b"]
        replay = await broker.after(["never"], After(positions[7]))
        assert replay.complete
        assert replay.messages == ()

    async def test_unknown_positions_are_gaps(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Another log's position, and one that was never given, are gaps.
        """
        await broker.subscribe("a")
        [position] = (await broker.publish([Draft("a", b"1")])).positions
        await receiver.until(1)

        for unknown in (
            Position("other", 1),
            Position("", 0),
            Position(position.epoch, position.offset + 1000),
        ):
            replay = await broker.after(["a"], After(unknown))
            assert not replay.complete

    async def test_a_position_of_its_own_is_complete(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        A replay after a known position is complete, even if nothing was published since, or ever.
        """
        start = await broker.subscribe("a")
        replay = await broker.after(["a"], After(start))
        assert replay.complete
        assert replay.messages == ()

        [position] = (await broker.publish([Draft("a", b"1")])).positions
        replay = await broker.after(["a"], After(position))
        assert replay.complete
        assert replay.messages == ()
        replay = await broker.after(["a"], After(start))
        assert replay.complete
        assert [message.data for message in replay.messages] == [b"1"]


class ForgettingContract:
    """
    Tests of `IForgetting`, beside `HistoryContract`.
    """

    async def test_it_forgets(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        Stored messages of one channel are deleted, and who resumes before them gets a gap; what
        follows is stored again.
        """
        assert verifyObject(IForgetting, broker)
        await gatherResults([broker.subscribe(name) for name in "ab"])
        start, *_ = (await broker.publish([Draft(name, b"1") for name in "aab"])).positions
        await receiver.until(3)

        await broker.forget("a")

        while not receiver.missing:
            await a_moment()
        [(channel, gap)] = receiver.missing
        assert channel == "a"
        assert gap.offset >= receiver.messages[-1].position.offset
        [later] = (await broker.publish([Draft("a", b"2")])).positions
        await receiver.until(4)
        assert (await broker.after(["a"], Newest(9))).messages == (receiver.messages[-1],)
        replay = await broker.after(["a"], After(start))
        assert not replay.complete
        assert [message.data for message in replay.messages] == [b"2"]
        assert (await broker.after(["a"], After(gap))).complete
        assert (await broker.after(["a"], After(later))).complete
        replay = await broker.after(["b"], After(start))
        assert replay.complete
        assert len(replay.messages) == 1


class SharedLogContract:
    """
    Tests of brokers that share one log between nodes. Subclasses also have the fixture `other`: a
    second node on the same server.
    """

    @pytest.fixture
    def other_receiver(self) -> RecordingReceiver:
        """
        Records what the other node's broker delivers.
        """
        return RecordingReceiver()

    async def test_both_nodes_receive_the_same(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        All nodes receive the same messages at the same positions, in the same order, independent of
        the node that published them.
        """
        await gatherResults([node.subscribe("a") for node in (broker, other)])

        await gatherResults(
            [node.publish([Draft("a", b"%d" % n)]) for n in range(100) for node in (broker, other)]
        )

        assert await receiver.until(200) == await other_receiver.until(200)

    async def test_a_node_replays_what_it_never_received(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        A subscriber resumes at the other node and misses nothing.
        """
        await broker.subscribe("a")
        positions = (await broker.publish([Draft("a", b"%d" % n) for n in range(10)])).positions
        log = await receiver.until(10)

        await other.subscribe("a")
        replay = await other.after(["a"], After(positions[4]))

        # A node that is behind when it subscribes receives the end of the log later.
        while log[-1] not in [*replay.messages, *other_receiver.messages]:
            await a_moment()
        latest = other_receiver.messages
        later = [one for one in latest if one.position.offset > replay.position.offset]
        assert replay.complete
        assert [*replay.messages, *later] == log[5:]
        assert latest == log[len(log) - len(latest) :]

    async def test_nothing_is_received_twice_after_a_replay(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        A position from one node is never ahead of the other's replay, and what the other receives
        after its answer comes after it.
        """
        await gatherResults([node.subscribe("a") for node in (broker, other)])
        for n in range(50):
            [position] = (await broker.publish([Draft("a", b"%d" % n)])).positions
            replay = await other.after(["a"], After(position))
            assert replay.complete
            assert replay.messages == ()
            latest = other_receiver.messages[-1].position
            assert latest.offset >= position.offset
            assert other.position().offset >= position.offset

    async def test_a_key_holds_on_every_node(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        A publisher that repeats a message at another node duplicates nothing.
        """
        await broker.subscribe("a")
        [first] = (await broker.publish([Draft("a", b"1", key="k")])).positions
        [again] = (await other.publish([Draft("a", b"1", key="k")])).positions
        await broker.publish([Draft("a", b"2")])

        assert first == again
        assert [message.data for message in await receiver.until(2)] == [b"1", b"2"]


class LiveContract:
    """
    Tests that a broker carries live streams. Subclasses have the fixtures of `BrokerContract`.
    """

    async def test_transient_drafts_arrive_as_all_others(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Heads, frames and plain messages keep their order, event types and bytes.
        """
        await broker.subscribe("cam")
        data = bytes(range(256)) * 1000
        drafts = [
            Draft("cam", b"{}", "unit/h", transient=True),
            Draft("cam", data, "unit/k 1 0 0 40000 0", transient=True),
            Draft("cam", b"plain"),
            Draft("cam", b"", None, transient=True),
            Draft("cam", b"", "unit/e", transient=True),
        ]

        await broker.publish(drafts)

        received = await receiver.until(5)
        assert [(m.data, m.event) for m in received] == [(d.data, d.event) for d in drafts]


async def granted(node: Any, name: str, run: str) -> Any:
    """
    Return the claim of *run* to a name that another run has just released.
    """
    while True:
        try:
            return await node.claim(name, run, False)
        except ClaimTaken:
            await a_moment()


class ClaimsContract:
    """
    Tests of `IClaims` on two nodes. Subclasses have the fixtures of `SharedLogContract`.
    """

    async def test_one_run_has_a_name(self, broker: Any, other: Any) -> None:
        """
        A second run is refused, on any node, until the first releases its claim.
        """
        assert verifyObject(IClaims, broker)
        claim = await broker.claim("a", "run1", False)
        for node in (broker, other):
            with pytest.raises(ClaimTaken):
                await node.claim("a", "run2", False)
            assert await node.is_claimed("a")
            assert not await node.is_claimed("b")
        await other.claim("b", "run3", False)

        claim.release()
        claim.release()

        again = await granted(other, "a", "run2")
        with pytest.raises(ClaimTaken):
            await broker.claim("a", "run4", False)
        assert not claim.lost.called
        assert not again.lost.called

    async def test_a_takeover_ends_the_first_run(self, broker: Any, other: Any) -> None:
        """
        Its claim is lost, and releasing that does not release the new one.
        """
        first = await broker.claim("a", "run1", False)

        second = await other.claim("a", "run2", True)

        assert await first.lost
        first.release()
        await a_moment()
        with pytest.raises(ClaimTaken):
            await broker.claim("a", "run3", False)
        third = await other.claim("a", "run4", True)
        assert await second.lost
        third.release()

    async def test_a_takeover_of_a_free_name_is_a_claim(self, broker: Any, other: Any) -> None:
        """
        A takeover succeeds if no run holds the name.
        """
        await broker.claim("a", "run1", True)

        with pytest.raises(ClaimTaken):
            await other.claim("a", "run2", False)
