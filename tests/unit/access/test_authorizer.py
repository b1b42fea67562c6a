"""
Questions to the application: what is sent, how answers are read and kept, and failures.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.logger import ILogObserver, LogEvent, formatEvent, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface import provider

from rt_twisted.access.authorizer import FAILURES, MAX_ANSWER_BYTES, MAX_WAITING, RETRY, Authorizer
from rt_twisted.access.grants import Grant
from rt_twisted.access.questions import (
    PUBLISH,
    SUBSCRIBE,
    AppAnswer,
    Question,
    UnusableAnswer,
    check_channels,
    read_answer,
)
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.http.client import UpstreamRequest
from rt_twisted.http.client_exchange import ClientExchange, ResponseReceiver
from rt_twisted.http.response_parser import UpstreamResponse
from rt_twisted.hub.admission import Admission
from rt_twisted.model.errors import HttpError
from tests.defaults import make_channel_names

NOW = 1_000_000.0
URL = HttpUrl.parse("http://127.0.0.1:8000/may")


def question(*channels: str, **changes: Any) -> Question:
    given = {"action": SUBSCRIBE, "transport": "sse", "channels": channels, "method": "GET",
             "uri": "/?channels=a", "headers": (("Cookie", "s=1"),), "host": "h",
             "address": "192.0.2.1"}  # fmt: skip
    return Question(**{**given, **changes})


def encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    """
    Return headers as an application sends them.
    """
    return [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]


def answer(status: int, body: bytes = b"", asked: Question | None = None, **headers: str) -> Any:
    fields = encoded(headers)
    return read_answer(asked or question("a", "b"), UpstreamResponse(status, fields), body, NOW)


def test_headers_of_a_question() -> None:
    """
    Those of nginx and nchan, and the client's own.
    """
    assert question("a", "ä").request_headers() == (
        ("Cookie", "s=1"),
        ("X-Original-URI", "/?channels=a"),
        ("X-Original-Method", "GET"),
        ("X-Channels", "a, Ã¤"),  # UTF-8, as bytes of a header
        ("X-Action", "subscribe"),
        ("X-Transport", "sse"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "h"),
    )


def test_the_trace_of_a_question() -> None:
    """
    The application gets the client's trace, which does not make a question another one.
    """
    trace = (("traceparent", "00-1-2-01"), ("tracestate", "a=1"))
    asked = question("a", trace=trace)
    assert asked.request_headers()[-2:] == trace
    assert asked == question("a") and asked.digest() == question("a").digest()


@pytest.mark.parametrize("name", ["a,b", "a\r\nB: c", "a\0"])
def test_channels_that_no_header_can_name(name: str) -> None:
    """
    400: a comma would be two channels.
    """
    with pytest.raises(HttpError) as refused:
        question(name).request_headers()
    assert refused.value.status == 400


def test_a_plain_2xx_grants_what_was_asked() -> None:
    """
    The grant is only for the action that was asked about.
    """
    for status in (200, 204, 206):
        grant = answer(status).grant
        assert grant.covers("a") and grant.covers("b") and not grant.covers("c")
        assert not grant.permits("a")
    grant = answer(204, asked=question("a*", action=PUBLISH)).grant
    assert grant.permits("a*") and not grant.permits("ab") and not grant.covers("a*")
    assert answer(200, x_user="mia").grant.covers("a")


def test_grants_in_headers_and_in_json() -> None:
    """
    An absent claim grants nothing.
    """
    headers = answer(200, x_user="mia", x_channels="a, c", x_subscribe="r-*", x_publish="p",
                     x_expires_in="60").grant  # fmt: skip
    claims = {"sub": "mia", "channels": ["a", "c"], "subscribe": ["r-*"], "publish": "p",
              "exp": NOW + 60}  # fmt: skip
    body = answer(200, json.dumps(claims).encode(), content_type="application/json").grant
    for grant in (headers, body):
        assert (grant.subject, grant.channels, grant.expires) == ("mia", ("a", "c"), NOW + 60)
        assert grant.covers("r-7") and not grant.covers("b")
        assert grant.permits("p") and not grant.permits("a")
    assert answer(200, b'{"ok": true}', content_type="application/json").grant.covers("a")
    assert answer(200, b"<html>", content_type="text/html").grant.covers("a")


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (500, b"", {}),
        (200, b"[]", {"content_type": "application/json"}),
        (200, b"{", {"content_type": "application/json"}),
        (200, b"[" * 60000, {"content_type": "application/json"}),
        (200, b'{"channels": 7}', {"content_type": "application/json"}),
        (200, b'{"exp": NaN}', {"content_type": "application/json"}),
        (200, b"", {"x_expires_in": "soon"}),
        (200, b'{"sub": "mia"}', {"content_type": "application/json", "x_user": "eve"}),
        (200, b'{"channels": ["a"]}', {"content_type": "application/json", "x_channels": "b"}),
        (200, b'{"exp": 999999}', {"content_type": "application/json"}),
        (200, b'{"nbf": 1000001}', {"content_type": "application/json"}),
        (402, b"", {}),
        (304 + 100, b"", {}),
    ],
)
def test_answers_that_decide_nothing(status: int, body: bytes, headers: dict[str, str]) -> None:
    """
    They are failures of the application, not grants.
    """
    if status == 404:
        assert answer(status).refusal.status == 404
        return
    with pytest.raises(UnusableAnswer):
        answer(status, body, None, **headers)


def test_refusals_are_passed_on() -> None:
    """
    With the body, up to 8 KiB, and the headers that a client needs; a page to log in is 401.
    """
    refusal = answer(403, b"no" * 10_000, content_type="text/x", x_secret="s").refusal
    assert (refusal.status, len(refusal.body), refusal.content_type) == (403, 8192, "text/x")
    assert refusal.headers == []
    refusal = answer(429, retry_after="7").refusal
    assert dict(refusal.headers) == {"Retry-After": "7"}
    assert dict(answer(401).refusal.headers) == {"WWW-Authenticate": "Bearer"}
    refusal = answer(401, www_authenticate="Basic").refusal
    assert dict(refusal.headers) == {"Www-Authenticate": "Basic"}
    assert answer(302, location="/login").refusal.status == 401
    assert answer(403, set_cookie="s=2").cookies == ("s=2",)


class FakeClient:
    """
    A client whose responses the test gives.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[UpstreamRequest, ResponseReceiver]] = []
        self.cancelled = 0

    def send(self, request: UpstreamRequest, receiver: ResponseReceiver) -> ClientExchange:
        request.encode()
        self.sent.append((request, receiver))
        return self  # type: ignore[return-value]

    def cancel(self) -> None:
        self.cancelled += 1

    def respond(self, status: int = 204, body: bytes = b"", **headers: str) -> None:
        _, receiver = self.sent.pop(0)
        fields = encoded(headers)
        receiver.head(UpstreamResponse(status, fields))
        if body:
            receiver.data(body)
        receiver.end()


class Asking:
    """
    An authorizer on a clock.
    """

    def __init__(self, concurrency: int = 2) -> None:
        self.clock = Clock()
        self.client = FakeClient()
        self.counts: list[str] = []
        client: Any = self.client
        self.authorizer = Authorizer(
            client,
            self.clock,
            URL,
            3.0,
            concurrency,
            lambda: NOW + self.clock.seconds(),
            lambda name, seconds: self.counts.append(name),
            Admission(self.clock, 0, 0).spread_retry,
        )

    def ask(self, *channels: str, **changes: Any) -> list[Any]:
        """
        Ask; return a list that the answer, or the status of the refusal, is put in.
        """
        results: list[Any] = []

        def ended(result: Any) -> None:
            if isinstance(result, Failure):
                error: Any = result.value
                assert isinstance(error, HttpError)
                result = error.status
            results.append(result)

        asked: Deferred[AppAnswer] = self.authorizer.ask(question(*channels, **changes))
        asked.addBoth(ended)
        return results

    def fail(self, times: int = 1) -> None:
        for number in range(times):
            self.ask(f"f{number}")
            self.client.respond(500)


def test_equal_questions_are_asked_once() -> None:
    """
    Another cookie is another question.
    """
    asking = Asking()
    first, same = asking.ask("a"), asking.ask("a", trace=(("traceparent", "00-1-2-01"),))
    other = asking.ask("a", headers=())
    assert len(asking.client.sent) == 2
    asking.client.respond()
    assert first[0].grant.covers("a") and same[0] is first[0]
    assert not other
    asking.ask("a")
    assert len(asking.client.sent) == 2  # nothing is kept unless the application says so
    assert asking.counts == ["shared", "asked"]


def test_clients_without_an_answer_return_at_different_times() -> None:
    """
    An application that was down for a moment is not asked by all of them at once.
    """
    asking = Asking()
    retries: list[float] = []

    def refused(failure: Failure) -> None:
        error: Any = failure.value
        retries.append(error.retry)

    for number in range(8):
        asking.authorizer.ask(question(f"a{number}")).addErrback(refused)
        if asking.client.sent:
            asking.client.respond(500)

    assert len(set(retries)) == 8
    assert all(RETRY <= one <= 2 * RETRY for one in retries)


@pytest.mark.parametrize("kept", ["", "max-age=30", "stale-if-error=30"])
def test_an_answer_is_for_one_address(kept: str) -> None:
    """
    The application gets the address of the client, and may permit only that one.
    """
    asking = Asking()
    first, other = asking.ask("a"), asking.ask("a", address="198.51.100.6")
    sent = [dict(request.headers)["X-Forwarded-For"] for request, _ in asking.client.sent]
    assert sent == ["192.0.2.1", "198.51.100.6"]
    asking.client.respond(204, cache_control=kept)
    asking.client.respond(403)
    assert first[0].grant is not None and other[0].refusal.status == 403
    later = asking.ask("a", address="198.51.100.6")
    asking.client.respond(500)
    assert later == [503]


def test_answers_are_kept_as_the_application_says() -> None:
    """
    max-age, up to five minutes; neither no-store nor with a cookie; refusals too.
    """
    asking = Asking()
    for name, control, cookie, seconds in (
        ("a", "max-age=30", {}, 30),
        ("b", "private, MAX-AGE=999", {}, 300),
        ("c", "no-store, max-age=30", {}, 0),
        ("d", "max-age=30", {"set_cookie": "s=2"}, 0),
        ("e", "", {}, 0),
    ):
        asking.ask(name)
        asking.client.respond(204, b"", cache_control=control, **cookie)
        if seconds:
            asking.clock.advance(seconds - 1)
            assert asking.ask(name)[0].grant is not None
            asking.clock.advance(1)
        asking.ask(name)
        assert len(asking.client.sent) == 1, name
        asking.client.respond(204)
    asking.ask("x")
    asking.client.respond(403, cache_control="max-age=9")
    assert asking.ask("x")[0].refusal.status == 403


def test_answers_are_not_kept_longer_than_the_grant() -> None:
    """
    X-Expires-In bounds max-age.
    """
    asking = Asking()
    asking.ask("a")
    asking.client.respond(204, cache_control="max-age=30", x_expires_in="5")
    asking.clock.advance(6)
    asking.ask("a")
    assert len(asking.client.sent) == 1


def test_stale_answers_are_not_kept_longer_than_the_grant() -> None:
    """
    max-age and stale-if-error together end with X-Expires-In.
    """
    asking = Asking()
    asking.ask("a")
    control = "max-age=10, stale-if-error=30"
    asking.client.respond(204, cache_control=control, x_expires_in="15")
    asking.clock.advance(14)
    stale = asking.ask("a")
    asking.client.respond(500)
    assert stale[0].grant.covers("a")
    asking.clock.advance(1)
    asked = asking.ask("a")
    asking.client.respond(500)
    assert asked == [503]


def test_slots_and_time() -> None:
    """
    More questions wait; the time to wait counts.
    """
    asking = Asking(concurrency=1)
    first, second = asking.ask("a"), asking.ask("b")
    assert len(asking.client.sent) == 1
    asking.clock.advance(2)
    asking.client.respond()
    assert first and len(asking.client.sent) == 1
    asking.clock.advance(1)
    assert second == [503]
    third, fourth = asking.ask("c"), asking.ask("d")
    asking.clock.advance(3)
    assert (third, fourth) == ([503], [503])


def test_each_question_has_its_own_time() -> None:
    """
    Though one timer serves all that were sent, and some are answered meanwhile.
    """
    asking = Asking(concurrency=3)
    first = asking.ask("a")
    asking.clock.advance(1)
    second = asking.ask("b")
    asking.clock.advance(1)
    third = asking.ask("c")
    asking.client.respond()
    assert len(first) == 1
    asking.clock.advance(1.9)
    assert second == []
    asking.clock.advance(0.1)
    assert (second, third) == ([503], [])
    fourth = asking.ask("d")
    asking.clock.advance(1)
    assert (third, fourth) == ([503], [])
    asking.clock.advance(2)
    assert fourth == [503]
    assert asking.client.cancelled == 3
    assert not asking.clock.getDelayedCalls()


def test_a_time_that_binary_fractions_round() -> None:
    """
    A question is given up at its time, and no timer runs again and again until then.
    """
    asking = Asking(concurrency=1)
    asking.clock.advance(0.3)
    found = asking.ask("a")
    asking.clock.advance(3)
    assert found == [503]
    assert not asking.clock.getDelayedCalls()


def test_a_question_that_cannot_be_sent_is_no_probe() -> None:
    """
    A client whose headers cannot be sent does not keep a failed application away.
    """
    asking = Asking()
    asking.fail(FAILURES)
    asking.clock.advance(1)
    assert asking.ask("a", headers=(("Cookie", "a\tb"),)) == [400]
    assert asking.ask("a") == []
    assert len(asking.client.sent) == 1


def test_questions_that_wait_are_bounded() -> None:
    """
    503 at once for one too many.
    """
    asking = Asking(concurrency=1)
    for number in range(MAX_WAITING + 1):
        asking.ask(str(number))
    assert asking.ask("more") == [503]


@pytest.mark.parametrize("status", [500, 502, 302 + 300, 418])
def test_failures_close(status: int) -> None:
    """
    503, never a grant.
    """
    asking = Asking()
    asked = asking.ask("a")
    asking.client.respond(status)
    assert asked == [503]
    asked = asking.ask("a")
    asking.client.respond(200, b"x" * 70_000)
    assert asked == [503]


def test_after_five_failures_one_question_per_second_is_sent() -> None:
    """
    The rest is refused at once, until one is answered.
    """
    asking = Asking()
    asking.fail(FAILURES)
    assert asking.ask("a") == [503]
    assert not asking.client.sent
    asking.clock.advance(1)
    probe, other = asking.ask("a"), asking.ask("b")
    assert other == [503] and not probe
    asking.client.respond(403)
    assert probe[0].refusal.status == 403
    asking.ask("c")
    assert len(asking.client.sent) == 1


def test_stale_answers_while_the_application_is_down() -> None:
    """
    As long as it permits by stale-if-error, also while it is not asked.
    """
    asking = Asking()
    asking.ask("a")
    asking.client.respond(204, cache_control="max-age=10, stale-if-error=60")
    asking.clock.advance(11)
    asked = asking.ask("a")
    asking.client.respond(500)
    assert asked[0].grant.covers("a")
    asking.fail(FAILURES - 1)
    assert asking.ask("a")[0].grant.covers("a")
    asking.clock.advance(60)
    asked = asking.ask("a")
    asking.client.respond(500)
    assert asked == [503]


def test_a_cancelled_question_leaves_the_others() -> None:
    """
    A client that disconnects does not cancel the question of another one.
    """
    asking = Asking()
    gone: Deferred[Any] = asking.authorizer.ask(question("a"))
    gone.addErrback(lambda _: None)
    other = asking.ask("a")
    gone.cancel()
    asking.client.respond()
    assert other[0].grant.covers("a")


def test_faults_of_clients_are_no_failures_of_the_application() -> None:
    """
    Neither headers that cannot be sent nor those that the application refuses.
    """
    asking = Asking(concurrency=1)
    for number in range(2 * FAILURES):
        assert asking.ask("a", headers=(("Cookie", "a\tb"),)) == [400]
        refused = asking.ask(f"r{number}")
        asking.client.respond(431)
        assert refused == [503]
    assert not asking.client.sent
    asked = asking.ask("a")
    asking.client.respond()
    assert asked[0].grant.covers("a")


def test_a_lack_of_slots_is_no_failure_of_the_application() -> None:
    """
    Only what was sent and not answered is.
    """
    asking = Asking(concurrency=1)
    asking.ask("first")
    waiting = [asking.ask(f"w{number}") for number in range(FAILURES)]
    asking.clock.advance(3)
    assert waiting == [[503]] * FAILURES
    asking.client.sent.clear()
    asking.ask("a")
    asking.ask("b")
    asking.client.respond()
    assert len(asking.client.sent) == 1


def test_many_questions_that_fail_at_once() -> None:
    """
    All of them are answered, however many wait.
    """
    asking = Asking(concurrency=1)
    first = asking.ask("first")
    waiting = [asking.ask(f"w{number}") for number in range(2000)]

    def fail_at_once(request: UpstreamRequest, receiver: ResponseReceiver) -> ClientExchange:
        receiver.lost(ConnectionLost("refused"))
        return asking.client  # type: ignore[return-value]

    asking.client.send = fail_at_once  # type: ignore[method-assign]
    asking.client.respond()
    assert first and waiting == [[503]] * 2000


def test_questions_of_clients_that_are_gone_are_not_sent() -> None:
    """
    A slot is for those that wait for an answer.
    """
    asking = Asking(concurrency=1)
    asking.ask("a")
    gone: Deferred[Any] = asking.authorizer.ask(question("b"))
    gone.addErrback(lambda _: None)
    other = asking.ask("c")
    gone.cancel()
    asking.client.respond()
    assert len(asking.client.sent) == 1
    asking.client.respond()
    assert other[0].grant.covers("c")
    asking.ask("b")
    assert len(asking.client.sent) == 1


def test_cookies_are_for_one_client() -> None:
    """
    Those that have waited for the same answer ask for themselves.
    """
    asking = Asking(concurrency=3)
    clients = [asking.ask("a", headers=()) for _ in range(3)]
    assert len(asking.client.sent) == 1
    asking.client.respond(204, set_cookie="s=1", x_user="one", cache_control="max-age=9")
    assert len(asking.client.sent) == 2
    asking.client.respond(204, set_cookie="s=2")
    asking.client.respond(204, set_cookie="s=3")
    assert [client[0].cookies for client in clients] == [("s=1",), ("s=2",), ("s=3",)]
    asking.ask("a", headers=())
    assert len(asking.client.sent) == 1


def test_posts_with_headers_that_cannot_be_sent() -> None:
    """
    400: the client has sent them.
    """
    asking = Asking()

    def send(request: UpstreamRequest, receiver: ResponseReceiver) -> ClientExchange:
        request.encode()
        raise AssertionError

    asking.client.send = send  # type: ignore[method-assign]
    refused: list[Any] = []
    posted = Deferred.fromCoroutine(asking.authorizer.post((("Cookie", "a\tb"),), b"", 9))
    posted.addErrback(refused.append)
    assert refused[0].value.status == 400


def test_answers_that_are_over_are_removed() -> None:
    """
    The oldest are when another one is kept, and each when it is asked for.
    """
    asking = Asking()
    for name, seconds in (("a", 5), ("b", 5), ("c", 60)):
        asking.ask(name)
        asking.client.respond(204, cache_control=f"max-age={seconds}")
    asking.clock.advance(6)
    asking.ask("d")
    asking.client.respond(204, cache_control="max-age=60")
    assert len(asking.authorizer._answers) == 2
    asking.clock.advance(60)
    asking.ask("d")
    assert len(asking.authorizer._answers) == 1


def test_large_answers_are_bounded_in_sum() -> None:
    """
    Answers of a thousand patterns, and long refusals, push earlier ones out.
    """
    asking = Asking()
    body = json.dumps({"subscribe": [f"room-{number}-*" for number in range(1000)]}).encode()
    headers = {"cache_control": "max-age=300", "content_type": "application/json"}
    sizes = []
    for number in range(300):
        asking.ask(f"large-{number}")
        asking.client.respond(200, body, **headers)
        sizes.append(len(asking.authorizer._answers))
    kept = max(sizes)
    assert MAX_ANSWER_BYTES / 400_000 < kept < MAX_ANSWER_BYTES / 150_000
    assert sizes[-1] == kept
    asking.ask("large-299")
    assert not asking.client.sent
    refused = 0
    for number in range(4000):
        asking.ask(f"refused-{number}")
        asking.client.respond(403, b"x" * 8192, cache_control="max-age=300")
        refused = max(refused, len(asking.authorizer._answers))
    assert refused < MAX_ANSWER_BYTES / 8192


def test_a_channel_that_cannot_exist_is_logged() -> None:
    """
    With its name, and the URL that has named it; no more than once in ten seconds.
    """
    asking = Asking()
    lines: list[str] = []

    @provider(ILogObserver)
    def observe(event: LogEvent) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        asking.ask("a")
        asking.client.respond(204, x_channels="news, a b")
        grant = Grant(channels=("news", "a b"))
        with pytest.raises(UnusableAnswer, match="'a b'") as caught:
            check_channels(grant, make_channel_names().check)
        for _ in range(3):
            assert asking.authorizer.unusable(str(caught.value)).status == 503
    finally:
        globalLogPublisher.removeObserver(observe)
    [line] = [line for line in lines if "asking" in line]
    assert str(URL) in line and "'a b'" in line


def test_answers_about_two_clients_decide_nothing() -> None:
    """
    503: a cache or proxy in between has mixed them up.
    """
    fields = ((b"X-User", b"mia"), (b"X-User", b"eve"))
    with pytest.raises(UnusableAnswer, match="two X-User"):
        read_answer(question("a"), UpstreamResponse(204, fields), b"", NOW)
    agreed = {"content_type": "application/json", "x_channels": "a", "x_expires_in": "60"}
    body = b'{"channels": "a", "sub": 7, "exp": 1000030}'
    assert answer(200, body, None, x_user="7", **agreed).grant.expires == NOW + 30


def test_digests_of_questions() -> None:
    """
    Each part but the trace counts.
    """
    one = question("a", "b")
    others = [question("a, b"), question("a", "b", headers=(("Cookie", "\udc80"),))]
    for name in ("action", "transport", "method", "uri", "host", "scheme", "address"):
        others.append(question("a", "b", **{name: "x"}))
    assert len({each.digest() for each in (one, *others)}) == 10
