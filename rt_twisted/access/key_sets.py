"""
Fetches the key sets of issuers, and keeps the last good ones.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client import HttpClient, UpstreamRequest, fetch
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.model.load_object import load_object

MAX_SET = 256 * 1024  # bytes
TIMEOUT = 10.0  # seconds for one response
LEAST, MOST = 60.0, 86400.0  # seconds between two fetches
USUAL = 600.0  # the same, if the response does not say
AGAIN = 10.0  # seconds after a failure, and between two fetches for keys that are unknown
# By name: PyJWT takes several megabytes of memory.
_PARSE = "rt_twisted.access.jwks.parse_key_set"
_MAX_AGE = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?([0-9]{1,9})", re.IGNORECASE)

_log = Logger()


class KeySet:
    """
    The keys of one URL.

    Args:
        client: sends the requests.
        clock: the reactor.
        url: of the set.
        issuer: the only `iss` whose tokens its keys verify; "" for those of no other key.
        parse: as `jwks.parse_key_set`.

    Attributes:
        keys: the latest ones; empty before the first fetch.
        fetched: when they were fetched, by the clock; None before the first time.
        fetching: whether a request is in progress.
        version: grows when the keys change.
    """

    def __init__(
        self,
        client: HttpClient,
        clock: Any,
        url: str,
        issuer: str,
        parse: Callable[[bytes, str], tuple[Any, ...]],
    ) -> None:
        self.url = HttpUrl.parse(url)
        self.issuer = issuer
        self.keys: tuple[Any, ...] = ()
        self.fetched: float | None = None
        self.fetching = False
        self.version = 0
        self._client = client
        self._clock = clock
        self._parse = parse
        self._started = float("-inf")  # the last fetch
        self._timer: IDelayedCall | None = None
        self._running = False
        self._wanted_since = 0.0

    @property
    def name(self) -> str:
        """
        Return a name that is the same for the same URL and issuer.
        """
        return f"{self.url} {self.issuer}"

    def start(self) -> None:
        """
        Fetch the keys, now and again, until `stop`.
        """
        if not self._running:
            self._running = True
            self._wanted_since = self._clock.seconds()
            self._fetch()

    def stop(self) -> None:
        """
        Fetch no more.
        """
        self._running = False
        if self._timer is not None and self._timer.active():
            self._timer.cancel()

    @property
    def age(self) -> float:
        """
        Return the seconds since the keys were fetched, or wanted if they never were.
        """
        since = self._wanted_since if self.fetched is None else self.fetched
        return float(self._clock.seconds() - since)

    def refresh(self) -> bool:
        """
        Fetch the keys because one is unknown, unless that was done in the last seconds.

        Returns:
            Whether a request is in progress.
        """
        if not self.fetching and self._clock.seconds() - self._started >= AGAIN:
            self._fetch()
        return self.fetching

    def _fetch(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self.fetching = True
        self._started = self._clock.seconds()
        request = UpstreamRequest("GET", self.url, (("Accept", "application/json"),))
        fetched = fetch(self._client, self._clock, request, MAX_SET, TIMEOUT)
        fetched.addCallback(self._on_response).addErrback(self._on_failure)

    def _on_response(self, found: tuple[UpstreamResponse, bytes]) -> None:
        response, body = found
        if response.status != 200:
            raise ValueError(f"it responds with status {response.status}")
        keys = self._parse(body, self.issuer)
        if not keys:
            raise ValueError("it has no key that verifies signatures")
        if keys != self.keys:
            self.version += 1
            self.keys = keys
        self.fetched = self._clock.seconds()
        age = _MAX_AGE.search(response.header("cache-control") or "")
        self._schedule(min(max(float(age[1]), LEAST), MOST) if age else USUAL)

    def _on_failure(self, failure: Failure) -> None:
        _log.warn(
            "fetching the keys of {url} failed, those so far stay: {reason}",
            url=str(self.url),
            reason=failure.getErrorMessage(),
        )
        self._schedule(AGAIN)

    def _schedule(self, seconds: float) -> None:
        self.fetching = False
        if self._running:
            self._timer = self._clock.callLater(seconds, self._fetch)


class KeySets(Service):
    """
    The key sets of the settings, and of those before a reload.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self._clock = clock
        self._client = HttpClient(clock)
        self._sets: dict[tuple[str, str], KeySet] = {}
        self._wanted: set[tuple[str, str]] = set()

    def get(self, url: str, issuer: str) -> KeySet:
        """
        Return the key set of *url*, the same for the same issuer.

        Raises:
            ValueError: the URL is malformed.
        """
        if (url, issuer) not in self._sets:
            parse = load_object(_PARSE)
            made = KeySet(self._client, self._clock, url, issuer, parse)
            self._sets[url, issuer] = made
        return self._sets[url, issuer]

    def use(self, wanted: set[tuple[str, str]]) -> None:
        """
        Fetch the key sets *wanted* from now on, pairs of URL and issuer, and no others.
        """
        self._wanted = wanted
        for key, key_set in self._sets.items():
            if not self.running or key not in wanted:
                key_set.stop()
            else:
                key_set.start()

    def age(self) -> float:
        """
        Return the age of the key set that was fetched longest ago, in seconds; 0 without any.
        """
        wanted = [one.age for key, one in self._sets.items() if key in self._wanted]
        return max(wanted, default=0.0) if self.running else 0.0

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        self.use(self._wanted)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        self.use(self._wanted)
        self._client.close()
