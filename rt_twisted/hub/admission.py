"""
Rate limit for new subscribers, for the moment when all of them reconnect at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from rt_twisted.model.errors import HttpError

_log = Logger()

TICK = 0.05  # seconds between two groups that are admitted
BURST = 0.1  # seconds' worth of subscribers that may be admitted at once
MAX_RETRY = 300.0  # seconds; the longest Retry-After
_SPREAD = 0.618034  # multiples of the golden ratio spread evenly over an interval
_LEFT = "the client closed its sending side while it waited to be admitted"


@dataclass(frozen=True, slots=True)
class _QueuedRequest:
    """
    A request that waits for a slot.
    """

    has_left: Callable[[], bool]
    slot: Deferred[None]

    def reject(self, reason: str, retry: float) -> None:
        """
        Fail the slot with status 503, and *retry* as Retry-After in seconds.
        """
        self.slot.errback(HttpError(503, reason, retry=retry))


class Admission:
    """
    Token bucket with a bounded queue of requests that wait for a slot.

    A queued request costs its connection and nothing else: one timer serves all, and
    runs only while the queue is not empty. When the queue is full, a request is
    rejected with a Retry-After that differs from one to the next.

    Args:
        clock: the reactor.
        rate: new subscribers per second; 0 for no limit.
        queue_limit: requests that may wait.

    Attributes:
        rate: as it is now.
    """

    def __init__(self, clock: IReactorTime, rate: int = 0, queue_limit: int = 0) -> None:
        self.rejected = 0  # since the start
        self._clock = clock
        self._queue: deque[_QueuedRequest] = deque()
        self._timer: IDelayedCall | None = None
        self._refilled = clock.seconds()
        self._searched = -1.0  # when the queue was last searched for clients that have left
        self._promised = 0.0  # the last moment that was given as a Retry-After
        self._spread = 0.0
        self._queue_began = 0.0  # when the queue was last empty
        self._admitted_since = self._rejected_since = 0  # since then
        self.reconfigure(rate, queue_limit)

    def reconfigure(self, rate: int, queue_limit: int) -> None:
        """
        Use other limits. Requests that are queued stay queued.
        """
        self.rate = rate
        self._queue_limit = queue_limit
        self._burst = max(1.0, rate * BURST)
        self._tokens = self._burst  # requests that can be admitted now

    @property
    def queued(self) -> int:
        """
        Number of requests that wait.
        """
        return len(self._queue)

    def request_slot(self, has_left: Callable[[], bool]) -> Deferred[None] | None:
        """
        Admit a request now, or queue it.

        Args:
            has_left: return whether the client has disconnected or closed its sending
                side. Such a request takes no slot, and no place that another one needs.

        Returns:
            None if the request is admitted now. Otherwise a Deferred that fires when
            it is admitted. It fails with an `HttpError` of status 503 when the client
            has left, or the daemon stops.

        Raises:
            HttpError: 503, the queue is full.
        """
        if not self.rate:
            return None
        self._refill()
        if not self._queue and self._tokens >= 1:
            self._tokens -= 1
            return None
        if len(self._queue) >= self._queue_limit:
            self._reject_left()
        if len(self._queue) >= self._queue_limit:
            self._rejected_since += 1
            self.rejected += 1
            raise HttpError(503, "too many subscribers at once", retry=self._next_retry())
        if self._timer is None:
            self._queue_began = self._clock.seconds()
            self._timer = self._clock.callLater(TICK, self._admit_queued)
        slot: Deferred[None] = Deferred()
        self._queue.append(_QueuedRequest(has_left, slot))
        return slot

    def spread_retry(self, least: float) -> float:
        """
        Return seconds between *least* and twice *least*, different with each call.
        """
        self._spread = (self._spread + _SPREAD) % 1
        return least * (1 + self._spread)

    def stop(self, least: float) -> None:
        """
        Reject all queued requests with a Retry-After of `spread_retry` of *least*.
        """
        queue, self._queue = self._queue, deque()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for request in queue:
            request.reject("the server is stopping", self.spread_retry(least))

    def _admit_queued(self) -> None:
        self._timer = None
        self._refill()
        queue = self._queue
        while queue and (self._tokens >= 1 or not self.rate):
            request = queue.popleft()
            if request.has_left():
                request.reject(_LEFT, TICK)
                continue
            self._tokens -= 1
            self._admitted_since += 1
            request.slot.callback(None)
        if queue:
            if self._timer is None:  # else a pipelined request was queued from within
                self._timer = self._clock.callLater(TICK, self._admit_queued)
            return
        _log.info(
            "join queue empty after {seconds:.1f} s: {admitted} admitted, "
            "{rejected} rejected with Retry-After",
            seconds=self._clock.seconds() - self._queue_began,
            admitted=self._admitted_since,
            rejected=self._rejected_since,
        )
        self._admitted_since = self._rejected_since = 0

    def _refill(self) -> None:
        now = self._clock.seconds()
        self._tokens = min(self._burst, self._tokens + (now - self._refilled) * self.rate)
        self._refilled = now

    def _reject_left(self) -> None:
        # Once per tick: to search the queue for each new request would be expensive.
        now = self._clock.seconds()
        if now - self._searched >= TICK:
            self._searched = now
            queue, self._queue = self._queue, deque()
            for request in queue:
                if request.has_left():
                    request.reject(_LEFT, TICK)
                else:
                    self._queue.append(request)

    def _next_retry(self) -> float:
        """
        Return the seconds until there is room for one more request, if all that were
        rejected come back after their Retry-After.
        """
        now = self._clock.seconds()
        drained = now + len(self._queue) / self.rate
        if not drained < self._promised < now + MAX_RETRY:
            self._promised = drained
        self._promised += 1 / self.rate
        return min(self._promised - now, MAX_RETRY)
