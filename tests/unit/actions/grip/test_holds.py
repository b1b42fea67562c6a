"""
Responses that are held by GRIP, and what is published to them.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jwt
import pytest
from zope.interface import implementer

from rt_twisted.access.grants import ANYONE, Grant
from rt_twisted.access.grip_key import GripKey
from rt_twisted.actions.chain import Route
from rt_twisted.actions.grip.hold import HeldRequest, hold_response
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs.eventsource import EventReader
from rt_twisted.codecs.grip import GripHold, GripResponse, HoldMode, KeepAlive
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.grip import GripEvents, GripResponses, GripStream
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import HttpError
from rt_twisted.model.internal_channels import CLOSED, held_channel
from rt_twisted.model.message import Draft
from rt_twisted.routes import Routes, parse_route
from tests.contracts.formats import FormatContract
from tests.defaults import make_context, make_hub, make_server
from tests.unit.http.clients import Answer, Caller, Place, get
from tests.unit.http.h2_client import Client

SECRET = "s" * 32
EVENTS = ("Content-Type", "text/event-stream")
TEXT = ("Content-Type", "text/plain")
STREAM, RESPONSE = HoldMode.STREAM, HoldMode.RESPONSE


@implementer(IAction)
@dataclass
class Holding:
    """
    Holds a fixed response, as if an application had handed it over.
    """

    context: Any
    hold: GripHold
    response: GripResponse
    grant: Grant

    methods: ClassVar[Sequence[str]] = ("GET",)

    def act(self, exchange: IExchange, match: Match) -> object:
        request = HeldRequest(self.context, exchange, self.hold, self.response, self.grant)
        return hold_response(request)


class Held(Place):
    """
    A server with /held and /publish/.
    """

    def __init__(
        self,
        mode: HoldMode = STREAM,
        *headers: tuple[str, str],
        body: bytes = b"",
        grant: Grant = ANYONE,
        ids: bool = True,
        **options: Any,
    ) -> None:
        super().__init__()
        self.context = make_context(self.hub, self.clock, grip=GripKey.of(SECRET, ids=ids))
        hold = GripHold(mode, options.pop("channels", ("a",)), **options)
        response = GripResponse(200, headers, body)
        holding = Holding(self.context, hold, response, grant)
        routes = [
            Route(re.compile("^/held$"), None, holding),
            parse_route("POST ^/publish/$ grip", self.context),
            parse_route("^/ws$ sse", self.context),
        ]
        self.server = make_server(self.clock, Routes(routes).find)
        self.server.start()
        self.hub.start()

    def ask(self, *headers: str, path: bytes = b"/held") -> Caller:
        caller = self.call(get(path, "".join(f"{each}\r\n" for each in headers).encode()))
        self.turn()
        return caller

    def turn(self) -> None:
        self.clock.pump([0] * 5)

    def publish(self, *items: dict[str, Any], authorization: str | None = None) -> Answer:
        if authorization is None:
            token = jwt.encode({"iss": "app", "exp": time.time() + 60}, SECRET, "HS256")
            authorization = f"Authorization: Bearer {token}\r\n"
        body = json.dumps({"items": items}).encode()
        head = f"POST /publish/ HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\n"
        caller = self.call(f"{head}{authorization}\r\n".encode() + body)
        self.turn()
        [answer] = caller.responses()
        return answer


@pytest.mark.parametrize("make", [GripEvents, GripResponses, GripStream])
def test_formats(make: type) -> None:
    """
    The formats of held responses keep the contract of formats.
    """
    FormatContract((make(), Chunked(make())), (make(), Chunked(make())), (b"x", b"\xff")).check()


def stream(content: str, channel: str = "a") -> dict[str, Any]:
    return {"channel": channel, "http-stream": {"content": content}}


def body_of(caller: Caller) -> bytes:
    [answer] = caller.responses()
    return answer.body


def test_stream_is_held_and_gets_what_is_published() -> None:
    """
    The application's headers and body come first; what is published follows, byte for byte.
    """
    held = Held(STREAM, TEXT, ("X-App", "1"), body=b"[open]\n")
    caller = held.ask()

    assert held.publish(stream("one\n"), stream("two\n")).status == 200
    held.publish({"channel": "a", "formats": {"http-stream": {"content-bin": "AAEK"}}})

    [answer] = caller.responses()
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain"
    assert answer.headers["x-app"] == "1"
    assert answer.body == b"[open]\none\ntwo\n\0\x01\n"
    assert caller.open


def test_stream_over_http2() -> None:
    """
    The body comes first over HTTP/2, too.
    """
    held = Held(STREAM, TEXT, body=b"[open]\n")
    received = Client(held).ask("/held")

    assert bytes(received.body) == b"[open]\n"


def test_other_channels_are_not_received() -> None:
    """
    A stream has all of its channels, and no other.
    """
    held = Held(STREAM, TEXT, channels=("a", "b"))
    caller = held.ask()

    held.publish(stream("1\n"), stream("2\n", "b"), stream("3\n", "c"))

    assert body_of(caller) == b"1\n2\n"


def test_events_resume_without_loss() -> None:
    """
    A client that reconnects with the id of its last event gets all that followed.
    """
    held = Held(STREAM, EVENTS, body=b"event: open\ndata: x\n\n")
    first = held.ask()
    held.publish(stream("data: 1\n\n"))
    reader = EventReader()
    assert [one.data for one in reader.feed(body_of(first))] == ["x", "1"]
    first.hang_up()
    held.publish(stream("data: 2\n\n"))

    second = held.ask(f"Last-Event-ID: {reader.last_id}")
    held.publish(stream("data: 3\n\n"))

    assert [one.data for one in reader.feed(body_of(second))] == ["x", "2", "3"]


def test_client_without_an_event_resumes_too() -> None:
    """
    A stream of events begins with a position.
    """
    held = Held(STREAM, EVENTS)
    first = held.ask()
    reader = EventReader()
    assert not list(reader.feed(body_of(first)))
    first.hang_up()
    held.publish(stream("data: 1\n\n"))

    second = held.ask(f"Last-Event-ID: {reader.last_id}")

    assert [one.data for one in reader.feed(body_of(second))] == ["1"]


def test_unknown_position_is_a_gap() -> None:
    """
    A client whose position is of another log is notified that events are missing.
    """
    held = Held(STREAM, EVENTS)

    assert b"event: gap\n" in body_of(held.ask("Last-Event-ID: other.7"))


@pytest.mark.parametrize("sent", ["7", "application-9", "x.y"])
def test_ids_of_the_application_are_its_own(sent: str) -> None:
    """
    An event with an id keeps it, and an id of the application in `Last-Event-ID` is no gap.
    """
    held = Held(STREAM, EVENTS, body=b"id: 8\ndata: x\n\n")
    caller = held.ask(f"Last-Event-ID: {sent}")

    held.publish(stream("id: 9\ndata: y\n\n"))

    assert body_of(caller) == b"id: 8\ndata: x\n\nid: 9\ndata: y\n\n"


def test_ids_can_be_left_to_the_application() -> None:
    """
    With grip-ids = 0 no event is changed.
    """
    held = Held(STREAM, EVENTS, ids=False)
    caller = held.ask()

    held.publish(stream("data: y\n\n"))

    assert body_of(caller) == b"data: y\n\n"


def test_keep_alive_of_the_application() -> None:
    """
    The keep-alive is sent at the interval that the application asks for, until the end.
    """
    held = Held(STREAM, TEXT, keep_alive=KeepAlive(b"\n", 5.0))
    caller = held.ask()

    held.wait(20)
    assert body_of(caller) in (b"\n" * 4, b"\n" * 5)  # the daemon's own heartbeat is one

    timers = len(held.clock.getDelayedCalls())
    caller.hang_up()
    held.wait(6)
    assert len(held.clock.getDelayedCalls()) == timers - 1


def test_streams_are_closed_by_an_item() -> None:
    """
    An item with the action close ends the streams of its channel, after what precedes it.
    """
    held = Held(STREAM, TEXT)
    caller = held.ask()
    other = held.call(get(b"/ws?channels=a"))

    held.publish(stream("last\n"), {"channel": "a", "http-stream": {"action": "close"}})
    held.turn()

    assert caller.written().endswith(b"last\n\r\n0\r\n\r\n")
    assert not caller.open
    assert other.open


def test_streams_of_another_server_are_closed_there() -> None:
    """
    The same channel of a route with `server=` is another one.
    """
    held = Held(STREAM, TEXT)
    near = held.ask()
    hub = make_hub(MemoryBroker(held.clock, "f"), held.clock)
    hub.start()
    context = replace(held.context, hub=hub)
    holding = Holding(context, GripHold(STREAM, ("a",)), GripResponse(200, (TEXT,), b""), ANYONE)
    routes = [Route(re.compile("^/held$"), None, holding)]
    held.server = make_server(held.clock, Routes(routes).find)
    held.server.start()
    far = held.ask()
    assert near.open and far.open

    hub.publish([Draft(CLOSED, b"a")])
    held.turn()

    assert near.open
    assert not far.open


def test_websockets_and_streams_of_the_channel_get_its_messages() -> None:
    """
    A `ws-message` is a message of the channel, for all that subscribe to it; held streams
    get `http-stream` alone.
    """
    held = Held(STREAM, TEXT)
    caller = held.ask()
    other = held.ask(path=b"/ws?channels=a")

    held.publish({"channel": "a", "ws-message": {"content": "m"}, **stream("s\n")})
    held.hub.publish([Draft("a", b"plain")])
    held.turn()

    assert body_of(caller) == b"s\n"
    assert b"data: m\n" in other.written() and b"data: plain\n" in other.written()
    assert b"data: s" not in other.written()


def test_no_client_can_name_the_channel_of_held_streams() -> None:
    """
    What is published for held streams is received by them only.
    """
    held = Held(STREAM, TEXT)

    with pytest.raises(HttpError):
        held.context.names.check(held_channel("stream", "a"))


def test_stream_ends_with_the_grant() -> None:
    """
    A grant that expires ends the stream.
    """
    held = Held(STREAM, EVENTS, grant=Grant("me", expires=time.time() + 40))
    caller = held.ask()

    held.wait(15)
    assert b"event: expire\n" in caller.written() and caller.open
    held.wait(30)
    assert not caller.open


def test_rules_of_the_application_for_other_origins() -> None:
    """
    If the application says which pages may read the stream, the daemon does not say it again.
    """
    rule = ("Access-Control-Allow-Origin", "https://shop.example")
    held = Held(STREAM, TEXT, rule, ("Access-Control-Allow-Credentials", "true"))

    [answer] = held.ask("Origin: https://shop.example").responses()

    assert answer.headers["access-control-allow-origin"] == "https://shop.example"
    assert answer.headers["access-control-allow-credentials"] == "true"


def test_head_gets_the_head() -> None:
    """
    HEAD is answered with the head of the stream.
    """
    held = Held(STREAM, TEXT, ("X-App", "1"), body=b"[open]\n")
    caller = held.call(b"HEAD /held HTTP/1.1\r\nHost: a\r\n\r\n")

    [answer] = caller.responses("HEAD")
    assert answer.headers["x-app"] == "1" and not answer.body


# Responses.


def test_response_is_answered_with_the_first_that_is_published() -> None:
    """
    A long-poll is answered once, with the status, headers and body that are published; headers
    that these lack are the application's.
    """
    held = Held(RESPONSE, TEXT, ("X-App", "1"), body=b"late")
    caller = held.ask()
    assert not caller.responses()

    response = {"code": 201, "headers": {"X-Own": "2"}, "body": "now"}
    held.publish({"channel": "a", "http-response": response})
    held.publish({"channel": "a", "http-response": {"body": "later"}})

    [answer] = caller.responses()
    assert (answer.status, answer.body) == (201, b"now")
    assert (answer.headers["x-app"], answer.headers["x-own"]) == ("1", "2")
    assert answer.headers["content-type"] == "text/plain"
    assert held.hub.subscribers == 0


def test_response_after_its_time() -> None:
    """
    A client that nothing is published for gets the application's own response.
    """
    held = Held(RESPONSE, TEXT, body=b"late", seconds=20.0, status=404)
    caller = held.ask()
    held.wait(18)
    assert not caller.responses()
    held.wait(3)

    [answer] = caller.responses()
    assert (answer.status, answer.body) == (404, b"late")
    assert held.hub.subscribers == 0


def test_client_that_leaves_is_forgotten() -> None:
    """
    A client that disconnects while its response is held leaves nothing behind.
    """
    held = Held(RESPONSE, TEXT)
    caller = held.ask()
    assert held.hub.subscribers == 1
    caller.hang_up()

    assert held.hub.subscribers == 0
    held.publish({"channel": "a", "http-response": {"body": "now"}})
    held.wait(60)


def test_stop_answers_held_responses() -> None:
    """
    A daemon that stops answers held responses as if their time were over.
    """
    held = Held(RESPONSE, TEXT, body=b"late")
    caller = held.ask()
    held.hub.stop(1000)
    held.turn()

    assert body_of(caller) == b"late"


# Publishing.


def test_publisher_needs_a_token_of_the_key() -> None:
    """
    Without a token that the key has signed nothing is published, from this machine neither.
    """
    held = Held()

    assert held.publish(stream("x"), authorization="").status == 401
    assert held.publish(stream("x"), authorization="Authorization: Bearer x\r\n").status == 401


@pytest.mark.parametrize(
    ("item", "status"),
    [
        ({"channel": "a b", "http-stream": {"content": "x"}}, 400),
        ({"channel": "a\r\nb", "http-stream": {"content": "x"}}, 400),
        ({"channel": "", "ws-message": {"content": "x"}}, 400),
        ({"channel": "a"}, 400),
        ({"channel": "a", "http-stream": {"content": "x" * 2_000_000}}, 413),
        ({"channel": "a", "ws-message": {"action": "close"}}, 200),
    ],
)
def test_items_that_cannot_be_published(item: dict[str, Any], status: int) -> None:
    """
    A publisher gets the reason; what is not supported is left out.
    """
    assert Held().publish(item).status == status


def test_route_needs_the_key() -> None:
    """
    The route word `grip` without the setting is an error at start.
    """
    with pytest.raises(ValueError, match="grip-key"):
        parse_route("POST ^/publish/$ grip", Place().context)


def test_answer_has_the_position() -> None:
    """
    The answer is that of the route word `publish`.
    """
    answer = Held().publish(stream("x"), stream("y"))

    assert answer.json == {"status": "ok", "position": "e.2", "published": 2, "receivers": 0}
