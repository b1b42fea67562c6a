"""
Tests with unmodified Socket.IO clients from npm and PyPI, on every transport.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.socketio_peers import Cutter, Peer

ROOT = Path(__file__).parents[2]
KINDS = ("js 4", "js 2", "python")
TRANSPORTS: dict[str, list[str] | None] = {
    "upgrade": None,
    "polling": ["polling"],
    "websocket": ["websocket"],
}
ROUTES = (r"--route=^/socket\.io/ socket.io", "--route=^/publish$ publish")

Connect = Callable[..., Peer]


@pytest.fixture
def connect() -> Iterator[Connect]:
    """
    Return a function that starts clients, which are stopped after the test.
    """
    peers: list[Peer] = []

    def connect(kind: str, url: str, transports: list[str] | None = None, **options: Any) -> Peer:
        if transports is not None:
            options["transports"] = transports
        peer = Peer(kind, url, **options)
        peers.append(peer)
        return peer

    yield connect
    for peer in peers:
        peer.close()


def publish(port: int, channel: str, data: bytes, event: str = "") -> str:
    """
    Publish a message by HTTP, and return its position.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        path = (
            f"/publish?channel={channel}&event={event}" if event else f"/publish?channel={channel}"
        )
        connection.request("POST", path, data, {"Content-Type": "application/octet-stream"})
        answer = json.loads(connection.getresponse().read())
        position: str = answer["position"]
        return position
    finally:
        connection.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_clients_subscribe_and_publish(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    Objects, text and bytes arrive as they were published, by HTTP or by the client.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url, TRANSPORTS[transport])
    peer.wait("connect")
    [joined] = peer.request("subscribe", ["news", "pictures"])
    assert joined == {"status": "ok", "channels": ["news", "pictures"]}

    first = publish(server.port, "news", b'{"n": 1, "words": ["\\u00e4", "\xf0\x9f\x98\x80"]}')
    publish(server.port, "news", "hällo 😀\nline two".encode())
    publish(server.port, "pictures", bytes(range(256)), "picture")
    [published] = peer.request("publish", "news", {"from": "me", "deep": [1, [2, {"x": None}]]})
    [sent] = peer.request("publish", "pictures", bytes(range(255, -1, -1)), "picture")
    [text] = peer.request("publish", "news", "😀 plain")

    assert peer.events("message", 4) == [
        [{"n": 1, "words": ["ä", "😀"]}, first],
        ["hällo 😀\nline two", _next(first, 1)],
        [{"from": "me", "deep": [1, [2, {"x": None}]]}, published["position"]],
        ["😀 plain", text["position"]],
    ]
    assert peer.events("picture", 2) == [
        [bytes(range(256)), _next(first, 2)],
        [bytes(range(255, -1, -1)), sent["position"]],
    ]


@pytest.mark.parametrize("kind", ["js 4", "js 2"])
def test_clients_that_accept_only_text_get_bytes(
    kind: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    With `forceBase64` bytes are sent as text by a websocket as well, in both directions.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url, ["websocket"], forceBase64=True)
    peer.wait("connect")
    peer.request("subscribe", "pictures")

    [sent] = peer.request("publish", "pictures", bytes(range(256)))
    assert peer.events("message", 1) == [[bytes(range(256)), sent["position"]]]


@pytest.mark.parametrize("agent", [None, "Mozilla/5.0"])
@pytest.mark.parametrize("kind", KINDS)
def test_polling_clients_get_many_messages(
    kind: str, agent: str | None, daemon: StartDaemon, connect: Connect
) -> None:
    """
    A long replay and a burst reach every polling client, each message once and in order, and no
    client reconnects: python-engineio accepts 16 packets in a response.
    """
    server = daemon(r"--route=^/socket\.io/ socket.io:subscribe=news,history=100", ROUTES[1])
    batch = "\n".join(json.dumps({"channel": "news", "message": f"{n}"}) for n in range(100))
    _publish_lines(server.port, batch)
    options = {} if agent is None else {"headers": {"User-Agent": agent}}
    peer = connect(kind, server.url, TRANSPORTS["polling"], **options)
    peer.events("message", 100)
    _publish_lines(server.port, batch)
    [published] = peer.request("publish", "news", "last")

    assert published["status"] == "ok"
    received = [arguments[0] for arguments in peer.events("message", 201)]
    assert received == [*map(str, range(100)), *map(str, range(100)), "last"]
    assert [line[0] for line in peer.lines].count("connect") == 1
    assert not [line for line in peer.lines if line[0] == "disconnect"]


def _publish_lines(port: int, lines: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request(
            "POST", "/publish", lines.encode(), {"Content-Type": "application/x-ndjson"}
        )
        assert connection.getresponse().status == 200
    finally:
        connection.close()


def _next(position: str, count: int) -> str:
    epoch, _, offset = position.partition(".")
    return f"{epoch}.{int(offset) + count}"


@pytest.mark.parametrize("kind", ["js 4", "js 2"])
def test_no_message_is_lost_during_the_upgrade(
    kind: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    While a client upgrades from polling to a websocket it gets each message once, in order.
    """
    server = daemon(r"--route=^/socket\.io/ socket.io:subscribe=news", ROUTES[1])
    peers = [connect(kind, server.url) for _ in range(8)]
    count = 300
    for number in range(count):
        publish(server.port, "news", b"%d" % number)
    publish(server.port, "news", b"last")

    for peer in peers:
        peer.wait("connect")
    for peer in peers:
        while not any(line[:3] == ["event", "message", "last"] for line in peer.lines):
            if _has_connected_late(peer):
                break
            peer.wait("event")
        received = [line[2] for line in peer.lines if line[:2] == ["event", "message"]]
        numbers = [int(text) for text in received if text != "last"]
        assert numbers == list(range(count - len(numbers), count))


def _has_connected_late(peer: Peer) -> bool:
    """
    Return whether the client joined after the last message: its cursor says so.
    """
    return any(
        line[:2] == ["event", "position"] and line[2].endswith(".301") for line in peer.lines
    )


def test_quiet_sessions_stay_open(daemon: StartDaemon, connect: Connect) -> None:
    """
    Pings keep the sessions open over several intervals; messages still arrive afterwards.
    """
    server = daemon(*ROUTES, "--socketio-ping-interval=1", "--socketio-ping-timeout=5")
    peers = {
        (kind, transport): connect(kind, server.url, TRANSPORTS[transport])
        for kind in KINDS
        for transport in ("polling", "websocket")
    }
    for peer in peers.values():
        peer.wait("connect")
        peer.request("subscribe", "news")
    # Eight intervals by the server's own clock: sessions that do not answer pings.
    _wait_for_silent_sessions_to_end(server, 2)
    publish(server.port, "news", b"still here")

    for kind, peer in peers.items():
        peer.wait("event", "message", "still here")
        assert not [line for line in peer.lines if line[0] == "disconnect"], kind


def _wait_for_silent_sessions_to_end(server: Server, times: int) -> None:
    for _ in range(times):
        sid = json.loads(_get(server, "EIO=4&transport=polling")[1][1:])["sid"]
        status = 200
        while status == 200:  # it receives pings, and answers none
            status, _ = _get(server, f"EIO=4&transport=polling&sid={sid}")
        assert status == 400


def _get(server: Server, query: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    try:
        connection.request("GET", f"/socket.io/?{query}")
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture
def cutter(daemon: StartDaemon) -> Iterator[Cutter]:
    """
    Return a relay to a daemon, whose connections break.
    """
    cutter = Cutter(daemon(*ROUTES, "--history=10000", "--history-bytes=64m").port)
    yield cutter
    cutter.close()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_clients_recover_after_cuts(transport: str, cutter: Cutter, connect: Connect) -> None:
    """
    Connections break again and again, at any byte: a client with connection state recovery
    reconnects by itself, is subscribed to its channels again, and gets each message once.
    """
    chance = random.Random(transport)
    peer = connect("js 4", cutter.url, TRANSPORTS[transport])
    peer.wait("connect")
    peer.request("subscribe", ["news", "sport"])
    cutter.budget = lambda: chance.choice(
        (chance.randrange(600, 4000), chance.randrange(4000, 60000))
    )
    cutter.cut()
    total = 0
    while cutter.cuts < 20:
        for _ in range(20):
            data = b'["%d", "%s"]' % (total, b"x" * chance.randrange(100))
            publish(cutter.server, ("news", "sport")[total % 2], data)
            total += 1
        # The client may not fall behind much: a portion of what it missed arrives whole or not
        # at all, so it has to fit between two cuts.
        while total - _received(peer) > 100:
            peer.wait("event", "message")
    cutter.budget = lambda: None
    publish(cutter.server, "news", b'["%d"]' % total)
    while _received(peer) <= total:
        peer.wait("event", "message")

    received = [int(line[2][0]) for line in peer.lines if line[:2] == ["event", "message"]]
    assert received == list(range(total + 1))
    assert not [line for line in peer.lines if line[:2] == ["event", "gap"]]
    connects = [line for line in peer.lines if line[0] == "connect"]
    assert len(connects) > 3
    assert all(recovered for _, _, recovered in connects[1:])


def test_a_large_replay_arrives_despite_cuts(cutter: Cutter, connect: Connect) -> None:
    """
    No connection carries all of it: polls get portions, and after each cut the rest.
    """
    chance = random.Random(1)
    peer = connect("js 4", cutter.url, ["polling"])
    peer.wait("connect")
    peer.request("subscribe", "news")
    publish(cutter.server, "news", b"[0]")
    peer.events("message", 1)
    cutter.budget = lambda: 1
    cutter.cut()
    count = 2000
    for number in range(1, count):
        publish(cutter.server, "news", b'[%d, "%s"]' % (number, b"x" * 1000))
    cutter.budget = lambda: chance.randrange(20_000, 150_000)
    cutter.cuts = 0

    received = peer.events("message", count)
    assert [line[0][0] for line in received] == list(range(count))
    assert not [line for line in peer.lines if line[:2] == ["event", "gap"]]
    assert cutter.cuts > 0


def _received(peer: Peer) -> int:
    return sum(line[:2] == ["event", "message"] for line in peer.lines)


@pytest.mark.parametrize("kind", KINDS)
def test_clients_reconnect_to_a_restarted_daemon(
    kind: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    A restarted daemon has no messages: a client that sends its position gets a gap.
    """
    server = daemon(*ROUTES)
    peer = connect(kind, server.url)
    peer.wait("connect")
    peer.request("subscribe", "news")
    position = publish(server.port, "news", b"before")
    peer.wait("event", "message", "before")

    server.restart(signal.SIGKILL)
    assert peer.wait("connect")[2] is False
    peer.request("subscribe", ["news"], {"since": position})

    [[gap]] = peer.events("gap", 1)
    assert gap["position"].partition(".")[0] != position.partition(".")[0]
    publish(server.port, "news", b"after")
    peer.wait("event", "message", "after")


def test_a_client_resumes_by_position_after_a_restart(
    daemon: StartDaemon, connect: Connect, tmp_path: Path
) -> None:
    """
    With a history on disk no message is lost: the client sends its position, and the route sets
    its channels.
    """
    server = daemon(
        r"--route=^/socket\.io/ socket.io:subscribe=news",
        ROUTES[1],
        f"--history-file={tmp_path}/log",
    )
    peer = connect("js 4", server.url, ["websocket"])
    peer.wait("connect")
    publish(server.port, "news", b"1")
    peer.wait("event", "message", "1")
    server.restart(signal.SIGKILL)
    publish(server.port, "news", b"2")
    publish(server.port, "news", b"3")
    assert peer.wait("connect")[2] is False
    peer.wait("event", "message", "3")

    assert [line[0] for line in peer.events("message", 3)] == ["1", "2", "3"]
    assert not [line for line in peer.lines if line[:2] == ["event", "gap"]]


@pytest.mark.parametrize("kind", KINDS)
def test_another_node_refuses_the_session(
    kind: str, daemon: StartDaemon, connect: Connect, cutter: Cutter
) -> None:
    """
    The client opens a new session there.
    """
    other = daemon(*ROUTES)
    peer = connect(kind, cutter.url, ["polling"])
    peer.wait("connect")
    cutter.server = other.port
    cutter.cut()

    assert peer.wait("connect")[2] is False
    peer.request("subscribe", "news")
    publish(other.port, "news", b"from there")
    peer.wait("event", "message", "from there")


def test_clients_reconnect_after_a_stop(daemon: StartDaemon, connect: Connect) -> None:
    """
    On SIGTERM sessions are closed in a way after which clients reconnect by themselves.
    """
    server = daemon(*ROUTES)
    peers = [
        connect(kind, server.url, [transport])
        for kind in KINDS
        for transport in ("polling", "websocket")
    ]
    for peer in peers:
        peer.wait("connect")
        peer.request("subscribe", "news")  # python-socketio reports `connect` a moment too early

    server.restart()

    for peer in peers:
        peer.wait("disconnect")
        peer.wait("connect")


def test_a_reload_keeps_sessions(daemon: StartDaemon, connect: Connect, tmp_path: Path) -> None:
    """
    SIGHUP builds the routes again; polling clients go on.
    """
    config = tmp_path / "realtime.conf"
    text = "route = ^/socket\\.io/ socket.io\nroute = ^/publish$ publish\n"
    config.write_text(text)
    server = daemon(f"--config={config}")
    peer = connect("js 4", server.url, ["polling"])
    peer.wait("connect")
    peer.request("subscribe", "news")

    config.write_text(text + "heartbeat = 20\n")
    server.send(signal.SIGHUP)
    _wait_for(lambda: "reloaded, changed: heartbeat" in server.log)
    publish(server.port, "news", b"after")

    peer.wait("event", "message", "after")
    peer.request("publish", "news", "more")
    assert not [line for line in peer.lines if line[0] == "disconnect"]


def _wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_example_application(
    kind: str, transport: str, daemon: StartDaemon, connect: Connect
) -> None:
    """
    The example has a namespace, rejects clients, and acknowledges an event that all clients get.
    """
    server = daemon(
        r"--route=^/live/ socket.io:app=socketio_chat.Chat",
        environment={"PYTHONPATH": str(ROOT / "examples")},
    )
    where = {"path": "/live/", "transports": TRANSPORTS[transport]}
    name = {"query": {"name": "Ann"}} if kind == "js 2" else {"auth": {"name": "Ann"}}
    url = f"{server.url}/chat" + ("?name=Ann" if kind == "js 2" else "")
    ann = connect(kind, url, **where, **({} if kind == "js 2" else name))
    bob = connect("js 4", f"{server.url}/chat", **where, auth={"name": "Bob"})
    stranger = connect("js 4", f"{server.url}/chat", **where)
    assert stranger.wait("error")[1] == "this is /chat, for people with a name"
    for peer in (ann, bob):
        peer.wait("connect")

    [answer] = ann.request("say", "Hello!")

    line = {"name": "Ann", "text": "Hello!"}
    for peer in (ann, bob):
        assert peer.events("said", 1) == [[line, answer["position"]]]
