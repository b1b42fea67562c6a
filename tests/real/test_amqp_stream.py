"""
The AMQP broker against a real RabbitMQ, with a stream as the log.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted

from rt_twisted.brokers.amqp.config import Exchange
from tests.contracts import BrokerContract, HistoryContract, SharedLogContract
from tests.fakes import Ears
from tests.real.rabbit import Rabbit, rabbit
from tests.real.readers import until
from tests.real.test_amqp import make

__all__ = ["rabbit"]

COUNT = itertools.count()


class TestStreamBroker(BrokerContract, HistoryContract, SharedLogContract):
    """
    It keeps the contract of all brokers, of those that remember, and of those
    whose log is that of all nodes.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, rabbit: Rabbit, ears: Ears) -> AsyncIterator[Any]:
        """
        A fresh one, on a fresh log.
        """
        self.name = f"log{next(COUNT)}"
        broker = make(rabbit, ears, stream=self.name, exchange=self.name, type=Exchange.TOPIC)
        await until(broker.ready)
        yield broker
        await broker.stopService()

    @pytest_twisted.async_yield_fixture
    async def other(self, rabbit: Rabbit, broker: Any, other_ears: Ears) -> AsyncIterator[Any]:
        """
        A second node.
        """
        other = make(rabbit, other_ears, stream=self.name, exchange=self.name, type=Exchange.TOPIC)
        await until(other.ready)
        yield other
        await other.stopService()
