"""
Real application servers behind the daemon, and real clients and proxies in front of it.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.real.conftest import (
    CLIENTS,
    PATIENCE,
    ROOT,
    Browser,
    Serve,
    Server,
    StartDaemon,
    free_port,
    require,
    require_npm,
)
from tests.real.proxied_wsgi import PIECE
from tests.real.test_proxies import serve_nginx
from tests.real.test_reload import wait_until

StartApplication = Callable[[Serve], str]

WSGI = "tests.real.proxied_wsgi:application"
LARGE = 160 * len(PIECE)


def gunicorn(serve: Serve, *options: str, port: int = 0) -> Server:
    """
    Start gunicorn with the WSGI application.
    """
    port = port or free_port()
    program = str(Path(sys.executable).with_name("gunicorn"))
    where = (f"--bind=127.0.0.1:{port}", f"--chdir={ROOT}")
    return serve([program, *where, "--threads=16", *(options or ("--keep-alive=20",)), WSGI], port)


def uvicorn(serve: Serve) -> str:
    """
    Start uvicorn with the ASGI application; return the route's action.
    """
    port = free_port()
    program = str(Path(sys.executable).with_name("uvicorn"))
    application = "tests.real.proxied_asgi:application"
    serve([program, f"--port={port}", f"--app-dir={ROOT}", application], port)
    return f"http:127.0.0.1:{port}"


def _uwsgi(serve: Serve, word: str) -> int:
    port = free_port()
    program = require("uwsgi", "uwsgi")
    options = (f"--pythonpath={ROOT}", "--threads=16", "--master", "--die-on-term")
    serve([program, f"--{word}=127.0.0.1:{port}", "--module", WSGI, *options], port)
    return port


def uwsgi_http(serve: Serve) -> str:
    """
    Start uWSGI with `http-socket`; return the route's action.
    """
    return f"http:127.0.0.1:{_uwsgi(serve, 'http-socket')}"


def uwsgi_socket(serve: Serve) -> str:
    """
    Start uWSGI with `socket`; return the route's action.
    """
    return f"uwsgi:127.0.0.1:{_uwsgi(serve, 'socket')},0,0"


def gunicorn_http(serve: Serve) -> str:
    """
    Start gunicorn; return the route's action.
    """
    return f"http:127.0.0.1:{gunicorn(serve).port}"


def ask(
    daemon: Server, path: str, method: str = "GET", body: bytes | None = None, **headers: str
) -> tuple[int, bytes, http.client.HTTPMessage]:
    """
    Send one request on a connection of its own.
    """
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=PATIENCE)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


SERVERS = pytest.mark.parametrize("start", [gunicorn_http, uwsgi_http, uwsgi_socket])


@SERVERS
def test_application_servers(start: StartApplication, serve: Serve, daemon: StartDaemon) -> None:
    """
    Requests, bodies and responses arrive as they are, large ones too.
    """
    front = daemon(f"--route=^/ {start(serve)}")
    status, body, _ = ask(front, "/large")
    assert (status, len(body)) == (200, LARGE)
    assert ask(front, "/echo", "POST", PIECE * 40)[1] == PIECE * 40
    _, body, headers = ask(front, "/parts")
    assert body == b"part 0\npart 1\npart 2\n"
    assert headers.get_all("set-cookie") == ["a=1", "b=2"]
    status, body, headers = ask(front, "/large", "HEAD")
    assert (status, body, headers["content-length"]) == (200, b"", str(LARGE))
    environ = json.loads(ask(front, "/environ?a=b", X_User="evil", Cookie="c=d")[1])
    assert environ["QUERY_STRING"] == "a=b"
    assert environ["HTTP_COOKIE"] == "c=d"
    assert environ["HTTP_HOST"] == f"127.0.0.1:{front.port}"
    assert environ["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert "HTTP_X_USER" not in environ


def test_visitors_get_their_own_responses(serve: Serve, daemon: StartDaemon) -> None:
    """
    100 visitors with secrets of their own share four connections to the application.
    """
    front = daemon(f"--route=^/ {gunicorn_http(serve)}", "--upstream-connections=4")

    def visit(number: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=PATIENCE)
        secret = f"secret={number:04}"
        for turn in range(10):
            method = "HEAD" if (number + turn) % 5 == 0 else "GET"
            connection.request(method, "/secret", headers={"Cookie": secret})
            body = connection.getresponse().read()
            assert body == (b"" if method == "HEAD" else secret.encode() * 50)
        connection.close()
        return number

    with ThreadPoolExecutor(100) as pool:
        assert list(pool.map(visit, range(100))) == list(range(100))


def test_post_arrives_once(serve: Serve, daemon: StartDaemon) -> None:
    """
    Also when the application closes its kept connections, and when it is killed meanwhile.
    """
    application = gunicorn(serve, "--keep-alive=1")
    front = daemon(f"--route=^/ http:127.0.0.1:{application.port}")
    for number in range(6):
        assert ask(front, "/post", "POST", str(number).encode())[0] in (200, 502)
        time.sleep(0.9 if number % 2 else 0.0)
    posts = json.loads(ask(front, "/posts")[1])
    assert len(posts) == len(set(posts))
    assert len(posts) >= 5


def test_slow_clients(serve: Serve, daemon: StartDaemon) -> None:
    """
    A client that does not receive holds 64 KiB, and others are served meanwhile.
    """
    front = daemon(f"--route=^/ {gunicorn_http(serve)}", "--route=^/healthz$ alive")
    before = _resident(front)
    slow = [socket.create_connection(("127.0.0.1", front.port)) for _ in range(8)]
    for client in slow:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    time.sleep(1.0)
    since = time.monotonic()
    assert ask(front, "/environ")[0] == 200
    assert time.monotonic() - since < 1.0
    assert _resident(front) - before < 8 << 20
    for client in slow:
        client.close()


def _resident(server: Server) -> int:
    return int(Path(f"/proc/{server.pid}/statm").read_text().split()[1]) * 4096


def test_application_is_hung_dead_and_back(serve: Serve, daemon: StartDaemon) -> None:
    """
    504 and 502 meanwhile; the daemon stays ready, and uses the application when it is back.
    """
    application = gunicorn(serve)
    front = daemon(
        "--route=^/readyz$ ready",
        f"--route=^/ http:127.0.0.1:{application.port}",
        "--upstream-timeout=1s",
    )
    assert ask(front, "/environ")[0] == 200
    assert ask(front, "/hang")[0] == 504
    application.kill(signal.SIGKILL)
    wait_until(lambda: ask(front, "/environ")[0] == 502)
    assert ask(front, "/readyz")[0] == 200
    status, body, _ = ask(front, "/environ", Accept="text/event-stream")
    assert status == 200
    assert b"retry: " in body
    gunicorn(serve, port=application.port)
    wait_until(lambda: ask(front, "/environ")[0] == 200)


_ECHO = """
const { WebSocket } = require("ws");
const socket = new WebSocket(process.argv[1]);
const sent = ["hello", "x".repeat(100000), "bye"];
let got = 0;
socket.on("open", () => sent.forEach((text) => socket.send(text)));
socket.on("message", (data) => {
    if (data.toString() !== sent[got]) process.exit(2);
    got += 1;
    if (got === sent.length) socket.close(1000);
});
socket.on("close", () => process.exit(got === sent.length ? 0 : 3));
socket.on("error", (error) => { console.error(error); process.exit(4); });
"""


@pytest.mark.parametrize("start", [uvicorn, uwsgi_http, uwsgi_socket])
def test_websockets_through_the_tunnel(
    start: StartApplication, serve: Serve, daemon: StartDaemon
) -> None:
    """
    npm's ws gets its messages back, large ones too.
    """
    require_npm("ws")
    front = daemon(f"--route=^/ {start(serve)}")
    url = f"ws://127.0.0.1:{front.port}/websocket"
    command = [require("node", "nodejs"), "-e", _ECHO, url]
    done = subprocess.run(command, cwd=CLIENTS, capture_output=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr


def test_browser_through_the_tunnel(serve: Serve, daemon: StartDaemon, browser: Browser) -> None:
    """
    Chromium loads a page of the application, and talks to it by a websocket.
    """
    front = daemon(f"--upstream={uvicorn(serve)}", "--route=^/events$ sse:events")
    browser.open(f"{front.url}/page")
    browser.evaluate(
        "window.s = new WebSocket(`ws://${location.host}/w`), window.got = [],"
        "s.onmessage = (event) => got.push(event.data), s.onopen = () => s.send('hello'), 1"
    )
    wait_until(lambda: browser.evaluate("window.got.join()") == "hello")


def test_nginx_in_front(serve: Serve, daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The application gets the address and scheme that nginx gives.
    """
    front = daemon(f"--route=^/ {gunicorn_http(serve)}", "--trusted-proxies=127.0.0.1")
    port = free_port()
    site = (
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass {front.url};"
        " proxy_http_version 1.1; proxy_set_header Host shop.example;"
        " proxy_set_header X-Forwarded-For 198.51.100.7; proxy_set_header X-Forwarded-Proto https;"
        " } }"
    )
    proxy = serve_nginx(serve, site, port, tmp_path)
    environ = json.loads(ask(proxy, "/environ")[1])
    assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.7, 127.0.0.1"
    assert environ["HTTP_X_REAL_IP"] == "198.51.100.7"
    assert environ["HTTP_X_FORWARDED_PROTO"] == "https"
    assert environ["HTTP_HOST"] == "shop.example"
    assert len(ask(proxy, "/large")[1]) == LARGE


def test_slow_upload(serve: Serve, daemon: StartDaemon) -> None:
    """
    An upload that takes longer than the application may take for its response.
    """
    front = daemon(f"--route=^/ {gunicorn_http(serve)}", "--upstream-timeout=1s")
    client = socket.create_connection(("127.0.0.1", front.port), timeout=PATIENCE)
    client.sendall(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 8000\r\n\r\n")
    stop = threading.Event()
    for _ in range(20):
        client.sendall(b"x" * 400)
        stop.wait(0.1)
    received = b""
    while b"\r\n\r\n" not in received or not received.endswith(b"x" * 8000):
        piece = client.recv(65536)
        assert piece
        received += piece
    assert received.startswith(b"HTTP/1.1 200 OK\r\n")
    client.close()
