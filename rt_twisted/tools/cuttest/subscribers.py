"""
Readers that are cut, come back, and are judged.
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
from rt_twisted.tools.cuttest.checker import Checker, Fault
from rt_twisted.tools.cuttest.node import NodeRoute
from rt_twisted.tools.cuttest.proxy import CutMode
from rt_twisted.tools.cuttest.published import Published
from rt_twisted.tools.load.subscriber import ClientConnection, ClientState

STORY = 16  # events that are remembered of a reader
MOST_FAULTS = 50  # that are told one by one
LONGEST_WAIT = 2.0  # seconds until a reader that was refused comes back, whatever the server says
MOST_LEFT = 2000  # bytes that still pass before a connection is closed
TIMEOUT = 10.0  # seconds until somebody to whom nobody answers gives up


@dataclass(slots=True)
class CheckedSubscriber:
    """
    What is known of a reader.

    Args:
        choice: its kind of wire.
        ways: how it may connect.
        way: how it does, or did last.
        names: of its channels.
        turn: its number among those of its kind.
        judge: judges it.
        memory: what its wires remember.
        cuts: how often it was cut.
        wait: seconds until it comes back, as it was cut; None if it was not.
        timer: until it is cut, or comes back.
        story: what happened last.
    """

    choice: ClientType
    ways: Sequence[NodeRoute]
    way: NodeRoute
    names: Sequence[str]
    turn: int
    judge: Checker
    memory: SessionState = field(default_factory=SessionState)
    cuts: int = 0
    wait: float | None = None
    timer: Any = None
    story: deque[str] = field(default_factory=lambda: deque(maxlen=STORY))

    def wire(self, position: str) -> IClient:
        """
        Of its next connection.
        """
        asking = ClientRequest(self.way.url, self.names, self.turn, memory=self.memory)
        return self.choice.make(asking, position)

    def put_off(self) -> None:
        """
        What was to come does not.
        """
        if self.timer is not None and self.timer.active():
            self.timer.cancel()
        self.timer = None


@dataclass(frozen=True, slots=True)
class Incident:
    """
    Something that must not happen.

    Args:
        at: seconds since the beginning.
        fault: what.
        transport: of the reader.
        reader: its number.
        channel: name of the message's.
        number: of the message.
        position: of the message, as its publisher was told; "" if that is not known.
        story: what had happened to the reader before.
    """

    at: float
    fault: Fault
    transport: str
    reader: int
    channel: str
    number: int
    position: str
    story: tuple[str, ...]


class CheckedSubscribers:
    """
    All readers.

    Args:
        published: what there is to hear.
        away: seconds for which they are cut.
        every: seconds from a connection's beginning until it is cut, on average.
        rng: chance.
        clock: the reactor.
    """

    def __init__(
        self, published: Published, away: float, every: float, rng: random.Random, clock: Any
    ) -> None:
        self.readers: list[ClientConnection] = []
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

    def add(self, choice: ClientType, ways: Sequence[NodeRoute], channels: Sequence[int]) -> None:
        """
        One more reader, which connects at once.

        Args:
            choice: its kind of wire.
            ways: to the same route of every node; it takes one by chance each time.
            channels: their numbers.
        """
        names = [self._published.channels[each] for each in channels]
        turn = sum(reader.receipt.choice is choice for reader in self.readers)
        seat = CheckedSubscriber(
            choice, ways, ways[0], names, turn, Checker(channels, self._published)
        )
        reader = ClientConnection(self, len(self.readers), seat.wire, seat)
        self.readers.append(reader)
        self._call(reader)

    def _call(self, reader: ClientConnection) -> None:
        seat: CheckedSubscriber = reader.receipt
        if self._closing:
            return
        seat.way = self._rng.choice(seat.ways)
        seat.wait = None
        reader.state = ClientState.CALLING
        self._note(reader, f"connects to {seat.way.url} from {reader.position or 'nowhere'}")
        reader.call(seat.way.target, self._clock.seconds())
        if self.cutting and reader.state is ClientState.CALLING:
            self._plan(reader)

    def _plan(self, reader: ClientConnection) -> None:
        rng, seat = self._rng, reader.receipt
        # Often in the midst of joining: that is where messages could fall between.
        early = rng.random() < 0.25
        after = rng.uniform(0, 0.1) if early else rng.uniform(0, 2) * self._every
        seat.put_off()
        seat.timer = self._clock.callLater(after, self._cut, reader)

    def _cut(self, reader: ClientConnection) -> None:
        seat: CheckedSubscriber = reader.receipt
        if not self.cutting or reader.transport is None or seat.wait is not None:
            return
        manner = self._rng.choice(tuple(CutMode))
        left = self._rng.choice((0, self._rng.randint(1, MOST_LEFT)))
        if not seat.way.node.cut(reader.transport, manner, self._away, left):
            self._plan(reader)
            return
        self._note(reader, f"{manner.value} at {reader.position or 'nowhere'}")
        seat.cuts += 1
        if manner is CutMode.PAUSE:
            self._plan(reader)
        else:  # who is stalled has been away by then
            seat.wait = 0.0 if manner is CutMode.STALL else self._away

    def begin(self) -> None:
        """
        Cut from now on.
        """
        self.cutting = True
        for reader in self.readers:
            if reader.transport is not None:
                self._plan(reader)

    def end(self) -> None:
        """
        Cut no more.
        """
        self.cutting = False

    # What readers tell.

    def opened(self, reader: ClientConnection) -> None:
        """
        See `Owner`.
        """
        reader.state = ClientState.OPEN
        self._note(reader, "is let in")

    def heard(self, reader: ClientConnection, heard: ClientEvent) -> None:
        """
        See `Owner`.
        """
        seat: CheckedSubscriber = reader.receipt
        position = Position.parse(heard.position)
        if heard.gap:
            self._note(reader, f"hears of a gap up to {position}")
            seat.judge.gap(position)
            return
        found = self._published.find(heard.text)
        if found is None:
            self.others += 1
            return
        for finding in seat.judge.take(*found, position):
            self._tell(reader, *finding)

    def moved(self, reader: ClientConnection) -> None:
        """
        See `Owner`.
        """
        for finding in reader.receipt.judge.moved(Position.parse(reader.position)):
            self._tell(reader, *finding)

    def ended(self, reader: ClientConnection, why: str) -> None:
        """
        See `Owner`.
        """
        seat: CheckedSubscriber = reader.receipt
        reader.state = ClientState.AWAY
        if self._closing:
            reader.state = ClientState.GONE
            return
        seat.put_off()
        self._note(reader, f"ended: {why}")
        wait = seat.wait
        if wait is None:
            self.errors[f"{seat.choice.name}: {why}"] += 1
            wait = min(max(reader.retry, 0.05), LONGEST_WAIT) * self._rng.uniform(0.5, 1)
        seat.timer = self._clock.callLater(wait, self._call, reader)

    # What they are asked.

    def sweep(self) -> None:
        """
        Give up those to whom nobody answers; let what all have heard be forgotten.
        """
        late = self._clock.seconds() - TIMEOUT - self._away
        for reader in self.readers:
            if reader.state is ClientState.CALLING and reader.began < late:
                reader.hang_up("no answer")
        published = self._published
        for channel in range(len(published.channels)):
            needs = [reader.receipt.judge.needs(channel) for reader in self.readers]
            published.forget(channel, min([*needs, published.accepted(channel)]))

    def unsettled(self) -> list[ClientConnection]:
        """
        Who is not connected, or does not know where it is.
        """
        return [
            reader
            for reader in self.readers
            if reader.state is not ClientState.OPEN
            or not reader.receipt.judge.begun
            or reader.receipt.wait is not None
        ]

    def waits(self) -> bool:
        """
        Whether something that was accepted is still to come to somebody.
        """
        return any(reader.receipt.judge.waits() for reader in self.readers)

    def judge(self) -> None:
        """
        What has not come until now is lost.
        """
        for reader in self.readers:
            for finding in reader.receipt.judge.close():
                self._tell(reader, *finding)

    def close(self) -> None:
        """
        All hang up.
        """
        self._closing = True
        self.cutting = False
        for reader in self.readers:
            reader.receipt.put_off()
            reader.hang_up("over")

    def _note(self, reader: ClientConnection, what: str) -> None:
        reader.receipt.story.append(f"{self._clock.seconds() - self._began:.3f} {what}")

    def _tell(self, reader: ClientConnection, fault: Fault, channel: int, number: int) -> None:
        if len(self.incidents) >= MOST_FAULTS:
            return
        seat: CheckedSubscriber = reader.receipt
        self._note(reader, f"is at {reader.position or 'nowhere'}, or some way further")
        now = round(self._clock.seconds() - self._began, 3)
        name = self._published.channels[channel]
        place = str(self._published.position(channel, number) or "")
        story = tuple(seat.story)
        self.incidents.append(
            Incident(now, fault, seat.choice.name, reader.number, name, number, place, story)
        )
