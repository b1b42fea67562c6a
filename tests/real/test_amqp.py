"""
The AMQP broker against a real RabbitMQ, without a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest_twisted
from twisted.internet.endpoints import HostnameEndpoint

from tests.contracts.brokers import BrokerContract, LiveContract
from tests.defaults import SETTINGS, make_amqp_server, make_topology
from tests.fakes import RecordingReceiver
from tests.real.rabbit import Rabbit, rabbit
from tests.real.subscribers import until

__all__ = ["rabbit"]


def make(
    server: Rabbit,
    receiver: RecordingReceiver,
    *,
    port: int = 0,
    stream: str = "",
    user: str = "guest",
    password: str = "guest",
    **topology: Any,
) -> Any:
    """
    Start a broker for *server*, by way of *port* if it is given.
    """
    from twisted.internet import reactor

    from rt_twisted.brokers.amqp.broker import AmqpBroker
    from rt_twisted.brokers.amqp.config import read_stream_retention
    from rt_twisted.brokers.amqp.connector import AmqpTarget
    from rt_twisted.brokers.amqp.specification import load_specification
    from rt_twisted.brokers.amqp.stream import StreamBroker

    loop: Any = reactor
    host = ("127.0.0.1", port or server.port)
    where = make_amqp_server(2, hosts=(host,), user=user, password=password)
    endpoint = HostnameEndpoint(loop, *host)
    target = AmqpTarget([endpoint], where, make_topology(**topology), load_specification())
    retention = read_stream_retention(SETTINGS)
    broker: Any = (
        StreamBroker(loop, target, stream, retention) if stream else AmqpBroker(loop, target)
    )
    broker.attach(receiver)
    broker.startService()
    return broker


class TestAmqpBroker(BrokerContract, LiveContract):
    """
    AmqpBroker fulfils the contract of all brokers.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, rabbit: Rabbit, receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a broker.
        """
        broker = make(rabbit, receiver)
        await until(broker.ready)
        yield broker
        await broker.stopService()
