"""
Contracts of patterns: tests that every broker which carries patterns must pass.
"""

from __future__ import annotations

import math
from typing import Any

from twisted.internet.defer import gatherResults
from zope.interface.verify import verifyObject

from rt_twisted.brokers.interfaces import IPatterns
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.message import After, Draft, Message, Newest, Position, Within
from tests.contracts.brokers import a_moment
from tests.fakes import RecordingReceiver


class PatternContract:
    """
    Tests of `IPatterns`, beside `BrokerContract`.
    """

    def test_provides_patterns(self, broker: Any) -> None:
        """
        The broker provides the interface by which the hub subscribes to patterns.
        """
        assert verifyObject(IPatterns, broker)
        broker.check_pattern(Wildcard.of("news.*"))

    async def test_a_pattern_receives_matching_channels(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Messages of channels that nobody has named are received, whole and in order.
        """
        await broker.subscribe(Wildcard.of("news.*"))
        names = ["news.a", "news.", "news.b.c", "news.*", "news.#", "news.é☃", "news.[a]?"]

        positions = (await broker.publish([Draft(n, n.encode(), "e") for n in names])).positions

        received = await receiver.until(len(names))
        assert received == [
            Message(name, name.encode(), position, "e")
            for name, position in zip(names, positions, strict=True)
        ]

    async def test_only_the_star_is_special(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        A star stands for any characters, dots and none included; all others for themselves.
        """
        for source in ("a.?", "[b]*", "c\\*", "#", "*.d.#", "e*f*g"):
            await broker.subscribe(Wildcard.of(source))
        matching = ["a.?", "[b]", "[b]x", "c\\", "c\\y", "#", ".d.#", "x.y.d.#", "efg", "e..f.g"]
        others = ["a.x", "b", "bx", "cy", "x", "x.d.y", "x.d", "eg", "xefg", "efgx"]

        await broker.subscribe("end")
        await broker.publish([Draft(name, b"") for name in [*others, *matching, "end"]])

        received = await receiver.until(len(matching) + 1)
        while received[-1].channel != "end":
            await a_moment()
        wildcards = [Wildcard.of(one) for one in ("a.?", "[b]*", "c\\*", "#", "*.d.#", "e*f*g")]
        # A broker may bring more; the hub and its subscribers take what matches.
        wanted = [m.channel for m in received if any(w.matches(m.channel) for w in wildcards)]
        assert wanted == matching

    async def test_a_message_is_received_once(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        A message is received once if its channel is subscribed to by its name and by several
        patterns, in whatever order.
        """
        await broker.subscribe("news.a")
        await gatherResults([broker.subscribe(Wildcard.of(one)) for one in ("news.*", "*", "*.a")])
        await broker.subscribe("news.b")
        drafts = [Draft(f"news.{'abc'[n % 3]}", b"%d" % n) for n in range(100)]

        positions = (await broker.publish(drafts)).positions

        received = await receiver.until(100)
        assert [message.position for message in received] == list(positions)
        assert [message.data for message in received] == [draft.data for draft in drafts]

    async def test_patterns_come_and_go(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        A channel that is named is received on when a pattern is not needed any more, and the
        other way round; nothing is lost or repeated in between.
        """
        wide, news = Wildcard.of("*"), Wildcard.of("news.*")
        await broker.subscribe(news)
        await broker.publish([Draft("news.a", b"1")])
        await broker.subscribe("news.a")
        broker.unsubscribe(news)
        await broker.publish([Draft("news.a", b"2")])
        await broker.subscribe(wide)
        broker.unsubscribe("news.a")
        await broker.publish([Draft("news.a", b"3")])
        await broker.subscribe(news)
        broker.unsubscribe(wide)
        await broker.publish([Draft("news.a", b"4")])
        broker.unsubscribe(news)
        await broker.subscribe(news)
        await broker.publish([Draft("news.a", b"5")])

        received = await receiver.until(5)
        assert [message.data for message in received] == [b"1", b"2", b"3", b"4", b"5"]

    async def test_patterns_that_are_alike(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        A pattern is received on when another one, of the same words, is unsubscribed from.
        """
        await gatherResults([broker.subscribe(Wildcard.of(one)) for one in ("n.a*", "n.b*")])
        broker.unsubscribe(Wildcard.of("n.a*"))
        await broker.subscribe("end")

        await broker.publish([Draft("n.b1", b"1"), Draft("end", b"")])

        assert (await receiver.until(1))[0].data == b"1"

    async def test_the_same_key_is_published_once_to_a_pattern(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Idempotency keys hold for channels that are received by a pattern only.
        """
        await broker.subscribe(Wildcard.of("news.*"))
        [first] = (await broker.publish([Draft("news.a", b"1", key="k")])).positions
        [again] = (await broker.publish([Draft("news.a", b"1", key="k")])).positions
        await broker.publish([Draft("news.a", b"2")])

        assert first == again
        assert [message.data for message in await receiver.until(2)] == [b"1", b"2"]


class PatternHistoryContract:
    """
    Tests of `IHistory` with patterns, beside `HistoryContract` and `PatternContract`.
    """

    async def test_it_replays_a_pattern(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        A replay has the messages of all matching channels after the position, each once.
        """
        news = Wildcard.of("news.*")
        await broker.subscribe(Wildcard.of("*"))
        names = ["news.a", "sport", "news.b", "chat", "news.c"]
        drafts = [Draft(names[n % 5], b"%d" % n, "odd" if n % 2 else None) for n in range(50)]
        positions = (await broker.publish(drafts)).positions
        log = await receiver.until(50)
        wanted = [message for message in log if message.channel.startswith("news.")]

        replay = await broker.after([news], After(positions[11]))
        assert replay.complete
        assert list(replay.messages) == [
            m for m in wanted if m.position.offset > positions[11].offset
        ]
        assert not replay.position.offset > broker.position().offset
        assert replay.position.offset >= positions[-1].offset

        replay = await broker.after(
            ["news.a", Wildcard.of("news.*"), Wildcard.of("*.b"), "chat"], After(positions[11])
        )
        assert replay.complete
        assert list(replay.messages) == [m for m in log[12:] if m.channel != "sport"]

        replay = await broker.after([news], Newest(4))
        assert list(replay.messages) == wanted[-4:]
        replay = await broker.after([news, "sport"], Newest(4))
        assert list(replay.messages) == [m for m in log if m.channel != "chat"][-4:]
        replay = await broker.after([news], Within(math.inf))
        assert list(replay.messages) == wanted
        replay = await broker.after([Wildcard.of("never.*")], After(positions[11]))
        assert replay.complete
        assert replay.messages == ()

    async def test_many_queries_of_patterns(self, broker: Any, receiver: RecordingReceiver) -> None:
        """
        Subscribers that reconnect together, each with its own position, get their own replays.
        """
        await broker.subscribe(Wildcard.of("*"))
        drafts = [Draft(f"c{n % 7}", b"%d" % n) for n in range(70)]
        positions = (await broker.publish(drafts)).positions
        log = await receiver.until(70)

        patterns = [Wildcard.of("c*"), Wildcard.of("*3"), Wildcard.of("c1*")]
        asked = [(pattern, n) for n in range(0, 70, 9) for pattern in patterns]
        replays = await gatherResults(
            [broker.after([pattern], After(positions[n])) for pattern, n in asked]
        )

        for (pattern, n), replay in zip(asked, replays, strict=True):
            assert replay.complete
            assert list(replay.messages) == [m for m in log[n + 1 :] if pattern.matches(m.channel)]

    async def test_unknown_positions_are_gaps_of_a_pattern(
        self, broker: Any, receiver: RecordingReceiver
    ) -> None:
        """
        Another log's position, and one that was never given, are gaps; what is retained comes.
        """
        news = Wildcard.of("news.*")
        await broker.subscribe(news)
        [position] = (await broker.publish([Draft("news.a", b"1")])).positions
        await receiver.until(1)

        replay = await broker.after([news], After(Position("other", 1)))
        assert not replay.complete
        assert [message.data for message in replay.messages] == [b"1"]
        replay = await broker.after([news], After(Position(position.epoch, position.offset + 1000)))
        assert not replay.complete


class SharedPatternContract:
    """
    Tests of patterns on brokers that share one log between nodes; see `SharedLogContract`.
    """

    async def test_a_node_receives_a_channel_that_it_does_not_know(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        A node with a pattern receives what the other one publishes to any matching channel.
        """
        await other.subscribe(Wildcard.of("news.*"))

        positions = (
            await broker.publish([Draft(f"news.{n}", b"%d" % n) for n in range(50)])
        ).positions

        assert [m.position for m in await other_receiver.until(50)] == list(positions)

    async def test_a_node_replays_a_pattern_that_it_never_received(
        self,
        broker: Any,
        receiver: RecordingReceiver,
        other: Any,
        other_receiver: RecordingReceiver,
    ) -> None:
        """
        A subscriber of a pattern resumes at the other node and misses nothing.
        """
        news = Wildcard.of("news.*")
        await broker.subscribe(news)
        drafts = [Draft(f"news.{n % 5}" if n % 3 else "sport", b"%d" % n) for n in range(60)]
        positions = (await broker.publish(drafts)).positions
        log = await receiver.until(40)

        await other.subscribe(news)
        replay = await other.after([news], After(positions[10]))

        while log[-1] not in [*replay.messages, *other_receiver.messages]:
            await a_moment()
        later = [
            one for one in other_receiver.messages if one.position.offset > replay.position.offset
        ]
        assert replay.complete
        assert [*replay.messages, *later] == [
            m for m in log if m.position.offset > positions[10].offset
        ]
