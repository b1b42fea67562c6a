"""
The redis broker on a real redis-server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from rt_twisted.brokers.interfaces import ClaimTaken
from rt_twisted.model.message import Draft, Newest
from tests.contracts.brokers import (
    BrokerContract,
    ClaimsContract,
    ForgettingContract,
    HistoryContract,
    LiveContract,
    SharedLogContract,
)
from tests.contracts.patterns import (
    PatternContract,
    PatternHistoryContract,
    SharedPatternContract,
)
from tests.defaults import make_retention
from tests.fakes import RecordingReceiver
from tests.real.conftest import Server
from tests.real.redis_server import nodes, redis, redis_commands, turn  # noqa: F401  # a fixture
from tests.real.subscribers import until


class TestRedisBroker(
    BrokerContract,
    ClaimsContract,
    ForgettingContract,
    HistoryContract,
    LiveContract,
    SharedLogContract,
    PatternContract,
    PatternHistoryContract,
    SharedPatternContract,
):
    """
    RedisBroker fulfils the contracts, and two nodes share a log.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, redis: Server, receiver: RecordingReceiver) -> AsyncIterator[Any]:  # noqa: F811
        """
        Start a node.
        """
        async with nodes([f"127.0.0.1:{redis.port}"], [receiver]) as [(broker, _)]:
            await until(broker.ready)
            yield broker

    @pytest_twisted.async_yield_fixture
    async def other(self, redis: Server, other_receiver: RecordingReceiver) -> AsyncIterator[Any]:  # noqa: F811
        """
        Start a second node.
        """
        async with nodes([f"127.0.0.1:{redis.port}"], [other_receiver]) as [(broker, _)]:
            await until(broker.ready)
            yield broker


async def test_live_streams_have_bounds_of_their_own(redis: Server) -> None:  # noqa: F811
    """
    Units are bounded by live-bytes and live-seconds, and messages of other channels by the
    settings of the history.
    """
    retention = make_retention(count=5, live_bytes=20_000, live_seconds=30.0)
    async with (
        nodes([f"127.0.0.1:{redis.port}"], retention=retention) as [(one, _)],
        redis_commands(redis.port) as ask,
    ):
        await until(one.ready)
        await one.subscribe("cam")
        await one.subscribe("news")
        units = [Draft("cam", bytes(744), "unit/1", transient=True) for _ in range(30)]
        await one.publish([*units, *[Draft("news", bytes(744)) for _ in range(30)]])

        cam = await one.after(["cam"], Newest(100))
        news = await one.after(["news"], Newest(100))
        assert len(cam.messages) == 20
        assert len(news.messages) == 5
        assert 25_000 < await ask("PTTL", "realtime:s:cam") <= 30_000
        assert await ask("PTTL", "realtime:s:news") > 60_000


async def test_the_claims_of_a_node_that_ends_expire(redis: Server) -> None:  # noqa: F811
    """
    A node that was killed releases nothing; its names are free some seconds later.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, _)],
        redis_commands(redis.port) as ask,
    ):
        await until(one.ready)
        await one.claim("a", "run1", False)
        await ask("SET", "realtime:c:b", "run2", "PX", 500)
        with pytest.raises(ClaimTaken):
            await one.claim("b", "run3", False)

        while await ask("EXISTS", "realtime:c:b"):
            await turn()
        await one.claim("b", "run3", False)
        assert 0 < await ask("PTTL", "realtime:c:a") <= 4000


async def test_a_claim_outlives_a_restart_of_redis(redis: Server) -> None:  # noqa: F811
    """
    The key is gone with redis; its owner sets it again as long as no other run has it.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, _)],
        redis_commands(redis.port) as ask,
    ):
        await until(one.ready)
        claim = await one.claim("a", "run1", False)
        await ask("DEL", "realtime:c:a")

        while await ask("GET", "realtime:c:a") != b"run1":
            await turn()
        assert not claim.lost.called
        await ask("SET", "realtime:c:a", "run2")
        assert await claim.lost
