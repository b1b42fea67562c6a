"""
Many clients that send compressed input at once do not keep others from being served.
"""

from __future__ import annotations

import gzip
import http.client
import json
import os
import signal
import socket
from typing import Any

from tests.real.conftest import PATIENCE, Server, StartDaemon
from tests.real.test_garbage import handshake, post
from tests.unit.codecs.websocket_frames import compress, masked

COUNT = 20  # clients of each kind
EACH = 4  # messages of a websocket
SIZE = 900_000  # bytes of a message, from about a thousand
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"
MESSAGE = masked(1, compress(b" " * SIZE), rsv=4)
EVENT = masked(1, compress(b'42["noted","' + b" " * SIZE + b'"]'), rsv=4)
BODY = gzip.compress(b" " * SIZE, mtime=0)


def connect(server: Server, request: bytes, *answers: bytes) -> socket.socket:
    """
    Open a connection, send *request*, and wait for what the daemon answers.
    """
    client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    client.sendall(request)
    received = b""
    while not all(answer in received for answer in answers):
        piece = client.recv(4096)
        assert piece, received
        received += piece
    return client


def socketio(server: Server) -> socket.socket:
    """
    Open a Socket.IO session over a websocket with compression.
    """
    client = connect(server, handshake("/socket.io/?EIO=4&transport=websocket", DEFLATE), b'{"sid"')
    client.sendall(masked(1, b"40"))
    while b"40{" not in client.recv(4096):
        pass
    return client


def ask(connection: http.client.HTTPConnection) -> tuple[int, int]:
    """
    Return how many messages of websockets, and how many of publishers, were processed.
    """
    answer = json.loads(connection.getresponse().read())
    messages: dict[str, Any] = answer["messages"]
    return answer["websockets"]["messages"], messages["published"]


def test_inflating_leaves_room_for_others(daemon: StartDaemon) -> None:
    """
    Forty websockets and twenty publishers send 180 MB, compressed, while the daemon is stopped.
    When it goes on, a request that came last is answered when it has inflated three of them at
    most. All of them are processed later.
    """
    server = daemon(
        "--route=^/ws$ websocket",
        r"--route=^/socket\.io/ socket.io:subscribe=news",
        "--route=^/publish$ publish:channel=news",
        "--route=^/stats$ stats:full",
        "--http-secret=k",
        "--max-message=1m",
    )
    stats = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    stats.connect()
    plain = [connect(server, handshake("/ws", DEFLATE), b"101 ") for _ in range(COUNT)]
    sessions = [socketio(server) for _ in range(COUNT)]
    head = post("/publish", len(BODY)).replace(
        b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\nContent-Type: text/plain\r\n\r\n"
    )
    publishers = [
        socket.create_connection(("127.0.0.1", server.port), PATIENCE) for _ in range(COUNT)
    ]
    stats.request("GET", "/stats")
    before = ask(stats)
    os.kill(server.pid, signal.SIGSTOP)
    for client in plain:
        client.sendall(MESSAGE * EACH)
    for client in sessions:
        client.sendall(EVENT * EACH)
    for client in publishers:
        client.sendall(head + BODY)
    stats.request("GET", "/stats")
    os.kill(server.pid, signal.SIGCONT)
    first = last = ask(stats)
    assert first[0] - before[0] + first[1] - before[1] <= 3
    while last != (before[0] + 2 * COUNT * EACH, before[1] + COUNT):
        stats.request("GET", "/stats")
        last = ask(stats)
    for client in publishers:
        assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    for client in (*plain, *sessions, *publishers):
        client.close()
    stats.close()
