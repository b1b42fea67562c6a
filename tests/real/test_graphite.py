"""
What a real carbon stores of the exports, read back from its whisper files.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_twisted
from twisted.application.service import IService
from twisted.internet.task import deferLater

from rt_twisted.exporters.graphite import GraphiteExporter, component
from tests.real.conftest import ROOT, Serve, Server, free_port, require
from tests.test_graphite import HOSTILE, Counted

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
PICKLE_RECEIVER_PORT = 0
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

# Prints {name: {second: value}} of all files below a folder.
READ = """
import json, os, sys, time, whisper
found = {}
for folder, _, files in os.walk(sys.argv[1]):
    for file in files:
        path = os.path.join(folder, file)
        name = os.path.relpath(path, sys.argv[1])[:-len(".wsp")].replace(os.sep, ".")
        (first, _, step), values = whisper.fetch(path, time.time() - 600)
        found[name] = {first + step * at: value for at, value in enumerate(values)
                       if value is not None}
print(json.dumps({name: found[name] for name in found if not name.startswith("carbon.")}))
"""

PATIENCE = 20.0  # seconds until what was sent must be on disk
PAUSE = 0.3  # seconds between two looks

Start = Callable[[str], GraphiteExporter]


@dataclass(frozen=True, slots=True)
class Carbon:
    """
    A carbon-cache and what it has stored.
    """

    server: Server
    python: Path

    def stored(self) -> dict[str, dict[int, float]]:
        """
        Value by second by name, of all names but its own.
        """
        command = [str(self.python), "-c", READ, str(self.server.folder / "whisper")]
        names = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        return {
            name: {int(second): value for second, value in values.items()}
            for name, values in names.items()
        }

    def newest(self) -> dict[str, float]:
        """
        The last value by name.
        """
        return {name: values[max(values)] for name, values in self.stored().items() if values}


@pytest.fixture
def carbon(serve: Serve, tmp_path: Path) -> Carbon:
    """
    Carbon with its plaintext listeners, TCP and UDP, on one port.

    It lives in a venv of its own; RT_GRAPHITE in the environment names another.
    """
    home = Path(os.environ.get("RT_GRAPHITE") or ROOT / ".venv-graphite")
    program = Path(require(str(home / "bin" / "carbon-cache.py"), "carbon"))
    python = program.with_name("python")
    port = free_port()
    folder = tmp_path / "carbon"
    folder.mkdir()
    config = folder / "carbon.conf"
    config.write_text(CARBON.format(folder=folder, port=port, query=free_port()))
    (folder / "storage-schemas.conf").write_text(SCHEMAS)
    command = [str(python), str(program), "--debug", f"--config={config}", "start"]
    return Carbon(serve(command, port, folder), python)


@pytest_twisted.async_yield_fixture
async def start(carbon: Carbon) -> AsyncIterator[Start]:
    """
    Starts exporters to carbon, by protocol, that end with the test.
    """
    from twisted.internet import reactor

    started: list[IService] = []

    def by(protocol: str) -> GraphiteExporter:
        exporter = GraphiteExporter(
            reactor, "localhost", carbon.server.port, "cyclone-sse", protocol
        )
        started.append(exporter)
        started[-1].startService()
        return exporter

    yield by
    for service in started:
        await service.stopService()


async def repeat(export: Callable[[], None], until: Callable[[], bool]) -> None:
    """
    Export and look, at intervals, until it is as it should be.
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
    Export nothing.
    """


@pytest.mark.limit(60)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_carbon_stores_what_was_exported(carbon: Carbon, start: Start, protocol: str) -> None:
    """
    Every channel is one file where it belongs, however it is called, and nothing else is.
    """
    exporter = start(protocol)
    channels = {channel: size for size, channel in enumerate(HOSTILE, 1)}
    expected: dict[str, float] = {
        "_other": 0,
        "_daemon.channels": len(channels),
        "_daemon.readers": 3,
        "_daemon.behind": 1,
        "_daemon.history_bytes": 4096,
        "_daemon.joined": 10,
        "_daemon.published": 20,
        "_daemon.delivered": 30,
        "_daemon.gaps": 2,
        "_daemon.closed.left": 6,
        "_daemon.closed.behind": 1,
    }
    for channel, readers in channels.items():
        name = component(channel)
        expected[name] = expected.get(name, 0) + readers
    expected = {f"cyclone-sse.{name}": value for name, value in expected.items()}

    await repeat(
        lambda: exporter.export(Counted(channels), time.time()),
        lambda: len(carbon.newest()) >= len(expected),
    )

    assert carbon.newest() == expected


@pytest.mark.limit(60)
@pytest.mark.parametrize("protocol", ["tcp", "udp"])
async def test_a_channel_that_vanished_ends_in_zero(
    carbon: Carbon, start: Start, protocol: str
) -> None:
    """
    The graph of a channel nobody reads any more does not stay where it was.
    """
    exporter = start(protocol)

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    await repeat(lambda: exporter.export(Counted({"news": 5}), time.time()), lambda: newest() == 5)
    exporter.export(Counted({}), time.time() + 1)
    await repeat(nothing, lambda: newest() == 0)


@pytest.mark.limit(60)
async def test_tcp_brings_the_newest_export_to_a_carbon_that_was_killed(
    carbon: Carbon, start: Start
) -> None:
    """
    After kill -9 and a new start carbon gets the last export made meanwhile, unasked.
    """
    exporter = start("tcp")

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    def export(readers: int) -> Callable[[], None]:
        return lambda: exporter.export(Counted({"news": readers}), time.time())

    await repeat(export(1), lambda: newest() == 1)
    carbon.server.kill(signal.SIGKILL)
    await repeat(nothing, lambda: True)  # the reactor hears of it
    before = len(carbon.stored()["cyclone-sse.news"])
    for second in range(100):
        exporter.export(Counted({"news": second}), time.time() + second)
    exporter.export(Counted({"news": 8}), time.time() + 1)
    carbon.server.start()
    await repeat(nothing, lambda: newest() == 8)
    kept = len(carbon.stored()["cyclone-sse.news"]) - before
    await repeat(export(9), lambda: newest() == 9)

    assert kept == 1


@pytest.mark.limit(60)
async def test_udp_goes_on_when_a_carbon_that_was_killed_is_back(
    carbon: Carbon, start: Start
) -> None:
    """
    While nobody listens exports are lost without harm; the next one is stored.
    """
    exporter = start("udp")

    def newest() -> float | None:
        return carbon.newest().get("cyclone-sse.news")

    def export(readers: int) -> Callable[[], None]:
        return lambda: exporter.export(Counted({"news": readers}), time.time())

    await repeat(export(1), lambda: newest() == 1)
    carbon.server.kill(signal.SIGKILL)
    for readers in range(100):
        export(readers)()
    await repeat(export(100), lambda: True)
    carbon.server.start()
    await repeat(export(9), lambda: newest() == 9)
