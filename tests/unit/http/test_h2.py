"""
HTTP/2 as clients meet it: the same answers as by HTTP/1.1, many at a time,
each with its own flow control, and bounds for who abuses that.

Connections without sockets, driven by a `Clock`; the client is the h2 library.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from hyperframe.frame import GoAwayFrame
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from rt_twisted.codecs.addresses import Networks
from rt_twisted.http import h2 as http_h2
from rt_twisted.http.h2 import LINGER, MAX_RESETS, MAX_STREAMS, MAX_UNREAD, WINDOW, Http2Connection
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.logfiles import LogFile
from tests.defaults import make_backlog_limits, make_cors, make_http_limits
from tests.unit.http.test_h1 import LIMITS, Place, Wire
from tests.words import Desk

Codes = h2.errors.ErrorCodes


class Heard:
    """
    What has come on one stream.
    """

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = b""
        self.ended = False
        self.reset: int | None = None
        self.informed: list[str] = []

    @property
    def status(self) -> int:
        return int(self.headers[":status"])

    @property
    def said(self) -> Any:
        return json.loads(self.body)


class Client:
    """
    A client of *place*, its windows as it likes.

    Args:
        greedy: it opens its windows again for all that it got.
        window: of each of its streams.
    """

    def __init__(self, place: Place, greedy: bool = True, window: int = 65535) -> None:
        self.place = place
        self.greedy = greedy
        self.wire = Wire("192.0.2.1")
        self.server = Http2Connection(place.server.context, self.wire, self.wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
        config = h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        self.talk = h2.connection.H2Connection(config)
        self.talk.local_settings = h2.settings.Settings(
            client=True, initial_values={h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window}
        )
        self.streams: dict[int, Heard] = {}
        self.goodbye: int | None = None
        self.talk.initiate_connection()
        self.turn()

    def ask(
        self, path: str, body: bytes | None = None, method: str = "", *headers: tuple[str, str]
    ) -> Heard:
        """
        Begin a request; without *body* it is whole.
        """
        number = self.begin(
            path, method or ("GET" if body is None else "POST"), body is None, *headers
        )
        if body is not None:
            self.talk.send_data(number, body, end_stream=True)
        self.turn()
        return self.streams[number]

    def begin(self, path: str, method: str, end: bool, *headers: tuple[str, str]) -> int:
        number = self.talk.get_next_available_stream_id()
        pseudo = [(":method", method), (":path", path), (":scheme", "https"), (":authority", "a")]
        self.talk.send_headers(number, [*pseudo, *headers], end_stream=end)
        self.streams[number] = Heard()
        return number

    def number(self, heard: Heard) -> int:
        return next(number for number, each in self.streams.items() if each is heard)

    def turn(self, turns: int = 4) -> None:
        """
        Bytes go both ways, and the reactor turns.
        """
        for _ in range(turns):
            data = self.talk.data_to_send()
            if data and not self.wire.disconnecting:
                self.server.dataReceived(data)
            self.place.clock.advance(0)
            self._hear()

    def _hear(self) -> None:
        data: bytes = self.wire.value()  # type: ignore[no-untyped-call]  # Twisted's
        self.wire.clear()  # type: ignore[no-untyped-call]  # Twisted's
        for event in self.talk.receive_data(data):
            heard = self.streams.get(getattr(event, "stream_id", None) or 0, Heard())
            if isinstance(event, h2.events.ResponseReceived):
                heard.headers = {str(n): str(v) for n, v in event.headers or ()}
            elif isinstance(event, h2.events.InformationalResponseReceived):
                heard.informed = [str(v) for n, v in event.headers or ()]
            elif isinstance(event, h2.events.DataReceived):
                heard.body += event.data or b""
                if self.greedy:
                    self.talk.acknowledge_received_data(
                        event.flow_controlled_length or 0, event.stream_id or 0
                    )
            elif isinstance(event, h2.events.StreamEnded):
                heard.ended = True
            elif isinstance(event, h2.events.StreamReset):
                heard.reset = event.error_code
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.goodbye = event.error_code

    def hang_up(self) -> None:
        self.server.connectionLost(Failure(ConnectionLost()))


def publish(place: Place, text: bytes = b"hello", channel: str = "news") -> None:
    place.hub.publish([Draft(channel, text)])


# Requests.


def test_it_answers_as_by_http_1() -> None:
    """
    Path, query, body, status and headers are the same, without those that only
    frame a response.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)

    got = client.ask("/echo/%2F%C3%BC?n=%2B+")
    posted = client.ask("/echo", b"body", "", ("content-type", "text/plain"))
    missing = client.ask("/none")

    assert got.said == {"path": "/echo//\u00fc", "query": {"n": ["+ "]}, "body": "", "text": ""}
    assert posted.said["body"] == "body"
    assert [each.status for each in (got, posted, missing)] == [200, 200, 404]
    assert all(each.ended and each.reset is None for each in (got, posted, missing))
    assert got.headers["server"] == "rt_twisted"
    assert got.headers["content-length"] == str(len(got.body))
    assert got.headers["access-control-allow-origin"] == "*"
    assert not {"connection", "transfer-encoding"} & set(got.headers)


def test_an_exchange_keeps_its_contract() -> None:
    """
    What an action is given provides all of `IExchange`; streams need no chunks.
    """
    place = Place()
    client = Client(place)
    client.ask("/late?a=1", None, "", ("cookie", "a=1"), ("cookie", "b=2"), ("x-a", "1"))

    (exchange,) = place.waiting
    assert verifyObject(IExchange, exchange)
    assert not exchange.framed and exchange.secure and not exchange.local
    assert exchange.address == "192.0.2.1"
    assert exchange.cookies() == {"a": "1", "b": "2"}
    assert exchange.header("x-a") == "1" and exchange.header("host") == "a"
    assert exchange.length == 0


def test_nobody_reads_a_stream_that_is_gone() -> None:
    """
    An action that waited, and opens a stream to who has left meanwhile, is told.
    """
    place = Place()
    client = Client(place)
    heard = client.ask("/late")
    client.talk.reset_stream(client.number(heard))
    client.turn()

    with pytest.raises(ConnectionLost):
        place.waiting[0].open("text/plain")


def test_answers_need_not_come_in_order() -> None:
    """
    A request that takes its time holds nobody up.
    """
    place = Place()
    client = Client(place)
    late = client.ask("/late")
    quick = client.ask("/echo")
    assert quick.ended and not late.headers

    place.waiting[0].answer(200, b"late", "text/plain")
    place.waiting[0].answer(500, b"twice", "text/plain")
    client.turn()

    assert (late.status, late.body) == (200, b"late")


def test_head_has_no_body() -> None:
    """
    HEAD gets the length and nothing else; 204 not even that.
    """
    client = Client(Place("^/page$ page"))
    head = client.ask("/page", None, "HEAD")
    options = client.ask("/news", None, "OPTIONS")

    assert head.ended and not head.body and int(head.headers["content-length"]) > 1000
    assert (options.status, options.ended) == (204, True)
    assert "content-length" not in options.headers


def test_pages_of_other_origins() -> None:
    """
    CORS is the same: preflight, the list of origins, and none for others.
    """
    place = Place(cors=make_cors(frozenset(("https://a",))))
    client = Client(place)
    ours = client.ask("/echo", None, "", ("origin", "https://a"))
    theirs = client.ask("/echo", None, "", ("origin", "https://b"))
    asked = (("origin", "https://a"), ("access-control-request-method", "POST"))
    preflight = client.ask("/publish", None, "OPTIONS", *asked)

    assert ours.headers["access-control-allow-origin"] == "https://a"
    assert "access-control-allow-origin" not in theirs.headers
    assert "POST" in preflight.headers["access-control-allow-methods"]


def test_proxies_that_are_trusted() -> None:
    """
    Their X-Forwarded-For is believed, as by HTTP/1.1.
    """
    place = Place(limits=make_http_limits(trusted_proxies=Networks.of(("192.0.2.1",))))
    client = Client(place)
    client.ask("/late", None, "", ("x-forwarded-for", "198.51.100.7"))

    assert place.waiting[0].address == "198.51.100.7"


def test_the_access_log_is_told() -> None:
    """
    One call for each response, with status and size.
    """
    told: list[tuple[str, int, int]] = []
    place = Place(
        access_log=lambda exchange, status, size: told.append((exchange.path, status, size))
    )
    client = Client(place)
    client.ask("/none")
    client.ask("/news")

    assert told == [("/none", 404, 13), ("/news", 200, 0)]


def test_the_access_log_names_the_version(tmp_path: Path) -> None:
    """
    A line says HTTP/2.
    """
    file = LogFile(str(tmp_path / "log"))
    Client(Place(access_log=AccessLog(file))).ask("/none?key=secret")
    file.close()

    assert '"GET /none HTTP/2" 404 13' in (tmp_path / "log").read_text()


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/" + "x" * 200, (), 414),
        ("/echo", tuple((f"x-{n}", "1") for n in range(10)), 431),
        ("/echo", (("x-a", "y" * 1000),), 431),
        ("/echo", (("x-a", "a\x01b"),), 400),
        ("/echo", (("expect", "miracles"),), 417),
        ("/ec ho", (), 400),
        ("/%ff", (), 400),
        ("/%00", (), 400),
        ("/refuse/401", (), 401),
    ],
)
def test_what_is_refused(path: str, headers: tuple[tuple[str, str], ...], status: int) -> None:
    """
    A request over the limits, or malformed, gets its status; others on the
    connection do not notice.
    """
    client = Client(Place())
    refused = client.ask(path, None, "", *headers)

    assert refused.status == status and refused.ended
    assert client.ask("/echo").status == 200
    assert client.goodbye is None


def test_what_is_broken_is_500(clean_reactor: list[Failure]) -> None:
    """
    An action that fails is logged, and answered.
    """
    client = Client(Place())

    assert client.ask("/broken").status == 500
    assert clean_reactor.pop().check(ZeroDivisionError)


def test_methods_are_words() -> None:
    """
    Nothing else gets into a log line.
    """
    client = Client(Place())

    assert client.ask("/echo", None, 'A" 1').status == 400
    assert client.ask("/echo", None, "DELETE").status == 405


# Bodies.


def test_bodies_that_nobody_wants_yet_are_bounded() -> None:
    """
    A client may send one window of a body; then it waits until somebody reads.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    number = client.begin("/late", "POST", False)
    sent = 0
    for _ in range(20):
        room = min(client.talk.local_flow_control_window(number), 16384)
        if room:
            client.talk.send_data(number, b"x" * room)
            sent += room
        client.turn()
    assert sent == WINDOW

    body = place.waiting[0].read(1 << 20)
    client.turn()
    client.talk.send_data(number, b"end", end_stream=True)
    client.turn()

    assert len(body.result) == WINDOW + 3


def test_bodies_are_streams_too() -> None:
    """
    A sink gets each piece as it comes, far more than a window holds.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    number = client.begin("/late", "POST", False)
    client.turn()
    heard: list[Any] = []

    class Sink:
        data = staticmethod(heard.append)
        lost = staticmethod(heard.append)

        @staticmethod
        def end() -> None:
            heard.append("end")

    place.waiting[0].receive(Sink())
    for _ in range(40):
        client.talk.send_data(number, b"x" * 16384)
        client.turn()
    client.talk.send_data(number, b"", end_stream=True)
    client.turn()

    assert heard == [b"x" * 16384] * 40 + ["end"]


def test_bodies_that_are_too_large() -> None:
    """
    Refused at once by its length, or when it is; the client is told to stop sending.
    """
    client = Client(Place())
    known = client.begin("/echo", "POST", False, ("content-length", "9999999"))
    unknown = client.begin("/refuse/400", "POST", False)
    for _ in range(3):  # it is under way when it is refused
        client.talk.send_data(unknown, b"x" * 5000)
    client.turn()

    for number, status in ((known, 413), (unknown, 401)):
        heard = client.streams[number]
        assert (heard.status, heard.reset) == (status, Codes.NO_ERROR)
    assert client.ask("/echo").status == 200


def test_a_body_that_is_too_slow() -> None:
    """
    408 after the time for a body; streamed ones may take it between two pieces.
    """
    place = Place()
    client = Client(place)
    number = client.begin("/echo", "POST", False)
    client.turn()
    place.wait(LIMITS.body_seconds + 1)
    client.turn()

    assert client.streams[number].status == 408


def test_continue() -> None:
    """
    A client that waits for 100 gets it when somebody wants the body.
    """
    place = Place()
    client = Client(place)
    number = client.begin("/late", "POST", False, ("expect", "100-continue"))
    client.turn()
    assert not client.streams[number].informed
    body = place.waiting[0].read(10)
    client.turn()
    assert client.streams[number].informed == ["100"]
    client.talk.send_data(number, b"x", end_stream=True)
    client.turn()

    assert body.result == b"x"


def test_a_client_that_leaves_in_its_body() -> None:
    """
    Who reads the body hears of it; the window of the connection is given back.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    for _ in range(40):
        number = client.begin("/late", "POST", False)
        client.talk.send_data(number, b"x" * 16384)
        client.talk.send_data(number, b"x" * 16384)
        client.turn()
        client.talk.reset_stream(number)
        client.turn()
    lost: list[Failure] = []
    place.waiting[0].read(10**6).addErrback(lost.append)

    assert lost[0].check(ConnectionLost)
    assert client.talk.outbound_flow_control_window > 1 << 19
    assert not client.server.streams


# Streams.


def test_a_reader() -> None:
    """
    Messages arrive as frames of a stream that stays, without chunks; a quiet
    one lives on, with heartbeats.
    """
    place = Place()
    client = Client(place)
    news = client.ask("/news", None, "", ("last-event-id", "e.0"))
    publish(place)
    place.clock.advance(0.01)
    client.turn()

    assert news.headers["content-type"].startswith("text/event-stream")
    assert b"data: hello\nid: e.1\n\n" in news.body
    place.hub.start()
    place.wait(400)
    client.turn()
    assert not news.ended and client.goodbye is None
    assert news.body.endswith(b":\n") or b"\n:" in news.body
    place.hub.stop(1000)
    client.turn()
    assert news.ended and b"retry:" in news.body


def test_a_hundred_readers_on_one_connection() -> None:
    """
    All hear everything; the next stream is one too many.
    """
    place = Place()
    client = Client(place)
    subscribers = [client.ask("/news") for _ in range(MAX_STREAMS)]
    publish(place, b"x" * 500)
    place.clock.advance(0.01)
    client.turn()

    assert all(b"x" * 500 in subscriber.body for subscriber in subscribers)
    assert place.hub.current_metrics().subscribers == MAX_STREAMS
    with pytest.raises(h2.exceptions.TooManyStreamsError):
        client.ask("/news")


def test_readers_leave_one_by_one() -> None:
    """
    A stream that the client resets is a reader that hung up; a connection that
    is lost takes the others along.
    """
    place = Place()
    client = Client(place)
    first, _, _ = (client.ask("/news") for _ in range(3))
    client.talk.reset_stream(client.number(first), Codes.CANCEL)
    client.turn()
    assert place.hub.current_metrics().subscribers == 2
    client.hang_up()

    numbers = place.hub.current_metrics()
    assert numbers.subscribers == 0
    assert (numbers.closed["client"], numbers.closed["lost"]) == (1, 2)
    assert not place.server.connections


def slow_place(policy: SlowConsumerPolicy) -> Place:
    place = Place()
    object.__setattr__(place.context, "backlog_limits", make_backlog_limits(50_000, 30.0, policy))
    return place


def test_a_slow_reader_is_dropped() -> None:
    """
    Behind a closed window what waits is bounded; then the stream is broken off,
    alone.
    """
    place = slow_place(SlowConsumerPolicy.DISCONNECT)
    client = Client(place, greedy=False)
    slow, other = client.ask("/news"), client.ask("/echo")
    for _ in range(30):
        publish(place, b"x" * 10_000)
        place.clock.advance(0.01)
        client.turn()

    assert slow.reset == Codes.CANCEL
    assert len(slow.body) <= 65535
    assert place.hub.current_metrics().closed["behind"] == 1
    assert other.status == 200 and client.goodbye is None


def test_a_stalled_reader_is_dropped() -> None:
    """
    Taking nothing for longer than the patience has the same end.
    """
    place = slow_place(SlowConsumerPolicy.DISCONNECT)
    place.hub.start()
    client = Client(place, greedy=False, window=10)
    slow = client.ask("/news")
    publish(place)
    place.wait(40)
    client.turn()

    assert slow.reset == Codes.CANCEL
    assert place.hub.current_metrics().closed["stalled"] == 1
    place.hub.stop(1000)


def test_a_slow_reader_may_skip() -> None:
    """
    With the other policy it stays, is told of a gap, and goes on with the newest.
    """
    place = slow_place(SlowConsumerPolicy.SKIP)
    client = Client(place, greedy=False)
    slow = client.ask("/news")
    for number in range(30):
        publish(place, b"%02d" % number * 5_000)
        place.clock.advance(0.01)
        client.turn()
    client.greedy = True
    client.talk.acknowledge_received_data(65535, client.number(slow))
    client.turn(40)
    publish(place, b"live")
    place.clock.advance(0.01)
    client.turn()

    assert slow.reset is None
    assert b"event: gap" in slow.body or b"gap" in slow.body
    assert slow.body.endswith(b"data: live\nid: e.31\n\n")


def test_large_windows_do_not_help_a_client_that_reads_nothing() -> None:
    """
    The transport is full: what it granted is not queued for it either.
    """
    place = slow_place(SlowConsumerPolicy.DISCONNECT)
    client = Client(place, window=2**31 - 1)
    client.talk.increment_flow_control_window(2**31 - 1 - 65535)
    slow = client.ask("/news")
    client.server.pauseProducing()
    (stream,) = client.server.streams.values()
    waiting = 0
    for _ in range(30):
        publish(place, b"x" * 10_000)
        place.clock.advance(0.01)
        client.place.clock.advance(0)
        waiting = max(waiting, stream.queued)

    assert waiting < 50_000
    assert place.hub.current_metrics().closed["behind"] == 1
    client.server.resumeProducing()
    client.turn()
    assert slow.reset == Codes.CANCEL


def test_windows_that_open_by_a_little() -> None:
    """
    Frames are cut as the client wants them; nothing is lost or repeated, and
    nobody turns in a circle meanwhile.
    """
    place = Place()
    client = Client(place, greedy=False, window=100)
    subscriber = client.ask("/news")
    publish(place, bytes(range(48, 58)) * 300)
    place.clock.advance(0.01)
    while b"\n\n" not in subscriber.body[-2:] or b"data" not in subscriber.body:
        client.turn()
        assert not place.clock.getDelayedCalls() or not client.server._scheduled
        client.talk.increment_flow_control_window(70, client.number(subscriber))
        client.turn()
        if len(subscriber.body) > 5000:
            break

    assert b"data: " + bytes(range(48, 58)) * 300 + b"\nid: e.1\n\n" in subscriber.body


@pytest.mark.parametrize(
    "path", ["/files/large.txt", "/news?padding=true&evs_buffer_size_limit=10"]
)
def test_an_answer_that_nobody_takes(path: str, tmp_path: Path) -> None:
    """
    It is broken off when its client has taken nothing of it for so long, as are a reader's
    last words; windows of others, and of the connection, are no reason to wait longer. Who
    takes a little is waited for.
    """
    (tmp_path / "large.txt").write_bytes(b"0123456789" * 50_000)
    place = Place(f"^/files/ static:{tmp_path}", limits=make_http_limits(body_seconds=20))
    client = Client(place, greedy=False, window=5)
    stuck, slow = client.ask(path), client.ask(path)
    assert stuck.status == slow.status == 200
    for _ in range(5):
        place.wait(9)
        client.talk.increment_flow_control_window(5)
        client.talk.increment_flow_control_window(5, client.number(slow))
        client.turn()

    assert (stuck.reset, slow.reset) == (Codes.CANCEL, None)
    assert (len(stuck.body), len(slow.body)) == (5, 30)
    place.wait(25)
    client.turn()
    assert slow.reset == Codes.CANCEL
    assert not client.server.streams and client.goodbye is None


def test_a_client_may_close_its_windows() -> None:
    """
    Settings that make windows negative, then open again (RFC 9113, 6.9.2).
    """
    place = Place(limits=make_http_limits())
    client = Client(place, greedy=False)
    subscriber = client.ask("/news")
    publish(place, b"x" * 60_000)
    place.clock.advance(0.01)
    client.turn()
    size = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
    client.talk.update_settings({size: 10})
    client.turn()
    publish(place, b"y" * 100)
    place.clock.advance(0.01)
    client.turn()
    assert b"yyy" not in subscriber.body
    client.talk.update_settings({size: 65535})
    client.turn()

    assert b"y" * 100 in subscriber.body


# Pages of twisted.web.


def test_sites_are_served(tmp_path: Path) -> None:
    """
    Static files, larger than every window, through producers.
    """
    (tmp_path / "large.txt").write_bytes(b"0123456789" * 50_000)
    place = Place(f"^/files/ static:{tmp_path}", limits=make_http_limits())
    client = Client(place)
    heard = client.ask("/files/large.txt")
    client.turn(60)
    part = client.ask("/files/large.txt", None, "", ("range", "bytes=10-19"))
    client.turn()
    missing = client.ask("/files/none")

    assert heard.ended and heard.body == b"0123456789" * 50_000
    assert (part.status, part.body) == (206, b"0123456789")
    assert missing.status == 404
    assert not client.server.streams


def test_a_file_that_is_wanted_no_more(tmp_path: Path) -> None:
    """
    Who breaks a download off, or hangs up, leaves no file open.
    """
    (tmp_path / "large.txt").write_bytes(b"0123456789" * 50_000)

    def opened() -> int:
        here = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
        return sum(link.resolve().parent == tmp_path for link in here)

    place = Place(f"^/files/ static:{tmp_path}", limits=make_http_limits())
    client = Client(place, greedy=False)
    first, _ = client.ask("/files/large.txt"), client.ask("/files/large.txt")
    assert opened() == 2
    client.talk.reset_stream(client.number(first))
    client.turn()
    assert opened() == 1
    client.hang_up()
    assert opened() == 0


def test_a_site_that_takes_its_time() -> None:
    """
    A resource hears that its client is gone; what it writes then is dropped.
    """
    desk = Desk()
    place = Place(site=Site(desk))
    client = Client(place)
    first, second = client.ask("/desk", b"body"), client.ask("/desk")
    content: Any = desk.requests[0].content
    assert content.read() == b"body"
    client.talk.reset_stream(client.number(first))
    client.turn()
    assert len(desk.ends) == 1
    desk.ends.clear()
    request = desk.requests[1]
    request.setHeader(b"x-a", b"1")
    request.write(b"one")
    request.write(b"two")
    request.finish()
    client.turn()

    assert (second.status, second.headers["x-a"], second.body) == (200, "1", b"onetwo")
    assert second.ended


def test_a_site_has_limits() -> None:
    """
    A body over the limit is 413, also if its length is not said.
    """
    place = Place(site=Site(Resource()))
    client = Client(place)
    assert client.ask("/", b"x" * 5001).status == 413
    number = client.begin("/", "POST", False, ("content-length", "5001"))
    client.turn()

    assert client.streams[number].status == 413


# Abuse.


@pytest.mark.parametrize("together", [False, True])
def test_rapid_resets_are_bounded(together: bool) -> None:
    """
    Streams that are opened and reset at once: after MAX_RESETS the client is told
    to calm down, and the connection closed (CVE-2023-44487). What comes together
    with its reset is not even begun.
    """
    place = Place()
    client = Client(place)
    for _ in range(MAX_RESETS * 2):
        number = client.begin("/late", "GET", True)
        if not together:
            client.turn(1)
        client.talk.reset_stream(number)
        client.turn(1)
        if client.goodbye is not None:
            break

    assert client.goodbye == Codes.ENHANCE_YOUR_CALM
    assert len(place.waiting) == (0 if together else MAX_RESETS + 1)
    assert client.wire.disconnecting


@pytest.mark.parametrize("body", [None, b"12345", b"1234567890"])
def test_what_is_broken_off_at_once(body: bytes | None) -> None:
    """
    A request, or the end of its body, and a reset in the same bytes: nobody is
    answered, others are.
    """
    client = Client(Place())
    number = client.begin("/echo", "POST", False, ("content-length", "10"))
    if body is not None:
        client.turn(1)
        client.talk.send_data(number, body, end_stream=len(body) == 10)
    client.talk.reset_stream(number)
    other = client.ask("/echo")
    client.turn(1)

    assert other.status == 200
    assert client.goodbye is None


def test_a_request_and_goodbye_at_once() -> None:
    """
    After an error of the client's nobody is there to be answered.
    """
    place = Place()
    client = Client(place)
    client.begin("/echo", "GET", True)
    client.talk.close_connection(Codes.INTERNAL_ERROR)
    client.turn(1)

    assert client.wire.disconnecting
    assert not place.echo.asked
    client.hang_up()
    assert not place.server.connections


@pytest.mark.parametrize("together", [False, True])
def test_who_asks_no_more_is_answered(together: bool) -> None:
    """
    A GOAWAY without an error is for what would come later: what was asked is answered
    (RFC 9113, 6.8), then the connection ends.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    late, subscriber = client.begin("/late", "GET", True), client.begin("/news", "GET", True)
    if not together:
        client.turn()
    client.server.dataReceived(client.talk.data_to_send() + GoAwayFrame(0).serialize())
    place.waiting[0].answer(200, b"x" * 100_000)
    publish(place)
    place.clock.advance(0.01)
    client.turn(8)

    assert client.streams[late].ended and len(client.streams[late].body) == 100_000
    assert b"data: hello\n" in client.streams[subscriber].body
    assert not client.wire.disconnecting
    client.talk.reset_stream(subscriber)
    client.turn()
    assert client.wire.disconnecting


def test_resets_now_and_then_are_well() -> None:
    """
    A browser's tabs may come and go all day.
    """
    place = Place()
    client = Client(place)
    for _ in range(MAX_RESETS * 3):
        number = client.begin("/news", "GET", True)
        client.turn(1)
        client.talk.reset_stream(number)
        client.turn(1)
        place.clock.advance(0.1)

    assert client.goodbye is None


def test_a_flood_of_pings_is_bounded() -> None:
    """
    Answers that nobody reads do not pile up.
    """
    client = Client(Place())
    client.server.pauseProducing()
    for _ in range(MAX_UNREAD // 17 + 2):
        client.talk.ping(b"12345678")
        client.server.dataReceived(client.talk.data_to_send())

    assert client.wire.aborted


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r\n\r\n", b"\0" * 100, b"\xff" * 100])
def test_what_is_no_http_2(data: bytes) -> None:
    """
    The connection is closed.
    """
    wire = Wire("192.0.2.1")
    server = Http2Connection(Place().server.context, wire, wire.getPeer())  # type: ignore[no-untyped-call]  # Twisted's
    server.dataReceived(data)

    assert wire.disconnecting


def test_headers_without_end() -> None:
    """
    Far beyond our limits the connection is closed.
    """
    client = Client(Place())
    client.begin("/echo", "GET", True, *((f"x-{n}", "y" * 1000) for n in range(60)))
    client.turn()

    assert client.goodbye == Codes.ENHANCE_YOUR_CALM


@settings(max_examples=150)
@given(st.data())
def test_whatever_comes(data: st.DataObject) -> None:
    """
    No bytes, however broken, make it raise; the connection ends or goes on.
    """
    place = Place()
    client = Client(place)
    client.begin("/echo?a=1", "GET", True)
    number = client.begin("/late", "POST", False, ("content-length", "10"))
    client.talk.send_data(number, b"12345")
    bytes_ = bytearray(client.talk.data_to_send())
    for _ in range(data.draw(st.integers(0, 4))):
        bytes_[data.draw(st.integers(0, len(bytes_) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(bytes_)))
    for piece in (bytes(bytes_[:cut]), bytes(bytes_[cut:]), data.draw(st.binary(max_size=60))):
        client.server.dataReceived(piece)
        place.clock.advance(0)
    client.hang_up()

    assert not place.server.connections


# Its end.


def test_an_idle_connection_is_closed() -> None:
    """
    After the time between two requests, with GOAWAY; then it is waited for no longer.
    """
    place = Place()
    client = Client(place)
    client.ask("/echo")
    place.wait(LIMITS.idle_seconds - 2)
    assert not client.wire.disconnecting
    place.wait(3)
    client._hear()
    assert client.goodbye == Codes.NO_ERROR
    assert client.wire.disconnecting and not client.wire.aborted
    place.wait(LINGER + 1)
    assert client.wire.aborted


def test_a_connection_that_says_nothing_is_closed() -> None:
    """
    In the time for a request's head.
    """
    place = Place()
    client = Client(place)
    place.wait(LIMITS.head_seconds + 1)

    assert client.wire.disconnecting


def test_a_stop() -> None:
    """
    What runs is answered, what comes is refused, then the connection closes.
    """
    place = Place()
    client = Client(place)
    late = client.ask("/late")
    place.server.stop()
    refused = client.ask("/echo")
    assert refused.reset == Codes.REFUSED_STREAM
    assert not client.wire.disconnecting
    place.waiting[0].answer(200, b"done", "text/plain")
    client.turn()

    assert late.body == b"done"
    assert client.wire.disconnecting


def test_an_exchange_can_be_refused_later() -> None:
    """
    An action that waits and then refuses is answered with that.
    """
    place = Place()
    client = Client(place)
    heard = client.ask("/late")
    place.waiting[0].refuse(HttpError(503, "away", retry=3))
    client.turn()

    assert (heard.status, heard.headers["retry-after"]) == (503, "3")


def test_names_of_the_library() -> None:
    """
    front.h2: public, if not all documented; the bounds are in force.
    """
    wire = http_h2.make_h2(make_http_limits())

    assert wire.max_inbound_frame_size == http_h2.MAX_FRAME
    assert wire.local_settings.max_concurrent_streams == MAX_STREAMS
    assert wire.local_settings.initial_window_size == WINDOW
    assert wire.encoder.header_table_size == http_h2.HEADER_TABLE
    assert wire.decoder.max_header_list_size == wire.local_settings.max_header_list_size
