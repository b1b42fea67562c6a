"""
Patterns of channels on a real redis-server, together with plain messages and plain copies.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.message import After, Draft
from tests.contracts.brokers import BrokerContract, SharedLogContract
from tests.contracts.patterns import PatternContract, SharedPatternContract
from tests.fakes import RecordingReceiver
from tests.real.conftest import Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands
from tests.real.subscribers import pause, until
from tests.real.test_redis_failures import MUCH

__all__ = ["redis"]  # a fixture

NEWS, ALL, MANY = Wildcard.of("news.*"), Wildcard.of("*"), Wildcard.of("*.a")


class TestPatternsWithCopies(
    BrokerContract, SharedLogContract, PatternContract, SharedPatternContract
):
    """
    RedisBroker fulfils the contracts of patterns while it copies each message to the
    channel's own name, which the patterns match too.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, redis: Server, receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a node.
        """
        async with nodes([f"127.0.0.1:{redis.port}"], [receiver], plain_out="same") as [(one, _)]:
            await until(one.ready)
            yield one

    @pytest_twisted.async_yield_fixture
    async def other(self, redis: Server, other_receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a second node.
        """
        url = f"127.0.0.1:{redis.port}"
        async with nodes([url], [other_receiver], plain_out="same") as [(one, _)]:
            await until(one.ready)
            yield one


@pytest.mark.parametrize("plain_out", ["no", "same"])
async def test_plain_messages_are_numbered_once(redis: Server, plain_out: str) -> None:
    """
    A plain `PUBLISH` to a channel that nodes know by its name, by one pattern or by several, is
    one message on all of them, also among the daemon's own messages and their copies.
    """
    selectors: list[list[Any]] = [["news.a", NEWS], [NEWS, ALL, MANY], [MANY, "news.a"], [ALL]]
    urls = [f"127.0.0.1:{redis.port}"] * len(selectors)
    async with (
        nodes(urls, retention=MUCH, plain_out=plain_out) as made,
        redis_commands(redis.port) as command,
    ):
        for (broker, _), chosen in zip(made, selectors, strict=True):
            for selector in chosen:
                await broker.subscribe(selector)
        for number in range(100):
            await command("PUBLISH", "news.a", str(number % 3))
            await made[number % 4][0].publish([Draft("news.a", str(number % 3).encode())])
        received = await gatherResults([receiver.until(200) for _, receiver in made])
        await pause(0.2)  # for what must not come

    assert len(received[0]) == 200
    assert sorted(m.data for m in received[0]) == sorted([b"%d" % (n % 3) for n in range(100)] * 2)
    assert received[0] == received[1] == received[2] == received[3]


async def test_nothing_is_lost_without_the_connection(redis: Server) -> None:
    """
    What was published to any matching channel while the connection was cut is fetched, in
    order, also of channels that are new.
    """
    async with proxies(redis.port, 1) as [way]:
        urls = [f"127.0.0.1:{way.port}", f"127.0.0.1:{redis.port}"]
        async with nodes(urls, retention=MUCH) as [(one, receiver), (two, _)]:
            await one.subscribe(NEWS)
            await two.publish([Draft("news.a", b"0")])
            await receiver.until(1)
            for attempt in range(3):
                way.cut()
                drafts = [Draft(f"news.{attempt}.{n}", b"%d" % n) for n in range(100)]
                await two.publish([*drafts, Draft("sport", b""), Draft("news.a", b"end")])
                received = await receiver.until(1 + 101 * (attempt + 1))
                assert [m.channel for m in received[-101:-1]] == [d.channel for d in drafts]
            assert receiver.missing == []


async def test_what_is_forgotten_is_a_gap(redis: Server) -> None:
    """
    A replay of a pattern is incomplete if a matching channel has dropped messages, and only then.
    """
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)]:
        await one.subscribe(ALL)
        drafts = [Draft("news.a" if n < 1000 else "news.b", b"%d" % n) for n in range(1005)]
        positions = (await one.publish([Draft("sport", b""), *drafts])).positions
        await receiver.until(1006)

        replay = await one.after([NEWS], After(positions[0]))
        assert not replay.complete
        replay = await one.after([NEWS], After(positions[1000]))
        assert replay.complete
        assert [message.data for message in replay.messages] == [
            b"%d" % n for n in range(1000, 1005)
        ]
