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

SOONEST = 0.05  # seconds until a reader comes back, if the server wants it at once


@dataclass(frozen=True, slots=True)
class LoadSeat:
    """
    What is known of a reader.

    Args:
        got: which messages.
        latencies: where to count how long they took.
    """

    got: DeliveryTracker
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

    def __init__(self, target: Target, ledger: SentLog, reconnect: bool, clock: Any) -> None:
        self.target = target
        self.ledger = ledger
        self.readers: list[ClientConnection] = []
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
        seat = LoadSeat(DeliveryTracker(channels), latencies)
        reader = ClientConnection(self, len(self.readers), make, seat)
        self.readers.append(reader)
        self.states[ClientState.AWAY] += 1
        self._call(reader)

    def _move(self, reader: ClientConnection, state: ClientState) -> None:
        self.states[reader.state] -= 1
        self.states[state] += 1
        reader.state = state

    def _call(self, reader: ClientConnection) -> None:
        if self._closing:
            return
        self._move(reader, ClientState.CALLING)
        reader.call(self.target, self._clock.seconds())

    def opened(self, reader: ClientConnection) -> None:
        """
        A reader has been let in.
        """
        self.connecting.add(self._clock.seconds() - reader.began)
        self._move(reader, ClientState.OPEN)
        if reader.receipt.got.begin(self.ledger):
            self.ever_open += 1
        else:
            self.reconnects += 1

    def heard(self, reader: ClientConnection, heard: ClientEvent) -> None:
        """
        An event has come.
        """
        if heard.gap:
            self.gaps += 1
            return
        sent = self.ledger.find(heard.text)
        if sent is None:
            self.others += 1
            return
        seat: LoadSeat = reader.receipt
        wrong = seat.got.take(sent)
        if wrong:
            self.wrong[wrong] += 1
        if wrong in ("", "out of order"):
            self.delivered += 1
            took = self._clock.seconds() - sent.at
            self.latency.add(took)
            if len(self.transports) > 1:
                seat.latencies.add(took)

    def moved(self, reader: ClientConnection) -> None:
        """
        Where it is matters to itself alone.
        """

    def ended(self, reader: ClientConnection, why: str) -> None:
        """
        A connection has ended, or could not be made.
        """
        if self._closing:
            self._move(reader, ClientState.GONE)
            return
        self.errors[why] += 1
        if not self._reconnect:
            self._move(reader, ClientState.GONE)
            reader.receipt.got.end(self.ledger)
            return
        self._move(reader, ClientState.AWAY)
        self._clock.callLater(
            max(reader.retry, SOONEST) * random.uniform(1, 1.5), self._call, reader
        )

    def sweep(self) -> None:
        """
        Give up those to whom nobody answers.
        """
        late = self._clock.seconds() - self.target.patience
        for reader in self.readers:
            if reader.state is ClientState.CALLING and reader.began < late:
                reader.hang_up("no answer")

    def lost(self) -> int:
        """
        Deliveries that have not come so far.
        """
        return sum(reader.receipt.got.lost(self.ledger) for reader in self.readers)

    def close(self) -> None:
        """
        All hang up.
        """
        self._closing = True
        for reader in self.readers:
            reader.hang_up("over")
