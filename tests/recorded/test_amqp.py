"""
Requests to an AMQP server: declarations, bindings and published messages.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import closing

import pika
import pytest

from tests.real.conftest import StartDaemon
from tests.real.rabbit import Rabbit, rabbit
from tests.recorded.conftest import Check
from tests.recorded.peers import HttpPeer, get, publish
from tests.recorded.relay import AmqpRelay
from tests.recorded.transcript import Transcript

__all__ = ["rabbit"]


@pytest.fixture
def relay(rabbit: Rabbit) -> Iterator[AmqpRelay]:
    """
    What is sent to RabbitMQ.
    """
    with closing(AmqpRelay(rabbit.port)) as relay:
        yield relay


def normal(line: str) -> str:
    """
    A line without what is another one in each run.
    """
    line = re.sub(r"amq\.gen-[\w-]+", "amq.gen-NAME", line)
    line = re.sub(r"(\.)[0-9a-f]{8}\b", r"\1EPOCH", line)
    line = re.sub(r"(correlation_id|message_id|app_id)='[0-9a-f.:-]{8,}'", r"\1='ID'", line)
    line = re.sub(r"\.mark\.\d+", ".mark.N", line)
    line = re.sub(r"(consumer_tag)='[^']*'", r"\1='TAG'", line)
    return re.sub(r"\b[0-9a-f]{16,32}\b|\b[0-9a-f]{8}\b", "ID", line)


def in_order(lines: list[str]) -> list[str]:
    """
    Bindings that follow each other in order: the channels are a set.
    """
    ordered: list[str] = []
    for binds, group in itertools.groupby(lines, lambda line: line.startswith("Queue.Bind ")):
        part = list(group)
        ordered += sorted(part) if binds else part
    return ordered


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("direct", ()),
        ("headers", ("--amqp-exchange-type=headers", "--amqp-prefetch=7")),
        ("pattern", ("--amqp-exchange-type=topic", "--amqp-pattern=#", "--amqp-durable=1",
                     "--amqp-persistent=1", "--amqp-channel=5")),
        ("stream", ("--amqp-stream=recorded", "--amqp-stream-age=1h", "--amqp-stream-bytes=1m")),
    ],
)  # fmt: skip
def test_declarations(
    name: str, options: Sequence[str], relay: AmqpRelay, rabbit: Rabbit, daemon: StartDaemon,
    check: Check,
) -> None:  # fmt: skip
    """
    A daemon starts, a client subscribes to two channels, and messages of all kinds are published.
    """
    record = Transcript()
    server = daemon(
        "--broker=amqp",
        f"--amqp-url=amqp://guest:guest@127.0.0.1:{relay.port}",
        f"--amqp-exchange-name=recorded-{name}",
        "--amqp-heartbeat=60",
        "--stop-seconds=1",
        *options,
    )
    while get(server, "/readyz").status != 200:
        pass
    with HttpPeer(server) as http:
        http.send("GET /?channels=news,sport")
        http.receive("id: .*?\n\n")
        publish(server, "news", "one", "kind")
        http.more("one.*?\n\n")
        with HttpPeer(server) as other:
            body = json.dumps({"channel": ["news", "none"], "message": {"a": 1}})
            other.ask("POST /publish", "Content-Type: application/json", "Idempotency-Key: key",
                      body=body)  # fmt: skip
        http.more(r"\{.*?\n\n")
        foreign(rabbit, f"recorded-{name}", name)
        http.more("foreign.*?\n\n")
    for publishes in (False, True):
        record.title(f"the connection that {'publishes' if publishes else 'listens'}")
        for lines in relay.methods():
            if any(line.startswith("Confirm.") for line in lines) is publishes:
                for line in in_order(list(map(normal, lines))):
                    record.add(line.rstrip())
    check(f"amqp-{name}.txt", record)


def foreign(rabbit: Rabbit, exchange: str, kind: str) -> None:
    """
    A message of another program.
    """
    parameters = pika.ConnectionParameters("127.0.0.1", rabbit.port)
    connection = pika.BlockingConnection(parameters)
    headers = {"channel": "sport"} if kind == "headers" else {}
    key = "sport"
    connection.channel().basic_publish(
        exchange, key, b"foreign", pika.BasicProperties(headers=headers, type="kind")
    )
    connection.close()
