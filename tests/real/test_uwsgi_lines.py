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

from tests.real.conftest import PATIENCE, TWISTD, Browser, Serve, Server, free_port, require
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


def _first_words(program: str) -> str:
    """
    Return what uWSGI says about itself when it starts.
    """
    done = subprocess.run(
        [program, "--http-socket=127.0.0.1:0", "--need-app"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")
