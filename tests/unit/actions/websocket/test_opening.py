"""
The opening handshake of websockets, without sockets or real time.
"""

from __future__ import annotations

import pytest

from tests.defaults import make_hub_limits, make_websocket_limits
from tests.unit.actions.websocket.daemon import (
    HANDSHAKE,
    SECRETS,
    Peer,
    WebSocketDaemon,
    position,
)
from tests.unit.codecs.websocket_frames import masked
from tests.unit.http.clients import get
from tests.unit.http.h2_client import Client


def test_handshake_is_answered_with_101() -> None:
    """
    The response has the headers of RFC 6455, 4.2.2, and none that frames a body.
    """
    peer = WebSocketDaemon().open()

    assert peer.status == 101
    assert peer.head.startswith("HTTP/1.1 101 Switching Protocols\r\n")
    assert "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in peer.head
    for name in ("Content-Length", "Transfer-Encoding", "Connection: close", "Extensions"):
        assert name not in peer.head
    assert peer.received() == [position(0)]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (get(b"/ws"), 426),
        (get(b"/ws", HANDSHAKE.replace("13", "8").encode()), 426),
        (get(b"/ws", HANDSHAKE.replace("Connection: Upgrade\r\n", "").encode()), 400),
        (get(b"/ws", HANDSHAKE.encode(), b"1.0"), 501),
        (get(b"/ws", HANDSHAKE.encode()).replace(b"GET", b"HEAD"), 405),
        (get(b"/ws", HANDSHAKE.encode()).replace(b"GET", b"POST"), 405),
        (get(b"/ws?channels=%20", HANDSHAKE.encode()), 400),
        (get(b"/ws?since=x", HANDSHAKE.encode()), 400),
        (get(b"/own", HANDSHAKE.encode() + b"Origin: http://evil\r\n"), 403),
    ],
)
def test_invalid_handshake_gets_an_http_error(request_: bytes, status: int) -> None:
    """
    An invalid handshake is answered as any request, and the connection can be used again.
    """
    daemon = WebSocketDaemon()
    caller = daemon.call(request_)
    daemon.turn()

    answers = caller.responses(request_.split()[0].decode())
    assert [answer.status for answer in answers] == [status]
    if status == 426:
        assert answers[0].headers["upgrade"] == "websocket"
        assert answers[0].headers["sec-websocket-version"] == "13"
    if caller.open:
        caller.send(get(b"/none"))
        assert [answer.status for answer in caller.responses(request_.split()[0].decode())][1:] == [
            404
        ]


@pytest.mark.parametrize(
    ("origins", "origin", "status"),
    [
        ("same", "http://localhost:3000", 101),
        ("same", "https://LOCALHOST", 101),
        ("same", "http://localhost.evil", 403),
        ("same", "http://evil", 403),
        ("same", "null", 403),
        ("same", "http://evil/localhost:80", 403),
        ("https://a.example same", "https://a.example", 101),
        ("https://a.example", "http://a.example", 403),
        ("https://a.example", "http://localhost", 403),
        ("*", "http://evil", 101),
    ],
)
def test_only_allowed_origins_open_websockets(origins: str, origin: str, status: int) -> None:
    """
    A browser opens a websocket for any page, with cookies: only allowed origins get one.
    """
    daemon = WebSocketDaemon(websockets=make_websocket_limits(origins=frozenset(origins.split())))

    assert daemon.open(headers=f"Origin: {origin}\r\n").status == status


@pytest.mark.parametrize("cut", [0, 1, 5])
@pytest.mark.parametrize("late", [False, True])
def test_bytes_after_the_handshake_are_processed(late: bool, cut: int) -> None:
    """
    Frames in the same segment as the handshake are processed, also if admission delays it.
    """
    daemon = WebSocketDaemon(
        limits=make_hub_limits(join_rate=1, join_queue=5) if late else make_hub_limits()
    )
    if late:
        for _ in range(3):
            daemon.open()
    sent = get(b"/ws", HANDSHAKE.encode()) + masked(1, b'{"type":"ping","id":1}')
    peer = Peer(daemon)
    for at in range(0, len(sent), cut or len(sent)):
        peer.send(sent[at : at + (cut or len(sent))])
    assert (peer.caller.written() == b"") is late
    daemon.clock.pump([0.5] * 20)

    assert peer.received()[:2] == [position(0), {"type": "pong", "id": 1}]


def test_pipelined_requests_around_a_refused_upgrade() -> None:
    """
    Requests pipelined before and after a refused upgrade are all answered, in order.
    """
    daemon = WebSocketDaemon()
    refused = get(b"/none", HANDSHAKE.encode())
    caller = daemon.call((get(b"/none") + refused) * 300 + get(b"/none"))

    assert [answer.status for answer in caller.responses()] == [404] * 601


@pytest.mark.parametrize(
    ("framing", "body"),
    [("Content-Length: 5", b"hello"), ("Transfer-Encoding: chunked", b"5\r\nhello\r\n0\r\n\r\n")],
)
def test_handshake_with_a_body_is_refused(framing: str, body: bytes) -> None:
    """
    A proxy would forward as a body what the server reads as frames.
    """
    daemon = WebSocketDaemon()
    caller = daemon.call(get(b"/ws", f"{HANDSHAKE}{framing}\r\n".encode()) + body)
    daemon.turn()

    assert [answer.status for answer in caller.responses()] == [400]
    assert not caller.open


def test_null_origin_does_not_match_an_empty_host() -> None:
    """
    A sandboxed page has the origin null, which is not the same as a missing Host.
    """
    daemon = WebSocketDaemon()
    handshake = get(b"/ws", f"{HANDSHAKE}Origin: null\r\n".encode())
    peer = Peer(daemon)
    peer.send(handshake.replace(b"Host: a", b"Host:"))

    assert peer.status == 403


def test_client_that_disconnects_while_queued_leaves_nothing() -> None:
    """
    A client that disconnects in the join queue leaves neither a subscriber nor a timer.
    """
    daemon = WebSocketDaemon(limits=make_hub_limits(join_rate=1, join_queue=5))
    before = len(daemon.clock.getDelayedCalls())
    peers = [daemon.open() for _ in range(4)]
    for peer in peers:
        peer.disconnect()
    daemon.clock.pump([0.5] * 20)

    assert daemon.hub.current_metrics().subscribers == 0
    assert len(daemon.clock.getDelayedCalls()) == before


def test_full_daemon_refuses_websockets() -> None:
    """
    A websocket over max-readers is refused with 503.
    """
    daemon = WebSocketDaemon(limits=make_hub_limits(subscribers=1))
    daemon.open()

    assert daemon.open().status == 503


def test_http_2_request_is_refused() -> None:
    """
    A websocket request over HTTP/2 gets 501, and the connection goes on.
    """
    client = Client(WebSocketDaemon())

    assert client.ask("/ws").status == 501
    assert client.ask("/none").status == 404


@pytest.mark.parametrize("path", ["/ws", "/chat", "/own", "/socket.io/?EIO=4&transport=websocket"])
def test_response_names_a_subprotocol_and_never_a_key(path: str) -> None:
    """
    No route with websockets returns the key; a key without a subprotocol is refused.
    """
    daemon = WebSocketDaemon("^/socket.io/ socket.io", publish_keys=SECRETS)
    own = path == "/own"
    name = "mqtt" if own else "realtime"
    peer = daemon.open(path, f"Sec-WebSocket-Protocol: key.czNjcmV0, {name}\r\n")

    assert peer.status == 101
    assert f"Sec-WebSocket-Protocol: {name}" in peer.head.split("\r\n")
    assert "czNjcmV0" not in peer.head
    assert daemon.open(path, "Sec-WebSocket-Protocol: key.czNjcmV0\r\n").status == 400
    for wrong in ("key.", "key.a b", "key.=="):
        refused = daemon.open(path, f"Sec-WebSocket-Protocol: {name}, {wrong}\r\n")
        assert refused.status == 400
