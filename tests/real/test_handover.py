"""
Applications that hand their connections over to the daemon, under the servers that they run with.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any, cast

import pytest

from rt_twisted.codecs.eventsource import EventReader
from tests.real.conftest import (
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

KEY = "k" * 40
GUNICORN = str(Path(sys.executable).with_name("gunicorn"))
LINES = r"""
pull-header = X-SSE-Channel X_SSE_CHANNEL
collect-header = Content-Type RESPONSE_TYPE
final-route-if = equal:${RESPONSE_TYPE};event/stream sse:${X_SSE_CHANNEL}
internal-route = ^/-/sse/(.+)$ sse:$1
route = POST ^/publish/$ grip
route = ^/publish$ publish
"""

FLASK = """
from flask import Flask, Response, request

app = Flask(__name__)

@app.get("/line")
def line():
    response = Response("data: first\\n\\n", content_type="event/stream")
    response.headers["X-SSE-Channel"] = "news"
    response.set_cookie("seen", "1")
    return response

@app.get("/redirect")
def redirect():
    return Response(headers={"X-Accel-Redirect": "/-/sse/news"})

@app.get("/grip")
def grip():
    response = Response("data: first\\n\\n", content_type="text/event-stream")
    response.headers["Grip-Hold"] = "stream"
    response.headers["Grip-Channel"] = "news"
    return response

@app.get("/refused")
def refused():
    response = line()
    response.status_code = 403
    response.headers["Grip-Hold"] = "stream"
    response.headers["Grip-Channel"] = "news"
    response.headers["X-Accel-Redirect"] = "/-/sse/news"
    return response

@app.get("/page")
def page():
    return "<!doctype html><title>page</title>"

@app.get("/signature")
def signature():
    return request.headers.get("Grip-Sig", "") + " " + request.headers.get("Grip-Feature", "")
"""

DJANGO = """
import django_settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpResponse
from django.urls import path
from django_grip import publish, set_hold_longpoll, set_hold_stream
from gripcontrol import HttpResponseFormat, HttpStreamFormat

def stream(request):
    if not request.grip.signed:
        return HttpResponse("not signed", status=501)
    set_hold_stream(request, "test", keep_alive_data=":\\n\\n", keep_alive_timeout=1)
    return HttpResponse("[stream open]\\n", content_type="text/plain")

def poll(request):
    set_hold_longpoll(request, ["test", "other"], timeout=20)
    return HttpResponse("nothing new\\n", content_type="text/plain")

def unchanged(request):
    set_hold_longpoll(request, "never", timeout=1)
    return HttpResponse(status=304)

def send(request):
    publish("test", [HttpStreamFormat("hello\\n"), HttpResponseFormat(body="hello")], blocking=True)
    return HttpResponse("published\\n")

urlpatterns = [path("stream", stream), path("poll", poll), path("unchanged", unchanged),
               path("send", send)]
application = get_wsgi_application()
"""
DJANGO_SETTINGS = """
from django.conf import settings

settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF="application", SECRET_KEY="x" * 40,
                   GRIP_URL="{url}", MIDDLEWARE=["django_grip.GripMiddleware"])
import django
django.setup()
"""


class Follower:
    """
    A client that reads a stream with `curl`, into a file.
    """

    def __init__(self, url: str, file: Path, *options: str) -> None:
        self._file = file
        self._head = ""
        self._process = subprocess.Popen(["curl", "-sN", "-D-", "-o", str(file), *options, url],
                                         stdout=subprocess.PIPE)  # fmt: skip

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    @property
    def text(self) -> str:
        return self._file.read_text() if self._file.exists() else ""

    def events(self) -> list[str]:
        return [one.data for one in EventReader().feed(self.text.encode())]

    def stop(self) -> str:
        """
        End the client, and return the head of its response.
        """
        if not self._head:
            self._process.kill()
            self._head = self._process.communicate()[0].decode()
        return self._head


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    followers: list[Follower] = []

    def start(url: str, *options: str) -> Follower:
        follower = Follower(url, tmp_path / f"followed-{len(followers)}", *options)
        followers.append(follower)
        return follower

    yield start
    for follower in followers:
        follower.stop()


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def get(url: str, data: bytes | None = None, **headers: str) -> tuple[int, str]:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        with cast(HTTPResponse, urllib.request.urlopen(
            urllib.request.Request(url, data, names), timeout=PATIENCE
        )) as answer:  # fmt: skip
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def publish(server: Server, channel: str, message: str) -> None:
    assert get(f"{server.url}/publish", f"channel={channel}&message={message}".encode())[0] == 200


def gunicorn(serve: Serve, folder: Path, application: str) -> int:
    if importlib.util.find_spec("gunicorn") is None:
        require("gunicorn", "pip install gunicorn")
    port = free_port()
    serve(
        [GUNICORN, f"--bind=127.0.0.1:{port}", "--threads=4", application],
        port,
        folder,
        {"HOME": str(folder)},
    )  # where gunicorn puts a socket
    return port


def in_front(
    daemon: StartDaemon, folder: Path, application: int | str, *options: str, at: int = 0
) -> Server:
    config = folder / "handover.conf"
    action = f"http:127.0.0.1:{application}" if isinstance(application, int) else application
    config.write_text(f"grip-key = {KEY}\n{LINES}route = ^/ {action}\n")
    return daemon(f"--config={config}", *options, port=at or None)


@pytest.fixture
def front(
    request: pytest.FixtureRequest, serve: Serve, daemon: StartDaemon, tmp_path: Path
) -> Server:
    """
    Return a daemon in front of a Flask application under gunicorn, or with it in the same process.
    """
    folder = tmp_path / "flask"
    folder.mkdir()
    (folder / "application.py").write_text(FLASK)
    if getattr(request, "param", "") == "wsgi":
        return in_front(daemon, folder, f"wsgi:{folder / 'application.py'}:app")
    return in_front(daemon, folder, gunicorn(serve, folder, "application:app"))


@pytest.mark.limit(90)
@pytest.mark.parametrize("front", ["http", "wsgi"], indirect=True)
def test_flask_hands_over_by_each_way(front: Server, follow: Callable[..., Follower]) -> None:
    """
    By a line of uWSGI, by X-Accel-Redirect and by GRIP; no header for the daemon is sent to
    the client, whatever the status, and a refusal stays a refusal.
    """
    followers = {way: follow(f"{front.url}/{way}") for way in ("line", "redirect", "grip")}
    until(lambda: "id:" in followers["redirect"].text and len(followers["line"].events()) == 1)
    until(lambda: followers["grip"].events() == ["first"])
    publish(front, "news", "second")
    item = {"channel": "news", "http-stream": {"content": "data: second\n\n"}}
    publish_grip(front, [item])

    until(lambda: followers["line"].events() == ["first", "second"])
    until(lambda: followers["grip"].events() == ["first", "second"])
    until(lambda: followers["redirect"].events() == ["second"])
    heads = {way: follower.stop().lower() for way, follower in followers.items()}
    for head in heads.values():
        assert head.startswith("http/1.1 200") and "content-type: text/event-stream" in head
        assert "x-sse" not in head and "x-accel-redirect" not in head and "grip-" not in head
    assert "set-cookie: seen=1" in heads["line"]
    refused = follow(f"{front.url}/refused")
    until(lambda: refused.ended)
    head = refused.stop().lower()
    assert head.startswith("http/1.1 403") and refused.text == "data: first\n\n"
    assert "x-sse" not in head and "x-accel-redirect" not in head and "grip-" not in head
    assert get(f"{front.url}/page") == (200, "<!doctype html><title>page</title>")
    assert get(f"{front.url}/-/sse/news")[0] == 404


def publish_grip(front: Server, items: list[dict[str, Any]], key: str = KEY) -> int:
    import jwt

    token = jwt.encode({"iss": "test", "exp": time.time() + 60}, key, "HS256")
    headers = {"Authorization": f"Bearer {token}", "Content_Type": "application/json"}
    return get(f"{front.url}/publish/", json.dumps({"items": items}).encode(), **headers)[0]


@pytest.mark.limit(60)
@pytest.mark.parametrize("front", ["http", "wsgi"], indirect=True)
def test_requests_are_signed(front: Server) -> None:
    """
    The application verifies the signature by the shared key; a client cannot send one.
    """
    import jwt

    signature, features = get(f"{front.url}/signature", Grip_Sig="forged")[1].split(" ", 1)

    assert jwt.decode(signature, KEY, ["HS256"])["iss"] == "rt_twisted"
    assert features == "status"
    assert publish_grip(front, [{"channel": "a", "http-stream": {"content": "x"}}], "o" * 40) == 401


@pytest.mark.limit(60)
@pytest.mark.parametrize("front", ["http", "wsgi"], indirect=True)
def test_reload_changes_what_is_handed_over(
    front: Server, follow: Callable[..., Follower], tmp_path: Path
) -> None:
    """
    SIGHUP applies other lines to the next responses; streams that are held stay connected.
    """
    config = tmp_path / "flask" / "handover.conf"
    text = config.read_text()
    held = follow(f"{front.url}/redirect")
    until(lambda: "id:" in held.text)

    for changed, is_stream in (
        (
            re.sub("^(internal|pull|collect|final|grip|route = POST).*\n", "", text, flags=re.M),
            False,
        ),
        (text, True),
    ):
        config.write_text(changed)
        before = len(front.log)
        front.send(signal.SIGHUP)
        until(lambda start=before: "reloaded, changed: " in front.log[start:])  # type: ignore[misc]
        other = follow(f"{front.url}/redirect")
        until(lambda one=other: one.ended or "id:" in one.text)  # type: ignore[misc]
        assert other.ended is not is_stream
        assert "x-accel-redirect" not in other.stop().lower()
    publish(front, "news", "after")
    until(lambda: held.events() == ["after"])


@pytest.mark.limit(120)
@pytest.mark.parametrize("way", ["line", "redirect", "grip"])
def test_chromium_resumes_without_loss(
    way: str,
    serve: Serve,
    daemon: StartDaemon,
    browser: Browser,
    tmp_path: Path,
) -> None:
    """
    The EventSource of a page reconnects by itself when the daemon restarts, is handed over
    again, and receives each message once.
    """
    folder = tmp_path / "flask"
    folder.mkdir()
    (folder / "application.py").write_text(FLASK)
    port = gunicorn(serve, folder, "application:app")
    front = in_front(daemon, folder, port, f"--history-file={tmp_path / 'log.db'}", "--retry=1")

    def send(text: str) -> None:
        if way == "grip":
            item = {"channel": "news", "http-stream": {"content": f"data: {text}\n\n"}}
            assert publish_grip(front, [item]) == 200
        else:
            publish(front, "news", text)

    browser.open(f"{front.url}/page")
    browser.evaluate(
        f"(window.seen = [], window.opened = 0, window.source = new EventSource('/{way}'),"
        "source.onopen = () => { window.opened += 1; }, source.onmessage ="
        "(event) => { if (event.data !== 'first') seen.push(event.data); }, 0)"
    )
    browser.wait_for("window.opened === 1")
    send("1")
    browser.wait_for("seen.length === 1")
    front.restart()
    for number in (2, 3):
        send(str(number))
    browser.wait_for("seen.length === 3")
    send("4")
    browser.wait_for("seen.length === 4")
    assert browser.evaluate("seen.join()") == "1,2,3,4"


@pytest.mark.limit(90)
def test_django_grip_unchanged(
    serve: Serve, daemon: StartDaemon, follow: Callable[..., Follower], tmp_path: Path
) -> None:
    """
    django-grip holds streams and long-polls, verifies the signature, and publishes, with the
    GRIP_URL alone.
    """
    for package in ("django_grip", "gripcontrol"):
        if importlib.util.find_spec(package) is None:
            require(package, f"pip install {package}")
    at = free_port()
    url = f"http://127.0.0.1:{at}?iss=app&key={KEY}"
    (tmp_path / "application.py").write_text(DJANGO)
    (tmp_path / "django_settings.py").write_text(DJANGO_SETTINGS.format(url=url))
    port = gunicorn(serve, tmp_path, "application:application")
    assert get(f"http://127.0.0.1:{port}/stream")[0] == 501
    front = in_front(daemon, tmp_path, port, at=at)

    stream, poll = follow(f"{front.url}/stream"), follow(f"{front.url}/poll")
    until(lambda: stream.text.startswith("[stream open]\n"))
    until(lambda: stream.text.startswith("[stream open]\n:\n\n"))  # its keep-alive
    assert get(f"{front.url}/send") == (200, "published\n")
    until(lambda: "hello\n" in stream.text)
    until(lambda: poll.text == "hello")
    assert get(f"{front.url}/unchanged")[0] == 304


@pytest.mark.limit(90)
def test_gripcontrol_publishes(front: Server, follow: Callable[..., Follower]) -> None:
    """
    gripcontrol alone publishes streams, responses, and messages for websockets.
    """
    gripcontrol = pytest.importorskip("gripcontrol")
    pubcontrol = pytest.importorskip("pubcontrol")
    config = {"control_uri": front.url, "control_iss": "app", "key": KEY}
    control = gripcontrol.GripPubControl(config)
    stream, plain = follow(f"{front.url}/grip"), follow(f"{front.url}/redirect")
    until(lambda: stream.events() == ["first"] and "id:" in plain.text)

    control.publish_http_stream("news", "data: by grip\n\n", blocking=True)
    message = gripcontrol.WebSocketMessageFormat("by websocket")
    control.publish("news", pubcontrol.Item(message), blocking=True)
    until(lambda: stream.events() == ["first", "by grip"])
    until(lambda: plain.events() == ["by websocket"])
    control.publish(
        "news", pubcontrol.Item(gripcontrol.HttpStreamFormat(close=True)), blocking=True
    )
    until(lambda: stream.ended)
    control.close()
    wrong = gripcontrol.GripPubControl({**config, "key": "o" * 40})
    with pytest.raises(ValueError, match="401"):
        wrong.publish_http_stream("news", "x", blocking=True)
    wrong.close()


@pytest.mark.limit(90)
def test_fanoutio_grip_unchanged(
    serve: Serve, daemon: StartDaemon, follow: Callable[..., Follower], tmp_path: Path
) -> None:
    """
    @fanoutio/grip verifies the signature, holds streams and long-polls, and publishes.
    """
    node = require("node", "nodejs")
    require_npm("@fanoutio/grip")
    at, port = free_port(), free_port()
    script = str(ROOT / "tests" / "real" / "clients" / "grip_application.mjs")
    serve([node, script, str(port), f"http://127.0.0.1:{at}?iss=app&key={KEY}"], port)
    assert get(f"http://127.0.0.1:{port}/stream")[0] == 501
    front = in_front(daemon, tmp_path, port, at=at)

    stream, poll = follow(f"{front.url}/stream"), follow(f"{front.url}/poll")
    until(lambda: stream.events() == ["open"])
    until(lambda: get(f"{front.url}/publish-now")[0] == 200 and poll.text == "published")
    until(lambda: stream.events()[:2] == ["open", "published"])


@pytest.mark.limit(90)
@pytest.mark.parametrize(
    ("name", "command", "login"),
    [
        ("handover_django", "gunicorn:application", "cookie"),
        ("handover_flask", "gunicorn:app", "Basic YW5uOnNlY3JldA=="),
        ("handover_fastapi", "uvicorn:app", "Bearer ann"),
    ],
)
def test_examples(
    name: str,
    command: str,
    login: str,
    serve: Serve,
    daemon: StartDaemon,
    follow: Callable[..., Follower],
    tmp_path: Path,
) -> None:
    """
    The examples decide who may enter a room, and publish to it.
    """
    program, _, variable = command.partition(":")
    if importlib.util.find_spec(program) is None:
        require(program, f"pip install {program}")
    port, at = free_port(), free_port()
    source = (ROOT / "examples" / f"{name}.py").read_text()
    (tmp_path / f"{name}.py").write_text(source.replace("127.0.0.1:8080", f"127.0.0.1:{at}"))
    bind = [f"--bind=127.0.0.1:{port}"] if program == "gunicorn" else [f"--port={port}"]
    command_line = [sys.executable, "-m", program, *bind, f"{name}:{variable}"]
    serve(command_line, port, tmp_path, {"HOME": str(tmp_path)})
    config = (ROOT / "examples" / "handover.conf").read_text()
    (tmp_path / "handover.conf").write_text(config.replace("8000", str(port)))
    front = daemon(f"--config={tmp_path / 'handover.conf'}", port=at)
    room, headers = f"{front.url}/rooms/kitchen", {"Authorization": login}
    if login == "cookie":
        with urllib.request.urlopen(f"{front.url}/login/ann", timeout=PATIENCE) as page:
            headers = {"Cookie": page.headers["Set-Cookie"].partition(";")[0]}
    body, kind = b"text=hello", "application/x-www-form-urlencoded"
    if program == "uvicorn":
        body, kind = b'{"text": "hello"}', "application/json"

    assert get(f"{room}/events")[0] in (401, 403)
    assert get(f"{front.url}/rooms/cellar/events", None, **headers)[0] == 403
    options = [f"-H{header}: {value}" for header, value in headers.items()]
    follower = follow(f"{room}/events", *options)
    until(lambda: "id:" in follower.text)
    assert get(f"{room}/messages", body, Content_Type=kind, **headers)[0] == 204
    until(lambda: follower.events()[-1:] == ["ann: hello"])
