"""
A plain `PUBLISH`, as every redis client sends it: once on every node, whatever happens to the
nodes.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import pytest
from twisted.internet.defer import gatherResults

from rt_twisted.model.message import After, Draft
from tests.real.conftest import Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands, turn
from tests.real.subscribers import pause, until
from tests.real.test_cut import seeded_random
from tests.real.test_redis_failures import MUCH, subscribe_all

__all__ = ["redis"]  # a fixture


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_once_on_every_node(redis: Server, count: int) -> None:
    """
    Plain messages have the same position everywhere, and their exact bytes, among numbered
    messages.
    """
    big = bytes(range(256)) * (16 << 12)
    texts = [b"hello", b"42", b"", b"1.50", b"\xff\x00\r\n", b"hello", b"hello", b"1_000"]
    async with nodes([f"127.0.0.1:{redis.port}"] * count, retention=MUCH) as made:
        for broker, _ in made:
            await subscribe_all(broker, channels=["42", "*", "message"])
        async with redis_commands(redis.port) as ask:
            for text in texts:
                await ask("PUBLISH", "42", text)
                await made[0][0].publish([Draft("42", b"ours")])
            for channel in ("*", "message", "43"):
                await ask("PUBLISH", channel, "x")
            await ask("PUBLISH", "42", big)
            total = 2 * len(texts) + 3
            received = await gatherResults([receiver.until(total) for _, receiver in made])
            await pause(0.1)  # for what must not come

    for messages in received:
        assert len(messages) == total
        assert messages == received[0]
    plain = [message.data for message in received[0] if message.channel == "42"]
    assert [data for data in plain if data != b"ours"] == [*texts, big]
    assert sorted(m.channel for m in received[0] if m.channel != "42") == ["*", "message"]


async def test_they_are_replayed(redis: Server) -> None:
    """
    A node that was not connected replays them as all others.
    """
    url = f"127.0.0.1:{redis.port}"
    async with nodes([url]) as [(one, receiver)], redis_commands(redis.port) as ask:
        start = await one.subscribe("a")
        for number in range(10):
            await ask("PUBLISH", "a", str(number))
        received = list(await receiver.until(10))
        async with nodes([url]) as [(two, _)]:
            await two.subscribe("a")
            replay = await two.after(["a"], After(start))
    assert replay.complete
    assert list(replay.messages) == received


async def test_prefix_and_switch(redis: Server) -> None:
    """
    Plain names may have a prefix, or be ignored; the daemon's own names cannot be subscribed to
    as channels.
    """
    url = f"127.0.0.1:{redis.port}"
    async with (
        redis_commands(redis.port) as ask,
        nodes([url], plain_prefix="news.") as [(one, receiver)],
        nodes([url], plain=False) as [(two, silent)],
    ):
        await subscribe_all(one, two, channels=["a", "realtime:0:m:a"])
        assert await ask("PUBLISH", "a", "no") == 0
        assert await ask("PUBLISH", "news.a", "yes") == 1
        await gatherResults([receiver.until(1), silent.until(1)])
        assert receiver.messages == silent.messages
    async with nodes([url]) as [(one, receiver)]:
        await subscribe_all(one, channels=["realtime:0:m:a", "a"])
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)
        await turn()
        assert [message.channel for message in receiver.messages] == ["a"]


async def test_forged_names(redis: Server) -> None:
    """
    What another program publishes under the daemon's names is ignored, and breaks nothing.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        await one.subscribe("a")
        names: list[bytes] = await ask("PUBSUB", "CHANNELS", "realtime:*")
        for name in names:
            for text in (b"", b"x", b"e 1 0 0", b"e x 0 0 \n", b"\xff 1 0 0 \nx", b"e 1 t t"):
                await ask("PUBLISH", name, text)
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)
        assert one.ready()


async def test_its_owner_is_frozen(redis: Server) -> None:
    """
    Another node numbers what the frozen owner does not, and the owner's late attempts are
    rejected.
    """
    async with proxies(redis.port, 1) as [proxy], redis_commands(redis.port) as ask:
        urls = [f"127.0.0.1:{proxy.port}"] + [f"127.0.0.1:{redis.port}"] * 2
        async with nodes(urls, retention=MUCH, timeout=20.0) as made:
            owner, receiver = made[0]
            await owner.subscribe("a")
            await ask("PUBLISH", "a", "0")
            await receiver.until(1)
            await subscribe_all(*[broker for broker, _ in made[1:]], channels=["a"])
            proxy.freeze(True)
            for number in range(1, 200):
                await ask("PUBLISH", "a", str(number))
            others = await gatherResults([each.until(199) for _, each in made[1:]])
            proxy.freeze(False)
            mine = await receiver.until(200)
            await ask("PUBLISH", "a", "200")
            await gatherResults([receiver.until(201), *(each.until(200) for _, each in made[1:])])
            await pause(0.1)
            assert [message.data for message in mine] == [b"%d" % n for n in range(201)]
            assert others[0] == others[1] == mine[1:]
            assert [each.missing for _, each in made] == [[], [], []]


async def test_nodes_are_frozen_and_leave_at_random(redis: Server) -> None:
    """
    As long as one node is subscribed to a channel, each message is numbered once, in order.
    """
    rng = seeded_random()
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(redis_commands(redis.port))
        proxy_list = await stack.enter_async_context(proxies(redis.port, 2))
        urls = [f"127.0.0.1:{proxy.port}" for proxy in proxy_list] + [f"127.0.0.1:{redis.port}"]
        made = await stack.enter_async_context(nodes(urls, retention=MUCH, timeout=20.0))
        await subscribe_all(*[broker for broker, _ in made], channels=["a", "b"])
        sent: dict[str, list[bytes]] = {"a": [], "b": []}
        for round in range(12):
            for proxy in proxy_list:
                proxy.freeze(rng.random() < 0.5)
            if round % 4 == 3:
                guest: Any = await stack.enter_async_context(nodes(urls[2:]))
                await subscribe_all(guest[0][0], channels=["a"])
            for _ in range(60):
                channel = rng.choice("ab")
                data = b"%d" % rng.randrange(3)  # many are the same
                sent[channel].append(data)
                await ask("PUBLISH", channel, data)
                await pause(0.003)
        for proxy in proxy_list:
            proxy.freeze(False)
        received = await gatherResults([receiver.until(720) for _, receiver in made])
        await pause(0.1)
        for messages, (_, receiver) in zip(received, made, strict=True):
            assert messages == received[0]
            assert receiver.missing == []
        for channel in "ab":
            assert [m.data for m in received[0] if m.channel == channel] == sent[channel]


async def test_no_node_received_it(redis: Server) -> None:
    """
    A plain message that is published while the only node is away is lost; subscribers get a gap,
    here and on every node.
    """
    async with (
        proxies(redis.port, 1) as [proxy],
        redis_commands(redis.port) as ask,
        nodes([f"127.0.0.1:{proxy.port}"]) as [(one, receiver)],
    ):
        start = await one.subscribe("a")
        await ask("PUBLISH", "a", "1")
        await receiver.until(1)
        proxy.shut(True)
        proxy.cut()
        await until(lambda: not one.ready())
        assert await ask("PUBLISH", "a", "2") == 0
        proxy.shut(False)
        await until(lambda: bool(receiver.missing))
        await ask("PUBLISH", "a", "3")
        await receiver.until(2)
        async with nodes([f"127.0.0.1:{redis.port}"]) as [(two, _)]:
            await two.subscribe("a")
            replay = await two.after(["a"], After(start))

    assert [message.data for message in receiver.messages] == [b"1", b"3"]
    assert [channel for channel, _ in receiver.missing] == ["a"]
    assert not replay.complete
    assert [message.data for message in replay.messages] == [b"1", b"3"]


async def test_cut_while_another_node_receives(redis: Server) -> None:
    """
    Messages that one node misses while it is away are numbered by the other, and reach both.
    """
    async with proxies(redis.port, 1) as [proxy], redis_commands(redis.port) as ask:
        urls = [f"127.0.0.1:{proxy.port}", f"127.0.0.1:{redis.port}"]
        async with nodes(urls, retention=MUCH) as [(one, receiver), (two, other_receiver)]:
            await one.subscribe("a")
            await ask("PUBLISH", "a", "0")
            await receiver.until(1)
            await two.subscribe("a")
            for number in range(1, 60):
                if number == 20:
                    proxy.shut(True)
                    proxy.cut()
                if number == 40:
                    proxy.shut(False)
                await ask("PUBLISH", "a", str(number))
                await pause(0.01)
            received = await gatherResults([receiver.until(60), other_receiver.until(59)])
            assert received[0][1:] == received[1]
            assert sorted(int(message.data) for message in received[0]) == list(range(60))


async def test_a_lease_runs_out(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    After a minute without a message the next one is numbered without the takeover's delay, and a
    possible loss is reported as usual.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.sequencer.LEASE_TIMEOUT", 1000.0)
    async with (
        proxies(redis.port, 1) as [proxy],
        redis_commands(redis.port) as ask,
        nodes([f"127.0.0.1:{proxy.port}"]) as [(one, receiver)],
    ):
        await one.subscribe("a")
        await ask("PUBLISH", "a", "1")
        await receiver.until(1)
        await ask("DEL", "realtime:o:a")
        for number in range(2, 5):
            await ask("PUBLISH", "a", str(number))
        await receiver.until(4)
        proxy.shut(True)
        proxy.cut()
        await until(lambda: not one.ready())
        await ask("DEL", "realtime:o:a")
        assert await ask("PUBLISH", "a", "lost") == 0
        proxy.shut(False)
        await until(lambda: bool(receiver.missing))

    assert [message.data for message in receiver.messages] == [b"1", b"2", b"3", b"4"]
    assert [channel for channel, _ in receiver.missing] == ["a"]


async def test_a_lease_of_a_later_time(redis: Server) -> None:
    """
    Its owner is gone, and redis' clock was set back: no node waits until that time comes again.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        await one.subscribe("a")
        seconds, _ = await ask("TIME")
        await ask("SET", "realtime:o:a", f"gone:1 {int(seconds) + 3600}000")
        await ask("PUBLISH", "a", "1")
        await receiver.until(1)
