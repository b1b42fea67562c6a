"""
Readers, as many as you like.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rt_twisted.tools.clients.interfaces import ClientEvent, IClient
from rt_twisted.tools.load.latencies import Latencies
from rt_twisted.tools.load.sent import DeliveryTracker, SentLog
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState
from rt_twisted.tools.load.target import Target

MIN_RETRY = 0.05  # seconds until a reader comes back, if the server wants it at once


@dataclass(frozen=True, slots=True)
class LoadContext:
    """
    What is known of a reader.

    Args:
        got: which messages.
        latencies: where to count how long they took.
    """

    deliveries: DeliveryTracker
    latencies: Latencies


class LoadSubscribers:
    """
    All readers, and what they found.

    Args:
        target: the server.
        ledger: what is published.
        reconnect: whether those who were cut come back.
        clock: schedules.
    """

    def __init__(self, target: Target, sent_log: SentLog, reconnect: bool, clock: Any) -> None:
        self.target = target
        self.sent_log = sent_log
        self.connections: list[ClientConnection] = []
        self.connecting = Latencies()
        self.latency = Latencies()
        self.delivered = self.others = self.gaps = 0
        self.wrong: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.states: Counter[ClientState] = Counter()
        self.ever_open = self.reconnects = 0
        self._reconnect = reconnect
        self._clock = clock
        self.transports: dict[str, Latencies] = {}
        self._closing = False

    def add(
        self, channels: Sequence[int], make: Callable[[str], IClient], transport: str = ""
    ) -> None:
        """
        One more reader, which connects at once.

        Args:
            channels: their numbers.
            make: makes the wire of a connection, of the position it goes on from.
            transport: what its latencies are counted as too.
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
        """
        A reader has been let in.
        """
        self.connecting.add(self._clock.seconds() - subscriber.began)
        self._set_state(subscriber, ClientState.OPEN)
        if subscriber.context.deliveries.begin(self.sent_log):
            self.ever_open += 1
        else:
            self.reconnects += 1

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        """
        An event has come.
        """
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
            self.latency.add(took)
            if len(self.transports) > 1:
                context.latencies.add(took)

    def on_position(self, subscriber: ClientConnection) -> None:
        """
        Where it is matters to itself alone.
        """

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        """
        A connection has ended, or could not be made.
        """
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
        Give up those to whom nobody answers.
        """
        late = self._clock.seconds() - self.target.timeout
        for subscriber in self.connections:
            if subscriber.state is ClientState.CONNECTING and subscriber.began < late:
                subscriber.disconnect("no answer")

    def lost(self) -> int:
        """
        Deliveries that have not come so far.
        """
        return sum(
            subscriber.context.deliveries.lost(self.sent_log) for subscriber in self.connections
        )

    def close(self) -> None:
        """
        All hang up.
        """
        self._closing = True
        for subscriber in self.connections:
            subscriber.disconnect("over")
