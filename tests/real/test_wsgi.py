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

from tests.real.conftest import PATIENCE, Server, StartDaemon

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
