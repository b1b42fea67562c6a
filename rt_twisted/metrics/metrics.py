"""
Counters, histograms and rates of one hub.

Counting costs the hub something per flush and per message, never per subscriber. What
needs arithmetic is computed on request.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Protocol

from rt_twisted.metrics.memory import resident_memory
from rt_twisted.net.inbound_memory import InboundMemory

# Seconds: Prometheus' defaults, with finer steps where a fan-out to 1,000 subscribers lies.
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
WINDOWS = (10, 60)  # seconds over which rates are taken

# Fields of `Metrics` that have another name in Graphite, /metrics and /stats. Operators'
# graphs and alerts depend on those names: they do not change.
WIRE_NAMES = {"subscribers": "readers", "subscribers_limit": "readers_limit"}


class Histogram:
    """
    Durations, counted by bucket.

    Attributes:
        buckets: observations of at most `BOUNDS[i]` and more than the bound before; the
            last is for those over all bounds.
        seconds: their sum.
    """

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        """
        Count one duration; a negative one, of a clock that went back, is 0.
        """
        seconds = max(0.0, seconds)
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """
    Return the time within which *share* (0 to 1) of the observations in *buckets* lie.

    Observations are assumed to be spread evenly within a bucket. For those over all
    bounds it is the last bound; None if there is no observation.
    """
    rank = share * sum(buckets)
    if not any(buckets):
        return None
    low = 0.0
    before = 0
    for bound, count, upto in zip(BOUNDS, buckets, accumulate(buckets), strict=False):
        if upto >= rank and count:
            return low + (bound - low) * max(0.0, rank - before) / count
        low, before = bound, upto
    return BOUNDS[-1]


@dataclass(frozen=True, slots=True)
class ChannelCounts:
    """
    Counts of one channel, or of several in sum.

    Args:
        name: of the channel.
        subscribers: connected to it now; a subscriber of several channels counts in
            each.
        messages: received since this node last opened it.
        position: of the last of them; "" if there is none.
        channels: how many channels these are.
    """

    name: str
    subscribers: int
    messages: int
    position: str = ""
    channels: int = 1


class WsgiCounts(Protocol):
    """
    Threads that run WSGI applications, now.
    """

    @property
    def busy(self) -> int:
        """
        Threads that run a request.
        """

    @property
    def queued(self) -> int:
        """
        Requests that wait for a thread.
        """

    @property
    def websockets(self) -> int:
        """
        Threads that run a websocket.
        """


@dataclass(slots=True)
class Metrics:
    """
    The metrics that exporters and statistics read (`MetricValues`).
    """

    channels: dict[str, int] = field(default_factory=dict)
    subscribers: int = 0
    subscribers_limit: int = 0
    behind: int = 0
    waiting_bytes: int = 0
    joining: int = 0
    patterns: int = 0
    broker_away: int = 0
    broker_refuses: int = 0
    history_bytes: int = 0
    live_bytes: int = 0
    live_publishers: int = 0
    live_viewers: int = 0
    websockets: int = 0
    inbound_bytes: int = 0
    joined: int = 0
    published: int = 0
    delivered: int = 0
    gaps: int = 0
    skips: int = 0
    live_units: int = 0
    live_received_bytes: int = 0
    live_delivered: int = 0
    websocket_frames: int = 0
    websocket_messages: int = 0
    inbound_dropped: int = 0
    tokens_verified: int = 0
    questions_asked: int = 0
    questions_cached: int = 0
    questions_failed: int = 0
    question_seconds: float = 0.0
    wsgi_busy: int = 0
    wsgi_queued: int = 0
    wsgi_websockets: int = 0
    wsgi_requests: int = 0
    wsgi_failed: int = 0
    wsgi_refused: int = 0
    wsgi_timeouts: int = 0
    wsgi_seconds: float = 0.0
    relayed: int = 0
    relay_seconds: float = 0.0
    relay_tunnels: int = 0
    relay_unreachable: int = 0
    relay_broken: int = 0
    relay_timeouts: int = 0
    relay_refused: int = 0
    revocations: int = 0
    uploads: int = 0
    uploaded_bytes: int = 0
    handovers_by_line: int = 0
    handovers_by_redirect: int = 0
    handovers_by_grip: int = 0
    closed: Counter[str] = field(default_factory=Counter)
    requests: Counter[int] = field(default_factory=Counter)
    refused: Mapping[str, Counter[str]] = field(
        default_factory=lambda: {"readers": Counter(), "publishes": Counter()}
    )
    fanout: Histogram = field(default_factory=Histogram)
    rates: dict[int, dict[str, float]] = field(default_factory=dict)
    uptime: float = 0.0
    cpu_seconds: float = 0.0
    memory_bytes: int = 0
    reactor_longest_hold_seconds: float = 0.0
    jwks_age_seconds: float = 0.0
    inbound: InboundMemory | None = field(default=None, repr=False, compare=False)
    wsgi: WsgiCounts | None = field(default=None, repr=False, compare=False)
    jwks_age: Callable[[], float] | None = field(default=None, repr=False, compare=False)
    measure_memory: Callable[[], int] = field(default=resident_memory, repr=False, compare=False)
    # The totals at each of the last seconds, the newest last.
    _seconds: deque[tuple[float, dict[str, int]]] = field(
        default_factory=lambda: deque(maxlen=max(WINDOWS) + 1)
    )

    def count_question(self, result: str, seconds: float) -> None:
        """
        Count a question to the application.

        Args:
            result: `asked`, if it has answered; `cached` or `shared`, if an answer was known or
                another client asks the same; anything else for a failure.
            seconds: that it took.
        """
        if result == "asked":
            self.questions_asked += 1
            self.question_seconds += seconds
        elif result in ("cached", "shared"):
            self.questions_cached += 1
        else:
            self.questions_failed += 1

    def count_hold(self, seconds: float) -> None:
        """
        Keep how long the reactor was held if it is the longest hold since the last export.
        """
        if seconds > self.reactor_longest_hold_seconds:
            self.reactor_longest_hold_seconds = seconds

    def restart_maxima(self) -> None:
        """
        Begin the maxima anew, after an export.
        """
        self.reactor_longest_hold_seconds = 0.0

    def work(self) -> int:
        """
        Return a number that grows with everything that is done for clients.
        """
        frames = self.live_units + self.live_delivered + self.websocket_frames
        return sum(self.totals().values()) + frames

    def count_token(self) -> None:
        """
        Count a token whose signature was verified.
        """
        self.tokens_verified += 1

    def totals(self) -> dict[str, int]:
        """
        Return the counters that rates are computed from; each only grows.
        """
        return {
            "joined": self.joined,
            "left": self.closed.total(),
            "published": self.published,
            "delivered": self.delivered,
            "requests": self.requests.total(),
        }

    def sample(self, now: float) -> None:
        """
        Record the totals at *now* (seconds of the hub's clock); called once per second.
        """
        self._seconds.append((now, self.totals()))

    def refresh(self, now: float) -> None:
        """
        Compute what is not counted as it happens: rates, and the resources of the process.
        """
        self.rates = {window: self._rate(now, window) for window in WINDOWS}
        if self.inbound is not None:
            self.inbound_bytes = self.inbound.used
            self.inbound_dropped = self.inbound.dropped
        if self.wsgi is not None:
            self.wsgi_busy = self.wsgi.busy
            self.wsgi_queued = self.wsgi.queued
            self.wsgi_websockets = self.wsgi.websockets
        if self.jwks_age is not None:
            self.jwks_age_seconds = self.jwks_age()
        self.cpu_seconds = time.process_time()
        self.memory_bytes = self.measure_memory()

    def _rate(self, now: float, window: int) -> dict[str, float]:
        totals = self.totals()
        base = (now, totals)
        for base in reversed(self._seconds):
            if now - base[0] >= window - 0.5:  # samples may be a little late
                break
        then, before = base
        if then >= now:  # no sample yet, or the clock went back
            return dict.fromkeys(totals, 0.0)
        return {name: (totals[name] - before[name]) / (now - then) for name in totals}


def by_class(requests: Mapping[int, int]) -> dict[str, int]:
    """
    Return responses by the class of their status: `{"2xx": 7}`.
    """
    classes: Counter[str] = Counter()
    for status, count in sorted(requests.items()):
        classes[f"{status // 100}xx"] += count
    return dict(classes)
