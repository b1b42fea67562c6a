"""
Exports to a real carbon, read back from its whisper files, and graphs of
graphite-web over them.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet.task import deferLater

from rt_twisted.metrics.graphite import GraphiteExporter, component
from tests.real.conftest import PATIENCE, ROOT, Serve, Server, StartDaemon, free_port, require
from tests.unit.metrics.test_dashboards import graphite_targets, load
from tests.unit.metrics.test_graphite import DAEMON, HOSTILE, Counts

CARBON = """
[cache]
CONF_DIR = {folder}
STORAGE_DIR = {folder}
LOCAL_DATA_DIR = {folder}/whisper
PID_DIR = {folder}
LOG_DIR = {folder}
LINE_RECEIVER_INTERFACE = 127.0.0.1
LINE_RECEIVER_PORT = {port}
ENABLE_UDP_LISTENER = True
UDP_RECEIVER_INTERFACE = 127.0.0.1
UDP_RECEIVER_PORT = {port}
PICKLE_RECEIVER_INTERFACE = 127.0.0.1
PICKLE_RECEIVER_PORT = {pickles}
CACHE_QUERY_INTERFACE = 127.0.0.1
CACHE_QUERY_PORT = {query}
ENABLE_TAGS = False
MAX_UPDATES_PER_SECOND = inf
MAX_CREATES_PER_MINUTE = inf
"""

SCHEMAS = """
[carbon]
pattern = .*
retentions = 1s:1d
"""

# Prints {name: {second: value}} of all files below a folder; carbon may be about to make some.
READ = """
import json, os, sys, time, whisper
found = {}
for folder, _, files in os.walk(sys.argv[1]):
    for file in files:
        path = os.path.join(folder, file)
        name = os.path.relpath(path, sys.argv[1])[:-len(".wsp")].replace(os.sep, ".")
        try:
            (first, _, step), values = whisper.fetch(path, time.time() - 600)
        except whisper.CorruptWhisperFile:
            continue
        found[name] = {first + step * at: value for at, value in enumerate(values)
                       if value is not None}
print(json.dumps({name: found[name] for name in found if not name.startswith("carbon.")}))
"""

PAUSE = 0.3  # seconds between two checks

Start = Callable[[str], GraphiteExporter]


@dataclass(frozen=True, slots=True)
class Carbon:
    """
    A carbon-cache and what it has stored.
    """

    server: Server
    pickles: int
    python: Path

    def port(self, protocol: str) -> int:
        """
        Return the port for *protocol*.
        """
        return self.pickles if protocol == "pickle" else self.server.port

    def stored(self) -> dict[str, dict[int, float]]:
        """
        Return value by second by name, of all names but carbon's own.
        """
        command = [str(self.python), "-c", READ, str(self.server.folder / "whisper")]
        names = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return {
            name: {int(second): value for second, value in values.items()}
            for name, values in names.items()
        }

    def newest(self) -> dict[str, float]:
        """
        Return the last value by name.
        """
        return {name: values[max(values)] for name, values in self.stored().items() if values}


@pytest.fixture
def carbon(serve: Serve, tmp_path: Path) -> Carbon:
    """
    Carbon with its plaintext listeners, TCP and UDP, on one port, and one for pickles.

    It is installed in a venv of its own; RT_GRAPHITE in the environment names another.
    """
    home = Path(os.environ.get("RT_GRAPHITE") or ROOT / ".venv-graphite")
    program = Path(require(str(home / "bin" / "carbon-cache.py"), "carbon"))
    python = program.with_name("python")
    port, pickles = free_port(), free_port()
    folder = tmp_path / "carbon"
    folder.mkdir()
    config = folder / "carbon.conf"
    config.write_text(CARBON.format(folder=folder, port=port, pickles=pickles, query=free_port()))
    (folder / "storage-schemas.conf").write_text(SCHEMAS)
    command = [str(python), str(program), "--debug", f"--config={config}", "start"]
    return Carbon(serve(command, port, folder), pickles, python)


@pytest_twisted.async_yield_fixture
async def start(carbon: Carbon) -> AsyncIterator[Start]:
    """
    Start exporters to carbon, by protocol, and stop them after the test.
    """
    from twisted.internet import reactor

    started: list[IService] = []

    def by(protocol: str) -> GraphiteExporter:
        exporter = GraphiteExporter(
            reactor, "localhost", carbon.port(protocol), "cyclone-sse", protocol
        )
        started.append(exporter)
        started[-1].startService()
        return exporter

    yield by
    for service in started:
        await service.stopService()


async def repeat(export: Callable[[], None], until: Callable[[], bool]) -> None:
    """
    Export at intervals until *done* holds.
    """
    from twisted.internet import reactor

    deadline = time.monotonic() + PATIENCE
    while True:
        export()
        await deferLater(reactor, PAUSE)
        if until():
            return
        assert time.monotonic() < deadline, f"not so within {PATIENCE:g} seconds"


def nothing() -> None:
    """
    Do nothing between two attempts of `repeat`.
    """


@pytest.mark.parametrize("protocol", ["tcp", "udp", "pickle"])
async def test_carbon_stores_what_was_exported(carbon: Carbon, start: Start, protocol: str) -> None:
    """
    Every channel is one file in its folder, whatever its name is, and there is no other file.
    """
    exporter = start(protocol)
    channels = {channel: size for size, channel in enumerate(HOSTILE, 1)}
    expected: dict[str, float] = {
        "_other": 0,
        **{f"_daemon.{name}": n for name, n in DAEMON.items() if not name.startswith("rates.")},
        "_daemon.channels": len(channels),
        "_daemon.uptime": 0,
    }
    for channel, readers in channels.items():
        name = component(channel)
        expected[name] = expected.get(name, 0) + readers
    expected = {f"cyclone-sse.{name}": value for name, value in expected.items()}

    # No time has passed, so there are no rates.
    await repeat(
        lambda: exporter.export(Counts(channels, uptime=0.0), time.time()),
        lambda: len(carbon.newest()) >= len(expected),
    )

    assert carbon.newest() == expected


@pytest.mark.parametrize("protocol", ["tcp", "udp", "pickle"])
async def test_a_channel_that_vanished_ends_in_zero(
    carbon: Carbon, start: Start, protocol: str
) -> None:
    """
    The graph of a channel without subscribers does not keep its last value.
    """
    exporter = start(protocol)

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    await repeat(lambda: exporter.export(Counts({"news": 5}), time.time()), lambda: newest() == 5)
    exporter.export(Counts({}), time.time() + 1)
    await repeat(nothing, lambda: newest() == 0)


@pytest.mark.parametrize("protocol", ["tcp", "pickle"])
async def test_tcp_sends_the_newest_export_after_a_kill(
    carbon: Carbon, start: Start, protocol: str
) -> None:
    """
    After kill -9 and a restart carbon gets the last export made meanwhile.
    """
    exporter = start(protocol)

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    def export(readers: int) -> Callable[[], None]:
        return lambda: exporter.export(Counts({"news": readers}), time.time())

    await repeat(export(1), lambda: newest() == 1)
    carbon.server.kill(signal.SIGKILL)
    await repeat(nothing, lambda: True)  # the reactor notices it
    before = len(carbon.stored()["cyclone-sse.news"])
    for second in range(100):
        exporter.export(Counts({"news": second}), time.time() + second)
    exporter.export(Counts({"news": 8}), time.time() + 1)
    carbon.server.start()
    await repeat(nothing, lambda: newest() == 8)
    kept = len(carbon.stored()["cyclone-sse.news"]) - before
    await repeat(export(9), lambda: newest() == 9)

    assert kept == 1


async def test_udp_continues_after_a_kill(carbon: Carbon, start: Start) -> None:
    """
    While carbon is down exports are lost without harm; the next one is stored.
    """
    exporter = start("udp")

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    def export(readers: int) -> Callable[[], None]:
        return lambda: exporter.export(Counts({"news": readers}), time.time())

    await repeat(export(1), lambda: newest() == 1)
    carbon.server.kill(signal.SIGKILL)
    for readers in range(100):
        export(readers)()
    await repeat(export(100), lambda: True)
    carbon.server.start()
    await repeat(export(9), lambda: newest() == 9)


WEB = """
STORAGE_DIR = LOG_DIR = {folder!r}
WHISPER_DIR = {whisper!r}
SECRET_KEY = "a secret for one test"
TIME_ZONE = "UTC"
CARBONLINK_HOSTS = []
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": {database!r}}}}}
"""
SECONDS = 12  # of work that the graphs show
READERS = 40


@dataclass(frozen=True, slots=True)
class Web:
    """
    A graphite-web over carbon's files.
    """

    server: Server

    def get(self, path: str, form: dict[str, str] | None = None) -> bytes:
        """
        Return the body of a successful response; a form is sent by POST.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=PATIENCE)
        if form is None:
            connection.request("GET", path)
        else:
            head = {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request("POST", path, urlencode(form), head)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        assert answer.status == 200, body[-500:]
        return body

    def evaluate(self, target: str) -> dict[str, list[float]]:
        """
        Return the values of each series of *target*, without missing ones.
        """
        path = f"/render?format=json&noCache=true&from=-2min&target={quote(target)}"
        return {
            series["target"]: [value for value, _ in series["datapoints"] if value is not None]
            for series in json.loads(self.get(path))
        }


@pytest.fixture
def web(carbon: Carbon, serve: Serve, tmp_path: Path) -> Web:
    """
    graphite-web, from the venv that carbon is in.
    """
    gunicorn = require(str(carbon.python.with_name("gunicorn")), "graphite-web")
    folder = tmp_path / "web"
    folder.mkdir()
    whisper = carbon.server.folder / "whisper"
    whisper.mkdir(exist_ok=True)  # graphite-web looks for it once, when it starts
    settings = WEB.format(folder=str(folder), whisper=str(whisper), database=str(folder / "db"))
    (folder / "web_settings.py").write_text(settings)
    environment = {
        "PYTHONPATH": str(folder),
        "GRAPHITE_SETTINGS_MODULE": "web_settings",
        "HOME": str(folder),  # gunicorn puts a socket there
    }
    migrate = [str(carbon.python), "-m", "django", "migrate", "--settings=graphite.settings"]
    subprocess.run(
        migrate, check=True, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    port = free_port()
    command = [str(carbon.python), gunicorn, f"--bind=127.0.0.1:{port}", "graphite.wsgi"]
    return Web(serve(command, port, folder, environment))


@pytest.fixture
def work(carbon: Carbon, daemon: StartDaemon) -> Iterator[None]:
    """
    A daemon that exports to carbon every second, after some seconds of load: subscribers
    join, leave and are refused; messages are published.
    """
    server = daemon(
        "--export=graphite",
        "--export-host=localhost",
        f"--export-port={carbon.pickles}",
        "--export-protocol=pickle",
        "--export-interval=1",
        "--http-secret=correct",
        "--retry=0",
        f"--max-readers={READERS}",
    )
    with ExitStack() as stack:
        publisher = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        stack.callback(publisher.close)
        readers: list[socket.socket] = []
        for second in range(SECONDS):
            began = time.monotonic()
            for number in range(6):
                channel = "news" if number % 2 else f"order-{second % 4}"
                readers.append(_read(server.port, channel))
                stack.callback(readers[-1].close)
            readers[second * 2].close()
            for number in range(20 + 10 * (second % 5)):
                key = "wrong" if number % 15 == 14 else "correct"
                channel = "news" if number % 3 else f"order-{number % 4}"
                _publish(publisher, channel, key)
            time.sleep(max(0.0, began + 1 - time.monotonic()))
        time.sleep(1.5)  # the last second is exported, and on disk
        yield


def _read(port: int, channel: str) -> socket.socket:
    reader = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    reader.sendall(b"GET /?channels=%s HTTP/1.1\r\nHost: a\r\n\r\n" % channel.encode())
    reader.recv(4096)
    return reader


def _publish(connection: http.client.HTTPConnection, channel: str, key: str) -> None:
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", "/publish", f"channel={channel}&message={'x' * 500}", head)
    connection.getresponse().read()


def test_graphite_web_shows_every_graph_of_the_dashboards(
    web: Web, work: None, tmp_path: Path
) -> None:
    """
    Each target gives values of a daemon under load, and each graph can be drawn.

    RT_PICTURES in the environment names a folder for the pictures of docs/graphite.md.
    """
    found = {target: web.evaluate(target) for target in set(graphite_targets())}

    assert [target for target, series in found.items() if not any(series.values())] == []
    published = found["alias(cyclone-sse._daemon.rates.published,'published')"]["published"]
    assert 20 < max(published) < 80
    assert found["alias(cyclone-sse._daemon.readers,'connected')"]["connected"][-1] > 20
    busiest = found["highestMax(aliasByNode(cyclone-sse.*,-1),10)"]
    assert {"news", "order-0"} <= set(busiest)
    fanout = found["aliasByNode(cyclone-sse._daemon.fanout_seconds.*,-1)"]
    assert all(0 < value < 10 for values in fanout.values() for value in values)
    refused = found["aliasByNode(perSecond(cyclone-sse._daemon.refused.*.*),-2,-1)"]
    assert set(refused) == {"readers.unavailable", "publishes.key"}

    pictures = Path(os.environ.get("RT_PICTURES") or tmp_path)
    for number, (_, params, _) in enumerate(load("graphite.json")["graphs"]):
        size = {"width": "440", "height": "240", "from": f"-{SECONDS + 2}s", "noCache": "true"}
        look = {"bgcolor": "white", "fgcolor": "black", "lineWidth": "2"}
        png = web.get("/render?" + urlencode({**params, **size, **look}, True))
        assert png.startswith(b"\x89PNG") and len(png) > 4000
        (pictures / f"graph-{number}.png").write_bytes(png)


def test_graphite_web_stores_the_dashboard(web: Web) -> None:
    """
    The dashboard is saved as docs/graphite.md describes, and loaded unchanged.
    """
    state = load("graphite.json")

    response = json.loads(web.get("/dashboard/save/realtime", {"state": json.dumps(state)}))
    loaded = json.loads(web.get("/dashboard/load/realtime"))

    assert response == {"success": True}
    assert loaded["state"] == state
