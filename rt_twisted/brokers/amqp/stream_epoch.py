"""
Which stream is the log.

A stream that is deleted and made again begins anew at offset 0, under the same
name, and AMQP does not say when it was made. So the log's stream has a name that
is never given twice, `NAME.EPOCH`, and `NAME` itself is a small stream of records
that say which one it is. All nodes read the same records in the same order:

    {"node": ..., "from": OLD, "to": NEW}

is valid where OLD is the epoch at that place, and makes NEW the epoch; any other
is of no effect. A record whose `to` is empty only marks the end for its writer.
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

TRIES = 5  # nodes that begin at once are rarely more than two
SEGMENT = 1 << 20  # bytes of a file of the records; they are never many


class StreamEpoch:
    """
    Finds the log's stream, or makes one.

    Args:
        clock: the reactor.
        name: of the records' stream.
        retention: what the log keeps.
        number: of the AMQP channel; the one after it is used too.
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
            # Whole files are forgotten only; RabbitMQ's own size is 500 MB.
            segment = max(64 << 10, min(retention.bytes // 10, 500_000_000))
            self._arguments["x-stream-max-segment-size-bytes"] = segment

    def queue(self, epoch: str) -> str:
        """
        The name of the log's stream.
        """
        return f"{self._name}.{epoch}"

    async def find(
        self, reader: AmqpConnection, writer: AmqpConnection, known: str, bad: str
    ) -> str:
        """
        The epoch that is the log's.

        Args:
            reader: reads.
            writer: publishes.
            known: the one that was; if it is still there, it is.
            bad: one whose stream has lost what we have seen: it cannot be.

        Raises:
            Gone: the connection is lost, or there is no end to it.
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
        for _ in range(TRIES):
            there = epoch and await exists(reader, self._number + 1, self.queue(epoch))
            if there and epoch != bad:
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
            if unused:  # deleting what is not there is no mistake
                await reader.call(self._number, "queue_delete", queue=self.queue(unused))
        raise AmqpConnectionClosed("the nodes do not agree on a stream")

    async def _agree(
        self, reader: AmqpConnection, writer: AmqpConnection, old: str, new: str
    ) -> str:
        """
        Write a record, and read all up to it.
        """
        node = secrets.token_hex(8)
        record = json.dumps({"node": node, "from": old, "to": new}).encode()
        epoch = ""

        def take(delivery: Delivery, _: int) -> bool:
            nonlocal epoch
            found = _record(delivery.body)
            if found.get("to") and found.get("from") == epoch:
                epoch = str(found["to"])
            return found.get("node") == node

        def write() -> None:
            writer.publish(self._number, "", self._name, record, MessageProperties(persistent=True))

        await read_stream(reader, self._clock, self._number + 1, self._name, "first", take, write)
        return epoch


def _record(body: bytes | None) -> dict[str, Any]:
    try:
        found = json.loads(body or b"")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
