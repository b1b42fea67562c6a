"""
Patterns of channels against a real RabbitMQ, without a stream, by each type of exchange.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from rt_twisted.brokers.amqp.config import ExchangeType
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft
from tests.contracts.brokers import BrokerContract
from tests.contracts.patterns import PatternContract
from tests.fakes import RecordingReceiver
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import Proxy
from tests.real.subscribers import until
from tests.real.test_amqp import make

__all__ = ["rabbit"]


class PatternExchange(BrokerContract, PatternContract):
    """
    Starts brokers with an exchange of the type `type`.
    """

    type: ExchangeType

    @pytest_twisted.async_yield_fixture
    async def broker(self, rabbit: Rabbit, receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a broker.
        """
        broker = make(rabbit, receiver, type=self.type, exchange=f"patterns-{self.type.value}")
        await until(broker.ready)
        yield broker
        await broker.stopService()


class TestTopicExchange(PatternExchange):
    """
    A topic exchange routes patterns by bindings.
    """

    type = ExchangeType.TOPIC


class TestFanoutExchange(PatternExchange):
    """
    A fanout exchange routes everything to each node, which takes what matches.
    """

    type = ExchangeType.FANOUT


class TestHeadersExchange(PatternExchange):
    """
    A headers exchange has a binding for all messages.
    """

    type = ExchangeType.HEADERS


def test_a_direct_exchange_has_no_patterns(rabbit: Rabbit) -> None:
    """
    A direct exchange cannot route them: the daemon says so at its start.
    """
    broker = make(rabbit, RecordingReceiver())
    with pytest.raises(HttpError, match="set amqp-exchange-type = topic"):
        broker.check_pattern(Wildcard.of("news.*"))
    broker.stopService()


async def test_a_lost_connection_is_a_gap_of_the_pattern(rabbit: Rabbit) -> None:
    """
    Messages are lost with the queue; after that the pattern is received as before.
    """
    proxy = Proxy(rabbit.port)
    await proxy.open()
    receiver = RecordingReceiver()
    broker = make(
        rabbit, receiver, port=proxy.port, type=ExchangeType.TOPIC, exchange="patterns-topic"
    )
    news = Wildcard.of("news.*")
    await broker.subscribe(news)

    proxy.cut()
    await until(lambda: not broker.ready())
    await until(broker.ready)
    [position] = (await broker.publish([Draft("news.a", b"1")])).positions

    assert [one for one, _ in receiver.missing] == [news]
    assert [message.position for message in await receiver.until(1)] == [position]
    await broker.stopService()
    await proxy.close()
