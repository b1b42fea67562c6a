"""
The metrics for Prometheus, and the dashboards that use them.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from rt_twisted.actions.interfaces import IAction
from rt_twisted.actions.metrics import MetricsAction
from rt_twisted.actions.prometheus import MAX_LABEL, label
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.metrics import BOUNDS
from rt_twisted.model.internal_channels import INTERNAL
from rt_twisted.model.message import Draft
from tests.defaults import make_context, make_hub
from tests.unit.actions.test_stats import KEY, Place
from tests.unit.http.clients import Caller, get

HOSTILE = [
    "",
    '"} 1\nforged 7\n#',
    "\\",
    '\\"',
    "\r\n",
    "\0",
    "\u2028\x85\x0b",
    "\ud800",
    "новости",
    'a{b="c"}',
]


def scraped(place: Place, path: str = "/metrics") -> dict[str, Metric]:
    """
    Return the metrics by name, as Prometheus' own parser reads them.
    """
    status, body = place.ask(path)
    assert status == 200
    families = list(text_string_to_metric_families(body.decode()))
    names = [family.name for family in families]
    assert len(set(names)) == len(names)
    for family in families:
        keys = [(each.name, tuple(sorted(each.labels.items()))) for each in family.samples]
        assert len(set(keys)) == len(keys), "a series is there twice"
    return {family.name: family for family in families}


def value(metrics: dict[str, Metric], name: str, **labels: str) -> float:
    for family in metrics.values():
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return float(sample.value)
    raise AssertionError(f"no {name} {labels}")


def test_metrics_is_an_action() -> None:
    """
    The action provides `IAction`.
    """
    clock = Clock()

    assert verifyObject(
        IAction, MetricsAction(make_context(make_hub(MemoryBroker(clock, "e"), clock)))
    )


def test_values_are_those_of_the_hub() -> None:
    """
    Every value is the hub's own.
    """
    place = Place()
    place.read("a")
    place.read("a", "b").hang_up()
    place.publish("a", "b")
    place.pass_seconds(3)

    metrics = scraped(place)

    assert value(metrics, "realtime_readers") == 1
    assert value(metrics, "realtime_readers_joined_total") == 2
    assert value(metrics, "realtime_readers_closed_total", cause="client") == 1
    assert value(metrics, "realtime_messages_published_total") == 2
    assert value(metrics, "realtime_messages_delivered_total") == 1
    assert value(metrics, "realtime_http_requests_total", status="200") == 2
    assert value(metrics, "realtime_uptime_seconds") == 3
    assert value(metrics, "realtime_fanout_seconds_count") == 1
    assert value(metrics, "realtime_fanout_seconds_bucket", le="+Inf") == 1
    assert value(metrics, "realtime_channels") == 1
    assert value(metrics, "realtime_channel_readers", channel="a") == 1
    assert value(metrics, "realtime_channel_messages_total", channel="b") == 1
    assert value(metrics, "process_resident_memory_bytes") > 1 << 20
    buckets = metrics["realtime_fanout_seconds"].samples
    bounds = [each.labels["le"] for each in buckets if each.name.endswith("_bucket")]
    assert [float(bound) for bound in bounds] == [*BOUNDS, float("inf")]


def test_content_type_and_cache_headers() -> None:
    """
    Prometheus 2 and 3 accept the media type, and no cache stores the response.
    """
    (answer,) = Caller(Place().server).send(get(b"/metrics", KEY)).responses()

    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("accept", [b"*/*", b"application/openmetrics-text; version=nonsense"])
def test_the_accept_header_is_ignored(accept: bytes) -> None:
    """
    There is one format, whatever the client accepts.
    """
    headers = KEY + b"Accept: %s\r\n" % accept

    assert Place().ask("/metrics", headers)[0] == 200


def test_the_longest_hold_begins_anew_with_each_scrape() -> None:
    """
    Statistics show it too, and do not end its interval.
    """
    place = Place()
    place.hub.metrics.count_hold(0.25)
    place.hub.metrics.count_hold(0.125)
    name = "realtime_reactor_longest_hold_seconds"

    assert [value(scraped(place), name) for _ in range(2)] == [0.25, 0]


def test_only_the_busiest_channels_have_series() -> None:
    """
    Clients that invent channels do not fill Prometheus.
    """
    place = Place("^/few$ metrics:3")
    for number in range(10):
        place.read(*[f"c{n}" for n in range(number + 1)])

    metrics = scraped(place, "/few")

    shown = {
        each.labels["channel"]: each.value for each in metrics["realtime_channel_readers"].samples
    }
    assert shown == {"c0": 10, "c1": 9, "c2": 8}
    assert value(metrics, "realtime_other_channels_readers") == 7 + 6 + 5 + 4 + 3 + 2 + 1
    assert value(metrics, "realtime_channels") == 10


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_hostile_names_are_one_label(name: str) -> None:
    """
    A channel name cannot forge a metric, and is read back unchanged if it is valid text.
    """
    place = Place()
    place.hub.publish([Draft(name, b"")])

    metrics = scraped(place)

    shown = name.replace("\ud800", "?")
    assert value(metrics, "realtime_channel_messages_total", channel=shown) == 1
    assert "forged" not in metrics


@given(st.lists(st.text(st.characters()), unique=True, max_size=20))
def test_any_names_are_well_formed(names: list[str]) -> None:
    """
    The series contain all messages, and each series occurs once.
    """
    names = [name for name in names if name not in INTERNAL]
    place = Place()
    place.hub.publish([Draft(name, b"") for name in names])

    samples = scraped(place)["realtime_channel_messages"].samples

    assert sum(each.value for each in samples) == len(names)
    assert {each.labels["channel"] for each in samples} == set(map(label, names))


def test_long_names_are_truncated_and_summed() -> None:
    """
    A setting may permit names of any length; a label has a bound.
    """
    place = Place()
    place.hub.publish([Draft("x" * 1000 + end, b"") for end in "ab"])

    metrics = scraped(place)

    assert value(metrics, "realtime_channel_messages_total", channel="x" * MAX_LABEL) == 2


def test_the_default_registry_is_unchanged() -> None:
    """
    An application in the same process keeps its own registry.
    """
    place = Place()
    before = {family.name for family in REGISTRY.collect()}
    scraped(place)

    assert {family.name for family in REGISTRY.collect()} == before
    assert not [name for name in before if name.startswith("realtime")]
