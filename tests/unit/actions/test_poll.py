"""
Long-polling: one request, one response, and no loss between two of them.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer
from zope.interface.verify import verifyObject

from rt_twisted.actions.interfaces import IAction
from rt_twisted.actions.poll import PollAction
from rt_twisted.brokers.interfaces import IHistory
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.formats.json_events import JsonEventStream
from rt_twisted.formats.poll import EventPoll, JsonPoll
from rt_twisted.hub.limits import HubLimits
from rt_twisted.model.interfaces import IFormat
from rt_twisted.model.message import Draft, Message, Position, Replay, Since
from rt_twisted.routes import Routes, parse_route
from tests.defaults import make_context, make_hub, make_hub_limits, make_server
from tests.fakes import started
from tests.unit.actions.test_sse import Browser, Event
from tests.unit.http.clients import Answer, Caller, Place, get
from tests.unit.http.h2_client import Client

WAIT = 25


class Polls(Place):
    """
    A server with /poll, /own and /sse, and a clock for polls that wait.
    """

    def __init__(
        self, limits: HubLimits = make_hub_limits(), broker: Any = None, **context: Any
    ) -> None:
        super().__init__()
        self.clock = Clock()
        self.hub = make_hub(broker or MemoryBroker(self.clock, "e"), self.clock, limits=limits)
        self.context = make_context(self.hub, self.clock, poll_seconds=WAIT, **context)
        lines = ["^/poll$ poll", "^/own$ poll:subscribe=news,history=2,wait=5", "^/sse$ sse"]
        self.server = make_server(
            self.clock, Routes([parse_route(line, self.context) for line in lines]).find
        )
        self.server.start()
        self.hub.start()

    def publish(self, *texts: bytes | str, channel: str = "news", event: str | None = None) -> None:
        """
        Publish, and let the reactor turn once.
        """
        data = [text.encode() if isinstance(text, str) else text for text in texts]
        self.hub.publish([Draft(channel, each, event) for each in data])
        self.turn()

    def turn(self) -> None:
        self.clock.pump([0] * 4)

    def ask(self, query: str, *headers: str, path: str = "/poll") -> Caller:
        caller = self.call(request(query, *headers, path=path))
        self.turn()
        return caller


def request(query: str, *headers: str, path: str = "/poll") -> bytes:
    return get(f"{path}?{query}".encode(), "".join(f"{each}\r\n" for each in headers).encode())


def only(caller: Caller) -> Answer:
    (answer,) = caller.responses()
    return answer


def response_json(caller: Caller) -> Any:
    answer = only(caller)
    assert answer.status == 200, answer
    return json.loads(answer.body)


def texts(caller: Caller) -> list[str]:
    return [message["data"] for message in response_json(caller)["messages"]]


# Formats.

AT = Position("e", 7)


def message(data: bytes, offset: int = 7, event: str | None = None) -> Message:
    return Message("news", data, Position("e", offset), event)


@pytest.mark.parametrize("format", [JsonPoll(), EventPoll()])
def test_formats(format: JsonPoll | EventPoll) -> None:
    """
    Poll formats keep the contract of formats, and equal ones share frames.
    """
    verifyObject(IFormat, format)
    assert format == type(format)()
    assert hash(format) == hash(type(format)())
    assert format.heartbeat == b""


@given(st.lists(st.binary(max_size=20) | st.text(max_size=20).map(str.encode), max_size=6))
def test_json_carries_any_bytes(data: list[bytes]) -> None:
    """
    Text is sent as text, whatever it contains; other bytes in the field `base64`.
    """
    format = JsonPoll()
    frames = started(format, Replay((), True, Position("e", 0)))
    frames += b"".join(format.encode(message(each, 1 + n)) for n, each in enumerate(data))

    answer = json.loads(format.build_body(frames, 1 << 20).body)
    found = [
        base64.b64decode(each["base64"]) if "base64" in each else each["data"].encode()
        for each in answer["messages"]
    ]
    assert found == data
    assert answer["position"] == f"e.{len(data)}"
    assert answer["gap"] is False


def test_a_whole_response() -> None:
    """
    A response is what the documentation shows.
    """
    format = JsonPoll()
    replay = Replay((message(b"one"), message(b"\xff", 9, "e")), False, Position("e", 12))
    frames = format.build_body(started(format, replay) + format.end(1500), 1 << 20)

    assert json.loads(frames.body) == {
        "messages": [
            {"id": "e.7", "channel": "news", "data": "one"},
            {"id": "e.9", "channel": "news", "event": "e", "base64": "/w=="},
        ],
        "position": "e.12",
        "gap": True,
        "retry": 1500,
    }
    assert frames.position == "e.12"


def test_streams_of_json() -> None:
    """
    `?format=json` on a stream sends the objects of polls, each in one line.
    """
    polls = Polls()
    polls.publish("one\n\ntwo\r", b"\xff", event="e")
    subscriber = polls.ask("channels=news&format=json&since=all", path="/sse")
    polls.publish("three")
    _, _, body = subscriber.written().partition(b"\r\n\r\n")
    browser = Browser()
    browser.feed(b"".join(body.split(b"\r\n")[1::2]))

    assert [(event.type, json.loads(event.data)) for event in browser.events] == [
        ("message", {"id": "e.1", "channel": "news", "event": "e", "data": "one\n\ntwo\r"}),
        ("message", {"id": "e.2", "channel": "news", "event": "e", "base64": "/w=="}),
        ("message", {"id": "e.3", "channel": "news", "data": "three"}),
    ]
    assert [event.last_event_id for event in browser.events] == ["e.1", "e.2", "e.3"]
    gap = polls.ask("channels=news&format=json&since=old.3", path="/sse")
    assert b"event: gap\ndata: {" in gap.written()
    verifyObject(IFormat, JsonEventStream())


def read(body: bytes) -> list[tuple[str, str]]:
    browser = Browser()
    browser.feed(body)
    return [(event.type, event.data) for event in browser.events]


@pytest.mark.parametrize(
    ("most", "count", "kept"),
    [(1000, 0, 4), (60, 0, 1), (1, 0, 1), (1000, 1, 1), (1000, 3, 3)],
)
def test_a_response_is_bounded(most: int, count: int, kept: int) -> None:
    """
    A response is bounded in bytes or messages, but has at least one message. Its position
    is that of the last one, so that the next poll gets the rest.
    """
    messages = tuple(message(b"x" * 40, offset) for offset in (7, 8, 9, 10))
    replay = Replay(messages, True, Position("e", 12))
    for format in (JsonPoll(), EventPoll()):
        frames = format.build_body(started(format, replay), most, count)
        if isinstance(format, JsonPoll):
            found = [each["id"] for each in json.loads(frames.body)["messages"]]
        else:
            browser = Browser()
            browser.feed(frames.body)
            found = [event.last_event_id for event in browser.events]
            assert browser.last_event_id == frames.position
        assert found == [str(each.position) for each in messages[:kept]]
        assert frames.position == ("e.12" if kept == 4 else found[-1])
        assert frames.has_content


@pytest.mark.parametrize("format", [JsonPoll(), EventPoll()])
def test_what_is_content(format: JsonPoll | EventPoll) -> None:
    """
    A message, even an empty one, a gap and the end are content; a cursor is not.
    """
    quiet = started(format, Replay((), True, AT))
    for news in (format.encode(message(b"")), format.gap(AT), format.end(5)):
        assert not format.build_body(quiet, 1).has_content
        assert format.build_body(quiet + news, 1).has_content


@given(st.lists(st.binary(max_size=12), min_size=1, max_size=5), st.integers(1, 200))
def test_events_are_cut_between_events(data: list[bytes], most: int) -> None:
    """
    A response is the beginning of a stream, whatever blank lines and fields messages
    contain.
    """
    format = EventPoll()
    messages = [message(each, 1 + n) for n, each in enumerate(data)]
    whole, part = Browser(), Browser()
    whole.feed(b"".join(map(format.encode, messages)))
    part.feed(format.build_body(b"".join(map(format.encode, messages)), most).body)

    assert part.events == whole.events[: len(part.events)]
    assert part.events


# Requests.


def test_a_first_poll_gets_the_position() -> None:
    """
    A poll without position is answered at once, so that nothing is lost afterwards.
    """
    polls = Polls()
    polls.publish("before")
    first = response_json(polls.ask("channels=news"))
    assert first == {"messages": [], "position": "e.1", "gap": False}
    polls.publish("between")
    second = polls.ask(f"channels=news&since={first['position']}")

    assert texts(second) == ["between"]
    assert polls.hub.current_metrics().subscribers == 0
    verifyObject(IAction, PollAction(polls.context))


def test_a_poll_waits_for_messages() -> None:
    """
    A poll waits for the first flush with messages, and gets all of them.
    """
    polls = Polls()
    poll = polls.ask("channels=news,sport&since=e.0")
    assert poll.responses() == []
    assert polls.hub.current_metrics().channels == {"news": 1, "sport": 1}
    polls.clock.advance(3)
    polls.hub.publish([Draft("other", b"no"), Draft("sport", b"1:0"), Draft("news", b"two")])
    polls.turn()

    answer = only(poll)
    assert texts(poll) == ["1:0", "two"]
    assert response_json(poll)["position"] == "e.3"
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["etag"] == '"e.3"'
    assert polls.hub.current_metrics().subscribers == 0
    assert not [call for call in polls.clock.getDelayedCalls() if call.getTime() > 20]


@pytest.mark.parametrize(
    "tag",
    [
        '"33a64df551425fcc-gzip"',
        "*",
        "",
        '"',
        'W/""',
        '"1.2.3"',
        '"e.1x"',
        '"e.12345678901234567890"',
    ],
)
def test_an_unknown_entity_tag_is_ignored(tag: str) -> None:
    """
    A proxy may replace entity tags by its own. Such a poll gets neither the whole history
    nor a gap.
    """
    polls = Polls()
    polls.publish("before")
    poll = polls.ask("channels=news", f"If-None-Match: {tag}")

    assert only(poll).status == 200
    assert response_json(poll) == {"messages": [], "position": "e.1", "gap": False}


@pytest.mark.parametrize(
    ("query", "header", "status"),
    [
        ("since=e.1", "X: y", 200),
        ("", "Last-Event-ID: e.1", 200),
        ("lastEventId=e.1", "X: y", 200),
        ("", 'If-None-Match: "e.1"', 304),
        ("since=e.0", 'If-None-Match: W/"e.1"', 304),
        ("", 'If-None-Match: "e.1-gzip"', 304),
        ("", 'If-None-Match: W/"e.1--gzip"', 304),
        ("", 'If-None-Match: "e.1;gzip"', 304),
        ("", 'If-None-Match: "e.1"-br', 304),
        ("", 'If-None-Match: "e.1.zst"', 304),
        ("", 'If-None-Match: "gzip:e.1"', 304),
        ("", "If-None-Match: e.1", 304),
        ("", 'If-None-Match: "other", W/"e.1-gzip"', 304),
        ("", 'If-None-Match: "e.0", "e.1", "f.9"', 304),
        ("since=e.1", 'If-None-Match: "33a64df551425fcc"', 200),
        ("since=e.1", "If-None-Match: *", 200),
    ],
)
def test_the_timeout_of_a_poll(query: str, header: str, status: int) -> None:
    """
    At the timeout the response is 304 for If-None-Match, else 200 without messages; each
    has the position. The connection stays open.
    """
    polls = Polls()
    polls.publish("before")
    poll = polls.ask(f"channels=news&{query}", header)
    polls.publish("elsewhere", channel="other")
    polls.clock.advance(WAIT - 0.1)
    assert poll.responses() == []
    polls.clock.advance(0.2)
    answer = only(poll)
    assert answer.status == status
    assert answer.headers["etag"] == '"e.1"'
    if status == 304:
        assert "content-length" not in answer.headers
        assert "content-type" not in answer.headers
    else:
        assert response_json(poll) == {"messages": [], "position": "e.1", "gap": False}
    poll.send(request(f"channels=news&{query}", header))
    polls.publish("news")
    assert poll.written().count(b"HTTP/1.1 ") == 2
    assert poll.written().endswith(b'"position": "e.3", "gap": false}\n')
    assert poll.open


@pytest.mark.parametrize(
    ("query", "path", "seconds"),
    [("wait=3", "/poll", 3), ("wait=99", "/poll", WAIT), ("wait=0", "/poll", 0), ("", "/own", 5)],
)
def test_how_long_a_poll_waits(query: str, path: str, seconds: float) -> None:
    """
    A poll waits as long as the client requests, up to the limit of the route or daemon.
    """
    polls = Polls()
    poll = polls.ask(f"channels=news&since=e.0&{query}", path=path)
    if seconds:
        polls.clock.advance(seconds - 0.1)
        assert poll.responses() == []
        polls.clock.advance(0.2)
    assert response_json(poll)["messages"] == []


def test_a_gap_is_sent_at_once() -> None:
    """
    A client with a position of another log gets a gap, and the retained messages.
    """
    polls = Polls()
    polls.publish("kept")
    answer = response_json(polls.ask("channels=news&since=old.7"))

    assert answer["gap"] is True
    assert [each["data"] for each in answer["messages"]] == ["kept"]
    assert answer["position"] == "e.1"
    assert polls.hub.metrics.gaps == 1


def test_history() -> None:
    """
    A first poll may request history; it does not wait.
    """
    polls = Polls()
    assert texts(polls.ask("channels=news&history=5")) == []
    polls.publish("one", "two", "three")

    assert texts(polls.ask("channels=news&history=2")) == ["two", "three"]
    assert texts(polls.ask("channels=news&since=all")) == ["one", "two", "three"]
    assert texts(polls.ask("channels=ignored", path="/own")) == ["two", "three"]


def test_as_events() -> None:
    """
    Clients that read event streams by polling get the same as events.
    """
    polls = Polls()
    accept = "Accept: text/event-stream"
    first = only(polls.ask("channels=news", accept))
    assert first.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert first.body.endswith(b":\nid: e.0\n\n")
    poll = polls.ask("channels=news&format=sse", "Last-Event-ID: e.0")
    polls.publish("two\nlines", event="e")
    browser = Browser()
    browser.feed(only(poll).body)

    assert browser.events == [Event("e", "two\nlines", "e.1")]
    gap = Browser()
    gap.feed(only(polls.ask("channels=news&since=x.1", accept)).body)
    assert [event.type for event in gap.events] == ["gap", "e"]
    assert "messages" in response_json(polls.ask("channels=news&format=json", accept))


@pytest.mark.parametrize("query", ["", "channels=a*", "format=x&channels=a", "wait=-1&channels=a"])
def test_malformed_requests(query: str) -> None:
    """
    A malformed parameter is rejected with one sentence.
    """
    assert only(Polls().ask(query)).status == 400


def test_requests_behind_a_poll_are_answered_in_order() -> None:
    """
    A pipelined poll starts when the previous one is answered, and waits for itself.
    """
    polls = Polls()
    poll = polls.call(request("channels=news&since=e.0") * 2 + request("channels=news"))
    polls.turn()
    assert poll.responses() == []
    polls.publish("one")
    first, second, third = poll.responses()

    for answer in (first, second):  # the second one requested the same position
        assert [each["data"] for each in json.loads(answer.body)["messages"]] == ["one"]
    assert json.loads(third.body)["position"] == "e.1"
    assert int(first.headers["content-length"]) == len(first.body)


def test_head_and_http_1_0() -> None:
    """
    HEAD does not wait; HTTP/1.0 gets a response with a length too.
    """
    polls = Polls()
    head = polls.call(b"HEAD /poll?channels=news&since=e.0 HTTP/1.1\r\nHost: a\r\n\r\n")
    (answer,) = head.responses("HEAD")
    assert (answer.status, answer.body) == (200, b"")
    old = polls.call(b"GET /poll?channels=news HTTP/1.0\r\n\r\n")
    polls.turn()
    assert json.loads(only(old).body)["position"] == "e.0"
    assert not old.open


def test_over_http_2() -> None:
    """
    Polls wait in parallel on one connection; a cancelled one leaves the hub.
    """
    polls = Polls()
    client = Client(polls)
    polling = client.ask("/poll?channels=news&since=e.0")
    other = client.ask("/poll?channels=sport&since=e.0")
    assert polls.hub.current_metrics().subscribers == 2
    polls.publish("hello")
    client.turn()

    assert json.loads(polling.body)["messages"][0]["data"] == "hello"
    assert polling.headers["etag"] == '"e.1"'
    assert not other.ended
    client.talk.reset_stream(client.number(other))
    client.turn()
    assert polls.hub.current_metrics().subscribers == 0
    assert polls.hub.current_metrics().closed["client"] == 1


# Events while a poll waits.


def test_a_disconnected_client_leaves_the_hub() -> None:
    """
    A client that disconnects leaves at once, with its pending polls.
    """
    polls = Polls()
    poll = polls.ask("channels=news&since=e.0")
    poll.hang_up()

    assert polls.hub.current_metrics().subscribers == 0
    assert polls.hub.current_metrics().closed["client"] == 1
    polls.publish("unreceived")
    polls.clock.advance(WAIT)
    assert poll.responses() == []


def test_stopping() -> None:
    """
    A daemon that stops answers pending polls with the time to reconnect.
    """
    polls = Polls()
    poll = polls.ask("channels=news&since=e.0")
    polls.hub.stop(2000)
    answer = response_json(poll)

    assert 2000 <= answer.pop("retry") <= 4000
    assert answer == {"messages": [], "position": "e.0", "gap": False}
    assert only(polls.ask("channels=news&since=e.0")).status == 503


def test_limits() -> None:
    """
    A poll counts as a subscriber while it waits, with the same limits.
    """
    polls = Polls(make_hub_limits(subscribers_per_address=1), count_addresses=True)
    poll = polls.ask("channels=news&since=e.0")
    refused = only(polls.ask("channels=news&since=e.0"))
    assert refused.status == 429
    assert "retry-after" in refused.headers
    polls.publish("hello")
    assert texts(poll) == ["hello"]
    assert texts(polls.ask("channels=news&since=e.0")) == ["hello"]


def test_polls_are_queued_by_the_join_rate() -> None:
    """
    With a join rate, polls are queued like all new subscribers.
    """
    polls = Polls(make_hub_limits(join_rate=1, join_queue=1))
    answered = polls.ask("channels=news")
    waiting = polls.ask("channels=news")
    refused = polls.ask("channels=news")
    assert (len(answered.responses()), len(waiting.responses())) == (1, 0)
    assert only(refused).status == 503
    polls.clock.pump([0.05] * 25)
    assert response_json(waiting)["position"] == "e.0"


def test_large_backlogs_come_in_parts() -> None:
    """
    A large history is sent over several polls, each within its bounds, complete and without
    repeats.
    """
    polls = Polls(poll_bytes=1000)
    sent = [f"{number} " + "x" * 150 for number in range(40)]
    polls.publish(*sent)
    position = "e.0"
    received: list[str] = []
    while len(received) < len(sent):
        poll = polls.ask(f"channels=news&since={position}")
        assert len(only(poll).body) < 1200
        position = response_json(poll)["position"]
        received += texts(poll)
    assert received == sent


@implementer(IHistory)
class SlowHistory(MemoryBroker):
    """
    A broker whose history is returned when the test says so.
    """

    query: Deferred[Replay]

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        self.query = Deferred()
        return self.query


def test_a_poll_waits_for_the_broker() -> None:
    """
    A poll waits for the broker's history, also if it waits for nothing else. After the
    timeout the answer asks the client to retry.
    """
    broker = SlowHistory(Clock(), "e")
    polls = Polls(broker=broker)
    poll = polls.ask("channels=news&since=f.3&wait=0")
    polls.clock.advance(3)
    assert poll.responses() == []
    found = Message("news", b"old", Position("e", 0))
    broker.query.callback(Replay((found,), True, Position("e", 0)))
    polls.turn()
    assert texts(poll) == ["old"]

    late = polls.ask("channels=news&since=f.3")
    polls.clock.advance(WAIT + 1)
    answer = only(late)
    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    broker.query.callback(Replay((), True, Position("e", 0)))
    assert polls.hub.current_metrics().subscribers == 0


@pytest.mark.parametrize(
    ("query", "seconds"), [("history=1&wait=3", 3), ("history=1&wait=0", WAIT)]
)
def test_a_first_poll_while_the_broker_is_away(query: str, seconds: float) -> None:
    """
    A client that has no position gets a response within the time that it may wait, too.
    """
    polls = Polls(broker=SlowHistory(Clock(), "e"))
    poll = polls.ask(f"channels=news&{query}")
    polls.clock.advance(seconds - 0.1)
    assert poll.responses() == []
    polls.clock.advance(0.2)

    assert only(poll).status == 503


def test_stopping_before_the_position_is_known() -> None:
    """
    No response lacks a position: the client would continue without one and miss messages.
    """
    broker = SlowHistory(Clock(), "e")
    polls = Polls(broker=broker)
    poll = polls.ask("channels=news&since=f.3")
    polls.hub.stop(2000)
    answer = only(poll)

    assert answer.status == 503
    assert answer.headers["retry-after"] == "2"
    assert "etag" not in answer.headers


# Clients of cyclone-sse.

XHR = "X-Requested-With: XMLHttpRequest"


def test_xhr_on_a_stream_gets_one_event() -> None:
    """
    A client with X-Requested-With: XMLHttpRequest polls: one event per response. jQuery's
    plugin joins all data lines to one event, and sends Last-Event-ID for the next.
    """
    polls = Polls()
    poll = polls.ask("channels=news", XHR, path="/sse")
    assert poll.responses() == []
    polls.publish("one", "two")
    answer = only(poll)
    assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert int(answer.headers["content-length"]) == len(answer.body)
    assert re.findall(rb"data: (.*)", answer.body) == [b"one"]
    assert re.findall(rb"id: (.*)", answer.body)[-1] == b"e.1"
    assert poll.open

    again = polls.ask("channels=news", XHR, "Last-Event-ID: e.1", path="/sse")
    assert re.findall(rb"data: (.*)", only(again).body) == [b"two"]
    assert b"retry" not in only(again).body


def test_xhr_without_messages_is_answered_in_time() -> None:
    """
    The response comes before the plugin's timeout of 50 seconds; it continues from the id.
    """
    polls = Polls()
    poll = polls.ask("channels=news", XHR, path="/sse")
    polls.clock.advance(WAIT + 1)
    answer = only(poll)

    assert read(answer.body) == []
    assert b"id: e.0\n" in answer.body


@pytest.mark.parametrize("header", ["X-Requested-With: other", "X: y"])
def test_others_get_a_stream(header: str) -> None:
    """
    Only the exact value XMLHttpRequest makes a poll, as in cyclone-sse.
    """
    assert Polls().ask("channels=news", header, path="/sse").streams


@pytest.mark.parametrize(
    ("query", "accept"),
    [
        ("&evs_buffer_size_limit=262144", "text/event-stream"),
        ("&evs_buffer_size_limit=262144", "*/*"),
        ("&evs_preamble=1", "*/*"),
        ("&evs_last_event_id=e.0", "*/*"),
        ("", "text/event-stream"),
    ],
)
def test_amvteks_polyfill_gets_a_stream(query: str, accept: str) -> None:
    """
    The polyfill sends XMLHttpRequest too; its parameters and `Accept` identify it.
    """
    poll = Polls().ask(f"channels=news{query}", XHR, f"Accept: {accept}", path="/sse")

    assert poll.streams


def test_an_eventsource_that_polls_gets_a_reconnect_time() -> None:
    """
    An EventSource that polls gets 200 with a retry time, as an error status would end it.
    """
    polls = Polls(make_hub_limits(subscribers_per_address=1), count_addresses=True)
    polls.ask("channels=news&since=e.0")
    answer = only(polls.ask("channels=news&since=e.0", "Accept: text/event-stream"))

    assert answer.status == 200
    assert answer.body == b": 429 too many subscribers from your address\nretry: 10000\n\n"
    assert answer.headers["retry-after"] == "10"


@pytest.mark.parametrize("format", [JsonPoll(), EventPoll()])
def test_a_body_is_filled_to_its_bounds(format: Any) -> None:
    """
    A message that fits exactly is in the response; one byte less room, and the next poll
    gets it. Without a count there are as many as fit.
    """
    frames = b"".join(format.encode(Message("a", b"1", Position("e", n))) for n in (1, 2, 3))
    metrics: dict[int, int] = {}
    for most in range(400):
        body = format.build_body(frames, most).body
        metrics.setdefault(body.count(b"e.") - (isinstance(format, JsonPoll)), most)

    assert sorted(metrics) == [1, 2, 3]
    step = metrics[3] - metrics[2]
    assert metrics[2] == 2 * step
    for count in (1, 2):
        found = format.build_body(frames, 10_000, count).body
        assert found.count(b"e.") - isinstance(format, JsonPoll) == count
