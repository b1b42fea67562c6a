"""
Streams that end at a given time: each client is notified before, and is then disconnected.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from dataclasses import dataclass

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rt_twisted.hub.subscriber import DisconnectReason, Subscriber
from rt_twisted.model.interfaces import IExpiringFormat
from rt_twisted.model.message import Position

NOTICE = 30.0  # seconds before the end
SPREAD = 10.0  # seconds before the end within which clients are disconnected
MARGIN = 2.0  # seconds that a client is disconnected too early at least: the timer is coarse
SOON = MARGIN + 1.0  # seconds: what is left of less is over before the sweeps have ended a client
RETRY = 1000  # milliseconds after which a client reconnects; up to twice as many
SLICE = 0.002  # seconds of work, then others are served: closing takes as long twice more


@dataclass(slots=True)
class _Expiry:
    due: int  # second in which the next thing happens
    ends: float  # time of the end
    end: Callable[[], object] | None
    notified: bool = False


class Expirations:
    """
    Notifies and ends subscribers; driven by the sweep of the hub, once per second.

    A client is ended MARGIN before its time: one second for the sweep, and one for a reactor that
    is busy with others.

    Args:
        clock: the reactor.
        uniform: returns a random number between its arguments.
    """

    def __init__(
        self, clock: IReactorTime, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._expiries: dict[Subscriber, _Expiry] = {}
        self._timers: dict[Subscriber, IDelayedCall] = {}  # of those whose end comes SOON
        self._seconds: dict[int, set[Subscriber]] = {}  # the subscribers that are due in each
        self._checked = int(clock.seconds())
        self._goes_on = False  # the rest of a check follows

    def __len__(self) -> int:
        return len(self._expiries)

    def set_end(
        self, subscriber: Subscriber, left: float, end: Callable[[], object] | None = None
    ) -> None:
        """
        End *subscriber* in *left* seconds, or a little earlier; replace an earlier time.

        Args:
            subscriber: has joined the hub, and has not left it.
            left: 0 or less for as soon as possible; infinity for never.
            end: disconnects it; None for `Subscriber.end`.
        """
        self.discard(subscriber)
        now = self._clock.seconds()
        if left == float("inf"):
            return
        expiry = _Expiry(0, now + left, end)
        if 0 < left < SOON:
            self._expiries[subscriber] = expiry
            self._end_later(left / 4, subscriber, expiry)
        else:
            self._schedule(subscriber, expiry, now + left - NOTICE)

    def discard(self, subscriber: Subscriber) -> None:
        """
        Forget *subscriber*; do nothing if it has no end.
        """
        expiry = self._expiries.pop(subscriber, None)
        if expiry is not None:
            self._unschedule(subscriber, expiry)

    def check(self, head: Position | None, pending: Container[Subscriber]) -> None:
        """
        Notify and end those that are due; called once per second.

        Args:
            head: the position up to which all subscribers have received everything; None
                while there is no such position: notices then wait for a second.
            pending: subscribers that have not received everything up to *head* yet.
        """
        if self._goes_on:  # a second row of slices would leave less time for others
            return
        now = int(self._clock.seconds())
        until = self._clock.seconds() + SLICE
        for second in range(self._checked, now + 1) if self._expiries else ():
            due = self._seconds.get(second, set())
            while due:
                subscriber = next(iter(due))
                expiry = self._expiries[subscriber]
                if expiry.notified:
                    self.discard(subscriber)
                    _end(subscriber, expiry.end)
                elif head is None and self._clock.seconds() < expiry.ends - MARGIN:
                    self._schedule(subscriber, expiry, now + 1)
                else:
                    self._notify(subscriber, expiry, None if subscriber in pending else head)
                if self._clock.seconds() > until and due:
                    self._checked = second
                    self._goes_on = True
                    self._clock.callLater(0, self._go_on, head, pending)
                    return
            self._seconds.pop(second, None)
        self._checked = now + 1

    def _go_on(self, head: Position | None, pending: Container[Subscriber]) -> None:
        self._goes_on = False
        self.check(head, pending)

    def _notify(self, subscriber: Subscriber, expiry: _Expiry, position: Position | None) -> None:
        left = max(0.0, expiry.ends - self._clock.seconds())
        expiry.notified = True
        latest = expiry.ends - MARGIN
        self._schedule(subscriber, expiry, self._uniform(latest - min(SPREAD, left / 4), latest))
        self._write_notice(subscriber, left, position)

    def _end_later(self, seconds: float, subscriber: Subscriber, expiry: _Expiry) -> None:
        timer = self._clock.callLater(seconds, self._end_soon, subscriber, expiry)
        self._timers[subscriber] = timer

    def _end_soon(self, subscriber: Subscriber, expiry: _Expiry) -> None:
        """
        Notify a client whose end comes SOON, then end it.
        """
        del self._timers[subscriber]
        left = expiry.ends - self._clock.seconds()
        if expiry.notified or left <= 0:
            self.discard(subscriber)
            _end(subscriber, expiry.end)
            return
        expiry.notified = True
        later = left * self._uniform(0.5, 0.8)
        self._end_later(later, subscriber, expiry)
        self._write_notice(subscriber, left, None)

    def _write_notice(self, subscriber: Subscriber, left: float, position: Position | None) -> None:
        format = IExpiringFormat(subscriber.format, None)
        if format is not None:
            subscriber.write(format.expire(round(left), position))

    def _schedule(self, subscriber: Subscriber, expiry: _Expiry, time: float) -> None:
        """
        Have *subscriber* due in the second of *time*, or the next that was not checked yet.
        """
        if subscriber in self._expiries:
            self._unschedule(subscriber, expiry)
        expiry.due = max(int(time), int(self._clock.seconds()) + 1, self._checked)
        self._expiries[subscriber] = expiry
        self._seconds.setdefault(expiry.due, set()).add(subscriber)

    def _unschedule(self, subscriber: Subscriber, expiry: _Expiry) -> None:
        timer = self._timers.pop(subscriber, None)
        if timer is not None:
            timer.cancel()
        due = self._seconds.get(expiry.due)
        if due is not None:
            due.discard(subscriber)
            if not due:
                del self._seconds[expiry.due]


def _end(subscriber: Subscriber, end: Callable[[], object] | None) -> None:
    if end is not None:
        end()
    else:
        subscriber.end(DisconnectReason.EXPIRED, RETRY + random.randrange(RETRY))
