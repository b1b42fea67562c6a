"""
The AMQP codec without a server (fields, contents, frames, names), and the publisher.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import ExchangeType
from rt_twisted.brokers.amqp.content import MAX_BODY, Delivery, MessageProperties
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.publisher import AmqpPublisher
from rt_twisted.brokers.amqp.routing import Routing
from rt_twisted.brokers.amqp.specification import load_specification
from rt_twisted.brokers.amqp.table import (
    MAX_DEPTH,
    MalformedTable,
    read_fields,
    read_table,
    write_fields,
    write_table,
)
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult
from tests.defaults import make_amqp_server, make_topology

# One table, as a server writes it: every letter that RabbitMQ knows.
BYTES = bytes.fromhex(
    "017474" "01"
    "016262" "fb"
    "014242" "fb"
    "017373" "fffb"
    "017575" "fffb"
    "014949" "fffffffb"
    "016969" "fffffffb"
    "016c6c" "fffffffffffffffb"
    "014c4c" "fffffffffffffffb"
    "016666" "3fc00000"
    "016464" "3ff8000000000000"
    "014444" "020000007d"
    "015353" "00000003c3a97a"
    "017878" "00000002ff00"
    "015454" "0000000069567980"
    "015656"
    "014141" "0000000a" "49ffffffff" "5300000000"
    "014646" "0000000b" "0161" "46" "00000004" "01627401"
)  # fmt: skip
VALUES = {
    "t": True,
    "b": -5,
    "B": 251,
    "s": -5,
    "u": 65531,
    "I": -5,
    "i": 4294967291,
    "l": -5,
    "L": -5,
    "f": 1.5,
    "d": 1.5,
    "D": Decimal("1.25"),
    "S": "éz",
    "x": b"\xff\x00",
    "T": datetime(2026, 1, 1, 13, 41, 20, tzinfo=UTC),
    "V": None,
    "A": [-1, ""],
    "F": {"a": {"b": True}},
}
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)).map(
        lambda moment: moment.replace(microsecond=0)
    )
)
TABLES = st.dictionaries(
    st.text(max_size=40),
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
        max_leaves=10,
    ),
    max_size=5,
)


def test_every_type_of_field_is_read() -> None:
    """
    Each type is read with its sign and size.
    """
    assert read_table(len(BYTES).to_bytes(4, "big") + BYTES) == VALUES


@given(TABLES)
def test_tables_come_back_as_they_were_written(table: dict[str, Any]) -> None:
    """
    A table is read as it was written, however it nests.
    """
    assert read_table(write_table(table)) == table


@given(
    st.binary(max_size=100) | TABLES.map(write_table), st.integers(0, 100), st.binary(max_size=3)
)
def test_any_bytes_raise_malformed_table_at_most(data: bytes, at: int, other: bytes) -> None:
    """
    Input that is cut, changed, or never was a table raises nothing else.
    """
    data = data[:at] + other + data[at + len(other) :]
    with suppress(MalformedTable):
        read_table(data)


def test_nested_tables_are_bounded() -> None:
    """
    A message cannot exhaust the stack.
    """
    table: dict[str, Any] = {}
    for _ in range(MAX_DEPTH + 1):
        table = {"": table}

    with pytest.raises(MalformedTable, match="32"):
        read_table(write_table(table))


def test_the_fields_of_a_method() -> None:
    """
    Adjacent bits share an octet.
    """
    types = "short shortstr bit bit bit shortstr bit table longstr longstr timestamp octet".split()
    values = (1, "é", True, False, True, "x", True, {"a": 1}, "text", b"\xff", 7, 9)

    assert read_fields(types, write_fields(types, values)) == values
    assert read_fields(["bit"] * 10, write_fields(["bit"] * 10, [True, False] * 5)) == (
        (True, False) * 5
    )
    with pytest.raises(MalformedTable):
        read_fields(types, b"\0\1\5x")
    with pytest.raises(ValueError):
        write_fields(["shortstr"], ["é" * 128])


class Line:
    """
    A connection that is logged in; the test is the server.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.client = AmqpConnection(load_specification(), self.clock, "test", "/", 0)
        self.client.MAX_LENGTH = 4096
        self.client.greeted = True
        self.transport = StringTransport()
        self.deliveries: list[Delivery] = []
        self.ended: list[AmqpConnectionClosed] = []
        self.client.consumers["c"] = self.deliveries.append
        self.client.on_lost = self.ended.append
        self.client.makeConnection(self.transport)

    def close(self) -> None:
        """
        Report to the client that its connection is lost.
        """
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.client.connectionLost(Failure(ConnectionDone()))


def frame(kind: int, payload: bytes, channel: int = 1) -> bytes:
    """
    Return an AMQP frame with this type, channel and payload.
    """
    return b"%c%b%b%b\xce" % (
        kind,
        channel.to_bytes(2, "big"),
        len(payload).to_bytes(4, "big"),
        payload,
    )


def deliver(tag: int, channel: int = 1) -> bytes:
    """
    Return the method `basic.deliver`.
    """
    payload = b"\0\x3c\0\x3c\1c" + tag.to_bytes(8, "big") + b"\0\2ex\3key"
    return frame(1, payload, channel)


def header(size: int, flags: int = 0, fields: bytes = b"", channel: int = 1) -> bytes:
    """
    Return a content header.
    """
    payload = b"\0\x3c\0\0" + size.to_bytes(8, "big") + flags.to_bytes(2, "big") + fields
    return frame(2, payload, channel)


STREAM = (
    deliver(1)
    + header(0)
    + deliver(2)
    + header(5, 1 << 5, b"\4type")
    + frame(3, b"a\xce\0")
    + frame(8, b"", 0)
    # Another channel's content comes in between.
    + deliver(3, channel=2)
    + header(1, channel=2)
    + frame(3, b"bc")
    + frame(3, b"d", 2)
)


@pytest.mark.parametrize("size", [1, 2, 7, 50, 1000])
def test_frames_however_they_are_cut(size: int) -> None:
    """
    Contents are assembled by channel, however the stream is split.
    """
    line = Line()
    for first in range(0, len(STREAM), size):
        line.client.dataReceived(STREAM[first : first + size])

    found = [(d.tag, d.exchange, d.key, d.type, d.body) for d in line.deliveries]
    assert found == [
        (1, "ex", "key", "", b""),
        (2, "ex", "key", "type", b"a\xce\0bc"),
        (3, "ex", "key", "", b"d"),
    ]
    line.close()


@pytest.mark.parametrize(
    "data",
    [
        b"\1\0\1\0\0\0\0\0",  # no end
        b"\1\0\1\xff\xff\xff\xff\0",  # too long
        b"AMQP\0\0\x09\x01",  # another version
        frame(1, b"\0"),  # half a method
        frame(1, b"\0\x3c\xff\xff"),  # an unknown one
        frame(1, b"\0\x3c\0\x3c\xff"),  # one that is cut off
        deliver(1) + frame(2, b"\0\x3c"),
        deliver(1) + header(1, 0xFFFC),
        deliver(1) + header(1) + frame(3, b"ab"),
    ],
)
def test_what_is_not_amqp_ends_the_connection(data: bytes) -> None:
    """
    Malformed input closes the connection with a reason, and raises no exception.
    """
    line = Line()
    line.client.dataReceived(data)

    assert line.transport.disconnected
    line.close()
    assert "not AMQP" in line.ended[0].reason


def test_malformed_headers_are_empty() -> None:
    """
    The message itself arrives.
    """
    line = Line()
    line.client.dataReceived(deliver(1) + header(1, 1 << 13, b"\0\0\0\3\1a?") + frame(3, b"x"))

    assert line.deliveries[0].body == b"x"
    assert line.deliveries[0].headers() == {}
    line.close()


def test_a_body_beyond_all_bounds_is_not_kept() -> None:
    """
    A body above the limit is discarded; its delivery arrives without a body.
    """
    line = Line()
    line.client.dataReceived(deliver(1) + header(MAX_BODY + 1))
    piece = frame(3, b"x" * 4000)
    for _ in range(MAX_BODY // 4000):
        line.client.dataReceived(piece)
    line.client.dataReceived(frame(3, b"x" * (MAX_BODY % 4000 + 1)) + deliver(2) + header(0))

    assert [delivery.body for delivery in line.deliveries] == [None, b""]
    line.close()


def test_publishing_splits_bodies_into_frames() -> None:
    """
    Frames have the negotiated size, head and end included; a peer reads them back.
    """
    line, peer = Line(), Line()
    line.transport.clear()
    body = bytes(range(256)) * 40
    properties = MessageProperties("type", "key", "corr", True, {"a": -1})
    line.client.publish(1, "ex", "key", body, properties)

    sent = line.transport.value()
    method = frame(1, b"\0\x3c\0\x28\0\0\2ex\3key\0")
    assert sent.startswith(method)
    peer.client.dataReceived(deliver(1) + sent[len(method) :])
    [found] = peer.deliveries
    assert (found.body, found.type, found.message_id) == (body, "type", "key")
    assert (found.correlation_id, found.headers()) == ("corr", {"a": -1})
    line.close()
    peer.close()


def test_text_in_txamqps_own_content_is_utf_8() -> None:
    """
    The size of text is counted in bytes.
    """
    from txamqp.content import Content

    line = Line()
    line.transport.clear()
    channel: Any = line.client.channel(1).result
    content = Content("héllo", properties={"content type": "text/plain"})
    channel.basic_publish(exchange="ex", routing_key="key", content=content)

    assert line.transport.value().endswith(frame(3, "héllo".encode()))
    line.close()


def test_silence_ends_the_connection() -> None:
    """
    A silent peer is disconnected after two intervals; until then the client sends heartbeats.
    """
    line = Line()
    line.transport.clear()
    line.client.start_heartbeats(10)
    for _ in range(2):
        line.clock.advance(5)
    assert line.transport.value().count(frame(8, b"", 0)) == 2
    line.client.dataReceived(frame(8, b"", 0))
    for _ in range(4):
        line.clock.advance(5)
    assert not line.transport.disconnected
    line.clock.advance(5)

    assert line.transport.disconnected
    line.close()
    assert line.ended[0].reason == "no heartbeat"


@pytest.mark.parametrize("type", [ExchangeType.DIRECT, ExchangeType.TOPIC])
@given(st.lists(st.sampled_from(["*", "#", "~*", "~~#", "a", "~", "", "*a"]), min_size=1))
def test_names_are_never_patterns(type: ExchangeType, words: list[str]) -> None:
    """
    Every name has a key of its own, which binds only it, and is converted back.
    """
    name = ".".join(words)
    routing = Routing(make_topology(type=type))
    binding = routing.binding(name)
    assert binding is not None
    delivery = Delivery("c", 1, "ex", binding.key)

    assert routing.channel(delivery) == name
    if type is ExchangeType.TOPIC:
        assert not {"*", "#"} & set(binding.key.split("."))


def test_a_name_that_is_too_long_has_no_binding() -> None:
    """
    Nothing can be published to such a channel, so there is nothing to bind.
    """
    routing = Routing(make_topology())

    assert routing.binding("é" * 127) is not None
    assert routing.binding("é" * 128) is None


def test_servers_have_names_for_the_log() -> None:
    """
    A server is named in the log by host, port and virtual host; the default one is left out.
    """
    several = make_amqp_server(hosts=(("a", 5672), ("b", 1), ("::1", 2)), vhost="v")

    assert [several.name(number) for number in range(3)] == ["a:5672/v", "b:1/v", "[::1]:2/v"]
    assert make_amqp_server(hosts=(("host", 1),)).name(0) == "host:1"


def test_specifications(tmp_path: Path) -> None:
    """
    A file of the user's is used if it has this version and RabbitMQ's extensions.
    """
    import rt_twisted.brokers.amqp as package

    ours = (Path(package.__path__[0]) / "amqp0-9-1.xml").read_text()
    own = tmp_path / "own.xml"
    own.write_text(ours)
    assert load_specification(str(own)).minor == 9
    # cyclone-sse had a file of 0-8: the one of the package is used instead.
    own.write_text('<amqp major="8" minor="0"/>')
    assert load_specification(str(own)).minor == 9
    for text, words in (
        (ours.replace('"confirm"', '"conform"'), "lacks confirm.select"),
        (ours.replace('minor="9"', 'minor="10"'), "another version"),
        ("<html>", "not an AMQP specification"),
    ):
        own.write_text(text)
        with pytest.raises(ValueError, match=words):
            load_specification(str(own))
    with pytest.raises(ValueError, match="No such file"):
        load_specification(str(tmp_path / "none.xml"))


class AcceptingConnection:
    """
    A connection whose server accepts everything.
    """

    blocked = ""
    published = 0

    def publish(
        self, number: int, exchange: str, key: str, body: bytes, _: MessageProperties
    ) -> int:
        self.published += 1
        return len(body)


@pytest.mark.parametrize("has_stream", [False, True])
def test_a_message_that_is_not_delivered_here(has_stream: bool) -> None:
    """
    Without a stream the server's confirm is enough after DELIVERY_TIMEOUT. With one the position
    is unknown before the delivery, which has the whole CONFIRM_TIMEOUT.
    """
    clock, topology, client = Clock(), make_topology(type=ExchangeType.TOPIC), AcceptingConnection()
    fallback = None if has_stream else lambda: Position("e", 7)
    publisher = AmqpPublisher(clock, topology, Routing(topology), "token", fallback)
    publisher.open(client)  # type: ignore[arg-type]  # the part that the publisher uses
    published = publisher.publish([Draft("a", b"1")], lambda _: True)
    results: list[Any] = []
    published.addBoth(results.append)
    client.on_confirm(1, False, True)  # type: ignore[attr-defined]  # `open` sets it
    times = []
    while not results:
        clock.advance(1)
        publisher.check_timeouts()
        times.append(clock.seconds())

    if has_stream:
        assert results[0].check(Unavailable)
        assert times[-1] == 10
    else:
        assert results == [PublishResult((Position("e", 7),))]
        assert times[-1] == 2


def rejected(publisher: AmqpPublisher, *drafts: Draft) -> int:
    """
    Publish *drafts*; returns the status with which they are rejected for good.
    """
    results: list[Any] = []
    publisher.publish(drafts, lambda _: False).addErrback(results.append)
    assert results[0].check(HttpError), results
    return int(results[0].value.status)


@pytest.mark.parametrize(
    ("type", "name"),
    [
        (ExchangeType.DIRECT, "a" * 256),
        (ExchangeType.FANOUT, "\U0001f600" * 64),
        (ExchangeType.HEADERS, "é" * 128),
        (ExchangeType.TOPIC, "*." * 127 + "a"),
    ],
)
def test_a_name_that_amqp_cannot_carry_is_rejected_for_good(type: ExchangeType, name: str) -> None:
    """
    The limit is 255 bytes of UTF-8, those that a topic exchange adds included: 400, and nothing
    of the same request is sent.
    """
    topology, client = make_topology(type=type), AcceptingConnection()
    publisher = AmqpPublisher(Clock(), topology, Routing(topology), "token", None)
    publisher.open(client)  # type: ignore[arg-type]  # the part that the publisher uses

    assert rejected(publisher, Draft("a", b"1"), Draft(name, b"2"), Draft("b", b"3")) == 400
    with pytest.raises(HttpError, match="up to 255 bytes"):
        publisher.check_channel(name)
    publisher.check_channel("a" * 255)
    assert client.published == 0


@pytest.mark.parametrize("word", ["max size", "configured max size"])
def test_the_size_limit_of_the_server_is_learned(word: str) -> None:
    """
    RabbitMQ closes the channel over a message that is too large: it is rejected for good, as is
    the next one, which is not sent.
    """
    topology, client = make_topology(), AcceptingConnection()
    publisher = AmqpPublisher(Clock(), topology, Routing(topology), "token", None)
    publisher.open(client)  # type: ignore[arg-type]  # the part that the publisher uses
    results: list[Any] = []
    for size in (101, 100):
        publisher.publish([Draft("a", b"x" * size)], lambda _: False).addErrback(results.append)

    publisher.close(f"PRECONDITION_FAILED - message size 101 is larger than {word} 100")
    publisher.open(client)  # type: ignore[arg-type]  # as above

    assert results[0].check(HttpError)
    assert results[0].value.status == 413
    assert results[1].check(Unavailable)
    assert rejected(publisher, Draft("a", b"x" * 101)) == 413
    assert client.published == 2
    publisher.publish([Draft("a", b"x" * 100)], lambda _: False)
    assert client.published == 3


def test_a_message_that_no_node_would_accept_is_not_sent() -> None:
    """
    Consumers drop bodies over `MAX_BODY`: the publisher gets 413.
    """
    topology = make_topology()
    publisher = AmqpPublisher(Clock(), topology, Routing(topology), "token", None)
    publisher.open(AcceptingConnection())  # type: ignore[arg-type]  # the part that the publisher uses

    assert rejected(publisher, Draft("a", bytes(MAX_BODY + 1))) == 413
