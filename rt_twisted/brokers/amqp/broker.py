"""
The AMQP broker without a log: RabbitMQ carries messages, and positions are this node's.

Each node has a queue, which the server deletes with the connection. Messages that are
published meanwhile are lost to this node, and its subscribers get a gap.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.claims import AmqpClaims
from rt_twisted.brokers.amqp.connector import AmqpTarget, ConnectionPair
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.publisher import AmqpPublisher
from rt_twisted.brokers.amqp.routing import Binding, Routing, event_of, key_of
from rt_twisted.brokers.interfaces import (
    IBroker,
    IClaims,
    ILimited,
    IPatterns,
    IReady,
    IReceiver,
    IRefusing,
)
from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import Draft, Message, Position, PublishResult

_log = Logger()

CONSUMER = "rt"


class AmqpSubscription:
    """
    The subscription to a channel, or to a pattern of channels.
    """

    __slots__ = ("bound", "confirmed", "waiting")

    def __init__(self) -> None:
        self.bound = False  # on this connection
        self.confirmed = False  # on any connection: what is missed has to be reported
        self.waiting: list[Deferred[Position]] = []


@implementer(IBroker, IClaims, ILimited, IPatterns, IReady, IRefusing)
class AmqpBroker(Service):
    """
    Publishes to an exchange, and numbers the messages that it delivers.

    Args:
        reactor: the reactor.
        target: the servers, and what is declared there.
    """

    def __init__(
        self,
        reactor: Any,
        target: AmqpTarget,
    ) -> None:
        self._reactor = reactor
        topology = self._topology = target.topology
        self._routing = Routing(topology)
        self._epoch = secrets.token_hex(4)
        self._offset = 0
        self._publisher = AmqpPublisher(
            reactor, topology, self._routing, secrets.token_hex(8), self.position
        )
        self._pair = ConnectionPair(
            reactor,
            target,
            f"realtime {self._epoch}",
            self._prepare,
            self._on_lost,
            self._publisher.on_blocked,
        )
        self._subscriptions: dict[Selector, AmqpSubscription] = {}
        self._patterns = WildcardIndex()  # of them
        self._queue = ""  # the queue's name; "" while there is none
        self._consuming = False
        self._tag = 0  # of the last delivery to acknowledge
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
        return Position(self._epoch, self._offset)

    def ready(self) -> bool:
        return self._pair.ready()

    def refuses(self) -> bool:
        return self._pair.refuses()

    def check_channel(self, channel: str) -> None:
        self._publisher.check_channel(channel)

    def check_pattern(self, pattern: Wildcard) -> None:
        self._routing.check_pattern(pattern)

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        subscription = self._subscriptions.get(channel)
        if subscription is None:
            subscription = self._subscriptions[channel] = AmqpSubscription()
            if not isinstance(channel, str):
                self._patterns.add(channel)
            if self._queue:
                self._bind(channel, subscription)
        if subscription.bound and self._consuming:
            return succeed(self.position())
        done: Deferred[Position] = Deferred()
        subscription.waiting.append(done)
        return done

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[Any]:
        return self._claims.claim(name, run, takeover)

    def is_claimed(self, name: str) -> Deferred[bool]:
        return self._claims.is_claimed(name)

    def unsubscribe(self, channel: Selector) -> None:
        if self._subscriptions.pop(channel, None) is None:
            return
        binding = self._binding(channel)
        if not isinstance(channel, str):
            self._patterns.discard(channel)
            # Patterns may share a binding.
            if any(self._binding(one) == binding for one in self._patterns):
                return
        if self._pair.reader is not None and self._queue and binding is not None:
            self._call("queue_unbind", binding).addErrback(_ignore)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        return self._publisher.publish(drafts, self._is_subscribed)

    def _is_subscribed(self, channel: str) -> bool:
        selectors: list[Selector] = [channel, *self._patterns.matching(channel)]
        found = [self._subscriptions.get(selector) for selector in selectors]
        return self._consuming and any(one is not None and one.bound for one in found)

    async def _prepare(self) -> None:
        reader, writer, number = self._pair.reader, self._pair.writer, self._pair.number
        if reader is None or writer is None:
            raise AmqpConnectionClosed("the connection was lost")
        declared = await reader.call(number, "queue_declare", exclusive=True, auto_delete=True)
        self._queue = declared.queue
        await reader.call(number, "basic_qos", prefetch_count=self._topology.prefetch)
        common = self._routing.common()
        bound = [self._call("queue_bind", common)] if common is not None else []
        bound += [
            self._bind(channel, subscription)
            for channel, subscription in self._subscriptions.items()
        ]
        await gatherResults(bound)
        self._report_missed(
            [name for name, subscription in self._subscriptions.items() if subscription.confirmed]
        )
        await self._claims.open(reader, writer)
        reader.consumers[CONSUMER] = self._deliver
        reader.on_batch_end = self._on_batch_end
        await reader.call(number, "basic_consume", queue=self._queue, consumer_tag=CONSUMER)
        self._consuming = True
        self._publisher.open(writer)
        for subscription in tuple(self._subscriptions.values()):
            if subscription.bound:
                self._confirm(subscription)

    def _on_lost(self, reason: str) -> None:
        self._tag = 0
        self._queue, self._consuming = "", False
        for subscription in self._subscriptions.values():
            subscription.bound = False
        self._claims.close()
        self._publisher.close(reason)

    def _report_missed(self, channels: Iterable[Selector]) -> None:
        """
        Report a gap in *channels*: messages were lost while there was no queue. It takes a
        number of its own.
        """
        channels = tuple(channels)
        if channels:
            self._offset += 1
            gap = self.position()
            for channel in channels:
                self._receiver.missed(channel, gap)
            self._receiver.reached(gap)

    def _binding(self, channel: Selector) -> Binding | None:
        """
        Return the binding for *channel* alone; None if there is a common one, or its name
        is too long.
        """
        if self._routing.common() is not None:
            return None
        if not isinstance(channel, str):
            return self._routing.pattern_binding(channel)
        return self._routing.binding(channel)

    def _bind(self, channel: Selector, subscription: AmqpSubscription) -> Deferred[Any]:
        binding = self._binding(channel)
        done = succeed(None) if binding is None else self._call("queue_bind", binding)
        queue = self._queue

        def bound(_: object) -> None:
            # Meanwhile there may be another connection, or another subscription.
            if self._queue == queue and self._subscriptions.get(channel) is subscription:
                subscription.bound = True
                if self._consuming:
                    self._confirm(subscription)

        # It fails with the connection only, and is repeated on the next one.
        return done.addCallback(bound).addErrback(_ignore)

    def _confirm(self, subscription: AmqpSubscription) -> None:
        subscription.confirmed = True
        waiting, subscription.waiting = subscription.waiting, []
        for done in waiting:
            done.callback(self.position())

    def _call(self, method: str, binding: Binding) -> Deferred[Any]:
        assert self._pair.reader is not None
        return self._pair.reader.start_call(
            self._pair.number,
            method,
            queue=self._queue,
            exchange=self._topology.exchange,
            routing_key=binding.key,
            arguments=binding.arguments,
        )

    def _deliver(self, delivery: Delivery) -> None:
        self._tag = delivery.tag
        channel = self._routing.channel(delivery)
        if channel not in self._subscriptions and not self._patterns.matches(channel):
            # Unsubscribed, or of a fanout. This node may be the publisher all the same.
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

    def _on_batch_end(self) -> None:
        """
        Acknowledge all deliveries of one read at once.
        """
        if self._tag and self._pair.reader is not None:
            self._pair.reader.ack(self._pair.number, self._tag)
            self._tag = 0


def _ignore(_: object) -> None:
    pass
