"""
The action `stats`, and how the metrics are counted.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rt_twisted.access.keys import Key, Keys
from rt_twisted.actions.interfaces import IAction
from rt_twisted.actions.stats import StatsAction, StatsFormat
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.metrics import BOUNDS, Histogram, Metrics, by_class, quantile
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.model.message import Draft
from rt_twisted.routes import DEFAULT, Routes, parse_route
from rt_twisted.tap.access_log import AccessLog
from tests.defaults import make_context, make_http_limits, make_hub, make_hub_limits, make_server
from tests.unit.http.clients import Caller, RecordedResponses, get, post

HERE = "127.0.0.1"
ELSEWHERE = "192.0.2.1"
KEY = b"Authorization: Bearer secret\r\n"


class Place:
    """
    A server with further routes before the default ones.

    Args:
        lines: further routes.
        key: the stats key; "" for none.
        broker: instead of the embedded one.
        readers: maximum of subscribers.
    """

    def __init__(self, *lines: str, key: str = "secret", broker: Any = None, subscribers: int = 0):
        self.clock = Clock()
        broker = broker or MemoryBroker(self.clock, "e")
        self.hub = make_hub(broker, self.clock, limits=make_hub_limits(subscribers=subscribers))
        stats_keys = Keys([Key.of(key)] if key else [])
        context = make_context(self.hub, stats_keys=stats_keys, publish_keys=Keys([Key.of("p")]))
        routes = [parse_route(line, context) for line in (*lines, *DEFAULT)]
        self.server = make_server(self.clock, Routes(routes).find, make_http_limits())
        log = RecordedResponses()
        self.logged = log
        self.server.context.access_log = ResponseMetrics(
            self.server.context.find, self.hub.metrics, log
        )
        self.hub.start()

    def ask(self, path: str, headers: bytes = KEY, address: str = ELSEWHERE) -> tuple[int, bytes]:
        (answer,) = Caller(self.server, address).send(get(path.encode(), headers)).responses()
        return answer.status, answer.body

    def get_json(self, path: str) -> Any:
        status, body = self.ask(path)
        assert status == 200
        return json.loads(body)

    def read(self, *channels: str, address: str = ELSEWHERE) -> Caller:
        path = f"/?channels={','.join(channels)}"
        return Caller(self.server, address).send(get(path.encode()))

    def publish(self, *channels: str) -> None:
        self.hub.publish([Draft(channel, b"x") for channel in channels])
        self.clock.advance(0)

    def pass_seconds(self, seconds: int) -> None:
        self.clock.pump([1.0] * seconds)


def test_stats_is_an_action() -> None:
    """
    The action provides `IAction`.
    """
    clock = Clock()
    context = make_context(make_hub(MemoryBroker(clock, "e"), clock))

    assert verifyObject(IAction, StatsAction(context))
    assert StatsAction(context).format is StatsFormat.COUNTS


def test_the_shape_of_cyclone_sse() -> None:
    """
    The default is `[channel, subscribers]`, sorted by name, for channels with subscribers.
    """
    place = Place()
    place.read("b", "a")
    place.read("b")
    place.publish("nobody")

    assert place.get_json("/stats") == [["a", 1], ["b", 2]]
    assert place.get_json("/stats?channel=b&channel=nobody&channel=c") == [["b", 2]]


@pytest.mark.parametrize("path", ["/stats", "/stats?format=full", "/metrics"])
@pytest.mark.parametrize(
    ("key", "headers", "query", "address", "status"),
    [
        ("secret", b"", "", HERE, 401),
        ("secret", b"", "key=wrong", HERE, 401),
        ("secret", b"", "key=%ff", HERE, 401),
        ("secret", b"Authorization: Bearer wrong\r\n", "key=secret", HERE, 401),
        ("secret", KEY, "", ELSEWHERE, 200),
        ("secret", b"", "key=secret", ELSEWHERE, 200),
        ("", b"", "", ELSEWHERE, 403),
        ("", KEY, "", ELSEWHERE, 403),
        ("", b"", "", HERE, 403),  # the Host header names another machine
        ("", b"X-Forwarded-For: 127.0.0.1\r\n", "", HERE, 403),
    ],
)
def test_the_stats_key(
    path: str, key: str, headers: bytes, query: str, address: str, status: int
) -> None:
    """
    The key is sent as Bearer token or in the query; without a key set, only this machine
    may read.
    """
    place = Place(key=key)
    url = path + ("&" if "?" in path else "?") + query if query else path

    assert place.ask(url, headers, address)[0] == status


def test_without_a_key_this_machine_may() -> None:
    """
    A request from this machine must also name it as host.
    """
    place = Place(key="")
    for path in (b"/stats", b"/metrics"):
        request = b"GET %s HTTP/1.1\r\nHost: 127.0.0.1:8888\r\n\r\n" % path
        (answer,) = Caller(place.server, HERE).send(request).responses()
        assert answer.status == 200


@pytest.mark.parametrize(
    "query", ["format=xml", "format=", "format=full&format=x", "channel=", "channel=a%20b"]
)
def test_malformed_requests(query: str) -> None:
    """
    A malformed request gets 400 with a sentence.
    """
    assert Place().ask(f"/stats?{query}")[0] == 400


def test_the_full_form() -> None:
    """
    The full form has state, counters, and the busiest channels.
    """
    place = Place()
    place.read("a")
    place.read("a", "b").hang_up()
    place.publish("a", "b", "c")
    place.pass_seconds(10)

    stats = place.get_json("/stats?format=full")

    assert stats["version"]
    assert stats["uptime"] == 10
    assert (stats["epoch"], stats["position"]) == ("e", "e.3")
    assert stats["broker"] == {"ready": True, "refuses": False}
    assert stats["readers"] == {
        "now": 1,
        "joining": 0,
        "limit": 0,
        "joined": 2,
        "closed": {"client": 1},
        "refused": {},
    }
    assert stats["messages"] == {
        "published": 3,
        "delivered": 1,
        "gaps": 0,
        "skips": 0,
        "refused": {},
    }
    assert stats["backlog"] == {"readers": 0, "bytes": 0}
    assert stats["history"]["bytes"] > 3
    assert stats["live"] == {
        "publishers": 0,
        "viewers": 0,
        "units": 0,
        "bytes": 0,
        "delivered": 0,
    }
    assert stats["requests"] == {"2xx": 2}
    assert stats["rates"]["10"] == {
        "joined": 0.2,
        "left": 0.1,
        "published": 0.3,
        "delivered": 0.1,
        "requests": 0.2,
    }
    assert stats["fanout"]["turns"] == 1
    assert stats["fanout"]["buckets"][0] == [0.0005, 1]
    assert stats["fanout"]["buckets"][-1] == ["inf", 1]
    assert set(stats["fanout"]["quantiles"]) == {"0.5", "0.9", "0.99"}
    assert stats["process"]["memory_bytes"] > 1 << 20
    assert stats["process"]["cpu_seconds"] > 0
    assert stats["channels"] == {
        "with_readers": 1,
        "shown": [
            {"channel": "a", "readers": 1, "messages": 1, "position": "e.1"},
            {"channel": "c", "readers": 0, "messages": 1, "position": "e.3"},
            {"channel": "b", "readers": 0, "messages": 1, "position": "e.2"},
        ],
        "others": {"channels": 0, "readers": 0, "messages": 0},
    }


def test_the_route_has_defaults() -> None:
    """
    `stats:full` and `channels=` set defaults; the request may override the form.
    """
    place = Place("^/all$ stats:full", "^/two$ stats:format=full,channels=2")
    for number, channel in enumerate("abcd"):
        for _ in range(number):
            place.read(channel)
        place.publish(channel)

    assert len(place.get_json("/all")["channels"]["shown"]) == 4
    two = place.get_json("/two")["channels"]
    assert [(shown["channel"], shown["readers"]) for shown in two["shown"]] == [("d", 3), ("c", 2)]
    assert two["others"] == {"channels": 2, "readers": 1, "messages": 2}
    assert place.get_json("/all?format=counts") == [["b", 1], ["c", 2], ["d", 3]]


def test_single_channels_in_full() -> None:
    """
    Requested channels are shown even if they are not among the busiest, or do not exist.
    """
    place = Place()
    place.publish("a", "a")

    assert place.get_json("/stats?format=full&channel=a&channel=z")["channels"] == {
        "shown": [
            {"channel": "a", "readers": 0, "messages": 2, "position": "e.2"},
            {"channel": "z", "readers": 0, "messages": 0, "position": ""},
        ]
    }


def test_refusals_are_counted_by_reason() -> None:
    """
    Rejected subscribers and publishers are counted separately; other paths are not counted.
    """
    place = Place(subscribers=1)
    place.read("a")
    place.read("b")
    place.read("a%20b")
    Caller(place.server).send(post(b"channel=a&message=x", b"/publish"))
    Caller(place.server).send(get(b"/nothing"))
    Caller(place.server).send(b"NONSENSE\r\n\r\n")

    stats = place.get_json("/stats?format=full")

    assert stats["readers"]["refused"] == {"unavailable": 1, "malformed": 1}
    assert stats["messages"]["refused"] == {"key": 1}
    assert stats["requests"] == {"2xx": 1, "4xx": 4, "5xx": 1}
    assert [status for _, status, _ in place.logged.lines] == [
        200,
        503,
        400,
        401,
        404,
        400,
        200,
    ]  # the access log has all


def test_a_channel_by_any_name_is_shown() -> None:
    """
    Names that an own broker or a wide pattern permits are valid JSON.
    """
    place = Place()
    names = ['"', "\\", "\ud800", "\u2028", "</script>", "é" * 300, "\n", "\0"]
    place.publish(*names)

    shown = place.get_json("/stats?format=full")["channels"]["shown"]

    assert {channel["channel"] for channel in shown} == set(names)


def test_rates_fall_to_zero() -> None:
    """
    Ten seconds and a minute after the last message the rates are zero.
    """
    place = Place()
    place.pass_seconds(100)
    place.publish(*["a"] * 60)
    place.pass_seconds(5)
    fresh = place.hub.current_metrics().rates
    fresh_10, fresh_60 = fresh[10]["published"], fresh[60]["published"]
    place.pass_seconds(6)
    later = place.hub.current_metrics().rates
    place_10, place_60 = later[10]["published"], later[60]["published"]
    place.pass_seconds(60)

    assert (fresh_10, fresh_60) == (6, 1)
    assert (place_10, place_60) == (0, 1)
    assert place.hub.current_metrics().rates[60]["published"] == 0


def test_rates_of_a_clock_that_goes_back_are_zero() -> None:
    """
    A clock that goes back makes no infinite or negative rates.
    """
    metrics = Metrics()
    metrics.sample(100.0)
    metrics.published = 5
    metrics.refresh(50.0)
    back = metrics.rates[10]["published"]
    metrics.refresh(100.0)
    same = metrics.rates[10]["published"]
    metrics.refresh(105.0)

    assert (back, same, metrics.rates[10]["published"]) == (0, 0, 1)


def test_one_observation_per_flush() -> None:
    """
    A flush is observed once, however many messages and subscribers; without subscribers it
    is not.
    """
    place = Place()
    place.publish("nobody")
    place.read("a")
    place.read("b")
    place.publish("a", "a", "b", "c")
    place.publish("a")

    assert sum(place.hub.metrics.fanout.buckets) == 2


def test_a_flush_is_measured_from_its_first_message() -> None:
    """
    The time from receipt to flush is part of the latency of subscribers.
    """
    place = Place()
    place.read("a")
    place.hub.publish([Draft("a", b"1")])
    place.clock.rightNow += 0.2  # the reactor is busy elsewhere
    place.hub.publish([Draft("a", b"2")])
    place.clock.rightNow += 0.1
    place.clock.advance(0)

    assert place.hub.metrics.fanout.seconds == pytest.approx(0.3)


@given(st.lists(st.floats(-1, 100), max_size=50), st.floats(0, 1))
def test_quantiles_are_within_their_bucket(seconds: list[float], share: float) -> None:
    """
    A quantile lies in the bucket of its observation, and grows with the share.
    """
    histogram = Histogram()
    for each in seconds:
        histogram.observe(each)

    value = quantile(histogram.buckets, share)

    assert sum(histogram.buckets) == len(seconds)
    if not seconds:
        assert value is None
        return
    assert value is not None
    edges = [0.0, *BOUNDS]
    ordered = sorted(max(0.0, each) for each in seconds)
    rank = max(0, min(len(ordered) - 1, -int(-share * len(ordered) // 1) - 1))
    upper = next((bound for bound in BOUNDS if ordered[rank] <= bound), BOUNDS[-1])
    lower = edges[edges.index(upper) - 1]
    assert lower - 1e-9 <= value <= upper + 1e-9
    highest = quantile(histogram.buckets, 1.0)
    assert highest is not None and value <= highest


def test_statuses_by_class() -> None:
    """
    An application may answer with any status.
    """
    assert by_class({200: 2, 204: 1, 599: 1, 999: 1}) == {"2xx": 3, "5xx": 1, "9xx": 1}


def test_the_access_log_is_optional() -> None:
    """
    Responses are counted without an access log too.
    """
    place = Place()
    none: AccessLog | None = None
    place.server.context.access_log = ResponseMetrics(
        place.server.context.find, place.hub.metrics, none
    )

    place.ask("/stats")

    assert place.hub.metrics.requests == {200: 1}
