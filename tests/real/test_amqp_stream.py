"""
The AMQP broker against a real RabbitMQ, with a stream as the log.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from twisted.internet.defer import CancelledError

from rt_twisted.brokers.amqp.config import ExchangeType
from rt_twisted.model.message import After, Position
from tests.contracts.brokers import (
    BrokerContract,
    ClaimsContract,
    HistoryContract,
    LiveContract,
    SharedLogContract,
)
from tests.contracts.patterns import (
    PatternContract,
    PatternHistoryContract,
    SharedPatternContract,
)
from tests.fakes import RecordingReceiver
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import Proxy
from tests.real.subscribers import until
from tests.real.test_amqp import make

__all__ = ["rabbit"]

COUNT = itertools.count()


class TestStreamBroker(
    BrokerContract,
    ClaimsContract,
    HistoryContract,
    LiveContract,
    SharedLogContract,
    PatternContract,
    PatternHistoryContract,
    SharedPatternContract,
):
    """
    StreamBroker fulfils the contracts of all brokers, of those with history, and of those with a
    shared log.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, rabbit: Rabbit, receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a broker on a new log.
        """
        self.name = f"log{next(COUNT)}"
        broker = make(
            rabbit, receiver, stream=self.name, exchange=self.name, type=ExchangeType.TOPIC
        )
        await until(broker.ready)
        yield broker
        await broker.stopService()

    @pytest_twisted.async_yield_fixture
    async def other(
        self, rabbit: Rabbit, broker: Any, other_receiver: RecordingReceiver
    ) -> AsyncIterator[Any]:
        """
        Start a second node.
        """
        other = make(
            rabbit, other_receiver, stream=self.name, exchange=self.name, type=ExchangeType.TOPIC
        )
        await until(other.ready)
        yield other
        await other.stopService()


async def test_subscribers_come_and_go_while_it_is_away(rabbit: Rabbit) -> None:
    """
    Nothing remains of subscribers that have left, however many there were.
    """
    proxy = Proxy(rabbit.port)
    await proxy.open()
    broker = make(
        rabbit,
        RecordingReceiver(),
        port=proxy.port,
        stream="away",
        exchange="away",
        type=ExchangeType.TOPIC,
    )
    await until(broker.ready)
    proxy.shut(True)
    proxy.cut()
    await until(lambda: not broker.ready())
    for number in range(100):
        broker.subscribe("news")
        query: Any = broker.after(["news"], After(Position("e", number)))
        query.addErrback(lambda failure: failure.trap(CancelledError))
        query.cancel()
        broker.unsubscribe("news")
    assert not broker._history.batcher._queries
    await broker.stopService()
    await proxy.close()
