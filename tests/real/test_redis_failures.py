"""
The redis broker when redis dies, hangs, forgets, or cannot be reached.
"""

from __future__ import annotations

from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults

from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft, Message, Position
from tests.defaults import make_retention
from tests.fakes import RecordingReceiver
from tests.real.conftest import Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands, turn
from tests.real.subscribers import pause, until
from tests.real.test_cut import seeded_random

__all__ = ["redis"]  # a fixture

MUCH = make_retention(100_000, 64 << 20)
CHANNELS = [f"c{number}" for number in range(5)]


class Log:
    """
    What was published and acknowledged by any node.
    """

    def __init__(self) -> None:
        self.by_position: dict[Position, tuple[str, bytes]] = {}
        self._number = 0
        self._running = True
        self._publishing: list[Deferred[None]] = []

    async def publish(self, broker: Any, channel: str) -> None:
        """
        Publish one more message; repeat it with the same key until it is acknowledged.
        """
        self._number += 1
        number = self._number
        draft = Draft(channel, b"%d" % number, key=str(number))
        while True:
            try:
                [position] = (await broker.publish([draft])).positions
            except Unavailable:
                await pause(0.01)
                continue
            assert self.by_position.setdefault(position, (channel, draft.data)) == (
                channel,
                draft.data,
            ), "a position was given twice"
            return

    def start(self, *brokers: Any) -> None:
        """
        Publish on all brokers until `stop`.
        """
        self._running = True

        async def go_on(broker: Any) -> None:
            rng = seeded_random()
            while self._running:
                await self.publish(broker, rng.choice(CHANNELS))
                await pause(0.001)

        self._publishing = [ensureDeferred(go_on(broker)) for broker in brokers]

    async def stop(self) -> None:
        """
        Stop, when the last messages are acknowledged.
        """
        self._running = False
        await gatherResults(self._publishing)

    async def is_received(self, *receiver: RecordingReceiver) -> None:
        """
        Check that all receivers have all of it: once, in order, without a gap.
        """
        expected = self.messages
        for mine in receiver:
            await until(lambda mine=mine: len(mine.messages) >= len(expected))  # type: ignore[misc]
            assert mine.messages == expected
            assert mine.missing == []

    @property
    def messages(self) -> list[Message]:
        """
        All messages, in order of position.
        """
        ordered = sorted(self.by_position.items(), key=lambda item: item[0].offset)
        return [Message(channel, data, position) for position, (channel, data) in ordered]


async def subscribe_all(*brokers: Any, channels: list[str] = CHANNELS) -> None:
    """
    Subscribe all brokers to *channels*.
    """
    await gatherResults([broker.subscribe(channel) for broker in brokers for channel in channels])


async def test_cut_again_and_again(redis: Server) -> None:
    """
    Connections are cut at any moment, while two nodes publish: each node receives everything.
    """
    rng = seeded_random()
    log = Log()
    async with proxies(redis.port, 2) as proxy_list:
        urls = [f"127.0.0.1:{proxy.port}" for proxy in proxy_list]
        async with nodes(urls, retention=MUCH) as [(one, receiver), (two, other_receiver)]:
            await subscribe_all(one, two)
            log.start(one, two)
            for _ in range(25):
                await pause(rng.uniform(0.01, 0.2))
                rng.choice(proxy_list).cut()
            await pause(0.2)
            await log.stop()
            await log.is_received(receiver, other_receiver)
            assert len(receiver.epochs) == len(other_receiver.epochs) == 1
    assert len(log.messages) > 200


async def test_pubsub_connections_are_killed(redis: Server) -> None:
    """
    `CLIENT KILL` of the pub/sub connection: publishing goes on, nothing is missed.
    """
    log = Log()
    async with nodes([f"127.0.0.1:{redis.port}"] * 2, retention=MUCH) as made:
        (one, receiver), (two, other_receiver) = made
        await subscribe_all(one, two)
        log.start(one, two)
        async with redis_commands(redis.port) as ask:
            for _ in range(10):
                await pause(0.05)
                await ask("CLIENT", "KILL", "TYPE", "pubsub")
        await pause(0.1)
        await log.stop()
        await log.is_received(receiver, other_receiver)


async def test_it_sleeps(redis: Server) -> None:
    """
    A redis that does not answer counts as away; when it answers, all goes on.
    """
    async with nodes([f"127.0.0.1:{redis.port}"], timeout=1.0) as [(one, receiver)]:
        await subscribe_all(one)
        redis.send(SIGSTOP)
        pending = one.publish([Draft("c1", b"1", key="k")])
        with pytest.raises(Unavailable):
            await pending
        await until(lambda: not one.ready())
        with pytest.raises(Unavailable):
            await one.publish([Draft("c1", b"2", key="l")])
        redis.send(SIGCONT)
        await until(one.ready)
        await one.publish([Draft("c1", b"1", key="k"), Draft("c1", b"2", key="l")])
        await receiver.until(2)
        await turn()

    assert [message.data for message in receiver.messages] == [b"1", b"2"]
    assert receiver.missing == []


async def test_only_pubsub_is_silent(redis: Server) -> None:
    """
    A pub/sub connection on which nothing arrives is noticed, although the other works.
    """
    async with proxies(redis.port, 1) as [proxy]:
        url = f"127.0.0.1:{proxy.port}"
        async with nodes([url, f"127.0.0.1:{redis.port}"], timeout=1.0) as made:
            (one, receiver), (two, _) = made
            await subscribe_all(one, two)
            proxy.freeze(True)
            await two.publish([Draft("c1", b"%d" % n) for n in range(10)])
            await until(lambda: not one.ready())
            proxy.freeze(False)
            await receiver.until(10)
            assert receiver.missing == []


async def test_too_slow_for_redis(redis: Server) -> None:
    """
    Redis disconnects a node that does not read its messages; the node fetches them.
    """
    async with redis_commands(redis.port) as ask, proxies(redis.port, 1) as [proxy]:
        await ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 1mb 1")
        url = f"127.0.0.1:{proxy.port}"
        async with nodes([url, f"127.0.0.1:{redis.port}"], retention=MUCH, timeout=15.0) as made:
            (one, receiver), (two, _) = made
            await subscribe_all(one)
            proxy.freeze(True)
            for number in range(300):
                await two.publish([Draft("c1", b"%d:" % number + bytes(100_000))])
            info: bytes = await ask("CLIENT", "LIST", "TYPE", "pubsub")
            assert len(info.splitlines()) == 1, "the slow one was dropped"
            proxy.freeze(False)
            await receiver.until(300)
            assert receiver.missing == []
            numbers = [int(message.data.partition(b":")[0]) for message in receiver.messages]
            assert numbers == list(range(300))


async def test_what_is_forgotten_is_a_gap(redis: Server) -> None:
    """
    A node that was away for longer than redis retains messages reports a gap, at its place.
    """
    async with proxies(redis.port, 1) as [proxy]:
        urls = [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{redis.port}"]
        async with nodes(urls, retention=make_retention(5, 1 << 20)) as [(one, receiver), (two, _)]:
            await subscribe_all(one, two)
            [before] = (await two.publish([Draft("c1", b"before")])).positions
            await receiver.until(1)
            proxy.shut(True)
            proxy.cut()
            await until(lambda: not one.ready())
            drafts = [Draft("c1", b"%d" % n) for n in range(20)] + [Draft("c2", b"all of it")]
            positions = (await two.publish(drafts)).positions
            proxy.shut(False)
            await receiver.until(7)
            replay = await one.after(["c1"], After(before))

    assert [m.data for m in receiver.messages] == [
        b"before", b"15", b"16", b"17", b"18", b"19", b"all of it"
    ]  # fmt: skip
    assert receiver.missing == [("c1", positions[14])]
    assert not replay.complete
    assert [m.data for m in replay.messages] == [b"15", b"16", b"17", b"18", b"19"]


async def test_bytes_and_age_bound_what_is_remembered(redis: Server) -> None:
    """
    Each bound holds, and what exceeds it is a gap; a message larger than the bound is not stored
    at all.
    """
    retention = make_retention(100, 10_000, 1.0)
    async with nodes([f"127.0.0.1:{redis.port}"], retention=retention) as [(one, receiver)]:
        start = [await one.subscribe(name) for name in "abc"][-1]
        positions = (await one.publish([Draft("a", bytes(744)) for _ in range(30)])).positions
        replay = await one.after(["a"], After(start))
        assert len(replay.messages) == 10
        assert not replay.complete
        assert (await one.after(["a"], After(positions[19]))).complete
        assert not (await one.after(["a"], After(positions[18]))).complete

        drafts = [Draft("b", b"1"), Draft("b", bytes(10_000)), Draft("b", b"2")]
        [small, large, after] = (await one.publish(drafts)).positions
        replay = await one.after(["b"], After(small))
        assert not replay.complete
        assert [message.data for message in replay.messages] == [b"2"]
        assert (await one.after(["b"], After(large))).complete

        await pause(1.1)
        assert not (await one.after(["b"], After(large))).complete
        assert (await one.after(["b"], After(after))).complete
        await one.publish([Draft("c", b"")])
        await pause(1.1)  # redis stores the position of the log once a second
        [last] = (await one.publish([Draft("c", b"")])).positions
        await pause(1.1)
        await one.publish([Draft("a", b"")])
        assert not (await one.after(["b"], After(large))).complete
        assert (await one.after(["b"], After(last))).complete
        await receiver.until(36)


async def test_publishing_may_wait(redis: Server) -> None:
    """
    With `redis-wait` a publication waits for the reconnect to redis, for a limited time.
    """
    redis.kill(SIGKILL)
    async with nodes([f"127.0.0.1:{redis.port}"], wait=1.0) as [(one, _)]:
        with pytest.raises(Unavailable):
            await one.publish([Draft("c1", b"1")])
        one.subscribe("c1")
        waiting = one.publish([Draft("c1", b"2")])
        redis.start()
        [position] = (await waiting).positions
        await until(one.ready)
        replay = await one.after(["c1"], After(Position(position.epoch, 0)))

    assert [message.data for message in replay.messages] == [b"2"]


async def test_without_redis(redis: Server, clean_reactor: Any) -> None:
    """
    Publishing fails at once; subscriptions and history queries wait.
    """
    redis.kill(SIGKILL)
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, _)]:
        with pytest.raises(Unavailable):
            await one.publish([Draft("c1", b"1")])
        subscription = one.subscribe("c1")
        pending = one.after(["c1"], After(Position("e", 1)))
        assert not one.ready()
        redis.start()
        position = await subscription
        replay = await pending
        assert one.ready()

    assert not replay.complete
    assert position.epoch == replay.position.epoch


async def test_too_much_was_missed(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    What exceeds the bound while a node reconnects is a gap, and nothing is received twice.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.receiver.MAX_FETCHED", 1000)
    monkeypatch.setattr("rt_twisted.brokers.redis.history.CHUNK", 1)
    async with proxies(redis.port, 1) as [proxy]:
        urls = [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{redis.port}"]
        async with nodes(urls, retention=MUCH) as [(one, receiver), (two, _)]:
            await subscribe_all(one)
            proxy.shut(True)
            proxy.cut()
            await until(lambda: not one.ready())
            drafts = [Draft(channel, bytes(600)) for channel in CHANNELS]
            await two.publish(drafts + drafts)
            proxy.shut(False)
            await until(lambda: len(receiver.missing) == 4)
            await two.publish(drafts)
            await receiver.until(7)

    channels = [message.channel for message in receiver.messages]
    [whole] = {channel for channel in CHANNELS if channels.count(channel) == 3}
    assert sorted(channel for channel, _ in receiver.missing) == sorted({*CHANNELS} - {whole})
    assert channels.count(whole) == 3


async def test_too_much_comes_meanwhile(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    A node that is flooded while it reconnects tries again, and misses nothing.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.receiver.MAX_BUFFERED", 2000)
    log = Log()
    async with nodes([f"127.0.0.1:{redis.port}"] * 2, retention=MUCH) as made:
        (one, receiver), (two, other_receiver) = made
        await subscribe_all(one, two)
        log.start(two, two, two)
        async with redis_commands(redis.port) as ask:
            for _ in range(5):
                await pause(0.05)
                await ask("CLIENT", "KILL", "TYPE", "pubsub")
        await pause(0.1)
        await log.stop()
        await log.is_received(receiver, other_receiver)


async def test_ten_thousand_channels(redis: Server) -> None:
    """
    They are subscribed together, and fetched together after a cut.
    """
    names = [f"n{number}" for number in range(10_000)]
    async with proxies(redis.port, 1) as [proxy]:
        urls = [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{redis.port}"]
        async with nodes(urls) as [(one, receiver), (two, _)]:
            await subscribe_all(one, channels=names)
            proxy.shut(True)
            proxy.cut()
            await until(lambda: not one.ready())
            for start in range(0, len(names), 1000):
                await two.publish([Draft(name, b"x") for name in names[start : start + 1000]])
            proxy.shut(False)
            messages = await receiver.until(len(names))
            async with redis_commands(redis.port) as ask:
                commands: bytes = await ask("INFO", "commandstats")

    assert [message.channel for message in messages] == names
    assert receiver.missing == []
    subscribes = int(commands.partition(b"cmdstat_subscribe:calls=")[2].partition(b",")[0])
    assert subscribes < 10
