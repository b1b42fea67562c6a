"""
Asks the application what a client may do, and fails closed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.access.interfaces import IAuthorizer
from rt_twisted.access.questions import (
    MAX_BODY,
    AppAnswer,
    Question,
    UnusableAnswer,
    read_answer,
)
from rt_twisted.access.weighed_cache import WeighedCache
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client import HttpClient, UpstreamRequest, WholeResponse, fetch
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.http.upstream_connection import ResponseLost
from rt_twisted.model.errors import Header, HttpError

MAX_ANSWERS = 10_000  # that are kept
MAX_ANSWER_BYTES = 32 << 20  # of all that are kept: one may have a thousand patterns
MAX_WAITING = 10_000  # questions that wait for a slot
FAILURES = 5  # in a row, from which on one question per second is sent
PROBE = 1.0  # seconds between those
RETRY = 5  # seconds, up to twice as many, after which a client without an answer may try again
LOG_SECONDS = 10.0  # between two log lines about a failing application
CONTROL = "a header has a control character"

_log = Logger()


@dataclass(frozen=True, slots=True, eq=False)
class AskedQuestion:
    """
    A question that is or will be sent.

    Args:
        question: what is asked.
        request: by which it is.
        since: when it was asked, by the clock.
        waiting: those that get the answer.
    """

    question: Question
    request: UpstreamRequest
    since: float
    waiting: list[Deferred[AppAnswer]]


@implementer(IAuthorizer)
class Authorizer:
    """
    Asks one URL. Compares by its settings.

    Args:
        client: sends the requests.
        clock: the reactor.
        url: of the application.
        timeout: seconds for an answer, with the wait for a slot.
        concurrency: questions at once.
        now: returns Unix time.
        count: called with the name of what happened: `asked`, `cached`, `shared`, `failed` or
            `rejected`, and the seconds it took.
        spread: returns seconds between those given and twice as many, different with each call:
            clients that are refused together do not come back together.
    """

    def __init__(
        self,
        client: HttpClient,
        clock: Any,
        url: HttpUrl,
        timeout: float,
        concurrency: int,
        now: Callable[[], float] = time.time,
        count: Callable[[str, float], object] = lambda name, seconds: None,
        spread: Callable[[float], float] = float,
    ) -> None:
        self.url = url
        self.now = now
        self._client = client
        self._clock = clock
        self._timeout = timeout
        self._concurrency = concurrency
        self._count = count
        self._spread = spread
        self._answers = WeighedCache[tuple[AppAnswer, float]](MAX_ANSWERS, MAX_ANSWER_BYTES)
        self._asked: dict[Question, AskedQuestion] = {}
        self._waiting: deque[AskedQuestion] = deque()
        self._sent: dict[AskedQuestion, WholeResponse] = {}  # in the order of their time
        self._timer: IDelayedCall | None = None  # one for all of those
        self._sending = False  # some of those that wait
        self._failures = 0  # in a row
        self._next_probe = 0.0
        self._logged = -LOG_SECONDS

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Authorizer) and self._settings == other._settings

    def __hash__(self) -> int:
        return hash(self._settings)

    @property
    def _settings(self) -> tuple[object, ...]:
        return self.url, self._timeout, self._concurrency

    def ask(self, question: Question) -> Deferred[AppAnswer]:
        seconds = self._clock.seconds()
        kept = self._kept(question)
        if kept is not None and seconds < kept[1] + kept[0].fresh:
            self._count("cached", 0.0)
            return succeed(kept[0])
        found: Deferred[AppAnswer] = Deferred()
        asked = self._asked.get(question)
        if asked is not None:
            self._count("shared", 0.0)
            asked.waiting.append(found)
        else:
            self._ask_alone(question, found)
        return found

    async def post(
        self, headers: tuple[Header, ...], body: bytes, limit: int
    ) -> tuple[UpstreamResponse, bytes]:
        """
        Send *body* to the application, and return its response.

        Args:
            headers: of the request.
            body: of it.
            limit: bytes of the response.

        Raises:
            UnusableAnswer: there is none in time, or it is too large.
            HttpError: 400, a header has a control character.
        """
        request = UpstreamRequest("POST", self.url, headers, body)
        try:
            return await fetch(self._client, self._clock, request, limit, self._timeout)
        except ValueError:
            raise HttpError(400, CONTROL) from None
        except (ConnectionLost, RemoteProtocolError) as error:
            raise UnusableAnswer(str(error)) from None

    def unusable(self, reason: str) -> HttpError:
        """
        Return the refusal of a client whose question has no usable answer, and log *reason*.
        """
        now = self._clock.seconds()
        if now - self._logged >= LOG_SECONDS:
            self._logged = now
            _log.warn("asking {url}: {reason}", url=str(self.url), reason=reason)
        return HttpError(503, "the application cannot be asked now", retry=self._spread(RETRY))

    def _instead(self, question: Question, reason: str) -> Deferred[AppAnswer]:
        """
        Return an earlier answer, if the application permits that while it is down; or fail.
        """
        kept = self._kept(question)
        if kept is not None:
            self._count("cached", 0.0)
            return succeed(kept[0])
        self._count("rejected", 0.0)
        return fail(self.unusable(reason))

    def _ask_alone(self, question: Question, found: Deferred[AppAnswer]) -> None:
        """
        Ask *question*, whether or not an equal one is asked, and fire *found*.
        """
        seconds = self._clock.seconds()
        if self._failures >= FAILURES and seconds < self._next_probe:
            self._instead(question, "it does not answer").chainDeferred(found)
            return
        if len(self._sent) >= self._concurrency and len(self._waiting) >= MAX_WAITING:
            self._instead(question, "too many questions wait").chainDeferred(found)
            return
        try:
            request = UpstreamRequest("GET", self.url, question.request_headers())
        except HttpError:
            found.errback()
            return
        self._next_probe = seconds + PROBE
        asked = AskedQuestion(question, request, seconds, [found])
        self._asked.setdefault(question, asked)
        self._waiting.append(asked)
        self._send_waiting()

    def _send_waiting(self) -> None:
        if self._sending:  # a question has failed at once: the loop below goes on
            return
        self._sending = True
        while self._waiting and len(self._sent) < self._concurrency:
            self._send(self._waiting.popleft())
        self._sending = False

    def _send(self, asked: AskedQuestion) -> None:
        if all(each.called for each in asked.waiting):  # the clients have disconnected
            self._forget(asked)
            return
        left = asked.since + self._timeout - self._clock.seconds()
        if left <= 0:
            self._finish(UnusableAnswer("no slot in time", down=False), asked)
            return
        response = WholeResponse(MAX_BODY, partial(self._on_response, asked))
        self._sent[asked] = response
        try:
            response.exchange = self._client.send(asked.request, response)
        except ValueError:  # the client's fault, which is no failure of the application
            del self._sent[asked]
            self._next_probe = 0.0  # nothing was sent
            self._forget(asked)
            for each in asked.waiting:
                if not each.called:
                    each.errback(HttpError(400, CONTROL))
            return
        if self._timer is None:
            self._timer = self._clock.callLater(left, self._check_late)

    def _check_late(self) -> None:
        """
        Give the questions up that have no response in time.
        """
        now = self._clock.seconds()
        for asked, response in tuple(self._sent.items()):
            if asked.since + self._timeout <= now:
                response.cancel(ResponseLost(f"no response in {self._timeout:g} seconds"))
        self._timer = None
        for asked in self._sent:
            left = asked.since + self._timeout - self._clock.seconds()
            self._timer = self._clock.callLater(max(0.0, left), self._check_late)
            break

    def _on_response(
        self, asked: AskedQuestion, received: tuple[UpstreamResponse, bytes] | Exception
    ) -> None:
        del self._sent[asked]
        result: AppAnswer | Exception
        try:
            if isinstance(received, Exception):
                raise received
            result = read_answer(asked.question, *received, self.now())
        except Exception as error:  # whatever it is, no client is admitted
            result = error
        self._finish(result, asked)
        self._send_waiting()

    def _finish(self, result: AppAnswer | Exception, asked: AskedQuestion) -> None:
        seconds = self._clock.seconds()
        self._forget(asked)
        waiting = [each for each in asked.waiting if not each.called]
        if isinstance(result, AppAnswer):
            self._failures = 0
            self._count("asked", seconds - asked.since)
            self._keep(asked.question, result)
            for index, each in enumerate(waiting):
                if each.called:
                    continue
                if index and result.cookies:  # they are one client's, and so may the grant be
                    self._ask_alone(asked.question, each)
                else:
                    each.callback(result)
            return
        if getattr(result, "down", True):
            self._failures += 1
        self._count("failed", seconds - asked.since)
        for each in waiting:
            if not each.called:
                self._instead(asked.question, str(result)).chainDeferred(each)

    def _forget(self, asked: AskedQuestion) -> None:
        if self._asked.get(asked.question) is asked:
            del self._asked[asked.question]

    def _kept(self, question: Question) -> tuple[AppAnswer, float] | None:
        """
        Return the answer that is kept, and since when, if it may be given: at least while the
        application is down.
        """
        if not self._answers:
            return None
        key = question.digest()
        kept = self._answers.get(key)
        if kept is not None and self._is_over(*kept):
            self._answers.discard(key)
            return None
        return kept

    def _keep(self, question: Question, answer: AppAnswer) -> None:
        if not self._answers and not answer.fresh and not answer.stale:
            return
        key = question.digest()
        self._answers.discard(key)
        if answer.fresh or answer.stale:
            self._answers.put(key, (answer, self._clock.seconds()), answer.size)
        while self._answers:
            oldest, kept = self._answers.oldest()
            if not self._is_over(*kept):
                break
            self._answers.discard(oldest)

    def _is_over(self, answer: AppAnswer, since: float) -> bool:
        return bool(self._clock.seconds() >= since + answer.fresh + answer.stale)


class Authorizers:
    """
    The authorizers of all URLs of the settings, and of those before a reload.

    Args:
        clock: the reactor.
        count: see `Authorizer`.
        spread: see `Authorizer`.
    """

    def __init__(
        self,
        clock: Any,
        count: Callable[[str, float], object] = lambda name, seconds: None,
        spread: Callable[[float], float] = float,
    ) -> None:
        self._clock = clock
        self._count = count
        self._spread = spread
        self._client = HttpClient(clock)
        self._made: dict[tuple[object, ...], Authorizer] = {}

    @property
    def client(self) -> HttpClient:
        """
        The client that all of them use.
        """
        return self._client

    def get(self, url: str, timeout: float, concurrency: int) -> Authorizer:
        """
        Return the authorizer of *url* with these limits, the same for the same.

        Raises:
            ValueError: the URL is malformed.
        """
        key = url, timeout, concurrency
        if key not in self._made:
            parsed = HttpUrl.parse(url)
            self._made[key] = Authorizer(
                self._client,
                self._clock,
                parsed,
                timeout,
                concurrency,
                count=self._count,
                spread=self._spread,
            )
        return self._made[key]
