"""
RabbitMQ between the nodes, without a log of its own: positions are this node's.

One queue per node, which goes when we go. What comes while we are away is lost
to this node, and readers are told so.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import AmqpServer, Topology
from rt_twisted.brokers.amqp.connector import ConnectionPair
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.publisher import AmqpPublisher
from rt_twisted.brokers.amqp.routing import Binding, Routing, event_of, key_of
from rt_twisted.brokers.interfaces import IBroker, ILimited, IReady, IReceiver, IRefusing
from rt_twisted.model.message import Draft, Message, Position, PublishResult

_log = Logger()

CONSUMER = "rt"


class AmqpSubscription:
    """
    A channel that is wanted.
    """

    __slots__ = ("bound", "heard", "waiting")

    def __init__(self) -> None:
        self.bound = False  # on this connection
        self.heard = False  # ever: its readers count on it
        self.waiting: list[Deferred[Position]] = []


@implementer(IBroker, ILimited, IReady, IRefusing)
class AmqpBroker(Service):
    """
    Sends drafts to an exchange and numbers what comes from it.

    Args:
        reactor: the reactor.
        endpoints: where the members of the cluster are, as in `server.addresses`.
        server: how to log in there.
        topology: what is declared there.
        spec: AMQP's specification (`load_specification`).
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[IStreamClientEndpoint],
        server: AmqpServer,
        topology: Topology,
        spec: Any,
    ) -> None:
        self._reactor = reactor
        self._topology = topology
        self._routing = Routing(topology)
        self._epoch = secrets.token_hex(4)
        self._offset = 0
        self._publisher = AmqpPublisher(
            reactor, topology, self._routing, secrets.token_hex(8), self.position
        )
        self._link = ConnectionPair(
            reactor,
            endpoints,
            server,
            topology,
            spec,
            f"realtime {self._epoch}",
            self._prepare,
            self._lost,
            self._publisher.on_blocked,
        )
        self._subscriptions: dict[str, AmqpSubscription] = {}
        self._queue = ""  # its name; "" while there is none
        self._consuming = False
        self._tag = 0  # of the last delivery that is to be acknowledged
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
        Leave the server; it forgets our queue.
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
        The last number given here.
        """
        return Position(self._epoch, self._offset)

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
        Fires when the server has bound *channel* to our queue.
        """
        wish = self._subscriptions.get(channel)
        if wish is None:
            wish = self._subscriptions[channel] = AmqpSubscription()
            if self._queue:
                self._bind(channel, wish)
        if wish.bound and self._consuming:
            return succeed(self.position())
        heard: Deferred[Position] = Deferred()
        wish.waiting.append(heard)
        return heard

    def unsubscribe(self, channel: str) -> None:
        """
        Unbind it; nobody waits for that.
        """
        if self._subscriptions.pop(channel, None) is None or self._link.reader is None:
            return
        binding = self._binding(channel)
        if self._queue and binding is not None:
            self._say("queue_unbind", binding).addErrback(_let_pass)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Fires when the server has confirmed *drafts*, and those of channels that
        are heard here have come back.
        """
        return self._publisher.publish(drafts, self._is_heard)

    def _is_heard(self, channel: str) -> bool:
        wish = self._subscriptions.get(channel)
        return wish is not None and wish.bound and self._consuming

    # A new connection.

    async def _prepare(self) -> None:
        reader, writer, number = self._link.reader, self._link.writer, self._link.number
        if reader is None or writer is None:
            raise AmqpConnectionClosed("lost again")
        declared = await reader.call(number, "queue_declare", exclusive=True, auto_delete=True)
        self._queue = declared.queue
        await reader.call(number, "basic_qos", prefetch_count=self._topology.prefetch)
        common = self._routing.common()
        bound = [self._say("queue_bind", common)] if common is not None else []
        bound += [self._bind(channel, wish) for channel, wish in self._subscriptions.items()]
        await gatherResults(bound)
        self._say_missed([name for name, wish in self._subscriptions.items() if wish.heard])
        reader.consumers[CONSUMER] = self._deliver
        reader.on_settled = self._settled
        await reader.call(number, "basic_consume", queue=self._queue, consumer_tag=CONSUMER)
        self._consuming = True
        self._publisher.open(writer)
        for wish in tuple(self._subscriptions.values()):
            if wish.bound:
                self._fire(wish)

    def _lost(self, why: str) -> None:
        self._tag = 0
        self._queue, self._consuming = "", False
        for wish in self._subscriptions.values():
            wish.bound = False
        self._publisher.close(why)

    def _say_missed(self, channels: Iterable[str]) -> None:
        """
        What came while there was no queue is lost: a hole in the numbers.
        """
        channels = tuple(channels)
        if channels:
            self._offset += 1
            hole = self.position()
            for channel in channels:
                self._receiver.missed(channel, hole)
            self._receiver.reached(hole)

    # Wishes.

    def _binding(self, channel: str) -> Binding | None:
        """
        What is bound for *channel* alone.
        """
        if self._routing.common() is not None:
            return None
        return self._routing.binding(channel)

    def _bind(self, channel: str, wish: AmqpSubscription) -> Deferred[Any]:
        binding = self._binding(channel)
        done = succeed(None) if binding is None else self._say("queue_bind", binding)
        queue = self._queue

        def bound(_: object) -> None:
            # Meanwhile it may be another connection, or another wish.
            if self._queue == queue and self._subscriptions.get(channel) is wish:
                wish.bound = True
                if self._consuming:
                    self._fire(wish)

        # Where this fails, the connection has: it is said again on the next one.
        return done.addCallback(bound).addErrback(_let_pass)

    def _fire(self, wish: AmqpSubscription) -> None:
        wish.heard = True
        waiting, wish.waiting = wish.waiting, []
        for heard in waiting:
            heard.callback(self.position())

    def _say(self, method: str, binding: Binding) -> Deferred[Any]:
        assert self._link.reader is not None
        return self._link.reader.say(
            self._link.number,
            method,
            queue=self._queue,
            exchange=self._topology.exchange,
            routing_key=binding.key,
            arguments=binding.arguments,
        )

    # Messages.

    def _deliver(self, delivery: Delivery) -> None:
        self._tag = delivery.tag
        channel = self._routing.channel(delivery)
        if channel not in self._subscriptions:
            # Taken back, or a fanout's. Its publisher may be ours all the same.
            self._publisher.on_delivered(delivery.correlation_id, self.position())
            return
        key = key_of(delivery)
        if key:
            now = self._reactor.seconds()
            known = self._publisher.keys.find(channel, key, now)
            if known is not None:
                self._publisher.on_delivered(delivery.correlation_id, known)
                return
        self._offset += 1
        position = self.position()
        if delivery.body is None:
            self._receiver.missed(channel, position)
        else:
            message = Message(channel, delivery.body, position, event_of(delivery))
            self._receiver.receive(message)
        if key:
            self._publisher.keys.remember(channel, key, position, now)
        if delivery.correlation_id:
            self._publisher.on_delivered(delivery.correlation_id, position)

    def _settled(self) -> None:
        """
        One acknowledgement for all that one read has brought.
        """
        if self._tag and self._link.reader is not None:
            self._link.reader.ack(self._link.number, self._tag)
            self._tag = 0


def _let_pass(_: object) -> None:
    pass
