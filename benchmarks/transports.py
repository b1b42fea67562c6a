"""
`python -m benchmarks.transports`: websocket and Socket.IO beside nchan, npm's ws and npm's
socket.io.
"""

import argparse
import json
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from time import sleep

from benchmarks import servers
from benchmarks.figures import BARE, NCHAN, OURS, Figure, Goal, Sheet
from benchmarks.load import LoadResult
from benchmarks.machine import HERE, SetupError, cores, memory_kib
from benchmarks.measures import Measure, Stage, programs
from benchmarks.rounds import Comparison, Task
from benchmarks.servers import Running, Server

NPM = "npm"
_IN_FLIGHT = 16
_SPEAKERS = 16
_ROUTES = (
    r"--route=^/ws/(\w+)$ websocket:subscribe=$1",
    r"--route=^/say/(\w+)$ websocket:publish=$1",
    r"--route=^/socket\.io/ socket.io:subscribe=${qs[channel]}",
    r"--route=^/publish$ publish",
    "--websocket-rate=0",  # the others count nothing
)
_SOCKETIO = "/socket.io/?EIO=4&transport=websocket&channel={channel}"
_SETTLE = 1.0  # s, until memory is what it stays


@dataclass(frozen=True, slots=True)
class Work:
    """
    The sizes of the work, the same for all servers.

    `readers` of one channel, or `idle` ones; messages: `single` with one in flight, `burst` with
    sixteen, `inbound` from clients, `streak` of them at a time from each.
    """

    readers: int = 1000
    idle: int = 5000
    single: int = 300
    burst: int = 960
    inbound: int = 20_000
    streak: int = 20


QUICK = Work(readers=500, idle=1500, single=60, burst=160, inbound=3200)

FIGURES = (
    Figure(
        "websocket",
        "cpu",
        "websocket: CPU per delivery, {readers} subscribers, 1 in flight",
        "us",
        (Goal(0.6, NCHAN),),
    ),
    Figure("websocket_burst", "cpu", "the same, 16 in flight", "us", (Goal(0.6, NCHAN),)),
    Figure("websocket_burst", "rate", "deliveries a second, 16 in flight", "/s"),
    Figure("websocket_burst", "load_share", "share of the time that the load was busy", ""),
    Figure(
        "websocket_idle",
        "memory",
        "memory per idle subscriber, {idle} subscribers",
        "KiB",
        (Goal(3),),
    ),
    Figure("websocket_idle", "standing", "the same, without npm's garbage collection", "KiB"),
    Figure("websocket_idle", "join", "CPU per upgrade", "us"),
    Figure("inbound", "one", "CPU per inbound message, 16 clients in turn", "us"),
    Figure(
        "inbound",
        "busy",
        "the same, {streak} at a time of each",
        "us",
        (Goal(15),),
    ),
    Figure("inbound", "rate", "inbound messages a second, {streak} at a time", "/s"),
    Figure("inbound", "load_share", "share of the time that the load was busy", ""),
    Figure(
        "socketio",
        "cpu",
        "Socket.IO: CPU per delivery, {readers} subscribers, 1 in flight",
        "us",
        (Goal(0.4, NPM),),
    ),
    Figure("socketio_burst", "cpu", "the same, 16 in flight", "us", (Goal(0.4, NPM),)),
    Figure("socketio_burst", "rate", "deliveries a second, 16 in flight", "/s"),
    Figure(
        "socketio_idle", "memory", "memory per client, {idle} clients", "KiB", (Goal(0.3, NPM),)
    ),
    Figure("socketio_idle", "standing", "the same, without npm's garbage collection", "KiB"),
    Figure("socketio_idle", "join", "CPU per new client", "us"),
)

SHEET = Sheet(
    "transports",
    "Transports",
    "Websocket and Socket.IO (over websocket), on the same work in turn; npm is ws, and socket.io",
    (OURS, NCHAN, NPM, BARE),
    ((OURS, NCHAN), (OURS, NPM), (OURS, BARE)),
    FIGURES,
)


def _shares(result: LoadResult) -> dict[str, float]:
    return {
        "load_share": result.load_cpu / result.seconds,
        "waited": result.server_waited / result.seconds,
    }


def one_by_one(stage: Stage) -> dict[str, float]:
    """
    Measure messages that are published one by one, when all subscribers have the one before.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(work.readers)
        load.publish(10)
        done = load.publish(work.single)
        return {"cpu": done.server_cpu * 1e6 / done.deliveries} | _shares(done)


def burst(stage: Stage) -> dict[str, float]:
    """
    Measure sixteen messages in flight.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(work.readers)
        load.publish(2 * _IN_FLIGHT, _IN_FLIGHT)
        done = load.publish(work.burst, _IN_FLIGHT)
        cpu = done.server_cpu * 1e6 / done.deliveries
        return {"cpu": cpu, "rate": done.deliveries / done.seconds} | _shares(done)


def idle(stage: Stage) -> dict[str, float]:
    """
    Measure subscribers that receive no message.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(100)
        _settle(load.running)
        before = memory_kib(load.running.pid)
        join = load.open(work.idle).server_cpu * 1e6 / work.idle
        if stage.server.name == BARE:
            return {"join": join}  # its memory is negligible
        sleep(_SETTLE)
        standing = (memory_kib(load.running.pid) - before) / work.idle
        _settle(load.running)
        memory = (memory_kib(load.running.pid) - before) / work.idle
        return {"join": join, "memory": memory, "standing": standing}


def _settle(running: Running) -> None:
    """
    Run npm's garbage collection, so that garbage does not count as memory.
    """
    if running.server.name == NPM:
        url = f"http://127.0.0.1:{running.port}/settle"
        urllib.request.urlopen(url, b"", timeout=30).close()


def inbound(stage: Stage) -> dict[str, float]:
    """
    Measure clients that publish over their websockets; one subscriber checks that all arrive.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(1)
        load.by("websocket")
        load.publish(20 * _SPEAKERS, _SPEAKERS)
        slow = load.publish(work.inbound // 4, _SPEAKERS)
        done = load.publish(work.inbound, _SPEAKERS, work.streak)
        return {
            "one": slow.server_cpu * 1e6 / slow.count,
            "busy": done.server_cpu * 1e6 / done.count,
            "rate": done.count / done.seconds,
        } | _shares(done)


MEASURES: dict[str, tuple[str, Measure]] = {
    "websocket": ("websocket", one_by_one),
    "websocket_burst": ("websocket", burst),
    "websocket_idle": ("websocket", idle),
    "inbound": ("websocket", inbound),
    "socketio": ("socketio", one_by_one),
    "socketio_burst": ("socketio", burst),
    "socketio_idle": ("socketio", idle),
}


def _websocket(server: Server, read: str, say: str) -> Server:
    return replace(server, dialect=replace(server.dialect, read=read, speak="websocket", say=say))


def _socketio(server: Server) -> Server:
    return replace(server, dialect=replace(server.dialect, read=_SOCKETIO, speak="socketio"))


def _npm(library: str, modules: Path) -> Server:
    node = shutil.which("node")
    if node is None or not (modules / "node_modules" / library).exists():
        raise SetupError(
            f"{library} is not there: npm install --prefix {modules} ws socket.io (node 20)"
        )
    program = node

    def command(port: int, _: Path) -> tuple[str, ...]:
        script = str(HERE / "npm.mjs")
        return (program, "--expose-gc", script, str(port), str(modules), library)

    dialect = servers.Dialect("/ws/{channel}", "/publish/{channel}")
    return Server(NPM, f"{library} {_version(modules, library)} on {_node(node)}", dialect, command)


def _version(modules: Path, library: str) -> str:
    text = (modules / "node_modules" / library / "package.json").read_text()
    return str(json.loads(text)["version"])


def _node(node: str) -> str:
    done = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    return f"node {done.stdout.strip()}"


def _bare(folder: Path) -> Server:
    server = servers.bare(folder)
    command = server.command
    return replace(server, command=lambda port, home: (*command(port, home), "websocket"))


def _makers(folder: Path, modules: Path) -> dict[tuple[str, str], Callable[[], Server]]:
    """
    Return the functions that start each server, by transport and name.
    """
    spoken = ("/ws/{channel}", "/say/{channel}")
    return {
        ("websocket", OURS): lambda: _websocket(servers.ours(_ROUTES), *spoken),
        ("websocket", NCHAN): lambda: _websocket(servers.nchan(), *spoken),
        ("websocket", NPM): lambda: _websocket(_npm("ws", modules), *spoken),
        ("websocket", BARE): lambda: _websocket(_bare(folder), "/{channel}", ""),
        ("socketio", OURS): lambda: _socketio(servers.ours(_ROUTES)),
        ("socketio", NPM): lambda: _socketio(_npm("socket.io", modules)),
    }


@contextmanager
def _prepare(
    chosen: argparse.Namespace, folder: Path, work: Work
) -> Iterator[tuple[dict[str, str], dict[str, dict[str, Task]]]]:
    load, probe = programs(folder)
    found: dict[tuple[str, str], Server] = {}
    for (transport, name), make in _makers(folder, chosen.modules.resolve()).items():
        try:
            found[transport, name] = make()
        except SetupError as error:
            print(f"without {name} ({transport}): {error}", file=sys.stderr)
    tasks: dict[str, dict[str, Task]] = {}
    for measure, (transport, run) in MEASURES.items():
        tasks[measure] = {
            name: partial(run, Stage(server, work, cores()[0], load, probe))
            for (spoken, name), server in found.items()
            if spoken == transport and (run is not inbound or server.dialect.say)
        }
    titles = {f"{name} ({transport})": s.title for (transport, name), s in found.items()}
    yield titles, tasks


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modules",
        type=Path,
        default=Path.home() / ".cache" / "rt-twisted-npm",
        help="folder in which npm has installed ws and socket.io (default: %(default)s)",
    )


COMPARISON = Comparison(
    "benchmarks.transports",
    __doc__ or "",
    SHEET,
    Work(),
    QUICK,
    tuple(MEASURES),
    _prepare,
    _arguments,
    {"websocket": 3, "socketio": 3},
)

if __name__ == "__main__":
    sys.exit(COMPARISON.main(sys.argv[1:]))
