"""
WSGI applications in the daemon: Django, Flask, and one that hangs.
"""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, TWISTD, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import redis

__all__ = ["redis"]

FLASK = """
from flask import Flask, Response, request

application = Flask(__name__)

@application.route("/")
def index():
    return {"path": request.path, "root": request.script_root, "url": request.base_url}

@application.post("/form")
def form():
    return {"name": request.form["name"], "size": len(request.files["file"].read())}

@application.post("/stream")
def stream():
    return {"size": len(request.stream.read())}

@application.route("/big")
def big():
    return Response((b"x" * 100_000 for _ in range(100)), mimetype="text/plain")
"""
DJANGO = """
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="x", ALLOWED_HOSTS=["*"])

def index(request):
    return JsonResponse({"path": request.path, "secure": request.is_secure()})

def echo(request):
    return HttpResponse(request.body)

def stream(request):
    return StreamingHttpResponse(str(number) for number in range(5))

urlpatterns = [path("", index), path("echo", echo), path("stream", stream)]
application = get_wsgi_application()
"""
HANGING = """
import threading

def application(environ, start_response):
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait()
    start_response("200 OK", [])
    return [b"alive"]
"""


def start(daemon: StartDaemon, folder: Path, text: str, *options: str) -> Server:
    (folder / "shop.py").write_text(text)
    return daemon(
        "--route=^/events$ sse:events",
        "--route=^/publish$ publish",
        "--route=^/shop/ wsgi:shop:application",
        *options,
        environment={"PYTHONPATH": str(folder)},
    )


def fetch(server: Server, path: str, body: bytes | None = None, content_type: str = "") -> bytes:
    headers = {"Content-Type": content_type} if content_type else {}
    url = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(url, body, headers)
    with urllib.request.urlopen(request, timeout=PATIENCE) as response:
        read: bytes = response.read()
        return read


def test_flask(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A Flask application gets its mount point, forms, files and bodies of chunks, and streams.
    """
    pytest.importorskip("flask")
    server = start(daemon, tmp_path, FLASK)
    index = json.loads(fetch(server, "/shop/"))
    boundary = "multipart/form-data; boundary=b"
    part = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    upload = "x" * 200_000
    body = part.format("name", "", "ann") + part.format("file", '; filename="a"', upload)
    form = json.loads(fetch(server, "/shop/form", f"{body}--b--\r\n".encode(), boundary))
    url = f"http://127.0.0.1:{server.port}/shop/stream"
    pieces = (b"x" * 1000 for _ in range(10))
    with urllib.request.urlopen(
        urllib.request.Request(url, pieces), timeout=PATIENCE
    ) as response:  # urllib sends an iterable in chunks
        streamed = json.loads(response.read())

    base = f"http://127.0.0.1:{server.port}/shop/"
    assert index == {"path": "/", "root": "/shop", "url": base}
    assert form == {"name": "ann", "size": 200_000}
    assert streamed == {"size": 10_000}
    assert len(fetch(server, "/shop/big")) == 10_000_000


def test_django(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A Django application gets paths and bodies, and streams.
    """
    pytest.importorskip("django")
    server = start(daemon, tmp_path, DJANGO)

    assert json.loads(fetch(server, "/shop/")) == {"path": "/shop/", "secure": False}
    assert fetch(server, "/shop/echo", b"x" * 150_000, "text/plain") == b"x" * 150_000
    assert fetch(server, "/shop/stream") == b"01234"


def test_an_application_that_hangs(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A hung application takes its own threads only: then there are 503 and 504, everything else
    goes on, and the daemon stops.
    """
    options = ("--wsgi-threads=2", "--wsgi-queue=1", "--wsgi-timeout=2", "--stop-seconds=1")
    server = start(daemon, tmp_path, HANGING, *options)
    statuses: list[int] = []

    def ask() -> None:
        try:
            fetch(server, "/shop/hang")
        except urllib.error.HTTPError as error:
            statuses.append(error.code)

    assert fetch(server, "/shop/") == b"alive"
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    fetch(server, "/publish?channel=events", b"text", "text/plain")
    for thread in threads:
        thread.join(PATIENCE)
    began = time.monotonic()
    server.stop()

    assert sorted(statuses) == [503, 503, 504, 504]
    assert time.monotonic() - began < 5
    assert "its thread is at" in server.log


HANDING = """
import uwsgi

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/variable":
        uwsgi.add_var("X_SSE_OFFLOAD", "news")
        return []
    if path == "/nothing":
        uwsgi.add_var("OTHER", "news")
        return []
    if path == "/header":
        headers = [("X-SSE-Channel", "news"), ("Content-Type", "text/event-stream"), ("X-Own", "a")]
        start_response("200 OK", headers)
        return [b"data: first\\n\\n"]
    if path == "/redirect":
        start_response("200 OK", [("X-Accel-Redirect", "/-/sse/news")])
        return []
    headers = [("X-SSE-Channel", "news"), ("X-Accel-Redirect", "/-/sse/news")]
    start_response("403 Forbidden", headers)
    return [b"no"]
"""
LINES = r"""
route = ^/publish$ publish
pull-header = X-SSE-Channel X_SSE_CHANNEL
internal-route = ^/-/sse/(.+)$ sse:$1
response-route-if-not = empty:${X_SSE_OFFLOAD} sse:${X_SSE_OFFLOAD}
response-route-if-not = empty:${X_SSE_CHANNEL} sse:${X_SSE_CHANNEL}
wsgi-file = handing.py
"""


def test_hand_over_in_process(serve: Serve, tmp_path: Path) -> None:
    """
    An application in the daemon hands over by a variable, by a header and by X-Accel-Redirect, and
    its thread is free meanwhile; what no line takes is passed on without headers for the daemon.
    """
    (tmp_path / "handing.py").write_text(HANDING)
    (tmp_path / "handing.conf").write_text(LINES)
    port = free_port()
    options = ("--config=handing.conf", "--wsgi-threads=1", f"--port={port}")
    server = serve([*TWISTD, "realtime", *options], port, tmp_path)
    url = f"http://127.0.0.1:{port}"
    streams = [
        urllib.request.urlopen(f"{url}/{way}", timeout=PATIENCE)
        for way in ("variable", "header", "redirect")
    ]
    fetch(server, "/publish?channel=news", b"second", "text/plain")
    bodies = []
    for stream in streams:
        received = b""
        while b"second" not in received:
            received += stream.readline()
        bodies.append(received)
        stream.close()
    statuses = []
    for path in ("refused", "nothing", "-/sse/news"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            fetch(server, f"/{path}")
        with caught.value as error:
            statuses.append(error.code)
            assert error.headers["X-SSE-Channel"] is error.headers["X-Accel-Redirect"] is None

    assert b"data: first" in bodies[1] and b"data: first" not in bodies[0]
    assert [stream.headers["X-Own"] for stream in streams] == [None, "a", None]
    assert all(stream.headers["X-SSE-Channel"] is None for stream in streams)
    assert statuses == [403, 500, 403]


WORKERS = """
import os
import uwsgi

started = []
uwsgi.post_fork_hook = lambda: started.append(os.getpid())

def application(environ, start_response):
    start_response("200 OK", [])
    once = started == [os.getpid()]
    seen = [uwsgi.worker_id(), uwsgi.numproc, once, environ["wsgi.multiprocess"]]
    return [repr(seen).encode()]
"""


def test_an_application_in_each_worker(daemon: StartDaemon, redis: Server, tmp_path: Path) -> None:
    """
    Each worker process has the application once, by its own number.
    """
    options = ("--workers=2", "--broker=redis", f"--redis-port={redis.port}")
    server = start(daemon, tmp_path, WORKERS, *options)
    end = time.monotonic() + PATIENCE
    seen: set[bytes] = set()
    while len(seen) < 2:
        assert time.monotonic() < end, seen
        seen.add(fetch(server, "/shop/"))

    assert seen == {b"[1, 2, True, True]", b"[2, 2, True, True]"}
