"""
The dashboards in examples/ have the right shape, and use metrics that exist.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest
from twisted.internet.task import Clock

from rt_twisted.actions.prometheus import MetricsCollector
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.graphite import FIELDS
from rt_twisted.metrics.metrics import WIRE_NAMES
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery
from tests.defaults import make_context, make_hub
from tests.unit.metrics.test_graphite import DAEMON

FOLDER = Path(__file__).parents[3] / "examples" / "dashboards"
GRAFANA = ["grafana-graphite.json", "grafana-prometheus.json"]

_PATH = re.compile(r"[a-z-]+(?:\.[a-z0-9_*]+)+")
_QUERY_WORDS = frozenset(
    "sum max by rate topk histogram_quantile instance le cause reason status channel".split()
)


def load(name: str) -> Any:
    """
    Return the dashboard in this file.
    """
    return json.loads((FOLDER / name).read_text())


def graphite_targets() -> list[str]:
    """
    Return all targets of the Graphite dashboards, with the default path.
    """
    targets = [
        target for _, params, _ in load("graphite.json")["graphs"] for target in params["target"]
    ]
    for panel in load("grafana-graphite.json")["panels"]:
        targets += [each["target"].replace("$path", "cyclone-sse") for each in panel["targets"]]
    return targets


def prometheus_queries(instance: str, interval: str) -> list[str]:
    """
    Return all queries of the Prometheus dashboard, with its variables filled in.
    """
    return [
        target["expr"].replace("$instance", instance).replace("$__rate_interval", interval)
        for panel in load("grafana-prometheus.json")["panels"]
        for target in panel["targets"]
    ]


def exported() -> set[str]:
    """
    Return the names that Graphite may get.
    """
    names = {f"_daemon.{name}" for name in DAEMON}
    names |= {f"_daemon.fanout_seconds.{name}" for name in ("p50", "p90", "p99")}
    return {f"cyclone-sse.{name}" for name in names | {"news", "_other"}}


def collected() -> set[str]:
    """
    Return the names that Prometheus may get.
    """
    clock = Clock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    looks: list[Snapshot] = []
    make_context(hub).snapshot(StatsQuery(max_channels=10)).addCallback(looks.append)
    names = set()
    for family in MetricsCollector(looks[0]).collect():
        names |= {each.name for each in family.samples}
        names.add(f"{family.name}_total" if family.type == "counter" else family.name)
    return names


@pytest.mark.parametrize("target", sorted(set(graphite_targets())))
def test_graphite_targets_name_what_is_exported(target: str) -> None:
    """
    Each path in a target is exported, or a pattern of exported paths.
    """
    paths = _PATH.findall(target)

    assert paths
    for path in paths:
        found = [
            name
            for name in exported()
            if fnmatchcase(name, path) and name.count(".") == path.count(".")
        ]
        assert found, f"{path} is nothing that is exported"


def test_the_documented_metrics_are_those_that_exist() -> None:
    """
    The table of docs/numbers.md names each metric, and no other.
    """
    text = (FOLDER.parents[1] / "docs" / "numbers.md").read_text()
    table = text.partition("| metric | meaning |")[2].partition("\n\n")[0]
    columns = " ".join(line.split("|")[1] for line in table.splitlines()[2:])
    documented = set(re.findall(r"`((?:realtime|process)_\w+)", columns))
    clock = Clock()
    hub = make_hub(MemoryBroker(clock, "e"), clock)
    looks: list[Snapshot] = []
    make_context(hub).snapshot(StatsQuery(max_channels=10)).addCallback(looks.append)
    exist = set()
    for family in MetricsCollector(looks[0]).collect():
        suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
        exist.add(family.name + suffix)

    assert documented == exist


@pytest.mark.parametrize("name", [WIRE_NAMES.get(name, name) for name in FIELDS])
def test_what_graphite_gets_is_documented(name: str) -> None:
    """
    The table of docs/graphite.md has the name.
    """
    assert f"`{name}`" in (FOLDER.parents[1] / "docs" / "graphite.md").read_text()


@pytest.mark.parametrize("query", sorted(set(prometheus_queries(".*", "1m"))))
def test_prometheus_queries_name_what_is_collected(query: str) -> None:
    """
    Each word in a query is a metric, a label or a function.
    """
    words = set(re.findall(r"[a-z_][a-z0-9_]{2,}", re.sub(r'"[^"]*"|\[[^]]*\]', "", query)))

    assert words & collected()
    assert words - collected() - _QUERY_WORDS == set()


def test_the_graphite_dashboard_has_its_shape() -> None:
    """
    The dashboard has the fields that graphite-web's script reads (content/js/dashboard.js,
    applyState).
    """
    state = load("graphite.json")

    assert {type(state[name]) for name in ("timeConfig", "refreshConfig", "graphSize")} == {dict}
    assert state["timeConfig"]["type"] == "relative"
    assert type(state["refreshConfig"]["interval"]) is int
    assert {type(size) for size in state["graphSize"].values()} == {int}
    assert type(state["defaultGraphParams"]) is dict
    assert len(state["graphs"]) > 5
    for key, params, url in state["graphs"]:
        assert key == urlencode({"target": params["target"]}, True)
        assert params["title"]
        assert parse_qs(url.partition("?")[2])["target"] == params["target"]


@pytest.mark.parametrize("name", GRAFANA)
def test_grafana_dashboards_have_their_shape(name: str) -> None:
    """
    They have what Grafana needs to show panels, and none covers another.
    """
    model = load(name)
    variables = {each["name"] for each in model["templating"]["list"]}
    covered: set[tuple[int, int]] = set()

    assert model["uid"] and len(model["uid"]) <= 40
    assert "id" not in model  # of one installation
    assert model["schemaVersion"] >= 39
    assert len({panel["id"] for panel in model["panels"]}) == len(model["panels"]) > 5
    for panel in model["panels"]:
        assert panel["type"] == "timeseries"
        assert panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & covered
        covered |= cells
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        for each in (panel, *panel["targets"]):
            assert each["datasource"]["uid"] == "${datasource}"
        kind = panel["datasource"]["type"]
        assert all(target["datasource"]["type"] == kind for target in panel["targets"])
    unknown = set(_variables(model)) - variables - {"__rate_interval", "__all"}
    assert unknown == set()


def test_both_grafana_dashboards_show_the_same() -> None:
    """
    An operator who changes from Graphite to Prometheus finds the same graphs.
    """
    titles = [[panel["title"] for panel in load(name)["panels"]] for name in GRAFANA]
    graphite = [params["title"] for _, params, _ in load("graphite.json")["graphs"]]

    assert titles[0] == titles[1] == graphite


def _variables(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _variables(each)
    if isinstance(value, str):
        yield from re.findall(r"\$\{?([a-z_]+)", value)
