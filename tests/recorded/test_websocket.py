"""
Websockets: the JSON protocol, raw messages, and handshakes that are refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.real.conftest import Server
from tests.recorded.conftest import Check, run_daemon
from tests.recorded.peers import HttpPeer, WebSocketPeer, publish, recording


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """
    A daemon whose routes name the channels.
    """
    yield from run_daemon(
        tmp_path_factory.mktemp("routed"),
        "--http-secret=secret",
        "--websocket-message=100",
        r"--route=^/publish$ publish",
        r"--route=^/poll$ poll",
        r"--route=^/ws$ websocket:subprotocol=one,subprotocol=two",
        r"--route=^/chat/(\w+)$ websocket:subscribe=$1,publish=$1,prefix=<,suffix=>,history=2",
        r"--route=^/listen$ websocket:binary=yes,subscribe=listen",
        r"--route=^/room$ websocket:subscribe=room,publish=room,protocol=json",
    )


def command(type_: str, **fields: object) -> str:
    """
    A frame of the JSON protocol.
    """
    return json.dumps({"type": type_, **fields})


def test_json(shared: Server, check: Check) -> None:
    """
    A dialogue with all commands, answers and errors.
    """
    record = recording(shared)
    record.title("connect and subscribe")
    first = publish(shared, "ws-a", "one")
    publish(shared, "ws-b", b"\xff", "bytes")
    with HttpPeer(shared, record) as http:
        socket = WebSocketPeer(http, "/ws?channels=ws-a")
        socket.receive()
        socket.send(command("subscribe", id=1, channels=["ws-b"], since="all"))
        socket.receive(3)
        socket.send(command("subscribe", id="x", channels="ws-c", history=3))
        socket.receive(2)
        socket.send(command("subscribe", channels=["ws-c"]))
        socket.receive()
        socket.send(command("ping"))
        socket.receive()
        socket.send(command("ping", id=2))
        socket.receive()
        record.title("publish")
        socket.send(command("publish", id=3, channel="ws-none", message="x", event="e"))
        socket.receive()
        socket.send(command("publish", id=4, channel=["ws-none", "ws-other"], base64="/w=="))
        socket.receive()
        for _ in range(2):
            socket.send(command("publish", id=5, channel="ws-none", message={"a": 1},
                                idempotency_key="k"))  # fmt: skip
            socket.receive()
        record.title("messages")
        publish(shared, "ws-a", "hello", "greeting")
        socket.receive()
        publish(shared, "ws-b", b"\xff\x00")
        socket.receive()
        publish(shared, "ws-b", "")
        socket.receive()
        record.title("unsubscribe")
        socket.send(command("unsubscribe", id=6, channels=["ws-b", "ws-unknown"]))
        socket.receive()
        record.title("a gap")
        socket.send(command("subscribe", id=7, channels=["ws-b"], since="00000000.7"))
        socket.receive(6)
        record.title("mistakes")
        for wrong in (
            "no JSON",
            "[]",
            command("unknown", id=8),
            json.dumps({"id": 8}),
            command("subscribe", id=8),
            command("subscribe", id=8, channels=["a*"]),
            command("subscribe", id=8, channels=["a"], since="x"),
            command("subscribe", id=8, channels=["a"], more=1),
            command("publish", id=8, channel="a"),
            command("publish", id=8, channel="a", message="x", event="gap"),
            command("key", id=8, key="wrong"),
            command("ping", id=1.5),
        ):
            socket.send(wrong)
            socket.receive()
        record.title("the protocol's own ping, and the end")
        socket.send(b"are you there", 9)
        socket.receive()
        socket.send(b"\x03\xe8bye", 8)
        socket.receive()
        socket.end()
    record.title("resumed by the URL")
    with HttpPeer(shared, record) as http:
        socket = WebSocketPeer(http, f"/ws?channels=ws-a,ws-b&since={first}")
        socket.receive(5)
    check("websocket-json.txt", record)


def test_compression(shared: Server, check: Check) -> None:
    """
    permessage-deflate is agreed upon, and used for long messages only.
    """
    record = recording(shared)
    with HttpPeer(shared, record) as http:
        offer = "permessage-deflate; client_max_window_bits"
        socket = WebSocketPeer(http, "/ws?channels=ws-z", f"Sec-WebSocket-Extensions: {offer}")
        socket.receive()
        publish(shared, "ws-z", "short")
        socket.receive()
        publish(shared, "ws-z", "x" * 1000)
        socket.receive()
    check("websocket-compressed.txt", record)


def test_keys_and_routes(routed: Server, check: Check) -> None:
    """
    Keys, raw routes, subprotocols.
    """
    record = recording(routed)
    record.title("keys")
    with HttpPeer(routed, record) as http:
        socket = WebSocketPeer(http, "/ws", "Sec-WebSocket-Protocol: three, two, one")
        socket.receive()
        for fields in ({}, {"key": "wrong"}, {"key": "secret"}):
            socket.send(command("publish", id=1, channel="keys", message="x", **fields))
            socket.receive()
        socket.send(command("key", id=2, key="secret"))
        socket.receive()
        socket.send(command("publish", id=3, channel="keys", message="x"))
        socket.receive()
        socket.send(command("publish", id=4, channel="keys", message="x" * 60))
        socket.end_after_frames()
    for path in ("/ws?key=secret", "/ws"):
        header = () if "?" in path else ("Authorization: Bearer secret",)
        with HttpPeer(routed, record) as http:
            socket = WebSocketPeer(http, path, *header)
            socket.receive()
            socket.send(command("publish", id=5, channel="keys", message="x"))
            socket.receive()
    record.title("raw, both ways")
    with HttpPeer(routed, record) as http:
        socket = WebSocketPeer(http, "/chat/talk")
        for message in ("hello", b"\xff"):
            socket.send(message)
            socket.receive()
    with HttpPeer(routed, record) as http:
        WebSocketPeer(http, "/chat/talk").receive(2)
    record.title("raw, binary, listening only")
    with HttpPeer(routed, record) as http:
        socket = WebSocketPeer(http, "/listen?since=all")
        with HttpPeer(routed) as other:
            other.ask("POST /publish?channel=listen", "X-Publish-Key: secret",
                      "Content-Type: text/plain", body="text")  # fmt: skip
        socket.receive()
        socket.send("not expected")
        socket.end_after_frames()
    record.title("a route with channels, in JSON")
    with HttpPeer(routed, record) as http:
        socket = WebSocketPeer(http, "/room")
        socket.receive()
        socket.send(command("subscribe", id=6, channels=["more"]))
        socket.receive()
        socket.send(command("publish", id=7, channel="other", message="x"))
        socket.receive()
    record.title("text that is not UTF-8, and a frame of a wrong kind")
    for data, opcode in ((b"\xff", 1), (b"x" * 101, 1), (b"x", 5)):
        with HttpPeer(routed, record) as http:
            socket = WebSocketPeer(http, "/chat/wrong")
            socket.send(data, opcode)
            socket.end_after_frames()
    check("websocket-routes.txt", record)


def test_refused(shared: Server, check: Check) -> None:
    """
    What is answered when there is no websocket to be had.
    """
    record = recording(shared)
    upgrade = ("Upgrade: websocket", "Connection: Upgrade")
    key, version = f"Sec-WebSocket-Key: {WebSocketPeer.KEY}", "Sec-WebSocket-Version: 13"
    for title, line, headers in (
        ("a plain GET", "GET /ws", ()),
        ("HTTP/1.0", "GET /ws HTTP/1.0", (*upgrade, key, version)),
        ("another version", "GET /ws", (*upgrade, key, "Sec-WebSocket-Version: 8")),
        ("no key", "GET /ws", (*upgrade, version)),
        ("a short key", "GET /ws", (*upgrade, "Sec-WebSocket-Key: abc", version)),
        ("POST", "POST /ws", (*upgrade, key, version)),
        ("a page of another site", "GET /ws",
         (*upgrade, key, version, "Origin: http://elsewhere.example")),
        ("a wrong channel", "GET /ws?channels=a*", (*upgrade, key, version)),
        ("a wrong position", "GET /ws?channels=a&since=x", (*upgrade, key, version)),
    ):  # fmt: skip
        record.title(title)
        with HttpPeer(shared, record) as http:
            http.ask(line, *headers)
    record.title("a page of the same site")
    with HttpPeer(shared, record) as http:
        WebSocketPeer(http, "/ws", f"Origin: http://127.0.0.1:{shared.port}")
    check("websocket-refused.txt", record)
