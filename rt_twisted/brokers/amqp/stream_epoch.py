"""
Agreement of the nodes on the stream that is the log.

A stream that is deleted and declared again begins anew at offset 0, under the same
name, and AMQP does not tell when it was declared. So the log's stream has a name that
is never used twice, `NAME.EPOCH`, and `NAME` itself is a small stream of records
that name the epoch. All nodes read the same records in the same order:

    {"node": ..., "from": OLD, "to": NEW}

is valid if OLD is the epoch at that place, and makes NEW the epoch; any other record
has no effect. A record whose `to` is empty only marks the end for its writer.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import StreamRetention
from rt_twisted.brokers.amqp.content import Delivery, MessageProperties
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.stream_reader import exists, read_stream, stream_arguments

MAX_ATTEMPTS = 5  # more than two nodes rarely begin at once
SEGMENT = 1 << 20  # bytes of a file of the records, which are few


class StreamEpoch:
    """
    Finds the log's stream, or declares one.

    Args:
        clock: the reactor.
        name: of the stream of records.
        retention: what the log retains.
        number: the AMQP channel; the one after it is used too.
    """

    def __init__(
        self, clock: IReactorTime, name: str, retention: StreamRetention, number: int
    ) -> None:
        self._clock = clock
        self._name = name
        self._number = number
        self._arguments = stream_arguments()
        if retention.age:
            self._arguments["x-max-age"] = f"{int(retention.age)}s"
        if retention.bytes:
            self._arguments["x-max-length-bytes"] = retention.bytes
            # Only whole files are deleted; RabbitMQ's default size is 500 MB.
            segment = max(64 << 10, min(retention.bytes // 10, 500_000_000))
            self._arguments["x-stream-max-segment-size-bytes"] = segment

    def queue(self, epoch: str) -> str:
        """
        Return the name of the log's stream.
        """
        return f"{self._name}.{epoch}"

    async def find(
        self, reader: AmqpConnection, writer: AmqpConnection, known: str, bad: str
    ) -> str:
        """
        Return the epoch of the log; declare a stream if there is none.

        Args:
            reader: the connection that consumes.
            writer: the connection that publishes.
            known: the epoch before, which is returned if its stream still exists; "" for none.
            bad: an epoch whose stream has lost messages and must be replaced; "" for none.

        Raises:
            AmqpConnectionClosed: the connection is lost, or the nodes do not agree.
        """
        if known and known != bad and await exists(reader, self._number + 1, self.queue(known)):
            return known
        await reader.call(
            self._number,
            "queue_declare",
            queue=self._name,
            durable=True,
            arguments=stream_arguments(**{"x-stream-max-segment-size-bytes": SEGMENT}),
        )
        epoch = await self._agree(reader, writer, "", "")
        for _ in range(MAX_ATTEMPTS):
            found = epoch and await exists(reader, self._number + 1, self.queue(epoch))
            if found and epoch != bad:
                return epoch
            candidate = secrets.token_hex(4)
            await reader.call(
                self._number,
                "queue_declare",
                queue=self.queue(candidate),
                durable=True,
                arguments=self._arguments,
            )
            old, epoch = epoch, await self._agree(reader, writer, epoch, candidate)
            unused = old if epoch == candidate else candidate
            if unused:  # deleting a queue that does not exist is no error
                await reader.call(self._number, "queue_delete", queue=self.queue(unused))
        raise AmqpConnectionClosed("the nodes do not agree on a stream")

    async def _agree(
        self, reader: AmqpConnection, writer: AmqpConnection, old: str, new: str
    ) -> str:
        """
        Write a record, read all records up to it, and return the epoch.
        """
        node = secrets.token_hex(8)
        record = json.dumps({"node": node, "from": old, "to": new}).encode()
        epoch = ""

        def on_delivery(delivery: Delivery, _: int) -> bool:
            nonlocal epoch
            found = _parse_record(delivery.body)
            if found.get("to") and found.get("from") == epoch:
                epoch = str(found["to"])
            return found.get("node") == node

        def write() -> None:
            writer.publish(self._number, "", self._name, record, MessageProperties(persistent=True))

        await read_stream(
            reader, self._clock, self._number + 1, self._name, "first", on_delivery, write
        )
        return epoch


def _parse_record(body: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(body or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
