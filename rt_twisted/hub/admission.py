"""
So many new readers a second, when all come back at once.
"""

from __future__ import annotations

from collections import deque
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError

_log = Logger()

TICK = 0.05  # seconds between two groups that are let in
BURST = 0.1  # seconds' worth of readers that may come in at once
LONGEST = 300.0  # seconds that nobody is sent away for longer
_SPREAD = 0.618034  # of an interval, again and again, never falls on the same place


class Admission:
    """
    A line of bounded length, in front of the hub.

    Whoever waits keeps a connection and costs nothing else: there is one timer
    for all, and only while somebody waits. Who finds the line full is told when
    there will be room, each for another moment.

    Args:
        clock: the reactor.
        rate: new readers per second; 0 for no limit.
        most: who may wait.
    """

    def __init__(self, clock: Any, rate: int = 0, most: int = 0) -> None:
        self._clock = clock
        self._line: deque[tuple[IExchange, Deferred[None]]] = deque()
        self._timer: Any = None
        self._refilled = clock.seconds()
        self._searched = -1.0  # when the line was last searched for who is gone
        self._promised = 0.0  # up to when all moments are given away
        self._spread = 0.0
        self._since = 0.0  # when the line began
        self._let_in = self._sent_away = 0  # since then
        self.sent_away = 0  # since the start
        self.reconfigure(rate, most)

    def reconfigure(self, rate: int, most: int) -> None:
        """
        Go on with other limits; who waits already may.
        """
        self._rate = rate
        self._most = most
        self._burst = max(1.0, rate * BURST)
        self._room = self._burst  # how many may come in now

    @property
    def waiting(self) -> int:
        """
        How many stand in line.
        """
        return len(self._line)

    def turn(self, exchange: IExchange) -> Deferred[None] | None:
        """
        Ask for a turn.

        Returns:
            None to come in at once; or what fires when it is time, and never if
            the client is gone by then. It fails by a `Refusal` when the daemon stops.

        Raises:
            Refusal: 503, the line is full.
        """
        if not self._rate:
            return None
        self._refill()
        if not self._line and self._room >= 1:
            self._room -= 1
            return None
        if len(self._line) >= self._most:
            self._forget_gone()
        if len(self._line) >= self._most:
            self._sent_away += 1
            self.sent_away += 1
            raise HttpError(503, "too many readers at once", retry=self._moment())
        if self._timer is None:
            self._since = self._clock.seconds()
            self._timer = self._clock.callLater(TICK, self._let_some_in)
        turn: Deferred[None] = Deferred()
        self._line.append((exchange, turn))
        return turn

    def later(self, least: float) -> float:
        """
        Seconds from *least* to twice that, each time others.
        """
        self._spread = (self._spread + _SPREAD) % 1
        return least * (1 + self._spread)

    def stop(self, least: float) -> None:
        """
        Send away who waits, for *least* seconds or up to twice that.
        """
        line, self._line = self._line, deque()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for exchange, turn in line:
            if not exchange.answered:
                turn.errback(HttpError(503, "the server is stopping", retry=self.later(least)))

    def _let_some_in(self) -> None:
        self._timer = None
        self._refill()
        line = self._line
        while line and (self._room >= 1 or not self._rate):
            exchange, turn = line.popleft()
            if not exchange.answered:  # which it also is when its client is gone
                self._room -= 1
                self._let_in += 1
                turn.callback(None)
        if line:
            self._timer = self._clock.callLater(TICK, self._let_some_in)
            return
        _log.info(
            "after {seconds:.1f} seconds nobody waits to join: {let_in} let in, "
            "{sent_away} told to come later",
            seconds=self._clock.seconds() - self._since,
            let_in=self._let_in,
            sent_away=self._sent_away,
        )
        self._let_in = self._sent_away = 0

    def _refill(self) -> None:
        now = self._clock.seconds()
        self._room = min(self._burst, self._room + (now - self._refilled) * self._rate)
        self._refilled = now

    def _forget_gone(self) -> None:
        # Once a tick: searching for each who comes would be a storm of its own.
        now = self._clock.seconds()
        if now - self._searched >= TICK:
            self._searched = now
            self._line = deque([one for one in self._line if not one[0].answered])

    def _moment(self) -> float:
        """
        Seconds until there is room for one more, if all come back as they are told.
        """
        now: float = self._clock.seconds()
        drained = now + len(self._line) / self._rate
        if not drained < self._promised < now + LONGEST:
            self._promised = drained
        self._promised += 1 / self._rate
        return min(self._promised - now, LONGEST)
