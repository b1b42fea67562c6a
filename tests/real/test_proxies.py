"""
The files of examples/nginx and examples/haproxy, as they stand but for their ports,
with the real programs between readers and the daemon.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.real.conftest import ROOT, Serve, Server, StartDaemon, free_port, require
from tests.real.test_daemon import Stream, publish

Proxy = Callable[[Serve, int, Path], Server]
TIMEOUT = 10.0
AT_ONCE = 1.0  # seconds; a proxy that waits for more waits for ever, or for its timeout


def nginx(serve: Serve, port: int, folder: Path) -> Server:
    """
    nginx with our file, in front of the daemon on *port*.
    """
    program = require("nginx", "nginx")
    front = free_port()
    site = (ROOT / "examples" / "nginx" / "realtime.conf").read_text()
    site = site.replace("listen 80;", f"listen 127.0.0.1:{front};")
    site = site.replace("server 127.0.0.1:8888;", f"server 127.0.0.1:{port};")
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


def haproxy(serve: Serve, port: int, folder: Path) -> Server:
    """
    HAProxy with our file, in front of the daemon on *port*.
    """
    program = require("haproxy", "haproxy")
    front = free_port()
    text = (ROOT / "examples" / "haproxy" / "haproxy.cfg").read_text()
    text = text.replace("bind :80", f"bind 127.0.0.1:{front}")
    text = text.replace("127.0.0.1:8888", f"127.0.0.1:{port}").replace("20000", "100")
    (folder / "haproxy.cfg").write_text(text)
    return serve([program, "-db", "-f", str(folder / "haproxy.cfg")], front)


@pytest.mark.limit(60)
@pytest.mark.parametrize(("proxy", "prefix"), [(nginx, "/sse"), (haproxy, "")])
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
    deadline = time.monotonic() + TIMEOUT
    while ask(front, "GET", f"{prefix}/healthz") != 200:  # haproxy looks whether it is there
        assert time.monotonic() < deadline
        time.sleep(0.05)
    path = f"{prefix}/?channels=news"
    with socket.create_connection(("127.0.0.1", front.port), TIMEOUT) as connection:
        stream = Stream(connection, path, "X-Forwarded-For: 192.0.2.1\r\n")
        stream.until("\nid: ")
        for number in range(5):
            begun = time.monotonic()
            assert publish(server.port, channel="news", message=f"m{number}") == 200
            text = stream.until(f"data: m{number}\n")
            assert time.monotonic() - begun < AT_ONCE
    ids = re.findall(r"id: (\S+)\n", text)
    for number in range(5, 8):
        assert publish(server.port, channel="news", message=f"m{number}") == 200
    with socket.socket() as connection:
        connection.settimeout(TIMEOUT)
        connection.bind(("127.0.0.9", 0))
        connection.connect(("127.0.0.1", front.port))
        stream = Stream(
            connection, path, f"Last-Event-ID: {ids[-2]}\r\nX-Forwarded-For: 1.2.3.4\r\n"
        )
        text = stream.until("data: m7\n")
    assert re.findall(r"data: (m\d)", text) == ["m4", "m5", "m6", "m7"]

    addresses = [line.split()[0] for line in log.read_text().splitlines() if "GET / " in line]
    assert addresses[-1] == "127.0.0.9"
    assert "1.2.3.4" not in addresses
    for hidden in ("publish", "stats", "metrics"):
        assert ask(front, "GET", f"{prefix}/{hidden}") == 404
    assert ask(front, "POST", f"{prefix}/publish") == 404
    assert ask(front, "POST", f"{prefix}/%70ublish") == 404


def ask(server: Server, method: str, path: str) -> int:
    """
    The status of an answer.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=TIMEOUT)
    connection.request(method, path)
    status = connection.getresponse().status
    connection.close()
    return status
