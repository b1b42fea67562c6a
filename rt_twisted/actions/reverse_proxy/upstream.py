"""
Applications, and the limits for what is passed on to each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.logger import Logger

from rt_twisted.actions.context import UpstreamLimits
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client import HttpClient
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.model.errors import HttpError

RETRY = 2  # seconds after which a client that was refused may try again, at the earliest
TICK = 0.5  # seconds between two looks for requests that take too long
MOST_AT_ONCE = 100  # requests that are refused before others get their turn (7 ms)
LOG_SECONDS = 10.0  # between two log lines about a failing application

_log = Logger()


class WaitingRequest(Protocol):
    """
    A request that waits for its turn, or for its response.
    """

    deadline: float

    def start(self) -> None:
        """
        Send the request.
        """

    def on_deadline(self) -> None:
        """
        Refuse the request: there is no response in time.
        """


class Upstream:
    """
    One application: its connections, and the requests that wait for one.

    Args:
        reactor: the reactor.
        urls: of its processes.
        trust: certificates of the authorities that may sign its own; None for the system's.
        metrics: where requests are counted.
        spread: returns seconds between those given and twice as many, different with each call.

    Attributes:
        tunnels: websockets that are open.
    """

    def __init__(
        self,
        reactor: Any,
        urls: Sequence[HttpUrl],
        trust: Any,
        metrics: Metrics,
        spread: Callable[[float], float],
    ) -> None:
        self.reactor = reactor
        self._spread = spread
        self.metrics = metrics
        self.client = HttpClient(reactor, trust, keep=10_000)
        self.tunnels = 0
        self._urls = urls
        self._next = 0
        self._limit = 0
        self._running = 0
        self._starting = False
        self._queue: dict[WaitingRequest, None] = {}
        self._timed: set[WaitingRequest] = set()
        self._timer: IDelayedCall | None = None
        self._logged = -LOG_SECONDS

    def urls(self) -> list[HttpUrl]:
        """
        Return the URLs in the order in which they are tried for a request.
        """
        first, self._next = self._next, (self._next + 1) % len(self._urls)
        return [*self._urls[first:], *self._urls[:first]]

    def retry_seconds(self) -> float:
        """
        Return when a client that is refused may try again: not when all others do.
        """
        return self._spread(RETRY)

    def submit(self, request: WaitingRequest, limits: UpstreamLimits) -> None:
        """
        Start *request* now, or when it is its turn. Call `release` when it has ended.

        Raises:
            HttpError: 503, too many requests wait.
        """
        self._limit = limits.connections
        self._watch(request)
        if self._running < self._limit and not self._queue:
            self._running += 1
            request.start()
            return
        if len(self._queue) >= limits.queue:
            self.unwatch(request)
            self.count_failure("refused", "too many requests wait")
            text = "too many requests wait for the application"
            raise HttpError(503, text, retry=self.retry_seconds())
        self._queue[request] = None

    def release(self, request: WaitingRequest) -> None:
        """
        Give the place of *request* to the next one.
        """
        self._timed.discard(request)
        if request in self._queue:
            del self._queue[request]
            return
        self._running -= 1
        if self._starting:  # a request has ended at once: the loop below goes on
            return
        self._starting = True
        while self._queue and self._running < self._limit:
            waiting = next(iter(self._queue))
            del self._queue[waiting]
            self._running += 1
            waiting.start()
        self._starting = False

    def _watch(self, request: WaitingRequest) -> None:
        self._timed.add(request)
        if self._timer is None:
            self._timer = self.reactor.callLater(TICK, self._check)

    def unwatch(self, request: WaitingRequest) -> None:
        """
        Do not call `on_deadline` of *request* any more.
        """
        self._timed.discard(request)

    def _check(self) -> None:
        self._timer = None
        now = self.reactor.seconds()
        late = [one for one in self._timed if one.deadline <= now]
        # Those that wait come first: they would be sent when others end.
        late.sort(key=lambda one: one not in self._queue)
        for request in late[:MOST_AT_ONCE]:
            request.on_deadline()
        if self._timed and self._timer is None:
            more = len(late) > MOST_AT_ONCE
            self._timer = self.reactor.callLater(0.0 if more else TICK, self._check)

    def count_response(self, seconds: float) -> None:
        """
        Count a response whose head was received *seconds* after the request.
        """
        self.metrics.relayed += 1
        self.metrics.relay_seconds += seconds

    def count_failure(self, cause: str, reason: str) -> None:
        """
        Count a request without a complete response, and log it, if nothing was logged lately.

        Args:
            cause: `unreachable`, `timeouts`, `broken` or `refused`.
            reason: one sentence.
        """
        name = f"relay_{cause}"
        setattr(self.metrics, name, getattr(self.metrics, name) + 1)
        now = self.reactor.seconds()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            _log.warn("{url}: {reason}", url=str(self._urls[0]), reason=reason)

    def tunnel_opened(self) -> None:
        """
        Count a websocket that is passed on.
        """
        self.tunnels += 1
        self.metrics.relay_tunnels += 1

    def tunnel_closed(self) -> None:
        """
        Count the end of one.
        """
        self.tunnels -= 1
        self.metrics.relay_tunnels -= 1


class Upstreams:
    """
    All applications, which outlive a reload.

    Args:
        reactor: the reactor.
        metrics: where requests are counted.
        spread: see `Upstream`.
    """

    def __init__(self, reactor: Any, metrics: Metrics, spread: Callable[[float], float]) -> None:
        self._reactor = reactor
        self._metrics = metrics
        self._spread = spread
        self._made: dict[tuple[object, ...], Upstream] = {}

    def get(self, urls: tuple[HttpUrl, ...], ca: str) -> Upstream:
        """
        Return the application at *urls*, the same for the same.

        Args:
            urls: of its processes.
            ca: file with the certificates of authorities; "" for those of the system.
        """
        key = urls, ca
        if key not in self._made:
            trust = read_authorities(ca) if ca else None
            self._made[key] = Upstream(self._reactor, urls, trust, self._metrics, self._spread)
        return self._made[key]


def find_upstreams(context: Any) -> Upstreams:
    """
    Return the applications of all routes of *context*.
    """
    spread = context.hub.admission.spread_retry
    make: Callable[[], Upstreams] = partial(Upstreams, context.reactor, context.metrics, spread)
    found: Upstreams = context.shared.get(Upstreams, make)
    return found


def read_authorities(path: str) -> Any:
    """
    Return the certificates in a file of PEM as those that are trusted.

    Raises:
        ValueError: it cannot be read, or there is none.
    """
    try:
        with open(path, encoding="ascii") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"ca={path}: {getattr(error, 'strerror', None) or 'not PEM'}") from None
    end = "-----END CERTIFICATE-----"
    parts = [part + end for part in text.split(end)[:-1]]
    try:
        found = [Certificate.loadPEM(part.encode()) for part in parts]
    except Exception:
        raise ValueError(f"ca={path}: a certificate is malformed") from None
    if not found:
        raise ValueError(f"ca={path} has no certificate")
    return trustRootFromCertificates(found)
