"""
The admin API over worker processes, nodes and restarts.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.rabbit import rabbit  # noqa: F401  # a fixture
from tests.real.redis_server import redis  # noqa: F401  # a fixture
from tests.real.test_access import SECRET, request, token

KEY = "admin" * 4
OPTIONS = ("--allow=token", f"--token-key={SECRET}", f"--admin-key={KEY}")


@pytest.fixture
def request_fixture(request: pytest.FixtureRequest) -> Callable[[str], Any]:
    """
    Return what starts the broker that a test needs.
    """
    return request.getfixturevalue


def ask(port: int, method: str, path: str, body: Any = None) -> Any:
    """
    Return the JSON of a response of the admin API.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {KEY}"}
    asked = urllib.request.Request(
        f"http://127.0.0.1:{port}/admin/{path}", data, headers, method=method
    )
    with urllib.request.urlopen(asked, timeout=PATIENCE) as response:
        return json.loads(response.read() or b"null")


def until(check: Callable[[], Any]) -> None:
    """
    Wait until *check* returns something true.
    """
    end = time.monotonic() + PATIENCE
    while not check():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.limit(120)
@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_revocations_reach_all_workers_and_nodes(
    daemon: StartDaemon, request_fixture: Callable[[str], Any], kind: str
) -> None:
    """
    Within a second, for connected clients too; a node that starts later has them.
    """
    broker: tuple[str, ...]
    if kind == "redis":
        broker = ("--broker=redis", f"--redis-port={request_fixture('redis').port}")
    else:
        port = request_fixture("rabbit").port
        broker = ("--broker=amqp", f"--amqp-port={port}", "--amqp-stream=revocations")
    one = daemon(*OPTIONS, *broker, "--workers=2")
    two = daemon(*OPTIONS, *broker)
    stolen = token(channels=["news"], jti="t1")
    ports = (one.port, one.port, two.port)
    # Tokens wait until the revocations are known.
    until(lambda: all(request(port, "/poll", stolen) == 200 for port in 2 * ports))
    streams = [
        subprocess.Popen(
            ["curl", "-sN", "-H", f"Authorization: Bearer {stolen}", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL,
        )
        for port in ports
    ]
    try:
        until(lambda: len(ask(two.port, "GET", "subscribers?sub=mia")["subscribers"]) == 3)
        ask(one.port, "POST", "revoke", {"jti": "t1"})
        until(lambda: all(stream.poll() is not None for stream in streams))
    finally:
        for stream in streams:
            stream.kill()
            stream.wait()
    assert {request(one.port, "/poll", stolen) for _ in range(4)} == {401}
    assert request(two.port, "/poll", stolen) == 401
    three = daemon(*OPTIONS, *broker)
    until(lambda: request(three.port, "/poll", token(channels=["news"])) == 200)
    assert request(three.port, "/poll", stolen) == 401
    ask(three.port, "DELETE", "revoked/t1")
    until(lambda: request(one.port, "/poll", stolen) == 200)


@pytest.mark.limit(120)
@pytest.mark.parametrize("kind", ["redis", "rabbitmq"])
def test_clients_are_disconnected_on_all_workers_and_nodes(
    daemon: StartDaemon, request_fixture: Callable[[str], Any], kind: str
) -> None:
    """
    Whichever node is asked: first from one of their channels, then from the daemon.
    """
    broker: tuple[str, ...]
    if kind == "redis":
        broker = ("--broker=redis", f"--redis-port={request_fixture('redis').port}")
    else:
        # An exchange of its own: that of the test with a stream has another type.
        port = request_fixture("rabbit").port
        broker = ("--broker=amqp", f"--amqp-port={port}", "--amqp-exchange-name=acts")
    one = daemon(*OPTIONS, *broker, "--workers=2")
    two = daemon(*OPTIONS, *broker)
    mine = token(channels=["news", "other"])
    until(lambda: all(request(port, "/poll", mine) == 200 for port in (one.port, two.port) * 3))

    def subscribed(port: int, channel: str) -> int:
        return len(ask(port, "GET", f"subscribers?sub=mia&channel={channel}")["subscribers"])

    streams = [
        subprocess.Popen(
            ["curl", "-sN", "-H", f"Authorization: Bearer {mine}", f"http://127.0.0.1:{port}/"],
            stdout=subprocess.DEVNULL,
        )
        for port in (one.port, one.port, one.port, two.port)
    ]
    try:
        until(lambda: subscribed(one.port, "other") == subscribed(two.port, "other") == 4)
        asked = {"sub": "mia", "channel": "other"}
        assert ask(two.port, "POST", "unsubscribe", asked) == {"count": 4}
        until(lambda: subscribed(one.port, "other") == 0)
        assert subscribed(two.port, "news") == 4
        assert all(stream.poll() is None for stream in streams)
        assert ask(one.port, "POST", "disconnect", {"sub": "mia"}) == {"count": 4}
        until(lambda: all(stream.poll() is not None for stream in streams))
        until(lambda: subscribed(two.port, "news") == 0)
    finally:
        for stream in streams:
            stream.kill()
            stream.wait()


@pytest.mark.limit(60)
def test_revocations_survive_a_restart(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With a history file.
    """
    server = daemon(*OPTIONS, f"--history-file={tmp_path / 'log.db'}")
    ask(server.port, "POST", "revoke", {"sub": "mia"})
    assert request(server.port, "/poll", token(channels=["news"])) == 401
    server.restart()
    eve = token(channels=["news"], sub="eve")
    until(lambda: request(server.port, "/poll", eve) == 200)
    assert request(server.port, "/poll", token(channels=["news"])) == 401


@pytest.mark.limit(60)
@pytest.mark.parametrize("store", ["redis", "file"])
def test_a_history_is_deleted_everywhere(
    daemon: StartDaemon,
    redis: Server,  # noqa: F811
    tmp_path: Path,
    store: str,
) -> None:
    """
    On all workers and nodes, in redis and in the history file; a restart does not bring it back.
    """
    shared = ("--broker=redis", f"--redis-port={redis.port}")
    options = shared if store == "redis" else (f"--history-file={tmp_path / 'log.db'}",)
    options = (f"--admin-key={KEY}", *options)
    one = daemon(*options, *(("--workers=2",) if store == "redis" else ()))
    two = daemon(*options) if store == "redis" else one
    ports = 3 * (one.port, two.port)
    until(lambda: all(request(port, "/readyz", "") == 200 for port in ports))
    for number in range(3):
        _publish(one.port, f"{number}")
    until(lambda: len(_history(two.port)) == 3)
    stream = subprocess.Popen(
        ["curl", "-sN", f"http://127.0.0.1:{one.port}/?channels=news"], stdout=subprocess.PIPE
    )
    try:
        until(lambda: ask(two.port, "GET", "subscribers?channel=news")["subscribers"])
        ask(two.port, "DELETE", "channels/news/history")
        until(lambda: not _history(one.port) and not _history(two.port))
        _publish(one.port, "later")
        until(lambda: _history(two.port) == ["later"])
        until(lambda: _history(one.port) == ["later"])
    finally:
        stream.kill()
        received, _ = stream.communicate()
    assert received.count(b"event: gap") == 1
    if store == "file":
        one.restart()
        assert _history(one.port) == ["later"]


def _publish(port: int, text: str) -> None:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/publish", f"channel=news&message={text}".encode(), PATIENCE
    ):
        pass


def _history(port: int) -> list[str]:
    messages = ask(port, "GET", "channels/news/history?since=all")["messages"]
    return [one["data"] for one in messages]
