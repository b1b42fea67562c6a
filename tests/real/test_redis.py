"""
The redis broker on a real redis-server.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from tests.contracts.brokers import BrokerContract, HistoryContract, SharedLogContract
from tests.fakes import RecordingReceiver
from tests.real.conftest import Server
from tests.real.readers import until
from tests.real.redis_server import nodes, redis  # noqa: F401  # a fixture


class TestRedisBroker(BrokerContract, HistoryContract, SharedLogContract):
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
