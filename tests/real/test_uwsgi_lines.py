"""
The INI files of uwsgi-sse-offload's README, and route lines on uWSGI itself beside ours.
"""

from __future__ import annotations

import http.client
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.real.conftest import PATIENCE, PAUSE, TWISTD, Browser, Serve, Server, free_port, require
from tests.real.redis_server import redis

__all__ = ["redis"]  # a fixture

# The file of uwsgi-sse-offload's README, but for the port.
CLOCK_INI = """\
[uwsgi]
; eventually use absolue path for the plugin if it is not in the current directory
plugin = sse_offload
; bind on http port 9090
http-socket = :{port}
; run clock.pl as a mule
mule = clock.pl
; map requests to / to the html file
static-map = /clock=clock.html
; route requests to ^/whattimeisit to the sse engine subscribed to the 'clock' redis channel
route = ^/whattimeisit sse:clock
; enable 1 offload thread
offload-threads = 1
"""
# The file of its README for applications that choose the channel, but for the port...
GOVERNED_INI = """\
[uwsgi]
plugin = python
; eventually use absolue path for the plugin if it is not in the current directory
plugin = sse_offload
; bind on http port 9090
http-socket = :{port}
; run clock.pl as a mule
mule = clock.pl
; map requests to / to the html file
static-map = /=clock.html

; load the wsgi app
wsgi-file = clock.py

; tell the routing engine to check for X-SSE-OFFLOAD variable
final-route-if-not = empty:${{X-SSE-OFFLOAD}} sse:${{X-SSE-OFFLOAD}}
; enable 1 offload thread
offload-threads = 1
"""
# ...and its application, but for the bytes that Python 3 needs.
CLOCK_PY = """\
import uwsgi

def application(environ, start_response):
    if environ['PATH_INFO'] == '/whattimeisit':
        uwsgi.add_var('X-SSE-OFFLOAD', 'clock')
        return []
    elif environ['PATH_INFO'] == '/whattimeisit2':
        uwsgi.add_var('X-SSE-OFFLOAD', 'clock')
        start_response('200 OK', [('Content-Type', 'event/stream'), ('Cache-Control', 'no-cache'), ('Foo', 'Bar')])
        return []
    else:
        start_response('200 OK', [('Content-Type', 'text/plain')])
        return [b'Hello World']
"""  # noqa: E501  # as it is there
# And that of uwsgi-realtime's README.
NEWS_INI = """\
[uwsgi]
plugin = realtime
; offload requests for /news to the sse engine and instruct them to subscribe to the 'lotofnews' redis channel
route = ^/news$ sse:lotofnews
; bind to http port 9090
http-socket = :{port}
; serve the html
static-map = /=index.html
offload-threads = 1
"""  # noqa: E501  # as it is there
CLOCK_PL = """\
use Redis;
my $redis = Redis->new;
while (1) { sleep(1); $redis->publish('clock', time); }
"""
PAGE = """\
<!doctype html>
<script>
  var source = new EventSource('{path}');
  source.onmessage = function(e) {{ document.getElementById('seen').innerHTML = e.data; }};
</script>
<div id="seen"></div>
"""
# What both uWSGI and ours do alike; `app.py` answers with what it is asked.
LINES_INI = """\
[uwsgi]
http-socket = 127.0.0.1:{port}
master = true
processes = 1
module = app:application
check-static = public
static-map = /files=files
; the request chain
route = ^/moved/(.*)$ redirect:/new/$1?${{QUERY_STRING}}
route = ^/gone$ return:410
route = ^/closed$ redirect-permanent:https://${{HTTP_HOST}}/
route-if = equal:${{REQUEST_METHOD}};DELETE break:405 Method Not Allowed
route-if-not = empty:${{HTTP_X_BAD}} break:403 Forbidden
route-run = addvar:ROOM=lobby
route-host = ^(\\w+)\\.example\\.org$ addvar:ROOM=$1
route-if = startswith:${{PATH_INFO}};/start addheader:X-Start: ${{PATH_INFO}}
route-if = endswith:${{PATH_INFO}};/end addheader:X-End: yes
route-if = contains:${{QUERY_STRING}};needle addheader:X-Needle: ${{qs[a]}}
route-if = regexp:${{REQUEST_URI}};^/(\\d+)/(\\w+) addheader:X-Numbers: $2-$1
route-uri = ^/esc.20aped addheader:X-Uri: seen
route-qs = b=(.) addheader:X-B: $1
route-user-agent = ^Probe addheader:X-Agent: probe
route-remote-addr = ^127\\. addheader:X-Near: ${{REMOTE_ADDR}}
route-if = equal:${{cookie[team]}};blue goto:blue
route-run = addheader:X-Team: other
route-run = last:
route-label = blue
route-run = addheader:X-Team: blue in ${{ROOM}}
route-run = continue:
route-run = break:500 never reached
"""
APP = """\
def application(environ, start_response):
    body = (environ["REQUEST_METHOD"] + " " + environ["PATH_INFO"]).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-App", "yes")])
    return [body]
"""
# Both ways by which applications hand over, and lines that need none. The dialogue was recorded on
# uWSGI 2.0.31 of PyPI with the plugin sse_offload, built by `uwsgi --build-plugin` of
# github.com/unbit/uwsgi-sse-offload at e9d71a6, which no package has: what each response was when
# redis had published MESSAGES on `clock`, once it was subscribed there. The types differ:
# an EventSource fails with `event/stream`, and ours is always text/event-stream.
CHOSEN_INI = """\
[uwsgi]
plugin = python
plugin = sse_offload
http-socket = 127.0.0.1:{port}
static-map = /clock=clock.html
wsgi-file = chosen.py
route = ^/route$ sse:clock
route = ^/keys/(\\w+)$ sse:subscribe=$1
pull-header = X-SSE-Channel X_SSE_CHANNEL
collect-header = Content-Type RESPONSE_TYPE
final-route-if = equal:${{RESPONSE_TYPE}};event/stream sse:${{X_SSE_CHANNEL}}
final-route-if-not = empty:${{X-SSE-OFFLOAD}} sse:${{X-SSE-OFFLOAD}}
offload-threads = 1
"""
CHOSEN_PY = """\
import uwsgi

CHANNEL = ("X-SSE-Channel", "clock")


def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/variable"):
        uwsgi.add_var("X-SSE-OFFLOAD", "clock")
        if path == "/variable/headers":
            start_response("200 OK", [("Content-Type", "text/event-stream"), ("Foo", "Bar")])
        return []
    if path == "/header":
        start_response("200 OK", [("Content-Type", "event/stream"), CHANNEL, ("Foo", "Bar")])
        return [b"data: first\\n\\n"]
    start_response("200 OK", [("Content-Type", "text/plain"), CHANNEL])
    return [b"plain"]
"""
MESSAGES = ("1", "two\nlines", "a: b\n")
_EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
_DATA = b"data: 1\n\ndata: two\ndata: lines\n\ndata: a: b\ndata: \n\n"
DIALOGUE = {
    "/clock": b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\npage\n",
    "/route": _EVENTS + b"Cache-Control: no-cache\r\n\r\n" + _DATA,
    "/route?x=y": _EVENTS + b"Cache-Control: no-cache\r\n\r\n" + _DATA,
    "/keys/clock": _EVENTS + b"Cache-Control: no-cache\r\n\r\n" + _DATA,
    "/variable": _EVENTS + b"Cache-Control: no-cache\r\n\r\n" + _DATA,
    "/variable/headers": _EVENTS + b"Foo: Bar\r\n\r\n" + _DATA,
    "/header": b"HTTP/1.1 200 OK\r\nContent-Type: event/stream\r\nFoo: Bar\r\n\r\ndata: first\n\n"
    + _DATA,
    "/plain": b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nplain",
}
REQUESTS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "/", {}),
    ("GET", "/?a=needle&b=x", {}),
    ("GET", "/moved/a/b?c=d", {}),
    ("GET", "/gone", {}),
    ("GET", "/closed", {"Host": "shop.example.org"}),
    ("GET", "/start/of/end", {"Cookie": "team=blue"}),
    ("GET", "/start", {"Cookie": "team=blue", "Host": "toys.example.org"}),
    ("GET", "/17/apples", {"User-Agent": "Probe/1"}),
    ("GET", "/esc%20aped", {"Cookie": "team=red"}),
    ("DELETE", "/", {}),
    ("POST", "/", {"X-Bad": "1", "Content-Length": "0"}),
    ("GET", "/files/a.txt", {}),
    ("GET", "/files/missing.txt", {}),
    ("GET", "/b.txt", {"Cookie": "team=blue"}),
    ("POST", "/files/a.txt", {"Content-Length": "0"}),
]


def start_uwsgi_file(
    serve: Serve,
    text: str,
    folder: Path,
    port: int,
    *options: str,
    environment: dict[str, str] | None = None,
) -> Server:
    """
    Start the daemon by a file of uWSGI.
    """
    (folder / "uwsgi.ini").write_text(text.format(port=port))
    command = [*TWISTD, "realtime", "--config=uwsgi.ini", *options]
    return serve(command, port, folder, environment)


def start_clock(serve: Serve, redis: Server, folder: Path, text: str) -> Server:
    """
    Start the daemon in *folder* with the mule, the page and the application of the README.
    """
    require("perl", "perl")
    if subprocess.run(["perl", "-MRedis", "-e", "1"], check=False, capture_output=True).returncode:
        require("perl with Redis", "libredis-perl")
    (folder / "clock.pl").write_text(CLOCK_PL)
    (folder / "clock.py").write_text(CLOCK_PY)
    (folder / "clock.html").write_text(PAGE.format(path="/whattimeisit"))
    options = ("--broker=redis", f"--redis-port={redis.port}")
    environment = {"REDIS_SERVER": f"127.0.0.1:{redis.port}"}
    return start_uwsgi_file(serve, text, folder, free_port(), *options, environment=environment)


def test_the_readme_of_uwsgi_sse_offload(
    serve: Serve, redis: Server, browser: Browser, tmp_path: Path
) -> None:
    """
    The mule publishes the time to redis each second, and the page shows it.
    """
    server = start_clock(serve, redis, tmp_path, CLOCK_INI)

    browser.open(f"{server.url}/clock")
    first = int(browser.wait_for("document.getElementById('seen').innerHTML"))
    assert abs(first - time.time()) < PATIENCE
    assert browser.wait_for(f"document.getElementById('seen').innerHTML > {first}")
    assert server.log.count("no effect here: offload-threads, plugin") == 1


def test_the_application_of_uwsgi_sse_offload(
    serve: Serve, redis: Server, browser: Browser, tmp_path: Path
) -> None:
    """
    The application chooses the channel for a path, with and without headers of its own, and
    serves all others; the page is the file.
    """
    server = start_clock(serve, redis, tmp_path, GOVERNED_INI)

    browser.open(f"{server.url}/")
    first = int(browser.wait_for("document.getElementById('seen').innerHTML"))
    assert abs(first - time.time()) < PATIENCE
    assert browser.wait_for(f"document.getElementById('seen').innerHTML > {first}")
    for path, foo in (("/whattimeisit", None), ("/whattimeisit2", "Bar")):
        with connected(server.port) as connection:
            connection.request("GET", path)
            response = connection.getresponse()
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            assert response.headers["Foo"] == foo
            while not (line := response.readline()).startswith(b"data: "):
                assert line
            assert int(line.removeprefix(b"data: ")) >= first
    other = answer(server.port, "GET", "/other", {})
    assert other == {"status": 200, "body": "Hello World"}
    posted = answer(server.port, "POST", "/whattimeisit2", {"Content-Length": "0"})
    assert posted == {"status": 200, "body": ""}


def test_the_first_example_of_uwsgi_realtime(
    serve: Serve, redis: Server, browser: Browser, tmp_path: Path
) -> None:
    """
    What redis-cli publishes is shown by the page, which is served for every other path.
    """
    cli = require("redis-cli", "redis-tools")
    folder = tmp_path / "news"
    folder.mkdir()
    (folder / "index.html").write_text(PAGE.format(path="/news"))
    options = ("--broker=redis", f"--redis-port={redis.port}")
    server = start_uwsgi_file(serve, NEWS_INI, folder, free_port(), *options)

    browser.open(f"{server.url}/any/path")
    browser.wait_for("source.readyState === 1")
    publish = [cli, "-p", str(redis.port), "publish", "lotofnews", "hello"]
    received, deadline = 0, time.monotonic() + PATIENCE
    while not received and time.monotonic() < deadline:  # redis says how many were subscribed
        done = subprocess.run(publish, check=True, capture_output=True, timeout=PATIENCE)
        received = int(done.stdout)
    assert browser.wait_for("document.getElementById('seen').innerHTML") == "hello"


@contextmanager
def connected(port: int) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        yield connection
    finally:
        connection.close()


def answer(port: int, method: str, path: str, headers: dict[str, str]) -> dict[str, object]:
    """
    Return what lines decide about a response: its status, the headers that they set, and which
    file or application it is from.
    """
    with connected(port) as connection:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        body = response.read().decode()
        names = {name.lower() for name in response.headers}
        ours = sorted(name for name in names if name.startswith("x-") and "options" not in name)
        named = {name: response.headers[name] for name in [*ours, "location"] if name in names}
        return {"status": response.status, **named, "body": body if response.status == 200 else ""}


def test_the_same_lines_on_uwsgi_itself(serve: Serve, tmp_path: Path) -> None:
    """
    uWSGI and ours answer alike, with the same file.
    """
    program = require("uwsgi", "uwsgi")
    if "!!! no internal routing support" in _first_words(program):
        require("uwsgi with route lines", "libpcre2-dev")
    commands = (
        [program, "--ini", "uwsgi.ini", "--die-on-term"],
        [*TWISTD, "realtime", "--config=uwsgi.ini"],
    )
    ports = free_port(), free_port()
    for port, command in zip(ports, commands, strict=True):
        folder = tmp_path / str(port)
        for name in ("files", "public"):
            (folder / name).mkdir(parents=True)
        (folder / "files" / "a.txt").write_text("file a")
        (folder / "public" / "b.txt").write_text("file b")
        (folder / "app.py").write_text(APP)
        (folder / "uwsgi.ini").write_text(LINES_INI.format(port=port))
        serve(command, port, folder, {"PYTHONPATH": str(folder)})

    theirs, ours = ([answer(port, *request) for request in REQUESTS] for port in ports)
    for request, their, our in zip(REQUESTS, theirs, ours, strict=True):
        assert our == their, request
    assert {each["status"] for each in ours} == {200, 301, 302, 403, 405, 410}


@pytest.mark.parametrize("path", DIALOGUE)
def test_the_same_file_as_on_uwsgi_with_its_plugin(
    path: str, serve: Serve, redis: Server, tmp_path: Path
) -> None:
    """
    A client gets what uWSGI with the plugin sse_offload sends with the same file: the status, the
    headers of the application and no others of it, and the messages of redis.
    """
    (tmp_path / "chosen.py").write_text(CHOSEN_PY)
    (tmp_path / "clock.html").write_text("page\n")
    options = ("--broker=redis", f"--redis-port={redis.port}")
    server = start_uwsgi_file(serve, CHOSEN_INI, tmp_path, free_port(), *options)
    while "is connected" not in server.log:
        time.sleep(PAUSE)
    head, _, body = DIALOGUE[path].partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    theirs = dict(line.split(": ") for line in lines)
    with connected(server.port) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        assert f"HTTP/1.1 {response.status} {response.reason}" == status
        assert {"Foo", "X-SSE-Channel"} & set(response.headers) == {"Foo"} & set(theirs)
        kind = theirs["Content-Type"].replace("event/stream", "text/event-stream")
        assert response.headers.get_content_type() == kind
        if kind != "text/event-stream":
            assert response.read() == body
            return
        assert "no-cache" in response.headers["Cache-Control"]
        for message in MESSAGES:
            publish = ["redis-cli", "-p", str(redis.port), "publish", "clock", message]
            subprocess.run(publish, check=True, capture_output=True, timeout=PATIENCE)
        assert dispatched(response, body.count(b"\n\n")) == events_of(body)


def dispatched(response: http.client.HTTPResponse, count: int) -> list[str]:
    """
    Return the data of the first *count* events of a stream.
    """
    received = b""
    while len(events := events_of(received)) < count:
        line = response.readline()
        assert line, received
        received += line
    return events


def events_of(stream: bytes) -> list[str]:
    """
    Return the data of the events in a part of a stream, as an EventSource dispatches them.
    """
    blocks = stream.decode().split("\n\n")[:-1]
    lines = [[line[6:] for line in block.split("\n") if line[:6] == "data: "] for block in blocks]
    return ["\n".join(data) for data in lines if data]


def _first_words(program: str) -> str:
    """
    Return what uWSGI says about itself when it starts.
    """
    done = subprocess.run(
        [program, "--http-socket=127.0.0.1:0", "--need-app"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")
