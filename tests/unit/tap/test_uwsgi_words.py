"""
uWSGI's INI files as settings files.
"""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock

from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.codecs import uwsgi_actions
from rt_twisted.routes import Routes
from rt_twisted.tap.build import build
from rt_twisted.tap.options import Options
from rt_twisted.tap.routing import make_routes
from rt_twisted.tap.setting_values import SettingError
from rt_twisted.tap.settings import SETTINGS
from rt_twisted.tap.uwsgi_words import ACCEPTED, INSTEAD, advice, translate
from tests.defaults import make_context, make_hub
from tests.unit.tap.test_settings import error_of, parse

ROOT = Path(__file__).parents[3]
# As in the README of uwsgi-realtime; the path of the page is its own.
README = """\
[uwsgi]
plugin = realtime
http-socket = :9090
route = ^/stream.webm$ goto:stream
route-run = last:
static-map = /={page}
offload-threads = 1

route-label = stream
; if GET stream the video
route-if = equal:${{REQUEST_METHOD}};GET webm:uwsgi
; if POST, capture frames and publish them to redis
route-if = equal:${{REQUEST_METHOD}};POST istream:uwsgi
"""


# As in the README of uwsgi-sse-offload, for an application that chooses the channel.
GOVERNED = """\
[uwsgi]
plugin = python
; eventually use absolue path for the plugin if it is not in the current directory
plugin = sse_offload
; bind on http port 9090
http-socket = :9090
; run clock.pl as a mule
mule = clock.pl
; map requests to / to the html file
static-map = /={page}

; load the wsgi app
{application}

; tell the routing engine to check for X-SSE-OFFLOAD variable
final-route-if-not = empty:${{X-SSE-OFFLOAD}} sse:${{X-SSE-OFFLOAD}}
; enable 1 offload thread
offload-threads = 1
"""


def write(folder: Path, text: str) -> str:
    path = folder / "uwsgi.ini"
    path.write_text(text)
    return str(path)


def listening(*arguments: str) -> list[tuple[int, str]]:
    """
    Return the ports and interfaces of the daemon of *arguments*.
    """
    reactor: Any = MemoryReactorClock()
    build(parse(*arguments), reactor).privilegedStartService()
    return [(port, interface) for port, _, _, interface in reactor.tcpServers]


def test_the_readme_of_uwsgi_realtime(tmp_path: Path) -> None:
    """
    The file is accepted as it is: it listens on every interface, on that port alone.
    """
    page = tmp_path / "webm.html"
    page.touch()
    options = parse("--config", write(tmp_path, README.format(page=page)))

    assert options["endpoint"] == ["tcp:9090:interface=0.0.0.0:backlog=4096"]
    assert options["route"] == [
        "^/stream.webm$ goto:stream",
        "route-run last:",
        f"static-map /={page}",
        "route-label stream",
        "route-if equal:${REQUEST_METHOD};GET webm:uwsgi",
        "route-if equal:${REQUEST_METHOD};POST istream:uwsgi",
    ]
    assert options.without_effect == {"offload-threads", "plugin"}
    path = write(tmp_path, README.format(page=page))
    assert listening("--config", path) == [(9090, "0.0.0.0")]


def test_the_readme_of_uwsgi_sse_offload(tmp_path: Path) -> None:
    """
    The page is the file, the mule a helper, and the application serves the rest.
    """
    page = tmp_path / "clock.html"
    page.touch()
    application = "module = tests.words:application"
    options = parse(
        "--config", write(tmp_path, GOVERNED.format(page=page, application=application))
    )

    assert options["route"] == [
        f"static-map /={page}",
        "module tests.words:application",
        "final-route-if-not empty:${X-SSE-OFFLOAD} sse:${X-SSE-OFFLOAD}",
    ]
    assert options["helper"] == [("clock.pl",)]
    assert options.without_effect == {"offload-threads", "plugin"}
    reactor: Any = SimpleNamespace(getThreadPool=lambda: None)
    context = make_context(make_hub(MemoryBroker(Clock(), "e"), Clock()), reactor)
    routes = Routes(make_routes(options, context))
    for method, path, word in (
        ("GET", "/", "static"),
        ("POST", "/", "wsgi"),
        ("GET", "/whattimeisit", "wsgi"),
        ("GET", "/clock.html", "wsgi"),
    ):
        found = routes.find(method, path)
        assert isinstance(found, tuple)
        assert found[0].bare == {"static": "path", "wsgi": "name"}[word]
        assert found[1].depth == 0
    assert routes.responses


@pytest.mark.parametrize(
    ("word", "text", "line"),
    [
        ("wsgi-file", "/srv/clock.py", "wsgi-file /srv/clock.py"),
        ("wsgi", "shop.wsgi", "module shop.wsgi"),
        ("static-check", "public", "check-static public"),
        ("response-header-collect", "A B", "collect-header A B"),
        ("final-route-host", "^a sse:b", "final-route-host ^a sse:b"),
    ],
)
def test_words_that_are_route_lines(word: str, text: str, line: str) -> None:
    """
    Some words of uWSGI are other names for the same.
    """
    assert translate(word, text) == ("route", line)
    assert parse(f"--{word}={text}")["route"] == [line]


def test_the_help_lists_a_few_words_of_route_lines() -> None:
    """
    All of them are options, but forty lines would hide the settings.
    """
    listed = Options().getUsage()
    assert "--route-if=" in listed
    assert "--final-route" not in listed


def test_switches_of_uwsgi_may_stand_alone(tmp_path: Path) -> None:
    """
    They have no effect. Other lines without a value are errors.
    """
    path = write(tmp_path, "[uwsgi]\nmaster\nprocesses = 4\nhttp-websockets = true\n")

    assert parse("--config", path).without_effect == {"http-websockets", "master", "processes"}
    path = write(tmp_path, "credentials\n")
    assert "'credentials' is not 'name = value'" in error_of(parse, "--config", path)


def test_words_that_are_not_supported_have_an_advice(tmp_path: Path) -> None:
    """
    The advice is what to write instead. No setting of ours has such a name.
    """
    for word in ("socket", "callable", "https", "uid", "vacuum", "error-route-if"):
        path = write(tmp_path, f"{word} = x\n")
        found = error_of(parse, "--config", path)
        assert (
            found == f"realtime: {path}:1: uWSGI's word {word!r} is not supported: {advice(word)}"
        )
    assert not any(advice(name) for name in {*SETTINGS, *ACCEPTED})
    documented = (ROOT / "docs" / "migrating.md").read_text()
    words = [name for name in INSTEAD if not name.startswith("websocket-")]
    words += uwsgi_actions.INSTEAD
    assert [word for word in words if f"`{word}`" not in documented] == []


def test_a_reload_reads_the_words_again(tmp_path: Path) -> None:
    """
    The routes are those of the changed file, in its order.
    """
    path = write(tmp_path, "route-label = a\nroute = ^/x sse:news\n")
    options = parse("--config", path, "--plugin=realtime")
    write(tmp_path, "[uwsgi]\nroute = ^/x goto:a\nroute-label = a\nroute-run = sse:news\n")

    fresh = options.read_again()

    assert fresh["route"] == ["^/x goto:a", "route-label a", "route-run sse:news"]
    assert fresh.without_effect == {"plugin"}


def test_words_on_the_command_line() -> None:
    """
    They stand in the order in which they are given, among the routes.
    """
    options = parse(
        "--route=^/x goto:a",
        "--route-run=last:",
        "--route-label=a",
        "--route-if=equal:${REQUEST_METHOD};GET sse:news",
        "--static-map=/=/",
        "--http-socket=127.0.0.1:9090",
    )

    assert options["route"] == [
        "^/x goto:a",
        "route-run last:",
        "route-label a",
        "route-if equal:${REQUEST_METHOD};GET sse:news",
        "static-map /=/",
    ]
    assert options["endpoint"] == ["tcp:9090:interface=127.0.0.1:backlog=4096"]


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        (":9090", "tcp:9090:interface=0.0.0.0:backlog=4096"),
        ("127.0.0.1:9090", "tcp:9090:interface=127.0.0.1:backlog=4096"),
        ("localhost:80", "tcp:80:interface=localhost:backlog=4096"),
        ("[::1]:9090", r"tcp:9090:interface=\:\:1:backlog=4096"),
        ("/run/uwsgi.sock", "unix:/run/uwsgi.sock"),
        ("./a:b.sock", r"unix:./a\:b.sock"),
        ("/a=b.sock", r"unix:/a\=b.sock"),
        ("", ""),
    ],
)
def test_the_address_of_a_socket(text: str, endpoint: str) -> None:
    """
    An address without a host is every interface of IPv4, as with uWSGI.
    """
    assert translate("http-socket", text) == ("endpoint", endpoint)


@given(st.text())
def test_any_address_is_an_endpoint_or_an_error(text: str) -> None:
    """
    Whatever stands in an address, it cannot add arguments to the endpoint.
    """
    try:
        name, endpoint = translate("http-socket", text)
    except ValueError:
        return
    assert name == "endpoint"
    if text:
        reactor: Any = MemoryReactorClock()
        serverFromString(reactor, endpoint).listen(Factory())
        assert len(reactor.tcpServers) + len(reactor.unixServers) == 1


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("[other]", "there is no section '[other]', only [uwsgi]"),
        ("http-socket = 9090", "http-socket must be [ADDRESS]:PORT, or the path of a unix socket, "
         "not '9090'"),
        ("http-socket = :99999", "http-socket must be [ADDRESS]:PORT, or the path of a unix "
         "socket, not ':99999'"),
        ("route-iff = a b", "there is no setting 'route-iff'; did you mean 'route-if'?"),
        ("http-sockets = :1", "there is no setting 'http-sockets'; did you mean 'http-socket'?"),
        ("http-sock = :1", "there is no setting 'http-sock'; did you mean 'http-socket'?"),
    ],
)  # fmt: skip
def test_a_wrong_line_names_its_place(tmp_path: Path, line: str, error: str) -> None:
    """
    The sentence begins with the file and the line.
    """
    path = write(tmp_path, f"; comment\n{line}\n")

    assert error_of(parse, "--config", path) == f"realtime: {path}:2: {error}"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("final-route = ^/x$ goto:b", "final-route '^/x$ goto:b': no final-route-label 'b' stands "
         "behind this line"),
        ("response-route-if = same:a;b sse:x", "response-route-if 'same:a;b sse:x': there is no "
         "test 'same'; there is: equal, empty, startswith, endswith, contains, regexp"),
        ("route = ^/x$ goto:b", "route '^/x$ goto:b': no route-label 'b' stands behind this line"),
        ("route-if = equal:a;b webm", "route-if 'equal:a;b webm': action 'webm' needs subscribe="),
        ("route-label =", "route-label '': a route-label needs a name"),
        ("static-map = /=nowhere", "static-map '/=nowhere': there is no nowhere"),
    ],
)  # fmt: skip
def test_a_wrong_route_names_its_place(tmp_path: Path, line: str, error: str) -> None:
    """
    The sentence begins with the file, the line, and the word that was written.
    """
    path = write(tmp_path, f"[uwsgi]\n{line}\n")
    reactor: Any = MemoryReactorClock()

    with pytest.raises(SettingError) as raised:
        build(parse("--config", path), reactor)

    assert str(raised.value) == f"{path}:2: {error}"


def test_check_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """
    `--check` builds the routes, and starts nothing.
    """
    page = tmp_path / "webm.html"
    page.touch()
    reactor: Any = MemoryReactorClock()
    options = Options(lambda checked: build(checked, reactor))

    with pytest.raises(SystemExit) as ended:
        options.parseOptions(["--config", write(tmp_path, README.format(page=page)), "--check"])

    assert ended.value.code == 0
    assert "the settings are right" in capsys.readouterr().out
