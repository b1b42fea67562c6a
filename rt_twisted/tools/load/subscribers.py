"""
All subscribers of a load test, and their statistics.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.tools.clients.interfaces import ClientEvent, IClient
from rt_twisted.tools.load.channels import ChannelStatistics
from rt_twisted.tools.load.latencies import Latencies
from rt_twisted.tools.load.sent import DeliveryTracker, SentLog
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState
from rt_twisted.tools.load.target import Target

MIN_RETRY = 0.05  # seconds to a reconnect, even if the server's `retry` is shorter


@dataclass(frozen=True, slots=True)
class LoadContext:
    """
    Statistics of one subscriber.

    Args:
        deliveries: tracks its messages.
        latencies: of its transport.
    """

    deliveries: DeliveryTracker
    latencies: Latencies


class LoadSubscribers:
    """
    All subscribers of a load test, and their statistics.

    Args:
        target: the server.
        sent_log: the published messages.
        reconnect: whether disconnected subscribers reconnect.
        clock: the reactor.
    """

    def __init__(self, target: Target, sent_log: SentLog, reconnect: bool, clock: Any) -> None:
        self.target = target
        self.sent_log = sent_log
        self.connections: list[ClientConnection] = []
        self.connecting = Latencies()
        self.channels = [ChannelStatistics() for _ in sent_log.channels]
        self.delivered = self.others = self.gaps = 0
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.states: Counter[ClientState] = Counter()
        self.ever_open = self.reconnects = 0
        self._reconnect = reconnect
        self._clock = clock
        self.transports: dict[str, Latencies] = {}
        self._closing = False

    @property
    def latency(self) -> Latencies:
        """
        Latencies of all deliveries.
        """
        return Latencies.combined(channel.latency for channel in self.channels)

    def add(
        self, channels: Sequence[int], make: Callable[[str], IClient], transport: str = ""
    ) -> None:
        """
        Add a subscriber, and connect it.

        Args:
            channels: the indexes of its channels.
            make: creates the client of a connection; gets the position to resume from.
            transport: latencies are also counted under this name.
        """
        latencies = self.transports.setdefault(transport, Latencies())
        context = LoadContext(DeliveryTracker(channels), latencies)
        subscriber = ClientConnection(self, len(self.connections), make, context)
        self.connections.append(subscriber)
        self.states[ClientState.DISCONNECTED] += 1
        self._connect(subscriber)

    def _set_state(self, subscriber: ClientConnection, state: ClientState) -> None:
        self.states[subscriber.state] -= 1
        self.states[state] += 1
        subscriber.state = state

    def _connect(self, subscriber: ClientConnection) -> None:
        if self._closing:
            return
        self._set_state(subscriber, ClientState.CONNECTING)
        subscriber.connect(self.target, self._clock.seconds())

    def on_open(self, subscriber: ClientConnection) -> None:
        self.connecting.add(self._clock.seconds() - subscriber.began)
        self._set_state(subscriber, ClientState.OPEN)
        deliveries: DeliveryTracker = subscriber.context.deliveries
        if deliveries.begin(self.sent_log):
            self.ever_open += 1
            for channel in deliveries.channels:
                self.channels[channel].subscribers += 1
        else:
            self.reconnects += 1

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        if event.gap:
            self.gaps += 1
            return
        sent = self.sent_log.find(event.text)
        if sent is None:
            self.others += 1
            return
        context: LoadContext = subscriber.context
        wrong = context.deliveries.record(sent)
        if wrong:
            self.wrong[wrong] += 1
        if wrong in ("", "out of order"):
            self.delivered += 1
            took = self._clock.seconds() - sent.at
            self.channels[sent.channel].record(sent.number, took)
            if len(self.transports) > 1:
                context.latencies.add(took)

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Ignore position changes.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        if self._closing:
            self._set_state(subscriber, ClientState.CLOSED)
            return
        self.errors[why] += 1
        if not self._reconnect:
            self._set_state(subscriber, ClientState.CLOSED)
            subscriber.context.deliveries.end(self.sent_log)
            return
        self._set_state(subscriber, ClientState.DISCONNECTED)
        self._clock.callLater(
            max(subscriber.retry, MIN_RETRY) * random.uniform(1, 1.5), self._connect, subscriber
        )

    def abort_unanswered(self) -> None:
        """
        Abort connections to which the server has not responded in time.
        """
        late = self._clock.seconds() - self.target.timeout
        for subscriber in self.connections:
            if subscriber.state is ClientState.CONNECTING and subscriber.began < late:
                subscriber.disconnect("no answer")

    def lost(self) -> int:
        """
        Return how many expected deliveries have not arrived so far.
        """
        return sum(
            subscriber.context.deliveries.lost(self.sent_log) for subscriber in self.connections
        )

    def close(self) -> None:
        """
        Close all connections.
        """
        self._closing = True
        for subscriber in self.connections:
            subscriber.disconnect("over")
