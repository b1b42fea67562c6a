"""
The AMQP broker with a stream as the log: every node has the same positions, and a
subscriber can resume at any of them.

Every node receives every message, and passes on those of its subscribed channels.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.claims import AmqpClaims
from rt_twisted.brokers.amqp.config import StreamRetention
from rt_twisted.brokers.amqp.connector import AmqpTarget, ConnectionPair
from rt_twisted.brokers.amqp.content import Delivery, MessageProperties
from rt_twisted.brokers.amqp.history import MAX_READ, AmqpHistoryReader, OnDelivery
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.publisher import AmqpPublisher
from rt_twisted.brokers.amqp.routing import Routing, event_of, key_of
from rt_twisted.brokers.amqp.stream_epoch import StreamEpoch
from rt_twisted.brokers.amqp.stream_reader import OFFSET, Start, read_stream
from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.brokers.interfaces import (
    IBroker,
    IClaims,
    IHistory,
    ILimited,
    IPatterns,
    IReady,
    IReceiver,
    IRefusing,
)
from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import (
    NOWHERE,
    Draft,
    Message,
    Position,
    PublishResult,
    Replay,
    Since,
)

_log = Logger()

CONSUMER = "rt"
SYNC_TIMEOUT = 10.0  # seconds until a marker must have arrived


@implementer(IBroker, IClaims, IHistory, ILimited, IPatterns, IReady, IRefusing)
class StreamBroker(Service):
    """
    Publishes to an exchange, and consumes the stream that is bound to it. A message's
    offset in the stream is its position.

    Args:
        reactor: the reactor.
        target: the servers, and what is declared there; the exchange is not a direct one.
        name: the prefix of the streams' names.
        retention: what the log retains.
    """

    def __init__(
        self,
        reactor: Any,
        target: AmqpTarget,
        name: str,
        retention: StreamRetention,
    ) -> None:
        self._reactor = reactor
        topology = self._topology = target.topology
        self._routing = Routing(topology)
        self._token = secrets.token_hex(8)
        self._publisher = AmqpPublisher(reactor, topology, self._routing, self._token, None)
        self._pair = ConnectionPair(
            reactor,
            target,
            f"realtime {self._token[:8]}",
            self._prepare,
            self._on_lost,
            self._publisher.on_blocked,
        )
        self._stream_epoch = StreamEpoch(reactor, name, retention, topology.number)
        self._history = AmqpHistoryReader(
            reactor, self._read, self._decode, self.position, self._catch_up
        )
        self._subscribed: set[Selector] = set()
        self._patterns = WildcardIndex()  # of them
        self._waiting: list[tuple[Selector, Deferred[Position]]] = []  # until the log is known
        self._epoch = ""
        self._head = -1  # offset of the last message received
        self._reported = -1  # offset up to which the hub has been notified
        self._repeats: dict[
            int, None
        ] = {}  # offsets of messages with a known idempotency key, in order
        self._tag = 0
        self._markers: dict[str, Deferred[None]] = {}
        self._count = 0  # of markers
        self._claims = AmqpClaims(
            reactor, topology.exchange, topology.number, target.server.heartbeat
        )
        self._tick = LoopingCall(self._publisher.check_timeouts)
        self._tick.clock = reactor
        self._receiver: IReceiver

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._tick.start(1.0, now=False)
        self._pair.start()

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._tick.stop()
        self._claims.stop()
        self._on_lost("the daemon is stopping")
        return self._pair.stop()

    def attach(self, receiver: IReceiver) -> None:
        self._receiver = receiver

    def position(self) -> Position:
        return Position(self._epoch, max(0, self._reported)) if self._epoch else NOWHERE

    def ready(self) -> bool:
        return self._pair.ready()

    def refuses(self) -> bool:
        return self._pair.refuses()

    def check_channel(self, channel: str) -> None:
        self._publisher.check_channel(channel)

    def check_pattern(self, pattern: Wildcard) -> None:
        self._routing.check_pattern(pattern)

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        self._subscribed.add(channel)
        if not isinstance(channel, str):
            self._patterns.add(channel)
        if self._epoch:
            return succeed(self.position())
        done: Deferred[Position] = Deferred()
        self._waiting.append((channel, done))
        return done

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[Any]:
        return self._claims.claim(name, run, takeover)

    def is_claimed(self, name: str) -> Deferred[bool]:
        return self._claims.is_claimed(name)

    def unsubscribe(self, channel: Selector) -> None:
        self._subscribed.discard(channel)
        if not isinstance(channel, str):
            self._patterns.discard(channel)
        self._waiting = [one for one in self._waiting if one[0] != channel]

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        return self._publisher.publish(drafts, _always)

    def after(self, channels: Sequence[Selector], since: Since) -> Deferred[Replay]:
        return self._history.batcher.ask(channels, since)

    async def _prepare(self) -> None:
        reader, writer, number = self._pair.reader, self._pair.writer, self._pair.number
        if reader is None or writer is None:
            raise AmqpConnectionClosed("the connection was lost")
        binding = self._routing.everything()
        assert binding is not None, "a direct exchange has no binding for all channels"
        epoch, bad = self._epoch, ""
        while True:
            epoch = await self._stream_epoch.find(reader, writer, epoch, bad)
            queue = self._stream_epoch.queue(epoch)
            await reader.call(
                number,
                "queue_bind",
                queue=queue,
                exchange=self._topology.exchange,
                routing_key=binding.key,
                arguments=binding.arguments,
            )
            end = await self._find_end(reader, writer, queue)
            if epoch != self._epoch or end > self._head:
                break
            # The stream has lost its end, and would give offsets a second time.
            _log.error("the stream {queue} has lost messages: another begins", queue=queue)
            bad = epoch
        if epoch != self._epoch:
            if self._epoch:
                _log.warn("another log begins: the stream {queue}", queue=queue)
            self._epoch, self._head, self._reported = epoch, end, end
            self._publisher.keys = IdempotencyKeys()  # their positions are of the other log
            self._repeats.clear()
            self._receiver.reached(self.position())
        await self._claims.open(reader, writer)
        reader.consumers[CONSUMER] = self._deliver
        reader.on_batch_end = self._on_batch_end
        await reader.call(number, "basic_qos", prefetch_count=self._topology.prefetch)
        await reader.call(
            number,
            "basic_consume",
            queue=queue,
            consumer_tag=CONSUMER,
            arguments={OFFSET: self._head + 1},
        )
        self._publisher.open(writer)
        self._history.batcher.open()
        waiting, self._waiting = self._waiting, []
        for _, done in waiting:
            done.callback(self.position())

    async def _find_end(self, reader: AmqpConnection, writer: AmqpConnection, queue: str) -> int:
        """
        Write a marker and return its offset.
        """
        name, end = self._next_marker(), 0

        def on_delivery(delivery: Delivery, offset: int) -> bool:
            nonlocal end
            end = offset
            return delivery.correlation_id == name

        await read_stream(
            reader,
            self._reactor,
            self._pair.number + 1,
            queue,
            "next",
            on_delivery,
            lambda: self._write_marker(writer, queue, name),
        )
        return end

    def _next_marker(self) -> str:
        self._count += 1
        return f"{self._token}.mark.{self._count}"

    def _write_marker(self, writer: AmqpConnection, queue: str, name: str) -> None:
        # By the nameless exchange, which routes to this stream alone: deliveries from it
        # are no messages.
        properties = MessageProperties(correlation_id=name, persistent=True)
        writer.publish(self._pair.number, "", queue, b"", properties)

    async def _catch_up(self) -> None:
        """
        Wait until everything that is in the log now has been received.

        Raises:
            Unavailable: it takes too long, or the server is away.
        """
        writer = self._pair.writer
        if writer is None:
            raise Unavailable("the AMQP server is away")
        name = self._next_marker()
        arrived: Deferred[None] = Deferred()
        self._markers[name] = arrived
        arrived.addTimeout(SYNC_TIMEOUT, self._reactor)
        self._write_marker(writer, self._stream_epoch.queue(self._epoch), name)
        try:
            await arrived
        except Exception:
            raise Unavailable("the AMQP server is too slow, or away") from None
        finally:
            self._markers.pop(name, None)

    def _on_lost(self, reason: str) -> None:
        self._tag = 0
        self._history.batcher.close()
        self._claims.close()
        self._publisher.close(reason)

    def _deliver(self, delivery: Delivery) -> None:
        self._tag = delivery.tag
        # Without an offset, as in a malformed header table, it is the next message.
        offset = delivery.headers().get(OFFSET, self._head + 1)
        if offset <= self._head:
            return
        if offset > self._head + 1:
            self._report_missed(offset - 1)
        self._head = offset
        if not delivery.exchange:
            self._on_marker(delivery.correlation_id)
            return
        channel = self._routing.channel(delivery)
        position = Position(self._epoch, offset)
        key = key_of(delivery)
        if key:
            now = self._reactor.seconds()
            known = self._publisher.keys.find(channel, key, now)
            if known is not None:
                self._repeats[offset] = None
                if (oldest := next(iter(self._repeats))) <= offset - MAX_READ:
                    del self._repeats[oldest]  # no query reads so far back
                self._publisher.on_delivered(delivery.correlation_id, known)
                return
            self._publisher.keys.remember(channel, key, position, now)
        if channel in self._subscribed or self._patterns.matches(channel):
            self._reported = offset
            if delivery.body is None:
                self._receiver.missed(channel, position)
            else:
                message = Message(channel, delivery.body, position, event_of(delivery))
                self._receiver.receive(message)
        if delivery.correlation_id:
            self._publisher.on_delivered(delivery.correlation_id, position)

    def _on_batch_end(self) -> None:
        """
        Acknowledge all deliveries of one read at once, and report the position.
        """
        if self._tag and self._pair.reader is not None:
            self._pair.reader.ack(self._pair.number, self._tag)
            self._tag = 0
        self._report_reached()

    def _report_reached(self) -> None:
        if self._reported < self._head:
            self._reported = self._head
            self._receiver.reached(self.position())

    def _report_missed(self, upto: int) -> None:
        """
        Report a gap up to the offset *upto*: the stream has dropped messages that this
        node has not received.
        """
        self._reported = self._head = upto
        for channel in tuple(self._subscribed):
            self._receiver.missed(channel, self.position())
        self._receiver.reached(self.position())

    def _on_marker(self, name: str) -> None:
        arrived = self._markers.pop(name, None)
        if arrived is not None:
            self._report_reached()
            arrived.callback(None)

    async def _read(self, start: Start, on_delivery: OnDelivery) -> None:
        reader = self._pair.reader
        if reader is None:
            raise AmqpConnectionClosed("the AMQP server is away")
        queue = self._stream_epoch.queue(self._epoch)
        await read_stream(reader, self._reactor, self._pair.number + 1, queue, start, on_delivery)

    def _decode(self, delivery: Delivery, offset: int) -> Message | None:
        if not delivery.exchange or delivery.body is None or offset in self._repeats:
            return None
        channel = self._routing.channel(delivery)
        position = Position(self._epoch, offset)
        return Message(channel, delivery.body, position, event_of(delivery))


def _always(_: str) -> bool:
    return True
