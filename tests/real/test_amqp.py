"""
The AMQP broker against a real RabbitMQ, without a stream.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import HostnameEndpoint

from rt_twisted.brokers.interfaces import ClaimTaken
from tests.contracts.brokers import BrokerContract, ClaimsContract, LiveContract, granted
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


class TestAmqpBroker(BrokerContract, ClaimsContract, LiveContract):
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

    @pytest_twisted.async_yield_fixture
    async def other(self, rabbit: Rabbit, other_receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a second node.
        """
        other = make(rabbit, other_receiver)
        await until(other.ready)
        yield other
        await other.stopService()

    @pytest.fixture
    def other_receiver(self) -> RecordingReceiver:
        """
        Records what the second node receives.
        """
        return RecordingReceiver()


async def test_a_claim_outlives_a_connection(rabbit: Rabbit) -> None:
    """
    A claim is declared again on the next connection, and is not lost meanwhile.
    """
    receivers = [RecordingReceiver() for _ in range(2)]
    one, two = (make(rabbit, receiver) for receiver in receivers)
    await until(one.ready)
    await until(two.ready)
    claim = await one.claim("cam", "run1", False)
    rabbit.evaluate(
        "[rabbit_networking:close_connection(P, <<>>) || P <- rabbit_networking:connections()]."
    )
    await until(lambda: not one.ready() and not two.ready())
    await until(one.ready)
    await until(two.ready)

    with pytest.raises(ClaimTaken):
        await two.claim("cam", "run2", False)
    assert not claim.lost.called
    await one.stopService()
    await granted(two, "cam", "run2")
    await two.stopService()
