"""
Socket.IO clients of Engine.IO 3 and 4, by polling, by websocket and by an upgrade.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.real.conftest import Server
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HttpPeer, publish, recording
from tests.recorded.socketio_peers import PollingPeer, SocketPeer


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    A daemon whose routes name the channels.
    """
    yield from run_daemon(
        tmp_path_factory.mktemp("routed"),
        "--http-secret=secret",
        "--socketio-ping-interval=20",
        "--socketio-ping-timeout=10",
        "--socketio-max-payload=1000",
        r"--route=^/publish$ publish",
        r"--route=^/poll$ poll",
        r"--route=^/socket\.io/ socket.io",
        r"--route=^/news/ socket.io:subscribe=news,subscribe=sport,history=10",
        r"--route=^/chat/ socket.io:subscribe=chat,publish=chat,positions=no",
    )


def event(number: int, *arguments: object) -> str:
    """
    An event packet, with an acknowledgement asked for by *number*.
    """
    return f"42{number}{json.dumps(arguments, separators=(',', ':'))}"


def talk(server: Server, peer: PollingPeer | SocketPeer, name: str, revision: int) -> str:
    """
    Connect and use all commands; the position of the last message.
    """
    a, b = f"{name}-a", f"{name}-b"
    if revision == 4:
        peer.send("40")
    peer.receive()
    publish(server, a, "old")
    for arguments in (("subscribe", a, {"since": "all"}), ("join", [a, b], {"history": 1})):
        peer.send(event(1, *arguments))
        peer.receive(2)
    publish(server, a, '{"goal": [1, 2]}')
    peer.receive()
    publish(server, b, "text", "kind")
    peer.receive()
    publish(server, b, "17", "connect")
    peer.receive()
    publish(server, b, b"\xff\x00")
    peer.receive(2)
    peer.send(event(2, "publish", f"{name}-c", {"a": "b"}, "said"))
    peer.receive()
    peer.send(event(3, "unsubscribe", b))
    peer.receive()
    for wrong in (("subscribe",), ("subscribe", "a*"), ("subscribe", a, {"since": "x"}),
                  ("publish", "x"), ("publish", "x", "y", "gap"), ("unknown", 1)):  # fmt: skip
        peer.send(event(4, *wrong))
        peer.receive()
    peer.send(event(5, "subscribe", b, {"since": "00000000.7"}))
    peer.receive(7)
    last = publish(server, a, "last")
    peer.receive()
    return last


@pytest.mark.parametrize("revision", [3, 4])
def test_polling(revision: int, shared: Server, check: Check) -> None:
    """
    All commands by long-polling.
    """
    record = recording(shared)
    peer = PollingPeer(shared, record, revision)
    talk(shared, peer, f"polling{revision}", revision)
    record.title("the end")
    peer.send("41")
    check(f"socketio-polling-{revision}.txt", record)


@pytest.mark.parametrize("revision", [3, 4])
def test_websocket(revision: int, shared: Server, check: Check) -> None:
    """
    All commands by websocket.
    """
    record = recording(shared)
    with HttpPeer(shared, record) as http:
        peer = SocketPeer(http, revision)
        peer.receive()
        talk(shared, peer, f"socket{revision}", revision)
        if revision == 3:
            record.title("a ping")
            peer.send("2")
            peer.receive()
        record.title("the end")
        peer.send("1")
        peer.end()
    check(f"socketio-websocket-{revision}.txt", record)


def test_upgrade(shared: Server, check: Check) -> None:
    """
    A session changes from polling to a websocket and is recovered on another one.
    """
    record = recording(shared)
    record.title("upgrade")
    polling = PollingPeer(shared, record)
    polling.send("40")
    pid = json.loads(polling.receive()[2:])["pid"]
    with HttpPeer(shared, record) as http:
        peer = SocketPeer(http, 4, f"&sid={polling.sid}")
        peer.send("2probe")
        peer.receive()
        peer.send("5")
        peer.send(event(1, "subscribe", "upgrade"))
        peer.receive(2)
        position = publish(shared, "upgrade", "one")
        peer.receive()
        peer.close()
    publish(shared, "upgrade", "two")
    record.title("recovery")
    with HttpPeer(shared, record) as http:
        peer = SocketPeer(http)
        peer.receive()
        peer.send("40" + json.dumps({"pid": pid, "offset": position}))
        peer.receive(2)
    check("socketio-upgrade.txt", record)


def test_routes(routed: Server, check: Check) -> None:
    """
    Routes with channels, keys, namespaces that are not there, and requests that are refused.
    """
    record = recording(routed)
    record.title("channels of the route")
    with HttpPeer(routed, record) as http:
        peer = SocketPeer(http, path="/news/")
        peer.send("40")
        peer.receive(3)
        peer.send(event(1, "subscribe", "other"))
        peer.receive()
        peer.send("40/other,")
        peer.receive()
    record.title("whatever is emitted is published")
    with HttpPeer(routed, record) as http:
        peer = SocketPeer(http, path="/chat/")
        peer.send("40")
        peer.receive(2)
        peer.send('42["message","hello"]')
        peer.receive()
        peer.send('42["said",{"a":1},2]')
        peer.receive()
        peer.send('451-["bytes",{"_placeholder":true,"num":0}]', b"\xff")
        peer.receive(2)
    record.title("keys")
    for key in ("", '{"key":"wrong"}', '{"key":"secret"}'):
        with HttpPeer(routed, record) as http:
            peer = SocketPeer(http)
            peer.send(f"40{key}")
            peer.receive(2)
            peer.send(event(1, "publish", "socketio-keys", "x"))
            peer.receive()
    record.title("refused")
    for method, query in (
        ("GET", "EIO=5&transport=polling"),
        ("GET", "transport=polling"),
        ("GET", "EIO=4&transport=other"),
        ("GET", "EIO=4&transport=websocket"),
        ("GET", "EIO=4&transport=polling&sid=unknown"),
        ("POST", "EIO=4&transport=polling&sid=unknown"),
        ("POST", "EIO=4&transport=polling"),
        ("PUT", "EIO=4&transport=polling"),
    ):
        with HttpPeer(routed, record) as http:
            http.ask(f"{method} /socket.io/?{query}", body="x" if method == "POST" else "")
    check("socketio-routes.txt", record)
