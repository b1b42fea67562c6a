"""
Clients of an application behind the daemon: by HTTP/1.1 and HTTP/2, forging, and leaving.
"""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon, free_port, require
from tests.real.test_reload import wait_until
from tests.real.test_reverse_proxy import SERVERS, StartApplication, ask
from tests.real.test_tls import Secure

CLIENTS = Path(__file__).with_name("clients")


class Front:
    """
    A daemon with a TLS port in front of an application of node.

    Args:
        serve: the fixture.
        daemon: likewise.
        folder: where certificates are written.
        options: of the daemon.
    """

    def __init__(self, serve: Serve, daemon: StartDaemon, folder: Path, *options: str) -> None:
        self.application = free_port()
        self._node = require("node", "nodejs")
        serve(
            [self._node, str(CLIENTS / "proxied_node.js"), str(self.application)], self.application
        )
        lines = ("--internal-route=^/-/sse/(.+)$ sse:$1", "--route=^/stats$ stats:full")
        self.secure = Secure(
            daemon, folder, *lines, f"--route=^/ http:127.0.0.1:{self.application}", *options
        )

    @property
    def server(self) -> Server:
        """
        Return the daemon.
        """
        return self.secure.server

    def run(self, *arguments: str) -> str:
        """
        Run the client, and return what it prints.
        """
        ports = str(self.server.port), str(self.secure.port)
        command = [self._node, str(CLIENTS / "proxy_client.js"), *ports]
        command += [self.secure.authority.file, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def stats(self) -> Any:
        """
        Return the daemon's metrics.
        """
        return json.loads(ask(self.server, "/stats")[1])

    def running(self) -> list[str]:
        """
        Return the paths of the requests that the application has.
        """
        found: list[str] = json.loads(ask(self.server, "/running")[1])
        return found


@pytest.mark.limit(60)
def test_interim_responses_and_trailers(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    103 Early Hints and trailers reach clients of HTTP/1.1 and HTTP/2, without the headers in them
    that are for the daemon; interim responses also before a hand-over.
    """
    front = Front(serve, daemon, tmp_path)
    for seen in json.loads(front.run("hints", "/hints")).values():
        [[status, hints]] = seen["interim"]
        assert (status, hints["link"]) == (103, "</a.css>; rel=preload")
        assert "grip-hold" not in hints
        assert (seen["status"], seen["body"]) == (200, "body")
        assert seen["trailers"] == {"x-sum": "7"}
    for seen in json.loads(front.run("hints", "/hinted-events")).values():
        assert [status for status, _ in seen["interim"]] == [103]
        assert seen["headers"]["content-type"].startswith("text/event-stream")
        assert seen["headers"]["x-own"] == "1"
        assert "x-accel-redirect" not in seen["headers"]


@pytest.mark.limit(90)
@pytest.mark.parametrize(
    ("path", "moment"),
    [
        ("/never", "sent"),  # before the head
        ("/endless", "head"),
        ("/endless", "data"),
        ("/slow-events", "sent"),  # while the body is received that comes first
        ("/events", "head"),
        ("/events", "data"),
        ("/held", "sent"),
    ],
)
def test_clients_leave(
    path: str, moment: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    Nothing is left of their requests: no place at the application, no connection, no subscriber.
    """
    key = "--grip-key=0123456789abcdef0123456789abcdef"
    front = Front(serve, daemon, tmp_path, "--upstream-connections=20", key)
    for _ in range(3):
        front.run("leave", path, moment, "10")
    wait_until(lambda: front.running() == ["/running"])
    wait_until(lambda: front.stats()["readers"]["now"] == 0)
    stats = front.stats()
    assert stats["relay"]["unreachable"] == stats["relay"]["timeouts"] == 0
    assert stats["relay"]["broken"] == stats["relay"]["refused"] == 0
    taken = stats["handovers"]["redirect"] + stats["handovers"]["grip"]
    if path != "/slow-events":  # some leave after the second in which its body may come
        assert taken == (60 if path in ("/events", "/held") else 0)


FORGED = {
    "X-Forwarded-For": "203.0.113.9, 198.51.100.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "bank.example",
    "X-Forwarded-Port": "444",
    "X-Forwarded-Prefix": "/evil",
    "X-Real-IP": "203.0.113.9",
    "Forwarded": "for=203.0.113.9;proto=https;host=bank.example",
    "X_Forwarded_For": "203.0.113.9",
    "Grip-Sig": "forged",
}


@SERVERS
@pytest.mark.limit(60)
def test_forged_headers(start: StartApplication, serve: Serve, daemon: StartDaemon) -> None:
    """
    What a client claims about itself is not passed on; what a trusted proxy says is, and the last
    address that no trusted proxy has, is the client's.
    """
    route = f"--route=^/ {start(serve)}"
    environ = environ_of(daemon(route), FORGED)
    host = environ["HTTP_HOST"]
    names = "FOR PROTO HOST PORT PREFIX".split()
    forwarded = [environ.get(f"HTTP_X_FORWARDED_{name}") for name in names]
    assert forwarded == ["127.0.0.1", "http", host, None, None]
    assert environ["HTTP_X_REAL_IP"] == "127.0.0.1"
    assert "HTTP_FORWARDED" not in environ
    assert "HTTP_GRIP_SIG" not in environ
    assert not any("203.0.113.9" in value for value in environ.values())

    environ = environ_of(daemon(route, "--trusted-proxies=127.0.0.1"), FORGED)
    forwarded = [environ.get(f"HTTP_X_FORWARDED_{name}") for name in names]
    chain = "203.0.113.9, 198.51.100.7, 127.0.0.1"
    assert forwarded == [chain, "https", "bank.example", "444", "/evil"]
    assert environ["HTTP_X_REAL_IP"] == "198.51.100.7"
    assert environ["HTTP_FORWARDED"] == f"{FORGED['Forwarded']}, for=127.0.0.1"
    assert "HTTP_GRIP_SIG" not in environ


def environ_of(front: Server, headers: dict[str, str]) -> Any:
    """
    Return what the application gets of a request with *headers*.
    """
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE)
    connection.request("GET", "/environ", headers=headers)
    found = json.loads(connection.getresponse().read())
    connection.close()
    return found


INTERNAL = (
    r"--internal-route=^/-/sse/(.+)$ sse:$1",
    "--internal-route=^/-/ws websocket:subscribe=secret,publish=secret",
    "--internal-route=^/-/io socket.io",
    "--internal-route=^/-/cam rtsp:cam",
    r"--internal-route=^/-/live/(\w+)$ rtmp:$1",
    "--internal-route=^/-/publish publish",
)
WEBSOCKET = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
WEBSOCKET += "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.limit(60)
def test_internal_routes_from_outside(daemon: StartDaemon) -> None:
    """
    No client finds the path of an `internal-route`, by whichever protocol.
    """
    front = daemon(*INTERNAL, "--route=^/cam$ rtsp:other", r"--route=^/app/(\w+)$ rtmp:$1")
    requests = [
        "GET /-/sse/secret HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST /-/publish?channel=a&message=b HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
        f"GET /-/ws HTTP/1.1\r\nHost: a\r\n{WEBSOCKET}\r\n",
        f"GET /-/sse/secret HTTP/1.1\r\nHost: a\r\n{WEBSOCKET}\r\n",
        "GET /-/io/?EIO=4&transport=polling HTTP/1.1\r\nHost: a\r\n\r\n",
        f"GET /-/io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: a\r\n{WEBSOCKET}\r\n",
        "GET /-/cam HTTP/1.0\r\nx-sessioncookie: abc\r\n\r\n",
        "DESCRIBE rtsp://a/-/cam RTSP/1.0\r\nCSeq: 1\r\n\r\n",
        "ANNOUNCE rtsp://a/-/cam RTSP/1.0\r\nCSeq: 1\r\nContent-Length: 0\r\n\r\n",
        "OPTIONS rtsp://a/-/cam RTSP/1.0\r\nCSeq: 1\r\n\r\nDESCRIBE rtsp://a/-/cam RTSP/1.0\r\n"
        "CSeq: 2\r\n\r\n",
    ]
    for request in requests:
        with socket.create_connection(("127.0.0.1", front.port), PATIENCE) as client:
            client.sendall(request.encode())
            received = b""
            while b" 404 " not in received:
                piece = client.recv(65536)
                assert piece, (request, received)
                received += piece
    ffmpeg = require("ffmpeg", "ffmpeg")
    source = ("-f", "lavfi", "-i", "testsrc=d=1:s=64x64", "-c:v", "flv", "-f", "flv")
    for path in ("-/live/cam", "-/cam"):
        url = f"rtmp://127.0.0.1:{front.port}/{path}"
        for command in ([ffmpeg, "-v", "error", *source, url], [ffmpeg, "-v", "error", "-i", url,
                                                                "-f", "null", "-"]):  # fmt: skip
            done = subprocess.run(command, capture_output=True, timeout=PATIENCE, check=False)
            assert done.returncode != 0, done.stderr
