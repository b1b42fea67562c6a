"""
What other programs publish reaches subscribers and ends no connection: each line of the table of
txAMQP's faults, and the properties of messages.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pika
import pytest
import pytest_twisted
from twisted.internet.threads import deferToThread

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import ExchangeType
from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.model.message import After, Draft, Newest
from tests.defaults import make_amqp_server, make_topology
from tests.fakes import RecordingReceiver
from tests.real.rabbit import Rabbit, rabbit
from tests.real.subscribers import until
from tests.real.test_amqp import make
from tests.real.test_amqp_failures import QUEUE, STREAM, foreign

__all__ = ["rabbit"]

COUNT = itertools.count()
FRAME = 131_064  # bytes of a body in RabbitMQ's frames
TABLE = {
    "int64": 1 << 40,
    "negative": -5,
    "void": None,
    "array": [1, "two", {"three": [None]}],
    "bytes": b"\xff\x00",
    "time": datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None),
    "decimal": Decimal("-1.25"),
    "table": {"in": {"in": {"a": True}}},
    "text": "é",
}
# RabbitMQ 3.10 keeps no tables and arrays in a stream, and a decimal ends its
# publisher's connection.
FLAT = {name: TABLE[name] for name in ("int64", "negative", "void", "bytes", "time", "text")}


class Place:
    """
    A broker, and another program's connection to its exchange.
    """

    def __init__(self, server: Rabbit, receiver: RecordingReceiver, mode: str) -> None:
        self.name = f"foreign{next(COUNT)}"
        self.table = FLAT if mode == STREAM else TABLE
        self.receiver = receiver
        type = ExchangeType.TOPIC if mode == STREAM else ExchangeType.DIRECT
        stream = self.name if mode == STREAM else ""
        self.broker = make(server, receiver, stream=stream, exchange=self.name, type=type)
        self._connection = foreign(server)
        self.channel = self._connection.channel()

    def publish(self, body: bytes, **properties: Any) -> None:
        """
        Publish on the channel `news`.
        """
        self.channel.basic_publish(self.name, "news", body, pika.BasicProperties(**properties))

    async def close(self) -> None:
        """
        Close both connections.
        """
        self._connection.close()
        await self.broker.stopService()


@pytest_twisted.async_yield_fixture(params=[QUEUE, STREAM])
async def place(request: Any, rabbit: Rabbit) -> AsyncIterator[Place]:
    """
    Start a broker that is subscribed to `news`.
    """
    place = Place(rabbit, RecordingReceiver(), request.param)
    await place.broker.subscribe("news")
    await until(place.broker.ready)
    yield place
    await place.close()


@pytest.mark.parametrize(
    "body",
    [
        "héllo ☃".encode(),
        b"",
        b"42",
        bytes(range(256)),
        b"a" * FRAME + b"\xff" * 10,
        b"\xff" * FRAME + b"a" * FRAME + b"b",
        "é".encode() * FRAME,
        b"x" * (5 << 20),
    ],
    ids=["utf-8", "empty", "digits", "binary", "text-binary", "binary-text", "cut-utf-8", "5-MiB"],
)
async def test_bodies_are_bytes(place: Place, body: bytes) -> None:
    """
    Any bytes, in any number of frames, in both directions.
    """
    place.publish(body)
    await place.broker.publish([Draft("news", body)])

    assert [message.data for message in await place.receiver.until(2)] == [body, body]


async def test_headers_of_every_type(place: Place) -> None:
    """
    Headers of every type, however nested, end nothing.
    """
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"deeper": deep}
    place.publish(b"1", headers=place.table)
    place.publish(b"2", headers=deep)
    place.publish(b"3", headers={"x-stream-offset": 5, "channel": "other"})
    place.publish(b"4", headers={"x-stream-offset": "first"}, priority=3, timestamp=1 << 60)

    assert [message.data for message in await place.receiver.until(4)] == [b"1", b"2", b"3", b"4"]
    assert place.receiver.missing == []


async def test_headers_are_read_as_they_were_written(place: Place) -> None:
    """
    The codec of tables reads what RabbitMQ writes.
    """
    from rt_twisted.brokers.amqp.content import Delivery

    found: list[dict[str, Any]] = []
    client = place.broker._pair.reader
    deliver = client.consumers["rt"]

    def look(delivery: Delivery) -> None:
        found.append(delivery.headers())
        deliver(delivery)

    client.consumers["rt"] = look
    place.publish(b"1", headers=place.table)
    await place.receiver.until(1)

    found[0].pop("x-stream-offset", None)
    assert found == [{**place.table, "time": datetime(2026, 1, 1, tzinfo=UTC)}]


async def test_the_event_type_and_the_key_are_properties(place: Place) -> None:
    """
    Other programs set them in the same properties: `type`, and `message_id`.
    """
    place.publish(b"1", type="comment", message_id="k")
    place.publish(b"1", type="comment", message_id="k")
    place.publish(b"2", type="two\nlines")
    place.publish(b"3", type="gap")
    place.publish(b"4", headers={"type": "é" * 150})
    place.publish(b"6", type="unit/h")
    place.publish(b"7", headers={"unit": "gap"})
    await place.receiver.until(6)
    long = Draft("news", b"5", "é" * 200, "☃" * 200)
    [position] = (await place.broker.publish([long])).positions
    assert (await place.broker.publish([long])).positions == (position,)
    [known] = (await place.broker.publish([Draft("news", b"1", key="k")])).positions

    messages = await place.receiver.until(7)
    assert [(message.data, message.event) for message in messages] == [
        (b"1", "comment"),
        (b"2", None),
        (b"3", None),
        (b"4", "é" * 150),
        (b"6", None),
        (b"7", None),
        (b"5", "é" * 200),
    ]
    assert known == messages[0].position


@pytest.mark.parametrize("place", [STREAM], indirect=True)
async def test_a_message_sent_twice_is_replayed_once(place: Place) -> None:
    """
    A repeated message is replayed once even when its key is forgotten: the stream has it twice.
    """
    start = place.broker.position()
    for body, key in ((b"1", "k"), (b"1", "k"), (b"2", "")):
        place.publish(body, message_id=key)
    live = await place.receiver.until(2)
    place.broker._publisher.keys = IdempotencyKeys()  # as five minutes later
    replay = await place.broker.after(["news"], After(start))

    assert [message.data for message in live] == [b"1", b"2"]
    assert list(replay.messages) == live
    assert replay.complete


async def test_what_the_broker_publishes(place: Place, rabbit: Rabbit) -> None:
    """
    Other consumers find event type and key in the properties.
    """
    queue = place.channel.queue_declare("", exclusive=True).method.queue
    place.channel.queue_bind(queue, place.name, "news")
    await place.broker.publish([Draft("news", b"1", "comment", "k")])

    _, properties, body = place.channel.basic_get(queue, auto_ack=True)
    assert (body, properties.type, properties.message_id) == (b"1", "comment", "k")


async def test_a_channel_that_was_closed_can_be_opened_again(place: Place) -> None:
    """
    The caller gets the server's reason.
    """
    client = place.broker._pair.reader
    client.private_channels.add(7)
    for _ in range(2):
        await client.call(7, "channel_open")
        with pytest.raises(AmqpConnectionClosed, match="NOT_FOUND"):
            await client.call(7, "queue_declare", queue="none", passive=True)
    assert place.broker.ready()


async def test_a_backlog_is_bounded(place: Place) -> None:
    """
    The server sends no more than the prefetch before an acknowledgement; all of it arrives.
    """
    for number in range(5000):
        place.publish(b"%d" % number)

    assert [m.data for m in await place.receiver.until(5000)] == [b"%d" % n for n in range(5000)]


@pytest.mark.parametrize("type", list(ExchangeType))
@pytest.mark.parametrize("mode", [QUEUE, STREAM])
async def test_every_type_of_exchange(rabbit: Rabbit, type: ExchangeType, mode: str) -> None:
    """
    A message reaches its channel and no other; messages of other channels are ignored.
    """
    if mode == STREAM and type is ExchangeType.DIRECT:
        return  # refused at the start: test_settings
    receiver, name = RecordingReceiver(), f"typed{next(COUNT)}"
    stream = name if mode == STREAM else ""
    broker = make(rabbit, receiver, exchange=name, type=type, stream=stream)
    for channel in ("a.b", "a.*", "#", "~*"):
        await broker.subscribe(channel)
    await until(broker.ready)

    connection = foreign(rabbit)
    properties = pika.BasicProperties(headers={"channel": "a.b"})
    connection.channel().basic_publish(name, "a.b", b"foreign", properties)
    connection.close()
    await receiver.until(1)
    for channel in ("a.b", "a.c", "a.*", "#", "~*", "other"):
        await broker.publish([Draft(channel, channel.encode())])

    messages = await receiver.until(5)
    assert [(message.channel, message.data) for message in messages] == [
        ("a.b", b"foreign"),
        ("a.b", b"a.b"),
        ("a.*", b"a.*"),
        ("#", b"#"),
        ("~*", b"~*"),
    ]
    await broker.stopService()


async def test_a_pattern_of_the_configuration(rabbit: Rabbit) -> None:
    """
    One binding for all channels; channels that do not match it receive nothing.
    """
    receiver, name = RecordingReceiver(), f"pattern{next(COUNT)}"
    broker = make(rabbit, receiver, exchange=name, type=ExchangeType.TOPIC, pattern="news.#")
    for channel in ("news.a", "other"):
        await broker.subscribe(channel)

    for channel in ("news.a", "news.b", "other"):
        await broker.publish([Draft(channel, channel.encode())])

    assert [message.channel for message in await receiver.until(1)] == ["news.a"]
    shown = await deferToThread(rabbit.control, "list_bindings", "source_name", "routing_key")
    assert [line.split("\t")[1] for line in shown.splitlines() if line.startswith(name + "\t")] == [
        "news.#"
    ]
    await broker.stopService()


async def test_what_the_stream_has_forgotten_is_a_gap(rabbit: Rabbit) -> None:
    """
    Retention deletes whole files; subscribers from before get a gap.
    """
    from twisted.internet import reactor
    from twisted.internet.endpoints import HostnameEndpoint

    from rt_twisted.brokers.amqp.config import StreamRetention
    from rt_twisted.brokers.amqp.connector import AmqpTarget
    from rt_twisted.brokers.amqp.specification import load_specification
    from rt_twisted.brokers.amqp.stream import StreamBroker

    loop: Any = reactor
    name = f"short{next(COUNT)}"
    host = ("127.0.0.1", rabbit.port)
    target = AmqpTarget(
        [HostnameEndpoint(loop, *host)],
        make_amqp_server(hosts=(host,)),
        make_topology(exchange=name, type=ExchangeType.TOPIC),
        load_specification(),
    )
    broker = StreamBroker(loop, target, name, StreamRetention(0, 200_000))
    receiver = RecordingReceiver()
    broker.attach(receiver)
    broker.startService()
    await broker.subscribe("news")
    await until(broker.ready)
    [first] = (await broker.publish([Draft("news", b"first")])).positions
    for _ in range(40):
        last = (await broker.publish([Draft("news", b"x" * 1000)] * 25)).positions[-1]

    replay = await broker.after(["news"], After(first))
    assert not replay.complete
    assert 0 < len(replay.messages) < 1000
    assert replay.messages[-1].position == last
    newest = await broker.after(["news"], Newest(2))
    assert [message.position for message in newest.messages][-1] == last
    await broker.stopService()
