"""
Clients that close their sending side behind the request, as Jetty does with `Connection: close`,
and `nc -N`.
"""

from __future__ import annotations

import json
import socket
from pathlib import Path

from tests.real.conftest import PATIENCE, Server, StartDaemon, free_port

APPLICATION = """
import time

def application(environ, start_response):
    time.sleep(0.3)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"waited"]
"""


def ask(server: Server, request: str) -> tuple[bytes, bytes]:
    """
    Send *request* and close the sending side.

    Returns:
        the status line and the body.
    """
    with socket.create_connection(("127.0.0.1", server.port), PATIENCE) as sock:
        sock.sendall(request.encode())
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while piece := sock.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    return head.partition(b"\r\n")[0], body


def test_half_closed_clients_are_answered(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A half-closed client is answered, whether the response waits for a disk, a message, a thread or
    another server.
    """
    (tmp_path / "waiting.py").write_text(APPLICATION)
    port = free_port()
    server = daemon(
        f"--history-file={tmp_path}/log",
        "--route=^/publish$ publish",
        "--route=^/poll$ poll",
        "--route=^/app wsgi:waiting:application",
        f"--route=^/passed http:to=127.0.0.1:{port},strip=/passed",
        environment={"PYTHONPATH": str(tmp_path)},
        port=port,
    )
    head = "Host: 127.0.0.1\r\nConnection: close\r\n"
    publish = f"POST /publish?channel=a HTTP/1.1\r\n{head}Content-Length: 1\r\n\r\nx"

    status, body = ask(server, publish)
    position = json.loads(body)["position"]
    poll = f"GET /poll?channels=a&wait=1&since={position} HTTP/1.1\r\n{head}\r\n"
    polled = ask(server, poll)
    waited = ask(server, f"GET /app HTTP/1.1\r\n{head}\r\n")
    passed = ask(server, f"GET /passed/app HTTP/1.1\r\n{head}\r\n")
    both = ask(server, f"GET /app HTTP/1.1\r\nHost: a\r\n\r\nGET /app HTTP/1.1\r\n{head}\r\n")
    cut = ask(server, publish[:-1])

    assert status == b"HTTP/1.1 200 OK"
    assert polled[0] == b"HTTP/1.1 200 OK"
    assert json.loads(polled[1])["messages"] == []
    assert waited == passed == (b"HTTP/1.1 200 OK", b"waited")
    assert both[1].count(b"waited") == 2
    assert cut[0] == b"HTTP/1.1 400 Bad Request"
