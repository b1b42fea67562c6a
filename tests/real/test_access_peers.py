"""
Socket.IO clients, Django's sessions, nginx and HTTP/2 with tokens and with an application.
"""

from __future__ import annotations

import http.cookies
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import redis  # noqa: F401  # a fixture
from tests.real.socketio_peers import Peer
from tests.real.test_access import SECRET, request, token
from tests.real.test_admin import until
from tests.real.test_proxies import serve_nginx
from tests.real.test_socketio import KINDS, Connect, connect, publish
from tests.real.test_tls import Secure, read_until, running

__all__ = ["connect"]  # a fixture

# A site with Django's own sessions, and the endpoint that nginx' auth_request has asked so far.
SITE = """
import sys
from wsgiref.simple_server import WSGIRequestHandler, make_server
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path

def login(request):
    request.session["user"] = "mia"
    return HttpResponse("in")

def auth(request):
    if "user" not in request.session:
        return HttpResponse("log in first", status=401)
    own = request.headers["X-Original-URI"].endswith("7")
    return HttpResponse(status=204 if own else 403)

class Quiet(WSGIRequestHandler):
    def log_message(self, *words):
        pass

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x" * 50,
    SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"])
urlpatterns = [path("login", login), path("auth", auth)]
port = int(sys.argv[1])
make_server("127.0.0.1", port, get_wsgi_application(), handler_class=Quiet).serve_forever()
"""
NGINX = """
server {
    listen 127.0.0.1:%(front)d;
    location /room/ {
        auth_request /auth;
        proxy_pass http://127.0.0.1:%(inner)d;
    }
    location = /auth {
        internal;
        proxy_pass http://127.0.0.1:%(site)d/auth;
        proxy_pass_request_body off;
        proxy_set_header Content-Length "";
        proxy_set_header X-Original-URI $request_uri;
    }
}
"""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[int]:
    """
    Run the site, and yield its port.
    """
    port = free_port()
    (tmp_path / "site.py").write_text(SITE)
    with subprocess.Popen([sys.executable, "site.py", str(port)], cwd=tmp_path) as running:
        try:
            until(lambda: request(port, "/auth"))
            yield port
        finally:
            running.kill()


def log_in(port: int) -> str:
    """
    Return the cookie of a session.
    """
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/login", timeout=PATIENCE) as response:
        [cookie] = http.cookies.SimpleCookie(response.headers["Set-Cookie"]).values()
    return f"{cookie.key}={cookie.coded_value}"


@pytest.mark.limit(60)
def test_one_endpoint_answers_nginx_and_the_daemon(
    daemon: StartDaemon, serve: Serve, site: int, tmp_path: Path
) -> None:
    """
    The endpoint of `auth_request`, unchanged, is `authorize`: both admit and refuse the same
    clients, by the cookie of Django's session.
    """
    room = r"--route=^/room/(\w+)$ poll:subscribe=room-$1"
    inner = daemon(room)
    asking = daemon(room, "--allow=app", f"--authorize=http://127.0.0.1:{site}/auth")
    front = free_port()
    text = NGINX % {"front": front, "inner": inner.port, "site": site}
    serve_nginx(serve, text, front, tmp_path)
    session = ("-H", f"Cookie: {log_in(site)}")
    broken = ("-H", f"Cookie: {log_in(site)}x")
    asked = [("7", session), ("8", session), ("7", ()), ("7", broken)]
    for port in (front, asking.port):
        found = [request(port, f"/room/{number}", "", *given) for number, given in asked]
        assert found == [200, 403, 401, 401], port


@pytest.mark.limit(60)
def test_all_workers_ask_the_application(
    daemon: StartDaemon,
    site: int,
    redis: Server,  # noqa: F811
) -> None:
    """
    Whichever of two workers accepts the connection.
    """
    server = daemon(r"--route=^/room/(\w+)$ poll:subscribe=room-$1", "--allow=app",
                    f"--authorize=http://127.0.0.1:{site}/auth", "--workers=2",
                    "--broker=redis", f"--redis-port={redis.port}")  # fmt: skip
    session = ("-H", f"Cookie: {log_in(site)}")
    for _ in range(6):
        assert request(server.port, "/room/7", "", *session) == 200
        assert request(server.port, "/room/8", "", *session) == 403
        assert request(server.port, "/room/7") == 401


@pytest.mark.limit(90)
@pytest.mark.parametrize("kind", KINDS)
def test_socketio_clients_renew_their_token(
    daemon: StartDaemon, connect: Connect, kind: str
) -> None:
    """
    By the event `token` on the open connection, which then outlives the first token, also if the
    transport was upgraded since; a token of another client is refused. The last one ends it.
    """
    options = ("--token-leeway=0s", "--token-query=token")
    server = daemon("--allow=token", f"--token-key={SECRET}", *options)
    # Version 2 has no `auth`.
    where = "query" if kind == "js 2" else "auth"
    given = {where: {"token": token(8, channels=["news"])}}
    peer: Peer = connect(kind, server.url, None, **given)
    peer.wait("connect")
    peer.wait("event", "expire")
    assert peer.request("token", token(60, channels=["news"], sub="eve"))[0]["status"] == "error"
    assert peer.request("token", token(300, channels=["news"])) == [{"status": "ok"}]
    end = time.monotonic() + 8
    number = 0
    while time.monotonic() < end:
        publish(server.port, "news", b"%d" % number)
        peer.wait("event", "message", str(number))
        number += 1
        time.sleep(0.3)
    assert not [line for line in peer.lines if line[0] == "disconnect"]

    assert peer.request("token", token(3, channels=["news"])) == [{"status": "ok"}]
    peer.wait("disconnect")


@pytest.mark.limit(60)
def test_tokens_by_http_2_and_tls(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A stream is refused, or begins, is notified and ends before the token does; other streams of
    the connection go on.
    """
    secure = Secure(daemon, tmp_path, "--allow=token", f"--token-key={SECRET}")
    url = f"{secure.url}/?channels=news"

    def with_token(seconds: float) -> list[str]:
        return ["-H", f"Cookie: realtime_token={token(seconds, subscribe=['news'])}", url]

    refused = subprocess.run(
        secure.curl("--http2", "-i", url), capture_output=True, check=True, timeout=PATIENCE
    ).stdout
    assert refused.startswith(b"HTTP/2 401")
    assert b"www-authenticate: Bearer\r\n" in refused
    with (
        running(secure.curl("--http2", "-N", *with_token(300))) as lasting,
        running(secure.curl("--http2", "-Ni", *with_token(5))) as ending,
    ):
        received = read_until(ending, b"event: expire")
        assert received.startswith(b"HTTP/2 200")
        assert ending.wait(PATIENCE) == 0
        secure.publish("later")
        read_until(lasting, b"data: later")


@pytest.mark.limit(60)
def test_an_application_is_asked_by_http_2_and_tls(
    daemon: StartDaemon, site: int, tmp_path: Path
) -> None:
    """
    With the cookie of the session, which HTTP/2 may split.
    """
    may = f"--authorize=http://127.0.0.1:{site}/auth"
    secure = Secure(daemon, tmp_path, "--allow=app", may, r"--route=^/room/(\w+)$ poll")
    cookie = ("-b", f"a=1; {log_in(site)}; b=2")
    status = ("--http2", "-o", "/dev/null", "-w", "%{http_version} %{http_code}")
    for given, number, expected in (
        (cookie, 7, "2 200"),
        (cookie, 8, "2 403"),
        (("-b", "a=1"), 7, "2 401"),
    ):
        command = secure.curl(*status, *given, f"{secure.url}/room/{number}?channels=x{number}")
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=PATIENCE
        ).stdout
        assert done == expected
