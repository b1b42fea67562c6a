"""
Reads a part of a RabbitMQ stream, beside the consumer that runs all the time.
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

READ_TIMEOUT = 10.0  # seconds for one read
PREFETCH = 1000  # messages that the server may send before they are acknowledged
CONSUMER = "rt-reader"
OFFSET = "x-stream-offset"

Start = int | str | datetime


async def read_stream(
    client: AmqpConnection,
    clock: IReactorTime,
    number: int,
    queue: str,
    start: Start,
    on_delivery: Callable[[Delivery, int], bool],
    on_started: Callable[[], None] | None = None,
) -> None:
    """
    Read messages until *on_delivery* returns True.

    Args:
        client: the connection.
        clock: for the time limit.
        number: a channel for this alone, which is not open.
        queue: the stream's name.
        start: an offset, a time, `first` or `next`.
        on_delivery: called with each message and its offset; True ends the read. What it
            raises is raised here.
        on_started: called when the server has found the start.

    Raises:
        AmqpConnectionClosed: the stream does not exist, or the read took too long.
    """
    done: Deferred[None] = Deferred()

    def deliver(delivery: Delivery) -> None:
        if done.called:
            return
        try:
            over = on_delivery(delivery, delivery.headers()[OFFSET])
        except Exception:
            done.errback()
            return
        if over:
            done.callback(None)
        elif delivery.tag % (PREFETCH // 4) == 0:
            client.ack(number, delivery.tag)

    def lost(reason: AmqpConnectionClosed) -> None:
        if not done.called:
            done.errback(reason)

    client.private_channels.add(number)
    await client.call(number, "channel_open")
    client.consumers[CONSUMER] = deliver
    client.lost_callbacks.add(lost)
    limit = clock.callLater(
        READ_TIMEOUT, lost, AmqpConnectionClosed(f"the stream {queue} cannot be read in time")
    )
    try:
        await client.call(number, "basic_qos", prefetch_count=PREFETCH)
        await client.call(
            number,
            "basic_consume",
            queue=queue,
            consumer_tag=CONSUMER,
            arguments={OFFSET: start},
        )
        if on_started is not None:
            on_started()
        await done
    finally:
        client.lost_callbacks.discard(lost)
        client.consumers.pop(CONSUMER, None)
        if limit.active():
            limit.cancel()
        if not client.closed and number in client.channels:
            await client.close_channel(number)


async def exists(client: AmqpConnection, number: int, queue: str) -> bool:
    """
    Return whether there is a queue of that name.

    Raises:
        AmqpConnectionClosed: the connection is lost, or the server cannot tell yet.
    """
    client.private_channels.add(number)
    await client.call(number, "channel_open")
    try:
        await client.call(number, "queue_declare", queue=queue, passive=True)
    except AmqpConnectionClosed as error:
        # While a server starts, a queue is "down or inaccessible", with the same code:
        # it must not count as deleted, or the log would be abandoned.
        if error.code != 404 or "no queue" not in error.reason:
            raise
        return False  # the server has closed the channel
    await client.close_channel(number)
    return True


def stream_arguments(**more: Any) -> dict[str, Any]:
    """
    Return the arguments to declare a stream with.
    """
    return {"x-queue-type": "stream", **more}
