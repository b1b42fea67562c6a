"""
Patterns of channels as users subscribe to them: every transport, and nodes with a broker
between them.
"""

from __future__ import annotations

import json
import random
import subprocess
from typing import Any

import pytest
import websockets.sync.client

from tests.real.conftest import PATIENCE, TWISTD, Server, StartDaemon, require
from tests.real.rabbit import Rabbit, rabbit
from tests.real.redis_server import redis, redis_commands
from tests.real.socketio_peers import Peer
from tests.real.subscribers import Subscriber, disconnecting, join_all, publishers, until
from tests.real.test_amqp_daemon import options as amqp_options
from tests.real.test_amqp_daemon import ready
from tests.real.test_daemon import publish
from tests.real.test_poll import PollingClient

__all__ = ["rabbit", "redis"]

ROUTES = (
    "--route=^/news$ sse:subscribe=news.*,subscribe=alerts,pattern=yes,history=100",
    "--route=^/all$ sse:subscribe=*,subscribe=news.*,pattern=yes",
    r"--route=^/user/(\w+)$ sse:subscribe=user.$1.*,pattern=yes",
    "--route=^/raw$ sseraw:subscribe=news.*,pattern=yes,history=100",
    r"--route=^/lines$ stream:subscribe=news.*,pattern=yes,suffix=\n,history=100",
    "--route=^/poll$ poll:subscribe=news.*,subscribe=alerts,pattern=yes,history=100",
    "--route=^/ws$ websocket:subscribe=news.*,pattern=yes,protocol=json,history=100",
    "--route=^/wsraw$ websocket:subscribe=news.*,pattern=yes,history=100",
    r"--route=^/socket\.io/ socket.io:subscribe=news.*,pattern=yes,history=100",
    "--route=^/free$ sse",
    "--route=^/publish$ publish",
    "--route=^/stats$ stats",
    "--route=^/readyz$ ready",
)


def curl(server: Server, path: str, *more: str) -> subprocess.Popen[str]:
    command = [require("curl", "curl"), "-sSN", *more, f"{server.url}{path}"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lines(process: subprocess.Popen[str], count: int, prefix: str = "") -> list[str]:
    """
    Return the next *count* lines with *prefix*, without it.
    """
    found: list[str] = []
    assert process.stdout is not None
    while len(found) < count:
        line = process.stdout.readline()
        assert line, "the stream has ended"
        if line.startswith(prefix) and line.strip():
            found.append(line.removeprefix(prefix).rstrip("\n"))
    return found


def test_every_transport(daemon: StartDaemon) -> None:
    """
    Replay and live stream of matching channels, each message once, in order.
    """
    server = daemon(*ROUTES)
    for number, channel in enumerate(("news.a", "sport", "news.b", "alerts")):
        assert publish(server.port, channel=channel, message=str(number)) == 200
    streams = {
        "/news": ("data: ", ["0", "2", "3", "4", "6"]),
        "/lines": ("", ["0", "2", "4", "6"]),
    }
    processes = {path: curl(server, path) for path in streams}
    url = f"ws://127.0.0.1:{server.port}"
    polling = PollingClient(server)
    peer = Peer("python", server.url, transports=["websocket"])
    with (
        websockets.sync.client.connect(f"{url}/ws", open_timeout=PATIENCE) as commands,
        websockets.sync.client.connect(f"{url}/wsraw", open_timeout=PATIENCE) as raw,
    ):
        first = polling.poll()
        assert [one["data"] for one in first["messages"]] == ["0", "2", "3"]
        assert [raw.recv(PATIENCE) for _ in range(2)] == ["0", "2"]
        events = [json.loads(commands.recv(PATIENCE)) for _ in range(2)]
        assert [(one["channel"], one["data"]) for one in events] == [
            ("news.a", "0"),
            ("news.b", "2"),
        ]
        assert [peer.wait("event", "message")[2] for _ in range(2)] == ["0", "2"]
        for path, (prefix, expected) in streams.items():
            assert lines(processes[path], len(expected) - 2, prefix) == expected[:-2]

        for number, channel in ((4, "news.new"), (5, "newsy"), (6, "news.a")):
            assert publish(server.port, channel=channel, message=str(number)) == 200

        assert [raw.recv(PATIENCE) for _ in range(2)] == ["4", "6"]
        assert [peer.wait("event", "message")[2] for _ in range(2)] == ["4", "6"]
        again = polling.poll(since=first["position"])
        assert [one["data"] for one in again["messages"]] == ["4", "6"]
        for path, (prefix, expected) in streams.items():
            assert lines(processes[path], 2, prefix) == expected[-2:]
            processes[path].kill()
            processes[path].communicate()
    peer.close()
    polling.disconnect()


def test_messages_that_are_event_streams(daemon: StartDaemon) -> None:
    """
    `sseraw` forwards the messages of matching channels as they are.
    """
    server = daemon(*ROUTES)
    assert publish(server.port, channel="news.a", message="data: 1\n\n") == 200
    with curl(server, "/raw") as process:
        assert lines(process, 1, "data: ") == ["1"]
        assert publish(server.port, channel="news.b", message="data: 2\n\n") == 200
        assert lines(process, 1, "data: ") == ["2"]
        process.kill()


def test_only_routes_have_patterns(daemon: StartDaemon) -> None:
    """
    A client gets 400 for a pattern, and for a value that would widen that of a route.
    """
    server = daemon(*ROUTES)
    for path in ("/free?channels=*", "/free?channels=news.*", "/user/"):
        arguments = ("-o", "/dev/null", "-w", "%{http_code}\n", "-m", "5")
        with curl(server, path, *arguments) as process:
            expected = "404" if path == "/user/" else "400"
            assert lines(process, 1) == [expected]


def test_statistics(daemon: StartDaemon) -> None:
    """
    A pattern has a line of its own in the statistics.
    """
    server = daemon(*ROUTES)
    with curl(server, "/user/alice") as process:
        lines(process, 1, "id: ")
        assert publish(server.port, channel="user.alice.mail", message="1") == 200
        assert lines(process, 1, "data: ") == ["1"]
        with curl(server, "/stats") as stats:
            assert json.loads(lines(stats, 1)[0]) == [["user.alice.*", 1]]
        with curl(server, "/stats?format=full") as stats:
            assert stats.stdout is not None
            said = json.loads(stats.stdout.read())
        assert (said["readers"]["now"], said["patterns"]) == (1, 1)
        process.kill()


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--route=^/ sse:subscribe=a,pattern=yes"], "pattern=yes needs a * in subscribe="),
        (
            ["--broker=amqp", "--route=^/ sse:subscribe=a.*,pattern=yes"],
            "a direct exchange routes no patterns of channels: set amqp-exchange-type = topic",
        ),
    ],
)
def test_what_cannot_be_done_is_one_sentence_at_the_start(more: list[str], sentence: str) -> None:
    """
    The daemon exits, and names what to change.
    """
    command = [*TWISTD, "realtime", "--port=0", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode != 0
    assert sentence in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


async def check_nodes(servers: list[Server], complete: bool) -> None:
    """
    Publish at all nodes to channels that nobody has named, while subscribers with patterns
    change nodes: nothing is lost, repeated or out of order.
    """
    chance = random.Random(7)
    for server in servers:
        await ready(server)
    subscribers = [Subscriber(servers[n % len(servers)].port, [], path) for n, path in enumerate(
        ["/news", "/news", "/all", "/all", "/all", "/news"]
    )]  # fmt: skip
    published: list[tuple[str, str]] = []
    async with (
        disconnecting(subscribers),
        publishers(servers[0], 1) as [one],
        publishers(servers[-1], 1) as [two],
    ):
        await join_all(subscribers)
        await until(lambda: all(subscriber.last_id for subscriber in subscribers))
        for number in range(300):
            channel = chance.choice(["news.a", f"news.{number}", "sport", "alerts", "news.b"])
            await chance.choice([one, two]).publish(channel, str(number).encode())
            published.append((channel, str(number)))
            if complete and number % 20 == 0:
                subscriber = chance.choice(subscribers)
                subscriber.cut("reset")
                subscriber.port = chance.choice(servers).port
                await subscriber.join()
        for subscriber in subscribers:
            if subscriber.connection is None:
                await subscriber.join()
        expected = {
            "/all": [text for _, text in published],
            "/news": [text for name, text in published if name == "alerts" or "news." in name],
        }
        await until(lambda: all(r.messages[-1:] == expected[r.path][-1:] for r in subscribers))
        for subscriber in subscribers:
            assert subscriber.messages == expected[subscriber.path]
            assert subscriber.gaps == 0


async def test_nodes_with_redis(redis: Any, daemon: StartDaemon) -> None:
    """
    A subscriber of a pattern resumes at another node; plain messages are received as well.
    """
    options = ("--broker=redis", f"--redis-port={redis.port}", "--history=1000", *ROUTES)
    servers = [daemon(*options) for _ in range(2)]
    await check_nodes(servers, complete=True)

    subscribers = [
        Subscriber(server.port, [], path) for server in servers for path in ("/news", "/all")
    ]
    async with disconnecting(subscribers), redis_commands(redis.port) as ask:
        await join_all(subscribers)
        await until(lambda: all(subscriber.last_id for subscriber in subscribers))
        for subscriber in subscribers:
            subscriber.events.clear()
        texts = [str(number % 3) for number in range(50)]
        for text in texts:
            await ask("PUBLISH", "news.plain", text)
        await until(lambda: all(len(subscriber.messages) >= 50 for subscriber in subscribers))
        for subscriber in subscribers:
            assert subscriber.messages == texts


async def test_nodes_with_a_stream(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    Subscribers of patterns change nodes, and the stream has all they missed.
    """
    options = amqp_options(rabbit, "pattern-stream", "--amqp-stream=pattern-stream", *ROUTES)
    await check_nodes([daemon(*options) for _ in range(2)], complete=True)


async def test_nodes_with_a_topic_exchange(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    Each node receives all matching channels, though nobody has named them.
    """
    options = amqp_options(rabbit, "pattern-topic", "--amqp-exchange-type=topic", *ROUTES)
    await check_nodes([daemon(*options) for _ in range(2)], complete=False)
