"""
The files of examples/nginx and examples/haproxy, as they stand but for their ports,
with the real programs between subscribers and the daemon.
"""

from __future__ import annotations

import http.client
import http.server
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

import pytest

from tests.real.conftest import PATIENCE, ROOT, Serve, Server, StartDaemon, free_port, require
from tests.real.test_daemon import Stream, publish
from tests.real.test_reload import wait_until

Proxy = Callable[..., Server]


OTHER = "10.0.0.8:8888"  # the second node, in a comment
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Version": "13",
}


def nginx(serve: Serve, port: int, folder: Path, other: int = 0) -> Server:
    """
    nginx with our file, in front of the daemon on *port*, and perhaps an *other* one.
    """
    front = free_port()
    site = (ROOT / "examples" / "nginx" / "realtime.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{front};")
    site = site.replace("server 127.0.0.1:8888", f"server 127.0.0.1:{port}")
    if other:
        site = site.replace(f"# server {OTHER}", f"server 127.0.0.1:{other}")
    return serve_nginx(serve, site, front, folder)


def serve_nginx(serve: Serve, site: str, front: int, folder: Path) -> Server:
    """
    nginx with *site* in its http {}, which listens on *front*.
    """
    program = require("nginx", "nginx")
    paths = "client_body proxy fastcgi uwsgi scgi".split()
    temporary = "".join(f"{name}_temp_path {folder}/{name};\n" for name in paths)
    user = "user root;\n" if os.geteuid() == 0 else ""
    text = (
        f"daemon off;\nmaster_process off;\n{user}pid {folder}/pid;\n"
        f"error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}{site}\n}}\n"
    )
    (folder / "nginx.conf").write_text(text)
    return serve([program, "-c", str(folder / "nginx.conf")], front)


def haproxy(serve: Serve, port: int, folder: Path, other: int = 0) -> Server:
    """
    HAProxy with our file, in front of the daemon on *port*, and perhaps an *other* one.
    """
    program = require("haproxy", "haproxy")
    front = free_port()
    text = (ROOT / "examples" / "haproxy" / "haproxy.cfg").read_text()
    text = text.replace("bind :80", f"bind 127.0.0.1:{front}")
    text = text.replace("127.0.0.1:8888", f"127.0.0.1:{port}").replace("20000", "100")
    if other:
        text = text.replace(f"# server other {OTHER}", f"server other 127.0.0.1:{other}")
    (folder / "haproxy.cfg").write_text(text)
    return serve([program, "-db", "-f", str(folder / "haproxy.cfg")], front)


PROXIES = pytest.mark.parametrize(("proxy", "prefix"), [(nginx, "/sse"), (haproxy, "")])


@PROXIES
def test_through_a_proxy(
    proxy: Proxy, prefix: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    Events arrive at once, resume works, the client's address is known, a forged one
    is not believed, and neither publishing nor numbers are open.
    """
    log = tmp_path / "access.log"
    server = daemon("--trusted-proxies=127.0.0.1", f"--access-log={log}")
    front = proxy(serve, server.port, tmp_path)
    wait_for(front, prefix)
    path = f"{prefix}/?channels=news"
    with socket.create_connection(("127.0.0.1", front.port), PATIENCE) as connection:
        stream = Stream(connection, path, "X-Forwarded-For: 192.0.2.1\r\n")
        stream.until("\nid: ")
        for number in range(5):
            assert publish(server.port, channel="news", message=f"m{number}") == 200
            text = stream.until(f"data: m{number}\n")  # a proxy that collects waits for ever
    ids = re.findall(r"id: (\S+)\n", text)
    for number in range(5, 8):
        assert publish(server.port, channel="news", message=f"m{number}") == 200
    with socket.socket() as connection:
        connection.settimeout(PATIENCE)
        connection.bind(("127.0.0.9", 0))
        connection.connect(("127.0.0.1", front.port))
        stream = Stream(
            connection, path, f"Last-Event-ID: {ids[-2]}\r\nX-Forwarded-For: 1.2.3.4\r\n"
        )
        text = stream.until("data: m7\n")
    assert re.findall(r"data: (m\d)", text) == ["m4", "m5", "m6", "m7"]

    # An nginx that buffers nothing closes its side of both streams at once.
    wait_until(lambda: log.read_text().count('"GET / ') >= 2)
    addresses = [line.split()[0] for line in log.read_text().splitlines() if "GET / " in line]
    assert addresses[-1] == "127.0.0.9"
    assert "1.2.3.4" not in addresses
    for hidden in ("publish", "stats", "metrics"):
        assert ask(front, "GET", f"{prefix}/{hidden}") == 404
    assert ask(front, "POST", f"{prefix}/publish") == 404
    assert ask(front, "POST", f"{prefix}/%70ublish") == 404


@PROXIES
def test_websockets_pass_a_proxy(
    proxy: Proxy, prefix: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    Those of every route, Socket.IO's too.
    """
    front = proxy(serve, daemon().port, tmp_path)
    wait_for(front, prefix)

    for path in ("/ws", "/socket.io/?EIO=4&transport=websocket"):
        assert ask(front, "GET", f"{prefix}{path}", UPGRADE) == 101


@PROXIES
def test_a_node_that_is_gone_refuses_no_reader(
    proxy: Proxy, prefix: str, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    An EventSource never reconnects after a 502 or 503, so it must not get one.
    """
    front = proxy(serve, daemon().port, tmp_path, other=free_port())

    assert {ask(front, "GET", f"{prefix}/?channels=news") for _ in range(6)} == {200}


def test_a_rolling_restart_refuses_no_reader(
    serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    A subscriber gets status 200 also when both nodes were down a moment ago: nginx tries the node
    that is up again.
    """
    first, second = daemon(), daemon()
    front = nginx(serve, first.port, tmp_path, other=second.port)
    wait_for(front, "/sse")
    for node in (first, second):
        node.kill()
        assert {ask(front, "GET", "/sse/?channels=news") for _ in range(6)} == {200}
        daemon(port=node.port)


@pytest.fixture
def application() -> Iterator[int]:
    """
    The port of an application that lets the visitor of the cookie `ann` read two channels.
    """

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = self.path == "/may-read" and self.headers["Cookie"] == "visitor=ann"
            self.send_response(200 if known else 403)
            if known:
                self.send_header("X-Channels", "user-ann,news")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_application_authorizes_subscribers(
    application: int, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    With the lines of docs/security.md a visitor receives only permitted channels, whatever the
    request has, and resumes; visitors that the application rejects receive nothing.
    """
    server, front = daemon(), free_port()
    text = (ROOT / "docs" / "security.md").read_text()
    (site,) = re.findall(r"^```nginx\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    site = site.replace(":8080/", f":{server.port}/").replace(":8000;", f":{application};")
    site = f"server {{\nlisten 127.0.0.1:{front};\n{site}}}"
    proxy = serve_nginx(serve, site, front, tmp_path)
    for name in ("user-ann", "user-bob", "news"):
        assert publish(server.port, channel=name, message=f"for {name}") == 200

    path = "/events?channels=user-bob"
    assert ask(proxy, "GET", path) == 403
    assert ask(proxy, "GET", "/may-read") == 404
    with socket.create_connection(("127.0.0.1", front), PATIENCE) as connection:
        cookie = "Cookie: visitor=ann\r\nLast-Event-ID: 00000000.0\r\n"
        stream = Stream(connection, path, cookie)
        text = stream.until("for news\n")
    assert re.findall("data: for (.+)\n", text) == ["user-ann", "news"]


def wait_for(front: Server, prefix: str) -> None:
    """
    Until the proxy has seen the daemon: haproxy looks whether it is there.
    """
    deadline = time.monotonic() + PATIENCE
    while ask(front, "GET", f"{prefix}/healthz") != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def ask(
    server: Server, method: str, path: str, headers: Mapping[str, str] = MappingProxyType({})
) -> int:
    """
    The status of an answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request(method, path, headers=headers)
    status = connection.getresponse().status
    connection.close()
    return status
