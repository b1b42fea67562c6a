"""
Subscribers that are cut, reconnect, and are checked.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from rt_twisted.model.message import Position
from rt_twisted.tools.clients.interfaces import ClientEvent, ClientRequest, IClient, SessionState
from rt_twisted.tools.clients.registry import ClientType
from rt_twisted.tools.clients.tokens import TokenSource
from rt_twisted.tools.cuttest.checker import Checker, Fault
from rt_twisted.tools.cuttest.node import NodeRoute
from rt_twisted.tools.cuttest.proxy import CutMode
from rt_twisted.tools.cuttest.published import Published
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState

RECENT_EVENTS = 16  # events that are stored of a subscriber
MAX_INCIDENTS = 50  # that are listed one by one
MAX_RETRY = 2.0  # seconds until a refused subscriber reconnects, even if `retry` is longer
MAX_LEFT = 2000  # bytes that still pass before a connection is closed
TIMEOUT = 10.0  # seconds until a connection without a response is aborted


@dataclass(slots=True)
class CheckedSubscriber:
    """
    State of a subscriber.

    Args:
        choice: its transport.
        routes: it may connect by.
        route: of its current or last connection.
        names: of its channels.
        turn: its number within its transport.
        checker: checks its messages.
        session: kept between its connections.
        cuts: how often it was cut.
        wait: seconds until it reconnects after a cut; None if it was not cut.
        timer: until it is cut or reconnects.
        recent_events: the last events, for reports.
    """

    choice: ClientType
    routes: Sequence[NodeRoute]
    route: NodeRoute
    names: Sequence[str]
    turn: int
    checker: Checker
    session: SessionState = field(default_factory=SessionState)
    cuts: int = 0
    wait: float | None = None
    timer: Any = None
    recent_events: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT_EVENTS))

    def wire(self, position: str) -> IClient:
        """
        Of its next connection.
        """
        client_request = ClientRequest(self.route.url, self.names, self.turn, session=self.session)
        return self.choice.make(client_request, position)

    def cancel_timer(self) -> None:
        """
        Cancel the pending cut or reconnect.
        """
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None


@dataclass(frozen=True, slots=True)
class Incident:
    """
    A fault, with its circumstances.

    Args:
        at: seconds since the start.
        fault: the violation.
        transport: of the subscriber.
        subscriber: its number.
        channel: name of the message's channel.
        number: of the message.
        position: of the message, as its publisher received it; "" if not known.
        recent_events: of the subscriber.
    """

    at: float
    fault: Fault
    transport: str
    subscriber: int
    channel: str
    number: int
    position: str
    recent_events: tuple[str, ...]


class CheckedSubscribers:
    """
    All subscribers of a cut test.

    Args:
        published: all messages.
        away: seconds that a cut lasts.
        every: seconds from a connection's start until it is cut, on average.
        rng: random choices.
        clock: the reactor.
    """

    def __init__(
        self, published: Published, away: float, every: float, rng: random.Random, clock: Any
    ) -> None:
        self.connections: list[ClientConnection] = []
        self.errors: Counter[str] = Counter()
        self.incidents: list[Incident] = []
        self.others = 0  # messages that are not ours
        self.cutting = False
        self._published = published
        self._away = away
        self._every = every
        self._rng = rng
        self._clock = clock
        self._began = clock.seconds()
        self._closing = False

    def add(
        self,
        choice: ClientType,
        routes: Sequence[NodeRoute],
        channels: Sequence[int],
        tokens: TokenSource | None = None,
    ) -> None:
        """
        Add a subscriber, and connect it.

        Args:
            choice: its transport.
            routes: one per node; each connection uses a random one.
            channels: their indexes.
            tokens: of the subscriber; None if it needs none.
        """
        names = [self._published.channels[each] for each in channels]
        turn = sum(subscriber.context.choice is choice for subscriber in self.connections)
        context = CheckedSubscriber(
            choice, routes, routes[0], names, turn, Checker(channels, self._published)
        )
        context.session.tokens = tokens
        subscriber = ClientConnection(self, len(self.connections), context.wire, context)
        self.connections.append(subscriber)
        self._connect(subscriber)

    def _connect(self, subscriber: ClientConnection) -> None:
        context: CheckedSubscriber = subscriber.context
        if self._closing:
            return
        context.route = self._rng.choice(context.routes)
        context.wait = None
        subscriber.state = ClientState.CONNECTING
        self._note(
            subscriber, f"connects to {context.route.url} from {subscriber.position or 'nowhere'}"
        )
        subscriber.connect(context.route.target, self._clock.seconds())
        if self.cutting and subscriber.state is ClientState.CONNECTING:
            self._schedule_cut(subscriber)

    def _schedule_cut(self, subscriber: ClientConnection) -> None:
        rng, context = self._rng, subscriber.context
        # Often during the subscription, where messages could be lost.
        early = rng.random() < 0.25
        after = rng.uniform(0, 0.1) if early else rng.uniform(0, 2) * self._every
        context.cancel_timer()
        context.timer = self._clock.callLater(after, self._cut, subscriber)

    def _cut(self, subscriber: ClientConnection) -> None:
        context: CheckedSubscriber = subscriber.context
        if not self.cutting or subscriber.transport is None or context.wait is not None:
            return
        mode = self._rng.choice(tuple(CutMode))
        left = self._rng.choice((0, self._rng.randint(1, MAX_LEFT)))
        if not context.route.node.cut(subscriber.transport, mode, self._away, left):
            self._schedule_cut(subscriber)
            return
        self._note(subscriber, f"{mode.value} at {subscriber.position or 'nowhere'}")
        context.cuts += 1
        if mode is CutMode.PAUSE:
            self._schedule_cut(subscriber)
        else:  # a stall has already lasted that long
            context.wait = 0.0 if mode is CutMode.STALL else self._away

    def begin(self) -> None:
        """
        Start to cut connections.
        """
        self.cutting = True
        for subscriber in self.connections:
            if subscriber.transport is not None:
                self._schedule_cut(subscriber)

    def end(self, seconds: float) -> None:
        """
        Stop cutting connections; tokens no longer expire in the next *seconds*.
        """
        self.cutting = False
        for subscriber in self.connections:
            tokens = subscriber.context.session.tokens
            if tokens is not None:
                tokens.last(seconds)

    def on_open(self, subscriber: ClientConnection) -> None:
        subscriber.state = ClientState.OPEN
        self._note(subscriber, "is admitted")

    def on_event(self, subscriber: ClientConnection, event: ClientEvent) -> None:
        context: CheckedSubscriber = subscriber.context
        position = Position.parse(event.position)
        if event.gap:
            self._note(subscriber, f"received a gap up to {position}")
            context.checker.gap(position)
            return
        found = self._published.find(event.text)
        if found is None:
            self.others += 1
            return
        for finding in context.checker.record(*found, position):
            self._report(subscriber, *finding)

    def on_position(self, subscriber: ClientConnection) -> None:
        for finding in subscriber.context.checker.advance(Position.parse(subscriber.position)):
            self._report(subscriber, *finding)

    def on_close(self, subscriber: ClientConnection, why: str) -> None:
        context: CheckedSubscriber = subscriber.context
        subscriber.state = ClientState.DISCONNECTED
        if self._closing:
            subscriber.state = ClientState.CLOSED
            return
        context.cancel_timer()
        self._note(subscriber, f"ended: {why}")
        wait = context.wait
        if wait is None:
            self.errors[f"{context.choice.name}: {why}"] += 1
            wait = min(max(subscriber.retry, 0.05), MAX_RETRY) * self._rng.uniform(0.5, 1)
        context.timer = self._clock.callLater(wait, self._connect, subscriber)

    def check_timeouts(self) -> None:
        """
        Abort connections without a response, and drop messages that all have received.
        """
        late = self._clock.seconds() - TIMEOUT - self._away
        for subscriber in self.connections:
            if subscriber.state is ClientState.CONNECTING and subscriber.began < late:
                subscriber.disconnect("no answer")
        published = self._published
        for channel in range(len(published.channels)):
            next_number = [
                subscriber.context.checker.next_number(channel) for subscriber in self.connections
            ]
            published.forget(channel, min([*next_number, published.accepted(channel)]))

    def not_ready(self) -> list[ClientConnection]:
        """
        Return the subscribers that are not connected or have no position yet.
        """
        return [
            subscriber
            for subscriber in self.connections
            if subscriber.state is not ClientState.OPEN
            or not subscriber.context.checker.started
            or subscriber.context.wait is not None
        ]

    def is_waiting(self) -> bool:
        """
        Return whether a subscriber still expects a message that was accepted.
        """
        return any(subscriber.context.checker.is_waiting() for subscriber in self.connections)

    def checker(self) -> None:
        """
        What has not come until now is lost.
        """
        for subscriber in self.connections:
            for finding in subscriber.context.checker.close():
                self._report(subscriber, *finding)

    def close(self) -> None:
        """
        Close all connections.
        """
        self._closing = True
        self.cutting = False
        for subscriber in self.connections:
            subscriber.context.cancel_timer()
            subscriber.disconnect("over")

    def _note(self, subscriber: ClientConnection, what: str) -> None:
        subscriber.context.recent_events.append(f"{self._clock.seconds() - self._began:.3f} {what}")

    def _report(
        self, subscriber: ClientConnection, fault: Fault, channel: int, number: int
    ) -> None:
        if len(self.incidents) >= MAX_INCIDENTS:
            return
        context: CheckedSubscriber = subscriber.context
        self._note(subscriber, f"is at {subscriber.position or 'nowhere'}, or later")
        now = round(self._clock.seconds() - self._began, 3)
        name = self._published.channels[channel]
        path = str(self._published.position(channel, number) or "")
        recent_events = tuple(context.recent_events)
        self.incidents.append(
            Incident(
                now,
                fault,
                context.choice.name,
                subscriber.number,
                name,
                number,
                path,
                recent_events,
            )
        )
