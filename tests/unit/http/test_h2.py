"""
Tests of HTTP/2 as clients see it: responses, and flow control of each stream.

Connections have no sockets and are driven by a `Clock`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest
from twisted.internet.error import ConnectionLost
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import Site
from zope.interface.verify import verifyObject

from rt_twisted.codecs.addresses import Networks
from rt_twisted.http.h2 import MAX_STREAMS, WINDOW
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.logfiles import LogFile
from tests.defaults import make_backlog_limits, make_cors, make_http_limits
from tests.unit.http.clients import LIMITS, Place, RecordedResponses
from tests.unit.http.h2_client import Client, publish
from tests.words import PendingResource

Codes = h2.errors.ErrorCodes

# Requests.


def test_responses_equal_those_of_http_1() -> None:
    """
    Path, query, body, status and headers are the same, without those that only frame a response.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)

    got = client.ask("/echo/%2F%C3%BC?n=%2B+")
    posted = client.ask("/echo", b"body", "", ("content-type", "text/plain"))
    missing = client.ask("/none")

    assert got.json == {"path": "/echo//\u00fc", "query": {"n": ["+ "]}, "body": "", "text": ""}
    assert posted.json["body"] == "body"
    assert [each.status for each in (got, posted, missing)] == [200, 200, 404]
    assert all(each.ended and each.reset is None for each in (got, posted, missing))
    assert got.headers["server"] == "rt_twisted"
    assert got.headers["content-length"] == str(len(got.body))
    assert got.headers["access-control-allow-origin"] == "*"
    assert not {"connection", "transfer-encoding"} & set(got.headers)


def test_an_exchange_keeps_its_contract() -> None:
    """
    An action gets an exchange that provides all of `IExchange`; its streams need no chunks.
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


def test_opening_a_stream_that_was_reset_fails() -> None:
    """
    An action that opens a stream after the client has left gets ConnectionLost.
    """
    place = Place()
    client = Client(place)
    response = client.ask("/late")
    client.talk.reset_stream(client.number(response))
    client.turn()

    with pytest.raises(ConnectionLost):
        place.waiting[0].open("text/plain")


def test_responses_may_come_in_any_order() -> None:
    """
    A request that is answered late does not delay others.
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
    HEAD gets the length and no body; 204 gets no length either.
    """
    client = Client(Place("^/page$ page"))
    head = client.ask("/page", None, "HEAD")
    options = client.ask("/news", None, "OPTIONS")

    assert head.ended and not head.body and int(head.headers["content-length"]) > 1000
    assert (options.status, options.ended) == (204, True)
    assert "content-length" not in options.headers


def test_pages_of_other_origins() -> None:
    """
    CORS works as by HTTP/1.1: preflight, the list of origins, and nothing for others.
    """
    place = Place(cors=make_cors(frozenset(("https://a",))))
    client = Client(place)
    ours = client.ask("/echo", None, "", ("origin", "https://a"))
    theirs = client.ask("/echo", None, "", ("origin", "https://b"))
    request_headers = (("origin", "https://a"), ("access-control-request-method", "POST"))
    preflight = client.ask("/publish", None, "OPTIONS", *request_headers)

    assert ours.headers["access-control-allow-origin"] == "https://a"
    assert "access-control-allow-origin" not in theirs.headers
    assert "POST" in preflight.headers["access-control-allow-methods"]


def test_proxies_that_are_trusted() -> None:
    """
    X-Forwarded-For of trusted proxies is used, as by HTTP/1.1.
    """
    place = Place(limits=make_http_limits(trusted_proxies=Networks.of(("192.0.2.1",))))
    client = Client(place)
    client.ask("/late", None, "", ("x-forwarded-for", "198.51.100.7"))

    assert place.waiting[0].address == "198.51.100.7"


def test_the_access_log_is_called() -> None:
    """
    The access log is called once for each response, with status and size.
    """
    log = RecordedResponses()
    place = Place(access_log=log)
    client = Client(place)
    client.ask("/none")
    client.ask("/news")

    assert log.lines == [("/none", 404, 10), ("/news", 200, 0)]


def test_the_access_log_names_the_version(tmp_path: Path) -> None:
    """
    The line in the access log says HTTP/2.
    """
    file = LogFile(str(tmp_path / "log"))
    Client(Place(access_log=AccessLog(file))).ask("/none?key=secret")
    file.close()

    assert '"GET /none HTTP/2" 404 10' in (tmp_path / "log").read_text()


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
        ("/x", (("a(b)", "c"),), 400),
        ("/x", (('a"b', "c"),), 400),
    ],
)
def test_refusals(path: str, headers: tuple[tuple[str, str], ...], status: int) -> None:
    """
    A malformed request, or one over the limits, gets its status; other streams go on.
    """
    client = Client(Place())
    refused = client.ask(path, None, "", *headers)

    assert refused.status == status and refused.ended
    assert client.ask("/echo").status == 200
    assert client.goaway_code is None


def test_an_action_that_fails_is_500(clean_reactor: list[Failure]) -> None:
    """
    An exception of an action is logged, and answered with 500.
    """
    client = Client(Place())

    assert client.ask("/broken").status == 500
    assert clean_reactor.pop().check(ZeroDivisionError)


def test_methods_are_words() -> None:
    """
    Only methods of letters and hyphens are accepted, as they appear in log lines.
    """
    client = Client(Place())

    assert client.ask("/echo", None, 'A" 1').status == 400
    assert client.ask("/echo", None, "DELETE").status == 405


# Bodies.


def test_bodies_that_are_not_read_are_bounded() -> None:
    """
    A client may send one window of a body; then it has to wait until an action reads.
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
    A sink gets each piece as it arrives, of a body that is larger than a window.
    """
    place = Place(limits=make_http_limits())
    client = Client(place)
    number = client.begin("/late", "POST", False)
    client.turn()
    response: list[Any] = []

    class Sink:
        data = staticmethod(response.append)
        lost = staticmethod(response.append)

        @staticmethod
        def end() -> None:
            response.append("end")

    place.waiting[0].receive(Sink())
    for _ in range(40):
        client.talk.send_data(number, b"x" * 16384)
        client.turn()
    client.talk.send_data(number, b"", end_stream=True)
    client.turn()

    assert response == [b"x" * 16384] * 40 + ["end"]


def test_bodies_that_are_too_large() -> None:
    """
    A body is refused at once by its length, or when it exceeds the limit; the stream is reset.
    """
    client = Client(Place())
    known = client.begin("/echo", "POST", False, ("content-length", "9999999"))
    unknown = client.begin("/refuse/400", "POST", False)
    for _ in range(3):  # it is in flight when it is refused
        client.talk.send_data(unknown, b"x" * 5000)
    client.turn()

    for number, status in ((known, 413), (unknown, 401)):
        response = client.streams[number]
        assert (response.status, response.reset) == (status, Codes.NO_ERROR)
    assert client.ask("/echo").status == 200


def test_a_body_that_is_too_slow() -> None:
    """
    A body that is too slow gets 408; a streamed one has that time between two pieces.
    """
    place = Place()
    client = Client(place)
    number = client.begin("/echo", "POST", False)
    client.turn()
    place.wait(LIMITS.body_seconds + 1)
    client.turn()

    assert client.streams[number].status == 408


def test_each_body_has_its_own_deadline() -> None:
    """
    A body that is too slow gets 408 after `body-seconds`, however long the connection may be
    idle. A request that is being answered has no deadline.
    """
    place = Place(limits=make_http_limits(body_seconds=5, head_seconds=60, idle_seconds=1))
    client = Client(place)
    late = client.ask("/late")
    number = client.begin("/echo", "POST", False)
    client.turn()
    place.wait(6)
    client.turn()
    assert client.streams[number].status == 408
    place.wait(100)
    place.waiting[0].answer(200)
    client.turn()

    assert late.status == 200


def test_a_full_transport_delays_responses() -> None:
    """
    A response waits while the transport has enough to send, and goes on when it has not.
    """
    place = Place()
    client = Client(place)
    client.server.pauseProducing()
    response = client.ask("/echo", b"x" * 1000)
    assert not response.body

    client.server.resumeProducing()
    client.turn()

    assert response.json["body"] == "x" * 1000
    assert response.ended


def test_continue() -> None:
    """
    A client that waits for 100 gets it when an action reads the body.
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
    The reader of the body fails, and the connection's window is restored.
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


def test_a_subscriber() -> None:
    """
    Messages arrive as DATA frames without chunks; heartbeats keep a quiet stream open.
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
    assert not news.ended and client.goaway_code is None
    assert news.body.endswith(b":\n") or b"\n:" in news.body
    place.hub.stop(1000)
    client.turn()
    assert news.ended and b"retry:" in news.body


def test_a_stream_without_last_bytes_ends() -> None:
    """
    A format that sends nothing at its end closes its stream as others do.
    """
    place = Place("^/plain$ stream:news")
    client = Client(place)
    plain = client.ask("/plain")
    publish(place)
    place.clock.advance(0.01)
    client.turn()
    assert plain.body == b"hello" and not plain.ended

    place.hub.stop(1000)
    client.turn()

    assert plain.ended and plain.reset is None
    assert not client.server.streams


def test_a_hundred_subscribers_on_one_connection() -> None:
    """
    A hundred subscribers get all messages; the next stream is one too many.
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


def test_subscribers_leave_one_by_one() -> None:
    """
    A subscriber leaves when its stream is reset; all leave when the connection is lost.
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


def test_a_lost_connection_leaves_no_timer() -> None:
    """
    A connection with output for many streams has one timer, which ends with it.
    """
    place = Place()
    client = Client(place)
    for _ in range(3):
        client.ask("/late")
    assert not place.clock.getDelayedCalls()[1:]  # the server's
    for exchange in place.waiting:
        exchange.answer(200, b"x")
    assert len(place.clock.getDelayedCalls()) == 2

    client.hang_up()

    assert len(place.clock.getDelayedCalls()) == 1


def slow_place(policy: SlowConsumerPolicy) -> Place:
    place = Place()
    object.__setattr__(place.context, "backlog_limits", make_backlog_limits(50_000, 30.0, policy))
    return place


def test_a_slow_consumer_is_disconnected() -> None:
    """
    Behind a closed window the backlog is bounded; then that stream alone is reset.
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
    assert other.status == 200 and client.goaway_code is None


def test_a_stalled_subscriber_is_disconnected() -> None:
    """
    A subscriber that reads nothing for longer than the backlog limits allow is disconnected.
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


def test_a_slow_consumer_may_skip() -> None:
    """
    With the policy skip it stays, gets a gap event, and goes on with the newest message.
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
    When the transport is full, nothing more is queued for a client, whatever windows it grants.
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
    Frames are cut to small windows; nothing is lost or repeated, and the loop does not spin
    meanwhile.
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
def test_a_response_that_is_not_read_is_reset(path: str, tmp_path: Path) -> None:
    """
    A response, or the end of a stream, is reset when its client has read nothing of it for too
    long. Windows of other streams, and of the connection, do not extend that time; reading a little
    does.
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
    assert not client.server.streams and client.goaway_code is None


def test_a_client_may_close_its_windows() -> None:
    """
    Settings may make windows negative, and then open them again (RFC 9113, 6.9.2).
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


# twisted.web.


def test_sites_are_served(tmp_path: Path) -> None:
    """
    Static files that are larger than every window are served through producers.
    """
    (tmp_path / "large.txt").write_bytes(b"0123456789" * 50_000)
    place = Place(f"^/files/ static:{tmp_path}", limits=make_http_limits())
    client = Client(place)
    response = client.ask("/files/large.txt")
    client.turn(60)
    part = client.ask("/files/large.txt", None, "", ("range", "bytes=10-19"))
    client.turn()
    missing = client.ask("/files/none")

    assert response.ended and response.body == b"0123456789" * 50_000
    assert (part.status, part.body) == (206, b"0123456789")
    assert missing.status == 404
    assert not client.server.streams


def test_a_cancelled_download_closes_its_file(tmp_path: Path) -> None:
    """
    A client that cancels a download, or disconnects, leaves no file open.
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


def test_a_late_resource() -> None:
    """
    A resource is notified when its client disconnects; what it writes then is discarded.
    """
    desk = PendingResource()
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
    A body over the limit gets 413, also without a Content-Length.
    """
    place = Place(site=Site(Resource()))
    client = Client(place)
    assert client.ask("/", b"x" * 5001).status == 413
    number = client.begin("/", "POST", False, ("content-length", "5001"))
    client.turn()

    assert client.streams[number].status == 413
