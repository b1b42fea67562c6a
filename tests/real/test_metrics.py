"""
A real Prometheus scrapes /metrics.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon, free_port, require
from tests.unit.metrics.test_dashboards import prometheus_queries

CONFIG = """
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
scrape_configs:
  - job_name: realtime
    authorization:
      credentials: {key}
    static_configs:
      - targets: ["127.0.0.1:{port}"]
"""
HOSTILE = ['"} 1\nforged 7\n#', "\\", "\u2028", "новости", "a'b"]
SECONDS = 6  # of work, and of scrapes


def get(url: str, key: str = "") -> bytes:
    """
    Return the body of a successful response.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with urllib.request.urlopen(
        urllib.request.Request(url, headers=headers), timeout=PATIENCE
    ) as answer:
        body: bytes = answer.read()
        return body


def status(url: str, body: bytes | None = None, key: str = "") -> int:
    """
    Return the status of a GET or, with a body, of a POST.
    """
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, body, head), timeout=PATIENCE
        ) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def publish(server: Server, channel: str, key: str = "p") -> int:
    """
    Publish a message; return the status.
    """
    body = json.dumps({"channel": channel, "message": "x"}).encode()
    return status(f"{server.url}/publish", body, key)


def start(daemon: StartDaemon) -> Server:
    """
    A daemon that allows any channel name.
    """
    return daemon(
        "--stats-key=s", "--http-secret=p", r"--channel-pattern=[\s\S]{1,300}", "--max-readers=3"
    )


@pytest.fixture
def prometheus(serve: Serve, tmp_path: Path) -> Any:
    """
    Start a Prometheus on a private port, which has scraped a daemon once.
    """
    program = require("prometheus", "prometheus")

    def scrape(server: Server, key: str) -> Server:
        folder = tmp_path / "prometheus"
        folder.mkdir()
        (folder / "config.yml").write_text(CONFIG.format(port=server.port, key=key))
        port = free_port()
        options = [
            f"--config.file={folder}/config.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        started = serve([program, *options], port, folder)
        _wait(lambda: status(f"{started.url}/-/ready") == 200)
        _wait(lambda: health(started)[0] != "unknown")  # it finds its targets every 5 seconds
        return started

    return scrape


def ask(prometheus: Server, query: str) -> list[Any]:
    """
    Return the series of a query at this time.
    """
    path = "/api/v1/query?" + urlencode({"query": query})
    response = json.loads(get(prometheus.url + path))
    assert response["status"] == "success"
    found: list[Any] = response["data"]["result"]
    return found


def health(prometheus: Server) -> tuple[str, str]:
    """
    Return the health of the target, and its last error.
    """
    response = json.loads(get(f"{prometheus.url}/api/v1/targets"))["data"]["activeTargets"]
    return (response[0]["health"], response[0]["lastError"]) if response else ("unknown", "")


def _wait(until: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < deadline, f"not so within {PATIENCE:g} seconds"
        time.sleep(0.1)


def test_prometheus_shows_every_graph_of_the_dashboard(
    daemon: StartDaemon, prometheus: Any
) -> None:
    """
    Each query gives values of a daemon under load, whatever its channels are called.
    """
    server = start(daemon)
    scraper = prometheus(server, "s")
    readers = [
        urllib.request.urlopen(f"{server.url}/?channels=news", timeout=PATIENCE) for _ in "123"
    ]
    for _ in range(SECONDS):
        assert {publish(server, name) for name in ["news"] * 5 + HOSTILE} == {200}
        assert publish(server, "news", "wrong") == 401
        assert status(f"{server.url}/?channels=news") == 503  # three are allowed
        readers.pop().close()
        time.sleep(0.5)  # until that is scraped
        readers.append(urllib.request.urlopen(f"{server.url}/?channels=news", timeout=PATIENCE))
        time.sleep(0.5)
    found = {query: ask(scraper, query) for query in prometheus_queries(".*", "10s")}
    channels = ask(scraper, "realtime_channel_messages_total")
    state = health(scraper)
    for reader in readers:
        reader.close()

    assert state == ("up", "")
    assert [query for query, series in found.items() if not series] == []
    values = {query: [float(each["value"][1]) for each in s] for query, s in found.items()}
    assert values['sum(realtime_readers{instance=~".*"})'] == [3]
    published = 'sum(rate(realtime_messages_published_total{instance=~".*"}[10s]))'
    assert 5 < values[published][0] < 20
    assert all(0 < v[0] < 10 for query, v in values.items() if query.startswith("histogram"))
    shown = {each["metric"]["channel"] for each in channels}
    assert shown == {"news", *HOSTILE}
    assert ask(scraper, "forged") == []
    assert "out-of-order" not in scraper.log and "duplicate" not in scraper.log


def test_a_wrong_key_makes_the_target_down(daemon: StartDaemon, prometheus: Any) -> None:
    """
    Prometheus shows the reason.
    """
    scraper = prometheus(start(daemon), "wrong")

    assert health(scraper) == ("down", "server returned HTTP status 401 Unauthorized")


def test_promtool_reports_no_problems(daemon: StartDaemon) -> None:
    """
    Names, units and help follow the conventions of Prometheus.
    """
    promtool = require("promtool", "prometheus")
    server = start(daemon)
    for name in HOSTILE:
        publish(server, name)

    checked = subprocess.run(
        [promtool, "check", "metrics"],
        input=get(f"{server.url}/metrics", "s"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )

    assert (checked.stdout.decode(), checked.returncode) == ("", 0)
