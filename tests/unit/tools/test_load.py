"""
The load client's statistics, subscribers, publisher and charts.
"""

from __future__ import annotations

import math
from collections import Counter
from functools import partial
from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.error import ConnectionDone, ConnectionRefusedError, TCPTimedOutError
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from rt_twisted.tools.clients.interfaces import ClientRequest
from rt_twisted.tools.clients.sse import SseClient
from rt_twisted.tools.errors import SetupError
from rt_twisted.tools.load import target as target_module
from rt_twisted.tools.load.charts import (
    BAR,
    BARS,
    HEIGHT,
    WIDTH,
    duration,
    svg_histogram,
    text_histogram,
)
from rt_twisted.tools.load.latencies import Latencies
from rt_twisted.tools.load.publisher import BATCH, Publisher
from rt_twisted.tools.load.sent import DeliveryTracker, SentLog
from rt_twisted.tools.load.subscriber import ClientState
from rt_twisted.tools.load.subscribers import LoadSubscribers
from rt_twisted.tools.load.target import Target, describe_failure

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n"


@given(st.lists(st.floats(1e-6, 100), min_size=1), st.floats(0.01, 1))
def test_percentiles_are_exact_to_two_percent(times: list[float], part: float) -> None:
    """
    Percentiles of any durations are exact to two percent; the maximum is exact.
    """
    latencies = Latencies()
    for time in times:
        latencies.add(time)
    exact = sorted(times)[math.ceil(part * len(times)) - 1]

    assert latencies.percentile(part) == pytest.approx(exact, rel=0.02)
    assert latencies.percentile(1.0) == latencies.max == max(times)
    assert sum(latencies.bars([1e-3, 1.0])) == len(times)


@given(st.lists(st.lists(st.floats(1e-6, 100)), max_size=4))
def test_combined_latencies_are_those_of_all_parts(parts: list[list[float]]) -> None:
    """
    A combined histogram has the percentiles of all durations together.
    """
    whole = Latencies()
    histograms = []
    for times in parts:
        histograms.append(Latencies())
        for time in times:
            histograms[-1].add(time)
            whole.add(time)
    combined = Latencies.combined(histograms)

    assert combined.count == whole.count
    assert combined.summary() == whole.summary()


def test_empty_latencies() -> None:
    """
    Without durations all values are 0, and the charts are empty.
    """
    assert Latencies().summary() == {"p50": 0, "p90": 0, "p99": 0, "max": 0}
    assert text_histogram(Latencies()) == ""
    drawn = elements(svg_histogram(Latencies(), "nothing", ""))
    assert drawn[-1][2] == "nothing was delivered"


def sent(sent_log: SentLog, count: int) -> list[Any]:
    return [sent_log.find(sent_log.write(0.0)[1]) for _ in range(count)]


@pytest.mark.parametrize(
    ("order", "found", "lost"),
    [
        ([0, 1, 2, 3], {"": 4}, 0),
        ([0, 1, 3], {"": 3}, 1),
        ([0, 2, 1, 3], {"": 3, "out of order": 1}, 0),
        ([0, 1, 1, 2, 3, 0], {"": 4, "repeated": 2}, 0),
        ([3], {"": 1}, 3),
        ([3, 2, 1, 0], {"": 1, "out of order": 3}, 0),
        ([0, 2, 2, 1, 1], {"": 2, "repeated": 2, "out of order": 1}, 1),
        ([], {}, 4),
    ],
)
def test_wrong_deliveries_are_classified(
    order: list[int], found: dict[str, int], lost: int
) -> None:
    """
    Lost, repeated and out of order messages are counted once each.
    """
    sent_log = SentLog(["a"], 100)
    context = DeliveryTracker([0])
    context.begin(sent_log)
    messages = sent(sent_log, 4)

    assert Counter(context.record(messages[number]) for number in order) == found
    assert context.lost(sent_log) == lost


def test_only_expected_messages_count_as_lost() -> None:
    """
    Messages before the subscription, after its end, of other channels, and those that the
    server did not accept are not expected.
    """
    sent_log = SentLog(["a", "b"], 100)
    before = sent(sent_log, 4)  # a0 b0 a1 b1
    context = DeliveryTracker([0])
    assert context.begin(sent_log)
    assert context.lost(sent_log) == 0
    assert context.record(before[2]) == ""  # it was in flight
    assert context.record(before[1]) == "stray"
    messages = sent(sent_log, 4)
    sent_log.mark_unconfirmed(sent_log.write(0.0)[1])
    assert context.record(messages[0]) == ""
    assert context.lost(sent_log) == 1
    assert context.record(messages[2]) == ""
    assert context.lost(sent_log) == 0
    context.end(sent_log)
    sent(sent_log, 6)
    assert context.lost(sent_log) == 0
    assert not context.begin(sent_log)


class FakeTarget:
    """
    A target that records connection attempts.
    """

    url = "http://127.0.0.1:8888/"
    timeout = 5.0

    def __init__(self) -> None:
        self.calls: list[Any] = []

    def connect(self, factory: Any, number: int = 0) -> None:
        """
        Record the factory of a connection attempt.
        """
        self.calls.append(factory)

    def accept(self) -> tuple[Any, StringTransport]:
        """
        Connect the oldest attempt.
        """
        protocol = self.calls.pop(0).buildProtocol(None)
        transport = StringTransport()
        transport.abortConnection = lambda: None  # type: ignore[method-assign]
        protocol.makeConnection(transport)
        return protocol, transport


@pytest.fixture
def server() -> FakeTarget:
    return FakeTarget()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def make_subscribers(server: Any, clock: Clock, reconnect: bool = False) -> LoadSubscribers:
    return LoadSubscribers(server, SentLog(["a"], 60), reconnect, clock)


def lose_connection(protocol: Any, error: Exception | None = None) -> None:
    protocol.connectionLost(Failure(error or ConnectionDone()))


def test_a_subscriber_measures_connect_and_latency(server: FakeTarget, clock: Clock) -> None:
    """
    The time to open the stream and the latency of each message are measured; messages of other
    publishers are counted separately.
    """
    subscribers = make_subscribers(server, clock)
    subscribers.add([0], partial(SseClient, ClientRequest(server.url, ["a"])))
    subscriber, transport = server.accept()
    request = transport.value().decode()
    assert request.startswith("GET /?channels=a HTTP/1.1\r\nHost: 127.0.0.1:8888\r\n")
    assert "Last-Event-ID" not in request
    clock.advance(0.25)
    subscriber.dataReceived(HEAD)
    assert subscribers.states[ClientState.OPEN] == subscribers.ever_open == 1
    assert subscribers.connecting.max == 0.25
    _, text = subscribers.sent_log.write(clock.seconds())
    clock.advance(0.5)
    subscriber.dataReceived(b"id: e.1\ndata: " + text.encode()[:10])
    subscriber.dataReceived(text.encode()[10:] + b"\n\ndata: hello\n\n")

    assert (subscribers.delivered, subscribers.others, subscribers.latency.max) == (1, 1, 0.5)
    assert subscribers.lost() == 0
    assert subscriber.position == "e.1"
    assert subscribers.channels[0].summary() == {
        "readers": 1,
        "messages": 1,
        "latency_ms": {"p50": 500, "p90": 500, "p99": 500, "max": 500},
        "last_ms": {"p50": 500, "p90": 500, "p99": 500, "max": 500},
    }
    subscribers.close()


def test_a_disconnected_subscriber_reconnects(server: FakeTarget, clock: Clock) -> None:
    """
    A subscriber reconnects with its last id after the server's `retry`; a missed message counts
    as lost until it arrives.
    """
    subscribers = make_subscribers(server, clock, reconnect=True)
    subscribers.add([0], partial(SseClient, ClientRequest(server.url)))
    subscriber, _ = server.accept()
    subscriber.dataReceived(HEAD + b"retry: 500\nid: e.4\n\n")
    lose_connection(subscriber)
    _, text = subscribers.sent_log.write(clock.seconds())
    assert subscribers.lost() == 1
    assert subscribers.errors == {"closed by the server": 1}
    clock.advance(0.4)
    assert server.calls == []
    clock.advance(0.4)
    subscriber, transport = server.accept()
    assert b"Last-Event-ID: e.4\r\n" in transport.value()
    subscriber.dataReceived(HEAD + b"event: gap\ndata: {}\n\ndata: " + text.encode() + b"\n\n")

    assert (
        subscribers.lost(),
        subscribers.gaps,
        subscribers.reconnects,
        subscribers.ever_open,
    ) == (0, 1, 1, 1)
    subscribers.close()


def test_single_errors_are_counted_by_kind(server: FakeTarget, clock: Clock) -> None:
    """
    An error of one subscriber is counted, and the others continue.
    """
    subscribers = make_subscribers(server, clock)
    for _ in range(6):
        subscribers.add([0], partial(SseClient, ClientRequest(server.url)))
    server.calls.pop(0).clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    server.calls.pop(0).clientConnectionFailed(None, Failure(TCPTimedOutError()))
    for response in (
        b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n",
        b"nonsense\r\n",
    ):
        subscriber, _ = server.accept()
        subscriber.dataReceived(response)
        lose_connection(subscriber)
    unanswered, _ = server.accept()
    clock.advance(server.timeout + 1)
    subscribers.abort_unanswered()
    lose_connection(unanswered)

    assert subscribers.errors == {
        "connection refused": 1,
        "connecting timed out": 1,
        "status 503": 1,
        "not an event stream but 'text/html'": 1,
        "malformed": 1,
        "no answer": 1,
    }
    assert subscribers.states[ClientState.CLOSED] == 6
    assert subscribers.ever_open == 0


def test_a_refused_subscriber_reconnects_after_the_given_time(
    server: FakeTarget, clock: Clock
) -> None:
    """
    A response that has only a `retry` opens no stream.
    """
    subscribers = make_subscribers(server, clock, reconnect=True)
    subscribers.add([0], partial(SseClient, ClientRequest(server.url)))
    subscriber, _ = server.accept()
    subscriber.dataReceived(HEAD[:-2] + b"Content-Length: 14\r\n\r\nretry: 10000\n\n")
    lose_connection(subscriber)
    assert subscribers.errors == {"sent away": 1}
    assert (subscribers.ever_open, subscribers.connecting.count) == (0, 0)
    clock.advance(9.9)
    assert server.calls == []
    clock.advance(5.1)
    subscriber, _ = server.accept()
    subscriber.dataReceived(HEAD)

    assert (subscribers.ever_open, subscribers.reconnects) == (1, 0)
    subscribers.close()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ConnectionDone(), "closed by the server"),
        (ConnectionRefusedError(), "connection refused"),
        (OSError(), "o s"),
        (RuntimeError("x"), "runtime"),
    ],
)
def test_failures_are_described(error: Exception, words: str) -> None:
    """
    All failures of one kind have the same text.
    """
    assert describe_failure(Failure(error)) == words


class PublisherHarness:
    """
    A publisher with its log and errors.
    """

    def __init__(self, server: FakeTarget, clock: Clock, key: str = "") -> None:
        self.sent_log = SentLog(["a", "b"], 60)
        self.errors: Counter[str] = Counter()
        self.publisher = Publisher(
            server,  # type: ignore[arg-type]
            key,
            self.sent_log,
            self.errors,
            clock,
        )

    def due(self, count: int) -> None:
        """
        Add *count* messages that are due.
        """
        for _ in range(count):
            self.publisher.add()
        self.publisher.push()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def test_messages_that_wait_for_a_response_are_batched(server: FakeTarget, clock: Clock) -> None:
    """
    One request is in flight at a time, so that the order is kept, with up to BATCH messages.
    """
    harness = PublisherHarness(server, clock, "sesame")
    harness.due(1)
    publisher, transport = server.accept()
    assert b"Authorization: Bearer sesame\r\n" in transport.value()
    assert transport.value().count(b'"channel"') == 1
    harness.due(BATCH + 2)
    assert transport.value().count(b"POST ") == 1
    transport.clear()
    publisher.dataReceived(OK)
    assert transport.value().count(b'"channel"') == BATCH
    publisher.dataReceived(OK[:30])
    publisher.dataReceived(OK[30:])
    assert not publisher.idle
    publisher.dataReceived(OK)

    assert publisher.idle
    assert harness.sent_log.accepted == sum(harness.sent_log.counts) == BATCH + 3
    assert harness.sent_log.counts == [BATCH // 2 + 2, BATCH // 2 + 1]
    assert not harness.errors


def test_rejected_messages_are_not_expected(server: FakeTarget, clock: Clock) -> None:
    """
    A failed connection, an error status and a lost connection are counted, and publishing
    continues.
    """
    harness = PublisherHarness(server, clock)
    harness.due(1)
    server.calls.pop(0).clientConnectionFailed(None, Failure(ConnectionRefusedError()))
    harness.due(1)
    publisher, _ = server.accept()
    publisher.dataReceived(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
    harness.due(1)
    lose_connection(publisher)
    harness.due(1)
    publisher, _ = server.accept()
    publisher.dataReceived(OK)

    assert harness.errors == {
        "publish: connection refused": 1,
        "publish: status 401": 1,
        "publish: closed by the server": 1,
    }
    assert harness.sent_log.accepted == 1
    assert harness.sent_log.unconfirmed == {(0, 0), (1, 0), (0, 1)}


def test_many_subscribers_use_several_addresses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    """
    More subscribers than ports use several local addresses, on this machine only.
    """
    file = tmp_path / "range"
    file.write_text("10000\t29999\n")
    monkeypatch.setattr(target_module, "PORT_RANGE", file)

    assert Target.find(None, "http://127.0.0.1:1/", 5_000).sources == [""]
    sources = Target.find(None, "http://127.0.0.1:1/", 17_500).sources
    assert sources == ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]
    assert Target.find(None, "http://192.0.2.1:1/", 35_000).sources == [""]


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "nonsense", "http://", "http://127.0.0.1:99999/"]
)
def test_an_invalid_url_is_an_error(url: str) -> None:
    """
    A malformed URL is an error before any connection.
    """
    with pytest.raises(SetupError):
        Target.find(None, url)


def elements(svg: str) -> list[tuple[str, dict[str, str], str]]:
    """
    Parse a picture into its rectangles, lines and texts.
    """
    root = ElementTree.fromstring(svg)
    assert root.get("viewBox") == f"0 0 {WIDTH} {HEIGHT}"
    return [(each.tag.rpartition("}")[2], each.attrib, each.text or "") for each in root]


@pytest.mark.parametrize(
    "times", [[0.01], [1e-7], [1e-6, 100.0], [0.001 * n for n in range(1, 300)]]
)
def test_any_durations_can_be_drawn(times: list[float]) -> None:
    """
    The charts show one duration, the shortest, very different and many ones.
    """
    latencies = Latencies()
    for time in times:
        latencies.add(time)
    drawn = elements(svg_histogram(latencies, "title", "subtitle"))

    texts = [text for tag, _, text in drawn if tag == "text"]
    assert texts[:2] == ["title", "subtitle"]
    assert f"max {duration(latencies.max)}" in texts
    for tag, attributes, _ in drawn[1:]:  # the first is the background
        for name in ("x", "x1", "x2"):
            assert 0 <= float(attributes.get(name, 0)) <= WIDTH
        for name in ("y", "y1", "y2"):
            assert 0 <= float(attributes.get(name, 0)) <= HEIGHT
        if tag == "rect":
            assert float(attributes["y"]) + float(attributes["height"]) <= HEIGHT
    bars = [attributes for _, attributes, _ in drawn if attributes.get("fill") == BAR]
    assert 1 <= len(bars) <= min(len(times), BARS)
    lines = text_histogram(latencies, 60).splitlines()
    assert sum(int(line[12:24].replace(",", "")) for line in lines) == len(times)
    assert max(map(len, lines)) <= 60


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 us"), (2e-6, "2 us"), (1.5e-3, "1.5 ms"), (0.123456, "123 ms"), (12.34, "12.3 s")],
)
def test_durations_have_three_digits(seconds: float, text: str) -> None:
    """
    A duration has three significant digits at most.
    """
    assert duration(seconds) == text
