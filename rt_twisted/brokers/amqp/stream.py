"""
RabbitMQ between the nodes, with a stream as the log of all: every node has the
same positions, and a reader can go on at any of them.

Every message passes every node; a node hands on those that are wanted there.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import AmqpServer, StreamRetention, Topology
from rt_twisted.brokers.amqp.connector import ConnectionPair
from rt_twisted.brokers.amqp.content import Delivery, MessageProperties
from rt_twisted.brokers.amqp.history import MAX_READ, AmqpHistoryReader, OnDelivery
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.publisher import AmqpPublisher
from rt_twisted.brokers.amqp.routing import Routing, event_of, key_of
from rt_twisted.brokers.amqp.stream_epoch import StreamEpoch
from rt_twisted.brokers.amqp.stream_reader import OFFSET, Start, read_stream
from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.brokers.interfaces import IBroker, IHistory, ILimited, IReady, IReceiver, IRefusing
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
SYNC = 10.0  # seconds until a mark must have come back


@implementer(IBroker, IHistory, ILimited, IReady, IRefusing)
class StreamBroker(Service):
    """
    Sends drafts to an exchange, and hears of them, with those of others, by
    the stream that is bound to it. A message's offset there is its position.

    Args:
        reactor: the reactor.
        endpoints: where the members of the cluster are, as in `server.addresses`.
        server: how to log in there.
        topology: which exchange; not a direct one.
        spec: AMQP's specification (`load_specification`).
        name: what the streams' names begin with.
        retention: what the log keeps.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[IStreamClientEndpoint],
        server: AmqpServer,
        topology: Topology,
        spec: Any,
        name: str,
        retention: StreamRetention,
    ) -> None:
        self._reactor = reactor
        self._topology = topology
        self._routing = Routing(topology)
        self._token = secrets.token_hex(8)
        self._publisher = AmqpPublisher(reactor, topology, self._routing, self._token, None)
        self._link = ConnectionPair(
            reactor,
            endpoints,
            server,
            topology,
            spec,
            f"realtime {self._token[:8]}",
            self._prepare,
            self._lost,
            self._publisher.on_blocked,
        )
        self._incarnation = StreamEpoch(reactor, name, retention, topology.number)
        self._history = AmqpHistoryReader(
            reactor, self._read, self._decode, self.position, self._catch_up
        )
        self._wanted: set[str] = set()
        self._waiting: list[tuple[str, Deferred[Position]]] = []  # for the log to be known
        self._epoch = ""
        self._head = -1  # offset of the last message that has passed
        self._told = -1  # offset up to which the hub knows of it
        self._repeats: dict[int, None] = {}  # offsets of what was there before, in order
        self._tag = 0
        self._marks: dict[str, Deferred[None]] = {}
        self._count = 0  # of marks
        self._tick = LoopingCall(self._publisher.check_timeouts)
        self._tick.clock = reactor
        self._receiver: IReceiver

    # Life.

    def startService(self) -> None:
        """
        Begin to connect.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._tick.start(1.0, now=False)
        self._link.start()

    def stopService(self) -> Deferred[Any]:
        """
        Leave the server; the stream stays.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._tick.stop()
        self._lost("the daemon is stopping")
        return self._link.stop()

    # What a broker does.

    def attach(self, receiver: IReceiver) -> None:
        """
        See `IBroker.attach`.
        """
        self._receiver = receiver

    def position(self) -> Position:
        """
        The last message that has passed here, wanted or not.
        """
        return Position(self._epoch, max(0, self._told)) if self._epoch else NOWHERE

    def ready(self) -> bool:
        """
        See `IReady.ready`.
        """
        return self._link.ready()

    def refuses(self) -> bool:
        """
        See `IRefusing.refuses`.
        """
        return self._link.refuses()

    def check_channel(self, channel: str) -> None:
        """
        See `ILimited.check_channel`.
        """
        self._publisher.check_channel(channel)

    def subscribe(self, channel: str) -> Deferred[Position]:
        """
        Fires at once, as every channel passes; or when the log is known first.
        """
        self._wanted.add(channel)
        if self._epoch:
            return succeed(self.position())
        heard: Deferred[Position] = Deferred()
        self._waiting.append((channel, heard))
        return heard

    def unsubscribe(self, channel: str) -> None:
        """
        Let it pass from now on.
        """
        self._wanted.discard(channel)
        self._waiting = [one for one in self._waiting if one[0] != channel]

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Fires when *drafts* have come back, with their places in the log.
        """
        return self._publisher.publish(drafts, _always)

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        See `IHistory.after`; read from the stream.
        """
        return self._history.batcher.ask(channels, since)

    # A new connection.

    async def _prepare(self) -> None:
        reader, writer, number = self._link.reader, self._link.writer, self._link.number
        if reader is None or writer is None:
            raise AmqpConnectionClosed("lost again")
        everything = self._routing.everything()
        assert everything is not None, "a direct exchange has no binding for everything"
        epoch, bad = self._epoch, ""
        while True:
            epoch = await self._incarnation.find(reader, writer, epoch, bad)
            queue = self._incarnation.queue(epoch)
            await reader.call(
                number,
                "queue_bind",
                queue=queue,
                exchange=self._topology.exchange,
                routing_key=everything.key,
                arguments=everything.arguments,
            )
            end = await self._find_end(reader, writer, queue)
            if epoch != self._epoch or end > self._head:
                break
            # It has lost its end, and gives numbers again that were given.
            _log.error("the stream {queue} has lost messages: another begins", queue=queue)
            bad = epoch
        if epoch != self._epoch:
            if self._epoch:
                _log.warn("another log begins: the stream {queue}", queue=queue)
            self._epoch, self._head, self._told = epoch, end, end
            self._publisher.keys = IdempotencyKeys()  # they lead into the other log
            self._repeats.clear()
            self._receiver.reached(self.position())
        reader.consumers[CONSUMER] = self._deliver
        reader.on_settled = self._settled
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
        for _, heard in waiting:
            heard.callback(self.position())

    async def _find_end(self, reader: AmqpConnection, writer: AmqpConnection, queue: str) -> int:
        """
        The offset of a mark that is written now.
        """
        name, end = self._name_mark(), 0

        def take(delivery: Delivery, offset: int) -> bool:
            nonlocal end
            end = offset
            return delivery.correlation_id == name

        await read_stream(
            reader,
            self._reactor,
            self._link.number + 1,
            queue,
            "next",
            take,
            lambda: self._mark(writer, queue, name),
        )
        return end

    def _name_mark(self) -> str:
        self._count += 1
        return f"{self._token}.mark.{self._count}"

    def _mark(self, writer: AmqpConnection, queue: str, name: str) -> None:
        # By the nameless exchange, which leads to this stream alone: whatever
        # comes that way is nobody's message.
        properties = MessageProperties(correlation_id=name, persistent=True)
        writer.publish(self._link.number, "", queue, b"", properties)

    async def _catch_up(self) -> None:
        """
        Wait until everything that is in the log now has passed here.

        Raises:
            Unavailable: that takes too long.
        """
        writer = self._link.writer
        if writer is None:
            raise Unavailable("the AMQP server is away")
        name = self._name_mark()
        passed: Deferred[None] = Deferred()
        self._marks[name] = passed
        passed.addTimeout(SYNC, self._reactor)
        self._mark(writer, self._incarnation.queue(self._epoch), name)
        try:
            await passed
        except Exception:
            raise Unavailable("the AMQP server is too slow, or away") from None
        finally:
            self._marks.pop(name, None)

    def _lost(self, why: str) -> None:
        self._tag = 0
        self._history.batcher.close()
        self._publisher.close(why)

    # Messages.

    def _deliver(self, delivery: Delivery) -> None:
        self._tag = delivery.tag
        # Without its place, which only a monstrous table of headers hides, it is the next.
        offset = delivery.headers().get(OFFSET, self._head + 1)
        if offset <= self._head:
            return
        if offset > self._head + 1:
            self._say_missed(offset - 1)
        self._head = offset
        if not delivery.exchange:
            self._passed(delivery.correlation_id)
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
                    del self._repeats[oldest]  # nobody reads so far back
                self._publisher.on_delivered(delivery.correlation_id, known)
                return
            self._publisher.keys.remember(channel, key, position, now)
        if channel in self._wanted:
            self._told = offset
            if delivery.body is None:
                self._receiver.missed(channel, position)
            else:
                message = Message(channel, delivery.body, position, event_of(delivery))
                self._receiver.receive(message)
        if delivery.correlation_id:
            self._publisher.on_delivered(delivery.correlation_id, position)

    def _settled(self) -> None:
        """
        One acknowledgement, and one word of how far it is, for all that one
        read has brought.
        """
        if self._tag and self._link.reader is not None:
            self._link.reader.ack(self._link.number, self._tag)
            self._tag = 0
        self._say_reached()

    def _say_reached(self) -> None:
        if self._told < self._head:
            self._told = self._head
            self._receiver.reached(self.position())

    def _say_missed(self, upto: int) -> None:
        """
        The stream has forgotten what we were not there for.
        """
        self._told = self._head = upto
        for channel in tuple(self._wanted):
            self._receiver.missed(channel, self.position())
        self._receiver.reached(self.position())

    def _passed(self, name: str) -> None:
        mark = self._marks.pop(name, None)
        if mark is not None:
            self._say_reached()
            mark.callback(None)

    # The archive's.

    async def _read(self, start: Start, take: OnDelivery) -> None:
        reader = self._link.reader
        if reader is None:
            raise AmqpConnectionClosed("the AMQP server is away")
        queue = self._incarnation.queue(self._epoch)
        await read_stream(reader, self._reactor, self._link.number + 1, queue, start, take)

    def _decode(self, delivery: Delivery, offset: int) -> Message | None:
        if not delivery.exchange or delivery.body is None or offset in self._repeats:
            return None
        channel = self._routing.channel(delivery)
        position = Position(self._epoch, offset)
        return Message(channel, delivery.body, position, event_of(delivery))


def _always(_: str) -> bool:
    return True
