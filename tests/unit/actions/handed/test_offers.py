"""
Responses of an application that hand their connection over, by each way, and those that do not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import pytest
from twisted.internet.defer import Deferred, succeed
from twisted.logger import capturedLogs, eventAsText
from twisted.python.failure import Failure
from zope.interface import implementer

from rt_twisted.access.gate import Gate
from rt_twisted.access.grip_key import GripKey
from rt_twisted.access.tokens import TokenKey, TokenVerifier
from rt_twisted.actions.chain import Route
from rt_twisted.actions.handed.headers import Headers
from rt_twisted.actions.handed.offers import HandOverOffers
from rt_twisted.actions.handover import HandedBody
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.codecs.eventsource import EventReader
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.message import NOWHERE, Draft, Position
from rt_twisted.routes import Routes, parse_entry
from tests.defaults import make_context, make_hub_limits, make_retention, make_server
from tests.unit.actions.test_access_streams import NOW, SECRET, token
from tests.unit.http.clients import Answer, Caller, Place
from tests.unit.http.h2_client import Client

SEED = (  # of uwsgi-sse-offload's README
    "pull-header X-SSE-Channel X_SSE_CHANNEL",
    "collect-header Content-Type RESPONSE_TYPE",
    "final-route-if equal:${RESPONSE_TYPE};event/stream sse:${X_SSE_CHANNEL}",
)
INTERNAL = (r"internal-route ^/-/sse/(.+)$ sse:$1",)
EVENTS = ("content-type", "text/event-stream")
OFFLOAD = ("content-type", "event/stream")


@dataclass
class FakeResponse:
    """
    The response of an application, all of which is here; `HandedResponse`.
    """

    exchange: IExchange
    match: Match
    status: int
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    was_read: bool = False
    waits: Deferred[HandedBody] | None = None
    complete: bool = True
    position: Position = NOWHERE

    def read(self, limit: int, seconds: float) -> Deferred[HandedBody]:
        self.was_read = True
        complete = self.complete and len(self.body) < limit
        body = HandedBody(self.body[:limit], complete)
        return succeed(body) if self.waits is None else self.waits


@implementer(IAction)
@dataclass
class Application:
    """
    Answers each request with one response, unless it is handed over.
    """

    offers: HandOverOffers
    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b"plain"
    last: FakeResponse | None = None
    waits: Deferred[HandedBody] | None = None
    complete: bool = True
    meanwhile: Callable[[], object] | None = None

    methods: ClassVar[Sequence[str]] = ("GET", "POST")

    def act(self, exchange: IExchange, match: Match) -> None:
        response = FakeResponse(exchange, match, self.status, self.headers, self.body)
        response.waits, response.complete = self.waits, self.complete
        response.position = self.offers.position()
        if self.meanwhile is not None:
            self.meanwhile()
        self.last = response
        if not self.offers.offer(response):
            exchange.answer(self.status, self.body)


class Front(Place):
    """
    A server in front of an application, with further route lines.
    """

    def __init__(self, *lines: str, grip: bool = False, **changed: Any) -> None:
        super().__init__()
        offers = HandOverOffers()
        key = GripKey.of("s" * 32) if grip else None
        self.context = make_context(self.hub, self.clock, grip=key, handover=offers, **changed)
        self.app = Application(offers)
        entries = [parse_entry(line, self.context) for line in lines]
        routes = Routes([*entries, Route(re.compile("^/"), None, self.app)])
        offers.use(routes, self.context)
        self.server = make_server(self.clock, routes.find)
        self.server.start()
        self.hub.start()

    def respond(self, *headers: tuple[str, str], status: int = 200, body: bytes = b"") -> Front:
        self.app.status, self.app.headers, self.app.body = status, list(headers), body
        return self

    def ask(self, path: str = "/x", *headers: str, method: str = "GET") -> Caller:
        lines = [f"{method} {path} HTTP/1.1", "Host: a", *headers, "", ""]
        caller = self.call("\r\n".join(lines).encode())
        self.clock.pump([0] * 3)
        return caller

    def publish(self, channel: str, data: bytes) -> None:
        self.hub.publish([Draft(channel, data)])
        self.clock.pump([0] * 3)


def only(caller: Caller, method: str = "GET") -> Answer:
    [answer] = caller.responses(method)
    return answer


def events(caller: Caller) -> list[str]:
    return [one.data for one in EventReader().feed(only(caller).body)]


def test_lines_of_uwsgi_sse_offload() -> None:
    """
    A response with the header and the type of the seed is a stream of its channel; its other
    headers and its body come first, and its headers for the daemon do not.
    """
    front = Front(*SEED)
    front.respond(
        ("x-sse-channel", "news"), OFFLOAD, ("x-app", "1"), ("set-cookie", "a=b"),
        ("content-length", "13"), ("connection", "x-hop"), ("x-hop", "1"), ("server", "app"),
        body=b"data: first\n\n",
    )  # fmt: skip
    caller = front.ask()
    front.publish("news", b"second")

    answer = only(caller)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert answer.headers["x-app"] == "1" and answer.headers["set-cookie"] == "a=b"
    assert answer.headers["server"] == "rt_twisted"
    assert not {"x-sse-channel", "x-hop", "content-length"} & answer.headers.keys()
    assert events(caller) == ["first", "second"]
    assert front.hub.metrics.handovers_by_line == 1


def test_stream_resumes_by_the_header_of_the_client() -> None:
    """
    A client that reconnects is handed over again, and misses nothing.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/room-7"))
    first, reader = front.ask(), EventReader()
    front.publish("room-7", b"1")
    assert [one.data for one in reader.feed(only(first).body)] == ["1"]
    first.hang_up()
    front.publish("room-7", b"2")

    second = front.ask("/x", f"Last-Event-ID: {reader.last_id}")
    front.publish("room-7", b"3")

    assert events(second) == ["2", "3"]


def test_redirect_with_a_query() -> None:
    """
    Parameters that the application names count; those of the client are kept beside them.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/room%2D7?history=2"))
    for data in (b"1", b"2", b"3"):
        front.publish("room-7", data)

    assert events(front.ask()) == ["2", "3"]
    assert events(front.ask("/x?history=9")) == ["2", "3"]
    assert events(front.ask("/x?since=all")) == ["1", "2", "3"]
    assert front.hub.metrics.handovers_by_redirect == 3


def test_internal_route_is_not_found_from_outside() -> None:
    """
    A client that names the path of an internal-route gets what the application answers.
    """
    front = Front(*INTERNAL)

    assert only(front.ask("/-/sse/secret")).body == b"plain"


def test_head_gets_the_head_of_the_stream() -> None:
    """
    HEAD is answered with the head alone.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/a"), ("x-app", "1"))

    answer = only(front.ask(method="HEAD"), "HEAD")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["x-app"] == "1"
    assert front.hub.subscribers == 0


@pytest.mark.parametrize("status", [302, 403, 404, 500])
def test_only_success_is_handed_over(status: int) -> None:
    """
    A refusal goes to the client as it is, whatever headers it has.
    """
    front = Front(*SEED, *INTERNAL, grip=True)
    headers = (OFFLOAD, ("x-sse-channel", "a"), ("x-accel-redirect", "/-/sse/a"))
    front.respond(*headers, ("grip-hold", "stream"), ("grip-channel", "a"), status=status)

    assert only(front.ask()).status == status
    assert front.hub.subscribers == 0
    assert front.app.last is not None and not front.app.last.was_read


def test_post_is_not_handed_over() -> None:
    """
    Only GET opens a stream.
    """
    front = Front(*SEED, *INTERNAL, grip=True)
    front.respond(OFFLOAD, ("x-sse-channel", "a"), ("x-accel-redirect", "/-/sse/a"))

    assert only(front.ask("/x", "Content-Length: 0", method="POST")).status == 200
    assert front.hub.subscribers == 0


@pytest.mark.parametrize(
    "headers",
    [
        (("grip-hold", "forever"), ("grip-channel", "a")),
        (("grip-hold", "stream"), ("grip-channel", "a b")),
        (("grip-hold", "stream"), ("grip-keep-alive", "x; timeout=never")),
        (("content-type", "application/grip-instruct"),),
    ],
)
def test_headers_of_what_is_not_handed_over_are_not_read(headers: Headers) -> None:
    """
    The response to a POST, and a refusal, go to the client, whatever GRIP headers they have.
    """
    front = Front(*SEED, *INTERNAL, grip=True).respond(*headers, body=b"done")

    assert only(front.ask("/x", "Content-Length: 0", method="POST")).body == b"done"
    assert only(front.respond(*headers, status=404, body=b"none").ask()).body == b"none"
    assert front.app.last is not None and not front.app.last.was_read


BY_EACH_WAY = [
    pytest.param((OFFLOAD, ("x-sse-channel", "a")), id="line"),
    pytest.param((("x-accel-redirect", "/-/sse/a"),), id="redirect"),
    pytest.param((EVENTS, ("grip-hold", "stream"), ("grip-channel", "a")), id="grip"),
]


@pytest.mark.parametrize("headers", BY_EACH_WAY)
def test_what_is_published_while_the_application_answers(headers: Headers) -> None:
    """
    A client that hands in no position gets all that is published since the application was asked,
    and once: the response may not have it.
    """
    front = Front(*SEED, *INTERNAL, grip=True).respond(*headers)
    prefix = "grip stream " if ("grip-channel", "a") in headers else ""
    wire = b"data: %d\n\n" if prefix else b"%d"
    front.publish(f"{prefix}a", wire % 1)
    front.app.meanwhile = partial(front.publish, f"{prefix}a", wire % 2)
    caller = front.ask()
    front.publish(f"{prefix}a", wire % 3)

    assert events(caller) == ["2", "3"]


def test_position_of_the_client_comes_first() -> None:
    """
    A client that asks for older messages, or the newest ones, gets these.
    """
    front = Front(r"internal-route ^/-/sse/(.+)$ sse:$1", r"internal-route ^/-/two sse:a,history=2")
    front.publish("a", b"1")
    front.publish("a", b"2")
    front.app.meanwhile = partial(front.publish, "a", b"3")

    assert events(front.respond(("x-accel-redirect", "/-/sse/a")).ask("/x?since=all")) == list(
        "123"
    )
    assert events(front.respond(("x-accel-redirect", "/-/two")).ask()) == list("33")
    front.app.meanwhile = None
    assert events(front.respond(("x-accel-redirect", "/-/sse/a")).ask()) == []


def test_messages_that_are_not_retained_are_a_gap() -> None:
    """
    What was published meanwhile and is not retained is reported.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/a"))
    front.hub.reconfigure(make_retention(count=0), make_hub_limits())
    assert b"gap" not in only(front.ask()).body
    front.app.meanwhile = partial(front.publish, "other", b"1")
    assert b"gap" not in only(front.ask()).body
    front.app.meanwhile = partial(front.publish, "a", b"1")
    assert b"event: gap\n" in only(front.ask()).body


@pytest.mark.parametrize("headers", BY_EACH_WAY)
def test_refused_clients_are_not_counted(headers: Headers) -> None:
    """
    A connection counts as handed over when the daemon has it.
    """
    front = Front(*SEED, *INTERNAL, grip=True).respond(*headers)
    front.hub.reconfigure(make_retention(), make_hub_limits(subscribers=1))
    metrics = front.hub.metrics

    def counted() -> int:
        by_lines = metrics.handovers_by_line + metrics.handovers_by_redirect
        return by_lines + metrics.handovers_by_grip

    front.ask()
    assert (front.hub.subscribers, counted()) == (1, 1)
    assert only(front.ask()).status == 503
    assert counted() == 1


def test_clients_are_counted_when_they_are_admitted() -> None:
    """
    One that waits for admission and leaves is not counted.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/a"))
    front.hub.reconfigure(make_retention(), make_hub_limits(join_rate=1.0, join_queue=5))
    callers = [front.ask() for _ in range(4)]
    joined = front.hub.subscribers
    assert front.hub.metrics.handovers_by_redirect == joined < 4
    callers[-1].hang_up()
    front.wait(10)

    assert front.hub.metrics.handovers_by_redirect == front.hub.subscribers == 3


@pytest.mark.parametrize(
    "headers",
    [
        (OFFLOAD,),
        (OFFLOAD, ("x-sse-channel", "")),
        (("x-accel-redirect", "/-/other"),),
        (("x-accel-redirect", ""),),
        (("grip-hold", "stream"),),
        (("x-sse-channel", "a"), ("content-type", "text/html")),
    ],
)
def test_response_without_a_channel_is_passed_on(headers: tuple[tuple[str, str], ...]) -> None:
    """
    A response that names no channel is the client's.
    """
    front = Front(*SEED, *INTERNAL, grip=True).respond(*headers, body=b"as it is")

    assert only(front.ask()).body == b"as it is"


@pytest.mark.parametrize(
    "headers",
    [
        (OFFLOAD, ("x-sse-channel", "a b")),
        (OFFLOAD, ("x-sse-channel", "grip stream a")),
        (("x-accel-redirect", "/-/sse/a%0D%0Ab"),),
        (("x-accel-redirect", "/-/sse/a%20b"),),
        (("x-accel-redirect", "/-/sse/a?" + "&" * 1001),),
        (("x-accel-redirect", "/-/sse/a"), ("x-expires-in", "soon")),
        (("grip-hold", "stream"), ("grip-channel", "a b")),
        (("grip-hold", "forever"), ("grip-channel", "a")),
    ],
)
def test_response_that_names_what_cannot_be(headers: tuple[tuple[str, str], ...]) -> None:
    """
    The client gets 502: the application has a fault.
    """
    front = Front(*SEED, *INTERNAL, grip=True).respond(*headers)

    assert only(front.ask()).status == 502
    assert front.hub.subscribers == 0
    assert front.app.last is not None and front.app.last.was_read


def test_body_is_sent_first_only_if_it_is_events() -> None:
    """
    Other bodies, and coded ones, are dropped; an event that is not ended is.
    """
    front = Front(*INTERNAL)
    redirect = ("x-accel-redirect", "/-/sse/a")

    assert events(front.respond(redirect, EVENTS, body=b"data: x").ask()) == ["x"]
    assert (
        events(front.respond(redirect, ("content-type", "text/html"), body=b"data: x\n\n").ask())
        == []
    )
    coded = front.respond(redirect, EVENTS, ("content-encoding", "gzip"), body=b"\x1f")
    answer = only(coded.ask())
    assert "content-encoding" not in answer.headers and not answer.body.startswith(b"\x1f")
    long = front.respond(redirect, EVENTS, body=b"data: x\n\n" * 10_000)
    assert len(events(long.ask())) == 65536 // 9


def test_body_is_sent_first_over_http2() -> None:
    """
    The beginning of the body comes first, however the response is framed.
    """
    front = Front(*INTERNAL)
    front.respond(("x-accel-redirect", "/-/sse/a"), EVENTS, body=b"data: x\n\n")

    assert bytes(Client(front).ask("/x").body).startswith(b"data: x\n\n:\n")


@pytest.mark.parametrize("mode", ["stream", "response", ""])
def test_client_that_leaves_before_the_body_is_here(mode: str) -> None:
    """
    A client that disconnects while the body is received leaves nothing behind.
    """
    front = Front(*INTERNAL, grip=True)
    headers = (("grip-hold", mode), ("grip-channel", "a")) if mode else ()
    front.respond(EVENTS, *(headers or (("x-accel-redirect", "/-/sse/a"),)))
    front.app.waits = Deferred()
    caller = front.ask()
    caller.hang_up()
    front.app.waits.callback(HandedBody(b"data: x\n\n", True))
    front.clock.pump([0] * 3)

    assert front.hub.subscribers == 0


@pytest.mark.parametrize("grip", [False, True])
def test_of_a_body_that_breaks_off_whole_events_are_sent(grip: bool) -> None:
    """
    A client never gets a part of an event as an event.
    """
    front = Front(*INTERNAL, grip=True)
    held = (("grip-hold", "stream"), ("grip-channel", "a"))
    headers = held if grip else (("x-accel-redirect", "/-/sse/a"),)
    front.respond(EVENTS, *headers, body=b'data: 1\n\ndata: {"balance": 1')
    front.app.complete = False

    with capturedLogs() as logged:
        assert events(front.ask()) == ["1"]
        assert events(front.ask()) == ["1"]
    text = [eventAsText(event) for event in logged]
    assert len([line for line in text if "whose body does not end" in line]) == 1


@pytest.mark.parametrize("query", ["?history=20", ""])
def test_query_with_too_many_fields(query: str) -> None:
    """
    A client whose query has too many fields is refused, and the response is discarded.
    """
    front = Front(*INTERNAL, r"internal-route ^/-/own$ sse")
    target = f"/-/sse/a{query}" if query else "/-/own"
    front.respond(("x-accel-redirect", target), EVENTS, body=b"data: x\n\n")

    assert only(front.ask(f"/x?{'&' * 1000}")).status == 400
    assert front.app.last is not None and front.app.last.was_read


def test_a_response_that_fails_unexpectedly_is_discarded(clean_reactor: list[Failure]) -> None:
    """
    Whatever goes wrong with a response, the client is answered, and the application is free.
    """
    front = Front(*INTERNAL)
    front.respond(("x-accel-redirect", "/-/sse/\u2028"), EVENTS)

    assert only(front.ask()).status == 500
    [failure] = clean_reactor
    clean_reactor.clear()
    assert failure.check(UnicodeEncodeError)
    assert front.app.last is not None and front.app.last.was_read


def test_a_path_makes_no_second_log_line() -> None:
    """
    Control characters of a path are escaped in the log.
    """
    front = Front(*INTERNAL).respond(("x-accel-redirect", "/-/sse/%01"))
    with capturedLogs() as logged:
        assert only(front.ask("/x%0Aforged")).status == 502
    text = [eventAsText(event) for event in logged]

    assert [line for line in text if "/x\\nforged" in line]
    assert not [line for line in text if "\n" in line]


def test_grant_of_the_response_limits_the_stream() -> None:
    """
    X-Expires-In ends the stream, X-User says whose it is, and neither is sent to the client.
    """
    front = Front(*INTERNAL)
    front.respond(("x-accel-redirect", "/-/sse/a"), ("x-expires-in", "40"), ("x-user", "ann"))
    caller = front.ask()

    answer = only(caller)
    assert not {"x-user", "x-expires-in"} & answer.headers.keys()
    [subscriber] = list(front.hub.all_subscribers())
    holder = front.hub.holders.get(subscriber)
    assert holder is not None and holder.grant.subject == "ann"
    front.wait(45)
    assert b"event: expire" in caller.written() and not caller.open


# Who names a channel.


def _gate() -> Gate:
    tokens = TokenVerifier([TokenKey.of(SECRET)], now=lambda: NOW)
    return Gate(("token",), tokens=tokens)


def test_channel_that_the_application_names_is_granted() -> None:
    """
    With `allow = token` a client needs none for what the application hands over.
    """
    for lines, headers in (
        (SEED, (OFFLOAD, ("x-sse-channel", "a"))),
        (INTERNAL, (("x-accel-redirect", "/-/sse/a"),)),
        (("internal-route ^/-/sse$ sse",), (("x-accel-redirect", "/-/sse?channels=a,b"),)),
        (("internal-route ^/-/sse$ sse:${qs[room]}",), (("x-accel-redirect", "/-/sse?room=a"),)),
        (("internal-route ^/-/me$ sse:u-${grant[sub]}",),
         (("x-accel-redirect", "/-/me"), ("x-user", "a"))),
        (("response-route-run sse",), (("x-channels", "a"),)),
    ):  # fmt: skip
        front = Front(*lines, gate=_gate()).respond(*headers)
        assert only(front.ask()).status == 200, lines
        assert front.hub.subscribers == 1


@pytest.mark.parametrize(
    "line",
    [
        r"response-route ^/room/(\w+)$ sse:$1",
        "response-route-run sse:${HTTP_X_ROOM}",
        "response-route-run sse:${qs[room]}",
        "response-route-run sse",
    ],
)
def test_channel_that_the_client_names_needs_a_grant(line: str) -> None:
    """
    What comes from the request of the client is not the application's word.
    """
    front = Front(line, gate=_gate()).respond()
    request = "/room/secret?room=secret&channels=secret", "X-Room: secret"

    assert only(front.ask(*request)).status == 401
    other = token(subscribe=["public"])
    assert only(front.ask(*request, f"Authorization: Bearer {other}")).status == 403
    own = token(subscribe=["secret"])
    assert only(front.ask(*request, f"Authorization: Bearer {own}")).status == 200


def test_client_cannot_name_more_than_the_application() -> None:
    """
    Channels in the query of the client are not added to those that the application names.
    """
    front = Front("internal-route ^/-/sse$ sse", gate=_gate())
    front.respond(("x-accel-redirect", "/-/sse?channels=a"))
    caller = front.ask("/x?channels=secret&channels[]=secret")
    front.publish("secret", b"no")
    front.publish("a", b"yes")

    assert events(caller) == ["yes"]


def test_variables_that_the_client_has_inserted_are_its_own() -> None:
    """
    A variable of a route line is the client's if its request is in it.
    """
    lines = ("response-route ^/room/(\\w+)$ addvar:ROOM=$1", "response-route-run sse:${ROOM}")
    front = Front(*lines, gate=_gate()).respond()

    assert only(front.ask("/room/secret")).status == 401


# Lines that do something else.


def test_lines_change_the_response() -> None:
    """
    Headers are added to responses that are passed on and to those that are handed over, and a
    line can answer instead of the application.
    """
    lines = ("response-route-run addheader:X-Own: 1", "response-route ^/gone$ break:410 Gone")
    front = Front(*lines, *INTERNAL)

    assert only(front.ask("/x")).headers["x-own"] == "1"
    assert only(front.ask("/gone")).status == 410
    front.respond(("x-accel-redirect", "/-/sse/a"))
    assert only(front.ask("/x")).headers["x-own"] == "1"


# GRIP.


def test_grip_stream() -> None:
    """
    Grip-Hold holds a stream; headers of GRIP are not sent.
    """
    front = Front(grip=True)
    front.respond(
        ("content-type", "text/plain"), ("grip-hold", "stream"), ("grip-channel", "a"),
        ("content-length", "7"), body=b"[open]\n",
    )  # fmt: skip
    answer = only(front.ask())

    assert answer.body == b"[open]\n" and answer.headers["content-type"] == "text/plain"
    assert not [name for name in answer.headers if name.startswith("grip")]
    assert front.hub.metrics.handovers_by_grip == 1


def test_grip_needs_its_key() -> None:
    """
    Without grip-key a response of GRIP is passed on.
    """
    front = Front(*INTERNAL).respond(("grip-hold", "stream"), ("grip-channel", "a"), body=b"x")

    assert only(front.ask()).body == b"x"


def test_grip_instruction() -> None:
    """
    A body of type application/grip-instruct says whether and how its response is held.
    """
    front = Front(grip=True)
    kind = ("content-type", "application/grip-instruct")
    held = b'{"hold": {"mode": "stream", "channels": [{"name": "a"}]}, "response": {"body": "x"}}'
    assert only(front.respond(kind, body=held).ask()).body == b"x"
    assert front.hub.subscribers == 1
    free = b'{"response": {"code": 404, "headers": {"Content-Type": "text/x"}, "body": "none"}}'
    answer = only(front.respond(kind, body=free).ask())
    assert (answer.status, answer.body) == (404, b"none")
    assert only(front.respond(kind, body=b"{").ask()).status == 502
    blank = b'{"hold": {"mode": "stream", "channels": [{"name": "a\\r\\nb"}]}}'
    assert only(front.respond(kind, body=blank).ask()).status == 502


def test_grip_response_that_is_too_large() -> None:
    """
    A response that is to be held is bounded: the client gets 502.
    """
    front = Front(grip=True)
    front.respond(("grip-hold", "response"), ("grip-channel", "a"), body=b"x" * 70_000)

    assert only(front.ask()).status == 502


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ((("grip-hold", "response"), ("grip-channel", "a")), b'{"balance": 1'),
        ((("content-type", "application/grip-instruct"),), b'{"response": {"body": "x"}}'),
        (
            (("grip-hold", "stream"), ("grip-channel", "a"), ("content-type", "text/plain")),
            b"x" * 70_000,
        ),
        ((("grip-hold", "stream"), ("grip-channel", "a")), b"[op"),
    ],
)
def test_grip_response_that_breaks_off(headers: Headers, body: bytes) -> None:
    """
    A response that is not complete is neither held nor sent as if it were: the client gets 502.
    """
    front = Front(grip=True).respond(*headers, body=body)
    front.app.complete = False

    assert only(front.ask()).status == 502
    assert front.hub.subscribers == 0
