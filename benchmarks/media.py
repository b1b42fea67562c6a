"""
`python -m benchmarks media`: live streams beside icecast2 and node-media-server.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep

from benchmarks import media_servers as media
from benchmarks.figures import OURS, Figure, Goal, Sheet
from benchmarks.machine import SetupError, compile_c, cores, memory_kib, times
from benchmarks.media_servers import ICECAST, NMS, Viewers
from benchmarks.rounds import Comparison, Task
from benchmarks.servers import KEY, Running, Server, running

PLAIN = "plain"
_UNITS = 77.0  # frames a second of the stream
_SIZES = (9000, 3500, 260, 3500, 260, 3500, 260, 260)  # of plain messages: 1 Mbit/s
_SETTLE = 1.5  # s


@dataclass(frozen=True, slots=True)
class Work:
    """
    The sizes of the work, the same for all servers.

    `viewers` of a stream, or `crowd`; `stalled` ones beside `healthy`; `joiners` at once;
    `publishers` at once. Each measure takes `seconds`.
    """

    viewers: int = 300
    crowd: int = 1000
    stalled: int = 100
    healthy: int = 20
    joiners: int = 300
    publishers: int = 20
    seconds: int = 10


QUICK = Work(seconds=3)

_LOAD = "share of the time that the load was busy"
FIGURES = (
    Figure(
        "small", "cpu", "CPU per message of 4 KiB, {viewers} viewers", "us", (Goal(0.6, ICECAST),)
    ),
    Figure("small", "memory", "memory (PSS)", "MiB"),
    Figure("small", "load", _LOAD, ""),
    Figure(
        "crowd", "cpu", "CPU per message of 4 KiB, {crowd} viewers", "us", (Goal(0.6, ICECAST),)
    ),
    Figure("crowd", "memory", "memory (PSS)", "MiB"),
    Figure("crowd", "load", _LOAD, ""),
    Figure(
        "large", "cpu", "CPU per message of 16 KiB, {viewers} viewers", "us", (Goal(0.25, ICECAST),)
    ),
    Figure("large", "load", _LOAD, ""),
    Figure(
        "mp4",
        "cpu",
        "CPU per frame, 1 Mbit/s, H264 and AAC, {viewers} viewers (MP4; FLV)",
        "us",
        (Goal(0.7, NMS), Goal(1.2, PLAIN)),
    ),
    Figure("mp4", "memory", "memory (PSS)", "MiB", (Goal(0.7, NMS),)),
    Figure("mp4", "load", _LOAD, ""),
    Figure(
        "webm",
        "cpu",
        "CPU per frame, 1 Mbit/s, VP8 and Opus, {viewers} viewers (WebM)",
        "us",
        (Goal(1.2, PLAIN),),
    ),
    Figure("webm", "memory", "memory (PSS)", "MiB"),
    Figure("webm", "load", _LOAD, ""),
    Figure(
        "stalled",
        "late",
        "{healthy} viewers beside {stalled} stalled ones: lateness, p99",
        "ms",
        (Goal(50),),
    ),
    Figure("stalled", "memory", "memory per stalled viewer", "KiB", (Goal(300),)),
    Figure("stalled", "growth", "growth of memory in the next seconds", "KiB"),
    Figure(
        "joiners",
        "memory",
        "{joiners} stalled viewers join a stream at once: memory",
        "MiB",
        (Goal(30),),
    ),
    Figure(
        "ingest", "cpu", "{publishers} publishers of 1 Mbit/s: share of a core", "%", (Goal(8),)
    ),
    Figure("hop", "late", "lateness of viewers on another node, redis between: p50", "ms"),
    Figure("hop", "late99", "the same, p99", "ms"),
    Figure("hop", "added", "of it the hop, p50", "ms", (Goal(5),)),
    Figure("hop", "redis", "one stream of 1 Mbit/s: share of redis' core", "%", (Goal(1.5),)),
)

SHEET = Sheet(
    "media",
    "Live streams",
    "Live streams for many viewers; `plain` is this daemon with messages of the same sizes, "
    "nms is node-media-server",
    (OURS, ICECAST, NMS, PLAIN),
    ((OURS, ICECAST), (OURS, NMS), (OURS, PLAIN)),
    FIGURES,
)


@dataclass(frozen=True, slots=True)
class Scene:
    """
    Environment of a measure: a server, the sizes of the work, the program of the viewers and the
    files that are published.
    """

    server: Server
    work: Work
    viewers: Path
    files: Path

    @contextmanager
    def fresh(self, server: Server | None = None) -> Iterator[Running]:
        """
        Start the server, or another one, for one measure.
        """
        with (
            TemporaryDirectory(prefix="bench-") as folder,
            running(server or self.server, Path(folder), cores()[0]) as started,
        ):
            yield started

    def measure(self, started: Running, viewers: Viewers) -> dict[str, float]:
        """
        Measure what the server and its viewers take, once all are connected.
        """
        ready = viewers.command("open")
        if ready["closed"]:
            raise SetupError(f"{ready['closed']:.0f} viewers were disconnected")
        sleep(_SETTLE)
        before, load = times(started.pid).ran, viewers.cpu()
        found = viewers.command(f"measure {self.work.seconds}")
        found["cpu"] = times(started.pid).ran - before
        found["load"] = (viewers.cpu() - load) / found["seconds"]
        found["memory"] = memory_kib(started.pid) / 1024
        if found["least"] < 0.8 * found["most"]:
            raise SetupError("some viewers were not served")
        return found


def _messages(scene: Scene, count: int, size: int) -> dict[str, float]:
    with (
        scene.fresh() as started,
        media.sending(started, [size], 30),
        media.viewing(scene.viewers, started.port, "/plain", count) as viewers,
    ):
        found = scene.measure(started, viewers)
    cpu = found["cpu"] * 1e6 / (found["bytes"] / size)
    return {"cpu": cpu, "memory": found["memory"], "load": found["load"]}


def small(scene: Scene) -> dict[str, float]:
    """
    Measure 30 messages of 4 KiB a second.
    """
    return _messages(scene, scene.work.viewers, 4096)


def crowd(scene: Scene) -> dict[str, float]:
    """
    Measure the same with many viewers.
    """
    return _messages(scene, scene.work.crowd, 4096)


def large(scene: Scene) -> dict[str, float]:
    """
    Measure 30 messages of 16 KiB a second.
    """
    return _messages(scene, scene.work.viewers, 16384)


def _frames(scene: Scene, kind: str) -> dict[str, float]:
    count = scene.work.viewers
    with scene.fresh() as started, ExitStack() as stack:
        if scene.server.name == PLAIN:
            path = "/plain"
            stack.enter_context(media.sending(started, _SIZES, _UNITS))
        elif scene.server.name == NMS:
            path = "/live/x.flv"
            url = f"rtmp://127.0.0.1:{started.port + 1}/live/x"
            stack.enter_context(media.publishing(media.encode(scene.files, "mp4"), "flv", url))
        else:
            path = f"/cam.{kind}"
            url = f"http://live:{KEY}@127.0.0.1:{started.port}/cam.{kind}"
            stack.enter_context(media.publishing(media.encode(scene.files, kind), kind, url))
        if scene.server.name == NMS:
            sleep(3)  # it refuses viewers of what is not published
        viewers = stack.enter_context(media.viewing(scene.viewers, started.port, path, count))
        found = scene.measure(started, viewers)
    cpu = found["cpu"] * 1e6 / (_UNITS * found["seconds"] * count)
    return {"cpu": cpu, "memory": found["memory"], "load": found["load"]}


def mp4(scene: Scene) -> dict[str, float]:
    """
    Measure viewers of H264 and AAC.
    """
    return _frames(scene, "mp4")


def webm(scene: Scene) -> dict[str, float]:
    """
    Measure viewers of VP8 and Opus.
    """
    return _frames(scene, "webm")


def stalled(scene: Scene) -> dict[str, float]:
    """
    Measure viewers that read nothing, beside healthy ones; then all of them hang up.
    """
    work, size = scene.work, 4096
    with (
        scene.fresh() as started,
        media.sending(started, [size], 77),
        media.viewing(scene.viewers, started.port, "/plain", work.healthy, 0, size) as healthy,
    ):
        healthy.command("open")
        sleep(_SETTLE)
        before = memory_kib(started.pid)
        with media.viewing(scene.viewers, started.port, "/plain", 0, work.stalled) as slow:
            slow.command("open")
            found = healthy.command(f"measure {3 * work.seconds}")
            middle = memory_kib(started.pid)
            found = healthy.command(f"measure {work.seconds}")
            after = memory_kib(started.pid)
            slow.command("hangup")
            found = healthy.command(f"measure {work.seconds}")
    return {
        "late": found["late_p99"],
        "memory": (middle - before) / work.stalled,
        "growth": float(after - middle),
    }


def joiners(scene: Scene) -> dict[str, float]:
    """
    Measure the memory of viewers that join a stream at once and read nothing.
    """
    with scene.fresh() as started:
        url = f"http://live:{KEY}@127.0.0.1:{started.port}/cam.mp4"
        with (
            media.publishing(media.encode(scene.files, "mp4"), "mp4", url),
            media.viewing(scene.viewers, started.port, "/cam.mp4", 1) as first,
        ):
            first.command("open")
            sleep(5)
            before = memory_kib(started.pid)
            with media.viewing(
                scene.viewers, started.port, "/cam.mp4", 0, scene.work.joiners
            ) as viewers:
                viewers.command("open")
                sleep(1)
                return {"memory": (memory_kib(started.pid) - before) / 1024}


def ingest(scene: Scene) -> dict[str, float]:
    """
    Measure publishers without viewers.
    """
    with scene.fresh() as started:
        url = f"http://live:{KEY}@127.0.0.1:{started.port}/cam{{number}}.mp4"
        file = media.encode(scene.files, "mp4")
        with media.publishing(file, "mp4", url, scene.work.publishers):
            sleep(3)
            before = times(started.pid).ran
            sleep(scene.work.seconds)
            return {"cpu": 100 * (times(started.pid).ran - before) / scene.work.seconds}


def hop(scene: Scene) -> dict[str, float]:
    """
    Measure viewers on the publisher's node and on another one.
    """
    size, work = 1700, scene.work
    with media.redis() as (port, pid):
        node = media.ours("--broker=redis", f"--redis-port={port}")
        with (
            scene.fresh(node) as here,
            scene.fresh(node) as there,
            media.sending(here, [size], _UNITS),
            media.viewing(scene.viewers, here.port, "/plain", 10, 0, size) as near,
            media.viewing(scene.viewers, there.port, "/plain", 10, 0, size) as far,
        ):
            near.command("open")
            far.command("open")
            sleep(_SETTLE)
            before = times(pid).ran
            found = far.command(f"measure {work.seconds}")
            redis = 100 * (times(pid).ran - before) / work.seconds
    with (
        scene.fresh() as alone,
        media.sending(alone, [size], _UNITS),
        media.viewing(scene.viewers, alone.port, "/plain", 10, 0, size) as viewers,
    ):
        viewers.command("open")
        sleep(_SETTLE)
        base = viewers.command(f"measure {work.seconds}")
    return {
        "late": found["late_p50"],
        "late99": found["late_p99"],
        "added": found["late_p50"] - base["late_p50"],
        "redis": redis,
    }


MEASURES: dict[str, tuple[Callable[[Scene], dict[str, float]], tuple[str, ...]]] = {
    "small": (small, (OURS, ICECAST)),
    "crowd": (crowd, (OURS, ICECAST)),
    "large": (large, (OURS, ICECAST)),
    "mp4": (mp4, (OURS, NMS, PLAIN)),
    "webm": (webm, (OURS, PLAIN)),
    "stalled": (stalled, (OURS,)),
    "joiners": (joiners, (OURS,)),
    "ingest": (ingest, (OURS,)),
    "hop": (hop, (OURS,)),
}


@contextmanager
def _prepare(
    chosen: argparse.Namespace, folder: Path, work: Work
) -> Iterator[tuple[dict[str, str], dict[str, dict[str, Task]]]]:
    viewers = compile_c("viewers", folder)
    makers: dict[str, Callable[[], Server]] = {
        OURS: media.ours,
        ICECAST: media.icecast,
        NMS: lambda: media.node_media_server(chosen.modules.resolve()),
        PLAIN: lambda: _plain(media.ours()),
    }
    found: dict[str, Server] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except SetupError as error:
            print(f"without {name}: {error}", file=sys.stderr)
    tasks: dict[str, dict[str, Task]] = {
        measure: {
            name: partial(run, Scene(found[name], work, viewers, folder))
            for name in columns
            if name in found
        }
        for measure, (run, columns) in MEASURES.items()
    }
    yield {name: server.title for name, server in found.items()}, tasks


def _plain(server: Server) -> Server:
    return Server(PLAIN, "the same daemon", server.dialect, server.command)


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--modules",
        type=Path,
        default=Path.home() / ".cache" / "rt-twisted-npm",
        help="folder in which npm has installed node-media-server (default: %(default)s)",
    )


COMPARISON = Comparison(
    "benchmarks.media", __doc__ or "", SHEET, Work(), QUICK, tuple(MEASURES), _prepare, _arguments
)

if __name__ == "__main__":
    sys.exit(COMPARISON.main(sys.argv[1:]))
