"""
What a connection takes is freed when it ends, not when the garbage collector finds it.

A websocket with compression has 300 KiB. If these wait for the garbage collector, the memory of
the daemon goes up and down by megabytes.
"""

from __future__ import annotations

import base64
import http.client
import json
import socket
import struct
import time
from typing import Any

from tests.real.conftest import PATIENCE, PAUSE, Server, StartDaemon
from tests.unit.rtmp import client as rtmp

COUNT = 20
ROUTES = (
    "--route=^/garbage$ tests.real.garbage.ReportGarbage",
    "--route=^/sse$ sse:news",
    "--route=^/poll$ poll:news",
    "--route=^/stream$ stream:news",
    "--route=^/ws$ websocket",
    r"--route=^/socket\.io/ socket.io:subscribe=news",
    "--route=^/engine/ engine.io:subscribe=news",
    "--route=^/live/cam$ rtmp:publish=cam,takeover=yes",
    r"--route=GET ^/cam\.webm$ webm:cam",
    "--route=^/rtsp$ rtsp:news,wait=0",
    "--route=^/in$ istream:cam",
    "--route=^/files$ upload:to=.",
)


def request(path: str, *headers: str) -> bytes:
    """
    Return a GET request.
    """
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


def post(path: str, length: int) -> bytes:
    """
    Return the head of a POST request with the key of the daemon.
    """
    head = request(path, f"Content-Length: {length}", "X-Publish-Key: k", "X-File-Name: a.bin")
    return head.replace(b"GET", b"POST")


def handshake(path: str, *headers: str) -> bytes:
    """
    Return a request for a websocket.
    """
    key = base64.b64encode(bytes(16)).decode()
    return request(
        path,
        *("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
        f"Sec-WebSocket-Key: {key}",
        *headers,
    )


RTSP = b"%b rtsp://127.0.0.1/rtsp RTSP/1.0\r\nCSeq: 1\r\n\r\n"
KINDS = {
    # First: its sessions end after the ping timeout, while the others are tried.
    "socket.io by polling": request("/socket.io/?EIO=4&transport=polling"),
    "not found": request("/none"),
    "malformed": b"GARBAGE\r\n\r\n",
    "sse": request("/sse"),
    "poll that waits": request("/poll"),
    "poll with a response": request("/poll?wait=0"),
    "poll that times out": request("/poll?wait=0.1"),
    "target that is too long": request("/" + 20_000 * "x"),
    "stream": request("/stream"),
    "websocket": handshake("/ws?channels=news"),
    "websocket with compression": handshake(
        "/ws?channels=news", "Sec-WebSocket-Extensions: permessage-deflate"
    ),
    "socket.io by websocket": handshake("/socket.io/?EIO=4&transport=websocket"),
    "socket.io 2 by websocket": handshake("/socket.io/?EIO=3&transport=websocket"),
    "engine.io by websocket": handshake("/engine/?EIO=4&transport=websocket"),
    "rtmp without a stream": rtmp.HANDSHAKE,
    "rtmp refused": rtmp.dialogue("other", "cam"),
    "rtmp publisher": rtmp.dialogue("live", "cam") + rtmp.avc_configuration(),
    "rtsp": RTSP % b"OPTIONS",
    "rtsp without a publisher": RTSP % b"DESCRIBE",
    "viewer that waits": request("/cam.webm"),
    "live publisher": post("/in", 100_000) + bytes.fromhex("1a45dfa3"),
    "upload": post("/files", 100_000) + bytes(5000),
}
SILENT = {"poll that waits", "viewer that waits", "live publisher", "upload"}  # no response yet


def ask(server: Server) -> Any:
    """
    Return what the daemon reports.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", "/garbage", headers={"Connection": "close"})
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


def begin(server: Server, kind: str) -> socket.socket:
    """
    Open a connection, and wait for what the daemon sends first.
    """
    client = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
    client.sendall(KINDS[kind])
    if kind not in SILENT:
        assert client.recv(4096)
    return client


def end(client: socket.socket, reset: bool) -> None:
    """
    Close a connection, in the regular way or by a reset.
    """
    if reset:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def test_connections_leave_no_garbage(daemon: StartDaemon) -> None:
    """
    Whatever a client did, and however it disconnects.
    """
    server = daemon(
        *ROUTES,
        *(
            "--http-secret=k",
            "--socketio-ping-interval=1",
            "--socketio-ping-timeout=1",
            "--socketio-recovery=0",
        ),
    )
    ask(server)
    for kind in KINDS:
        for reset in (False, True):
            for client in [begin(server, kind) for _ in range(COUNT)]:
                end(client, reset)
            deadline = time.monotonic() + PATIENCE
            garbage: dict[str, int] = {}
            while (found := ask(server))["connections"] > 1 and time.monotonic() < deadline:
                garbage |= found["garbage"]
                time.sleep(PAUSE)
            garbage |= found["garbage"]
            assert not [name for name, count in garbage.items() if count >= COUNT / 2], (
                kind,
                reset,
                garbage,
            )
            assert found["connections"] == 1, (kind, reset)
