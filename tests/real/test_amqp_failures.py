"""
Failures of RabbitMQ, and of the network before it, with a stream and without.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pika
import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from zope.interface import implementer

from rt_twisted.brokers.amqp.config import ExchangeType
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft
from tests.fakes import RecordingReceiver
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import Proxy
from tests.real.subscribers import pause, until
from tests.real.test_amqp import make

__all__ = ["rabbit"]

COUNT = itertools.count()
QUEUE, STREAM = "queue", "stream"
# RabbitMQ 3.10 never finds a stream again if it is killed within half a second
# after the stream was declared; seen with pika alone.
SETTLED = 3.0


class Node:
    """
    A broker behind a proxy of its own.
    """

    def __init__(self, server: Rabbit, proxy: Proxy, mode: str, name: str) -> None:
        self.server = server
        self.proxy = proxy
        self.mode = mode
        self.name = name
        self.receiver = RecordingReceiver()
        self.broker: Any = None

    def start(self) -> None:
        """
        Begin to connect.
        """
        stream = self.name if self.mode == STREAM else ""
        type = ExchangeType.TOPIC if stream else ExchangeType.DIRECT
        self.broker = make(
            self.server,
            self.receiver,
            port=self.proxy.port,
            stream=stream,
            exchange=self.name,
            type=type,
        )

    async def received(self, *texts: bytes) -> None:
        """
        Check that these messages were received, in this order, and nothing else.
        """
        await until(lambda: len(self.receiver.messages) >= len(texts))
        assert [message.data for message in self.receiver.messages] == list(texts)

    async def went_away(self) -> None:
        """
        Wait until the node has noticed the failure.
        """
        await until(lambda: not self.broker.ready())

    async def reconnected(self) -> None:
        """
        Wait until the node is ready again.
        """
        await until(self.broker.ready)


@pytest.fixture(params=[QUEUE, STREAM])
def mode(request: pytest.FixtureRequest) -> str:
    """
    Run without a stream, and with one.
    """
    return str(request.param)


@pytest_twisted.async_yield_fixture
async def node(rabbit: Rabbit, mode: str) -> AsyncIterator[Node]:
    """
    Start a node that is subscribed to `news`.
    """
    proxy = Proxy(rabbit.port)
    await proxy.open()
    node = Node(rabbit, proxy, mode, f"failing{next(COUNT)}")
    node.start()
    await until(node.broker.ready)
    await node.broker.subscribe("news")
    yield node
    await node.broker.stopService()
    await proxy.close()


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """
    Collect what the AMQP brokers log, at `info` and above.
    """
    found: list[str] = []

    @implementer(ILogObserver)
    def observe(event: LogEvent) -> None:
        if "brokers.amqp" in event["log_namespace"] and event["log_level"] > LogLevel.debug:
            found.append(f"{event['log_level'].name}: {event['log_format'].format(**event)}")

    globalLogPublisher.addObserver(observe)
    yield found
    globalLogPublisher.removeObserver(observe)


def foreign(server: Rabbit) -> Any:
    """
    Open another program's connection.
    """
    return pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", server.port))


def ask(node: Node, *words: str) -> Deferred[str]:
    """
    Run `rabbitmqctl` in a thread, as it may take seconds, and heartbeats must go on.
    """
    return deferToThread(node.server.control, *words)


async def own_queue(node: Node) -> str:
    """
    Return the name of the node's queue.
    """
    shown = await ask(node, "list_bindings", "destination_name", "source_name")
    names = {line.split()[0] for line in shown.splitlines() if line.endswith(node.name)}
    [name] = names
    assert name.startswith("amq.gen-")
    return name


async def check_healed(node: Node) -> None:
    """
    Check a node after a failure: it is connected, reports a gap only where messages may be lost,
    and receives the channel.
    """
    await node.reconnected()
    before = node.broker.position()
    [position] = (await node.broker.publish([Draft("news", b"after")])).positions
    await until(lambda: b"after" in [m.data for m in node.receiver.messages])
    assert position.offset > before.offset
    assert position.epoch == before.epoch
    if node.mode == QUEUE:
        [(channel, hole), *_] = node.receiver.missing
        assert channel == "news"
        assert hole.offset < position.offset
    else:
        assert node.receiver.missing == []
    assert len(node.receiver.epochs) == 1


async def test_the_network_is_cut(node: Node, lines: list[str]) -> None:
    """
    Publishing fails at once; afterwards everything is as before. One log line at the loss, one at
    the recovery.
    """
    await node.broker.publish([Draft("news", b"before")])
    node.proxy.shut(True)
    node.proxy.cut()
    await node.went_away()
    with pytest.raises(Unavailable, match="away"):
        await node.broker.publish([Draft("news", b"lost")])

    connection = foreign(node.server)
    connection.channel().basic_publish(node.name, "news", b"meanwhile")
    connection.close()
    await pause(1.5)  # for some attempts
    node.proxy.shut(False)

    await check_healed(node)
    meanwhile = [] if node.mode == QUEUE else [b"meanwhile"]
    await node.received(b"before", *meanwhile, b"after")
    assert [line.partition(":")[0] for line in lines] == ["warn", "info"]


async def test_a_server_that_is_frozen(node: Node) -> None:
    """
    Missing heartbeats reveal it; what was published and not confirmed fails.
    """
    node.server.send(signal.SIGSTOP)
    try:
        with pytest.raises(Unavailable):
            await node.broker.publish([Draft("news", b"into the void", key="k")])
        await node.went_away()
    finally:
        node.server.send(signal.SIGCONT)

    await check_healed(node)
    # It may have arrived all the same: then the key prevents a duplicate.
    await node.broker.publish([Draft("news", b"into the void", key="k")])
    await until(lambda: b"into the void" in [m.data for m in node.receiver.messages])
    assert [m.data for m in node.receiver.messages].count(b"into the void") == 1


async def test_a_server_that_restarts(node: Node) -> None:
    """
    The exchange is declared anew.
    """
    node.server.control("stop_app")
    await node.went_away()
    node.server.control("start_app")

    await check_healed(node)


async def test_a_server_that_is_killed(node: Node) -> None:
    """
    What the server had confirmed is not received twice, and new messages are received.
    """
    await node.broker.publish([Draft("news", b"before")])
    await pause(SETTLED if node.mode == STREAM else 0)
    node.server.kill()
    await node.went_away()
    node.server.start()

    await check_healed(node)
    await node.received(b"before", b"after")


@pytest.mark.parametrize("mode", [QUEUE], indirect=True)
async def test_the_queue_is_deleted(node: Node) -> None:
    """
    An operator deletes the queue: the server reports it, and a new one is declared.
    """
    name = await own_queue(node)
    node.proxy.shut(True)  # so that the loss is noticed before it is back
    # An exclusive queue can be deleted by its own connection, or from within.
    await deferToThread(
        node.server.evaluate,
        f'{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<"/">>, queue, <<"{name}">>)), '
        'rabbit_amqqueue:delete(Q, false, false, <<"test">>).',
    )
    await node.went_away()
    node.proxy.shut(False)

    await check_healed(node)


async def test_the_exchange_is_deleted(node: Node) -> None:
    """
    The next publication fails, and the exchange is declared again.
    """
    connection = foreign(node.server)
    connection.channel().exchange_delete(node.name)
    connection.close()
    with pytest.raises(Unavailable, match="NOT_FOUND"):
        await node.broker.publish([Draft("news", b"nowhere")])

    await check_healed(node)


async def test_connections_are_closed_by_an_operator(node: Node) -> None:
    """
    The node reconnects after `rabbitmqctl close_all_connections`.
    """
    node.server.control("close_all_connections", "by the operator")
    await node.went_away()

    await check_healed(node)


async def test_a_server_short_of_memory(node: Node, lines: list[str]) -> None:
    """
    Publishing fails with the server's reason; further channels can still be subscribed to.
    """
    await ask(node, "set_vm_memory_high_watermark", "0.0001")
    try:
        while "memory" not in await ask(node, "eval", "rabbit_alarm:get_alarms()."):
            await pause(0.1)
        with pytest.raises(Unavailable, match="memory"):
            await node.broker.publish([Draft("news", b"1", key="1")])
        with pytest.raises(Unavailable, match="memory"):
            await node.broker.publish([Draft("news", b"1", key="1")])
        assert node.broker.ready()
        assert node.broker.refuses()
        await node.broker.subscribe("other")
    finally:
        await ask(node, "set_vm_memory_high_watermark", "0.4")
    await until(lambda: not node.broker.refuses())
    await node.broker.publish([Draft("news", b"1", key="1"), Draft("other", b"2")])

    await node.received(b"1", b"2")
    assert ["accepts" in line for line in lines] == [True, True]


@pytest.mark.parametrize("mode", [QUEUE], indirect=True)
async def test_nothing_is_left_behind(node: Node) -> None:
    """
    Channels are unbound after the last unsubscribe, and the queue of a node that has stopped is
    deleted.
    """

    async def bindings() -> set[str]:
        shown = await ask(node, "list_bindings", "source_name", "routing_key")
        rows = [line.split("\t") for line in shown.splitlines()]
        return {row[1] for row in rows if row[0] == node.name}

    await node.broker.subscribe("a")
    await node.broker.subscribe("b")
    node.broker.unsubscribe("a")
    await node.broker.subscribe("c")
    assert await bindings() == {"news", "b", "c"}
    queue = await own_queue(node)
    node.proxy.shut(True)
    node.proxy.cut()  # as a crash of the node would
    await node.went_away()
    while queue in await ask(node, "list_queues", "name"):
        pass
    assert await bindings() == set()
    node.proxy.shut(False)
    await node.reconnected()
    assert await bindings() == {"news", "b", "c"}


async def test_a_login_that_is_refused(rabbit: Rabbit, lines: list[str]) -> None:
    """
    One clear log line, and slow attempts; nothing else of the daemon is affected.
    """
    await deferToThread(rabbit.control, "add_user", "reader", "right")
    receiver = RecordingReceiver()
    from rt_twisted.brokers.amqp import connector

    broker = make(rabbit, receiver, user="reader", password="wrong")
    received: Deferred[Any] = broker.subscribe("news")
    await until(lambda: bool(lines))
    assert "rejects the login of reader: ACCESS_REFUSED" in lines[0]
    assert lines[0].startswith("error")
    assert not broker.ready()
    assert broker._pair._delay(1) >= connector.SLOW_RETRY / 2
    assert not received.called
    await broker.stopService()
    await deferToThread(rabbit.control, "delete_user", "reader")


async def test_a_permission_that_is_missing(rabbit: Rabbit, lines: list[str]) -> None:
    """
    The log line names the permission, and suggests no setting. The same holds for a passive
    exchange that does not exist.
    """
    await deferToThread(rabbit.control, "add_user", "low", "low")
    await deferToThread(rabbit.control, "set_permissions", "low", "^amq\\.gen.*", ".*", ".*")
    for reason, settings in (
        ("ACCESS_REFUSED - access to exchange", {"user": "low", "password": "low"}),
        ("NOT_FOUND - no exchange", {"passive": True}),
    ):
        lines.clear()
        broker = make(rabbit, RecordingReceiver(), exchange=f"theirs{next(COUNT)}", **settings)
        await until(lambda: bool(lines))
        assert f"denies what is needed: {reason}" in lines[0]
        assert "set amqp" not in lines[0]
        await broker.stopService()
    await deferToThread(rabbit.control, "delete_user", "low")


async def test_an_exchange_with_other_properties(rabbit: Rabbit, lines: list[str]) -> None:
    """
    The log line names the settings to change; with them, it works.
    """
    name = f"theirs{next(COUNT)}"
    connection = foreign(rabbit)
    connection.channel().exchange_declare(name, "topic", durable=True)
    connection.close()

    broker = make(rabbit, RecordingReceiver(), exchange=name)
    await until(lambda: bool(lines))
    assert "PRECONDITION_FAILED" in lines[0]
    assert "set amqp-exchange-type and amqp-durable" in lines[0]
    await broker.stopService()
    for settings in ({"type": ExchangeType.TOPIC, "durable": True}, {"passive": True}):
        receiver = RecordingReceiver()
        broker = make(rabbit, receiver, exchange=name, **settings)
        await broker.subscribe("a.b")
        await broker.publish([Draft("a.b", b"1")])
        assert [message.data for message in receiver.messages] == [b"1"]
        await broker.stopService()


async def test_stopping_while_it_connects(rabbit: Rabbit) -> None:
    """
    Nothing is left over from a server that never answers.
    """
    proxy = Proxy(rabbit.port)
    await proxy.open()
    proxy.freeze(True)
    for moment in (0, 0.05):
        broker = make(rabbit, RecordingReceiver(), port=proxy.port)
        await pause(moment)
        await broker.stopService()
    await proxy.close()


@pytest.mark.parametrize("mode", [STREAM], indirect=True)
async def test_a_stream_that_has_lost_its_end_is_replaced(node: Node, lines: list[str]) -> None:
    """
    A server whose disk was restored to an older state would give offsets twice: the log goes on
    in another stream.
    """
    [old] = (await node.broker.publish([Draft("news", b"1")])).positions
    node.broker._head += 1000  # as if the node had received what the stream has lost
    node.proxy.cut()
    await until(lambda: node.broker.position().epoch != old.epoch)
    await node.reconnected()

    await node.broker.publish([Draft("news", b"2")])
    await node.received(b"1", b"2")
    assert any("has lost messages" in line for line in lines)
    shown = node.server.control("list_queues", "name").splitlines()
    epoch = node.broker.position().epoch
    assert sorted(name for name in shown if name.startswith(node.name)) == [
        node.name,
        f"{node.name}.{epoch}",
    ]


@pytest.mark.parametrize("mode", [STREAM], indirect=True)
async def test_a_stream_that_is_deleted_is_another_log(node: Node, rabbit: Rabbit) -> None:
    """
    The epoch is new on every node, so that every subscriber gets a gap.
    """
    receiver = RecordingReceiver()
    other = make(rabbit, receiver, stream=node.name, exchange=node.name, type=ExchangeType.TOPIC)
    await other.subscribe("news")
    [old] = (await node.broker.publish([Draft("news", b"1")])).positions
    await receiver.until(1)

    connection = foreign(rabbit)
    connection.channel().queue_delete(f"{node.name}.{old.epoch}")
    connection.close()
    await until(lambda: node.broker.position().epoch != old.epoch)
    await until(lambda: other.position().epoch != old.epoch)
    await node.reconnected()
    await until(other.ready)

    [new] = (await node.broker.publish([Draft("news", b"2")])).positions
    await receiver.until(2)
    assert [message.position.epoch for message in receiver.messages] == [old.epoch, new.epoch]
    assert node.receiver.messages == receiver.messages
    assert not (await other.after(["news"], After(old))).complete
    await other.stopService()
