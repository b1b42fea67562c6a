"""
Reading a RabbitMQ stream for a while, beside what is consumed all the time.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.protocol import AmqpConnection

LIMIT = 10.0  # seconds until somebody who reads must have what he wants
AHEAD = 1000  # messages on their way at once
CONSUMER = "rt-reader"
OFFSET = "x-stream-offset"

Start = int | str | datetime


async def read_stream(
    client: AmqpConnection,
    clock: IReactorTime,
    number: int,
    queue: str,
    start: Start,
    take: Callable[[Delivery, int], bool],
    begun: Callable[[], None] | None = None,
) -> None:
    """
    Read messages until it is enough.

    Args:
        client: the connection.
        clock: for the limit in time.
        number: of a channel for this alone, which is not open.
        queue: the stream's name.
        start: an offset, a time, `first` or `next`.
        take: gets each message and its offset; True ends it. What it raises
            is raised here.
        begun: called when the server has found the start.

    Raises:
        Gone: there is no such stream, or it took too long.
    """
    enough: Deferred[None] = Deferred()

    def deliver(delivery: Delivery) -> None:
        if enough.called:
            return
        try:
            over = take(delivery, delivery.headers()[OFFSET])
        except Exception:
            enough.errback()
            return
        if over:
            enough.callback(None)
        elif delivery.tag % (AHEAD // 4) == 0:
            client.ack(number, delivery.tag)

    def lost(reason: AmqpConnectionClosed) -> None:
        if not enough.called:
            enough.errback(reason)

    client.spare.add(number)
    await client.call(number, "channel_open")
    client.consumers[CONSUMER] = deliver
    client.readings.add(lost)
    limit = clock.callLater(
        LIMIT, lost, AmqpConnectionClosed(f"the stream {queue} cannot be read in time")
    )
    try:
        await client.call(number, "basic_qos", prefetch_count=AHEAD)
        await client.call(
            number,
            "basic_consume",
            queue=queue,
            consumer_tag=CONSUMER,
            arguments={OFFSET: start},
        )
        if begun is not None:
            begun()
        await enough
    finally:
        client.readings.discard(lost)
        client.consumers.pop(CONSUMER, None)
        if limit.active():
            limit.cancel()
        if not client.closed and number in client.channels:
            await client.close_channel(number)


async def exists(client: AmqpConnection, number: int, queue: str) -> bool:
    """
    Whether there is a queue of that name.

    Raises:
        Gone: the connection is lost, or the server cannot tell yet.
    """
    client.spare.add(number)
    await client.call(number, "channel_open")
    try:
        await client.call(number, "queue_declare", queue=queue, passive=True)
    except AmqpConnectionClosed as error:
        # A queue of a server that is just starting is not found either, but is
        # "down or inaccessible": taking that for deleted would give up the log.
        if error.code != 404 or "no queue" not in error.reason:
            raise
        return False  # and the channel is closed
    await client.close_channel(number)
    return True


def stream_arguments(**more: Any) -> dict[str, Any]:
    """
    What to declare a stream with.
    """
    return {"x-queue-type": "stream", **more}
