"""
The measures: each runs one server and returns figures by name.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import sleep
from typing import Any, TypeAlias

from benchmarks.load import Load, LoadResult, loading, probing
from benchmarks.machine import compile_c, memory_kib
from benchmarks.servers import Server, running

BATCH = 100  # messages a request
_IN_FLIGHT = 16
_BATCHES = 4  # in flight


@dataclass(frozen=True, slots=True)
class Work:
    """
    The sizes of the work, the same for all servers.

    Subscribers: `few`, `readers` or `crowd` of them on one channel, or `spread` over channels.
    Messages: `single` with one in flight, `burst` with sixteen, `paced` at `rate` a second,
    `alone` without subscribers, `whole` to the crowd; `turns` times one to each of many channels.
    """

    few: int = 100
    readers: int = 1000
    crowd: int = 15_000
    spread: int = 10_000
    single: int = 300
    burst: int = 960
    paced: int = 300
    rate: int = 60
    alone: int = 2000
    whole: int = 16
    turns: int = 5


QUICK = Work(crowd=3000, spread=2000, single=100, burst=320, paced=120, alone=500, whole=8, turns=2)


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Environment of a measure: a server, the sizes of the work, and the load programs.
    """

    server: Server
    work: Any  # the sizes, of this comparison or another
    core: int
    load: Path
    probe: Path

    @contextmanager
    def fresh(self) -> Iterator[Load]:
        """
        Start the server and a load for it, and stop both at the end.
        """
        with (
            TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as folder,
            running(self.server, Path(folder), self.core) as server,
            loading(self.load, server) as load,
        ):
            yield load


def programs(folder: Path) -> tuple[Path, Path]:
    """
    Compile load.c and probe.c.
    """
    return compile_c("load", folder), compile_c("probe", folder)


Measure: TypeAlias = Callable[[Stage], dict[str, float]]


def _cost(result: LoadResult, publishing: float = 0.0) -> float:
    """
    Return the server CPU per delivery in us.

    Args:
        result: of `publish`.
        publishing: cost of a message without subscribers in us, which is subtracted.
    """
    return (result.server_cpu * 1e6 - result.count * publishing) / result.deliveries


def _shares(result: LoadResult) -> dict[str, float]:
    """
    Return how busy the load and other programs were: the measure is valid if both are low.
    """
    return {
        "load_share": result.load_cpu / result.seconds,
        "waited": result.server_waited / result.seconds,
    }


def single(stage: Stage) -> dict[str, float]:
    """
    Measure one message at a time to all subscribers of a channel.
    """
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(stage.work.readers)
        load.publish(10)
        done = load.publish(stage.work.single)
        return {"cpu": _cost(done)} | _shares(done)


def burst(stage: Stage) -> dict[str, float]:
    """
    Measure sixteen messages in flight at a time.
    """
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(stage.work.readers)
        load.publish(2 * _IN_FLIGHT, _IN_FLIGHT)
        done = load.publish(stage.work.burst, _IN_FLIGHT)
        return {"cpu": _cost(done), "rate": done.deliveries / done.seconds} | _shares(done)


def paced(stage: Stage) -> dict[str, float]:
    """
    Measure a fixed rate: the time from when a message was due to each subscriber, and to the last.
    """
    with stage.fresh() as load:
        load.use("a", 1)
        load.open(stage.work.readers)
        load.publish(10)
        return load.pace(stage.work.paced, stage.work.rate).latencies


def publish(stage: Stage) -> dict[str, float]:
    """
    Measure publications without subscribers: one message per request, and a hundred where
    possible.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("a", 1)
        load.publish(100)
        done = load.publish(work.alone)
        one = batch = done.server_cpu * 1e6 / done.count
        load.publish(100, _IN_FLIGHT)
        done = load.publish(work.alone, _IN_FLIGHT)
        busy = done.server_cpu * 1e6 / done.count
        load.publish(160, depth=_IN_FLIGHT)
        done = load.publish(work.alone, depth=_IN_FLIGHT)
        pipelined = done.server_cpu * 1e6 / done.count
        if stage.server.dialect.batch:
            load.publish(BATCH, lines=BATCH)
            done = load.publish(work.alone * 10, lines=BATCH)
            batch = done.server_cpu * 1e6 / done.count
        return {"one": one, "busy": busy, "pipelined": pipelined, "batch": batch}


def crowd(stage: Stage) -> dict[str, float]:
    """
    Measure few and very many subscribers: joining, memory, a delivery, and the wait of an
    unrelated request.
    """
    work = stage.work
    with stage.fresh() as load:
        load.use("q", 1)
        load.publish(50)
        done = load.publish(work.alone // 4)
        publishing = done.server_cpu * 1e6 / done.count

        load.use("a", 1)
        load.open(work.few)
        load.publish(20)
        few = _cost(load.publish(work.alone // 2), publishing)

        load.use("b", 1)
        before = memory_kib(load.running.pid)
        join = load.open(work.crowd).server_cpu * 1e6 / work.crowd
        sleep(0.5)
        memory = (memory_kib(load.running.pid) - before) / work.crowd

        load.publish(2)
        many = _cost(load.publish(work.whole), publishing)
        figures = {"few": few, "many": many, "flat": many / few, "join": join, "memory": memory}
        if stage.server.stranger:
            with probing(stage.probe, load.running) as waits:
                sleep(0.1)
                load.publish(work.whole)
            figures |= {f"stranger_{name}": wait for name, wait in waits.items()}
        return figures


def channels(stage: Stage) -> dict[str, float]:
    """
    Measure the same subscribers on one channel, on a hundred, and each on its own.

    A turn is one message to every channel, so one delivery to every subscriber; no channel is
    published to before its last message is delivered, so no messages are joined. The same turns
    to channels without subscribers are the cost of publishing, which is subtracted.
    """
    work = stage.work
    figures: dict[str, float] = {}
    for name, count in (("one", 1), ("hundred", 100), ("each", work.spread)):
        lines = BATCH if stage.server.dialect.batch and count > 1 else 1
        # Enough in flight to keep the server busy, never more than there are channels.
        inflight = min(_IN_FLIGHT if lines == 1 else _BATCHES, count // lines)
        with stage.fresh() as load:
            load.use("q", count)
            load.publish(count, inflight, lines)
            done = load.publish(count * work.turns, inflight, lines)
            publishing = done.server_cpu * 1e6 / done.count
            load.use("a", count)
            load.open(work.spread)
            load.publish(count, inflight, lines)
            figures[name] = _cost(load.publish(count * work.turns, inflight, lines), publishing)
            figures[f"{name}_publishing"] = publishing
    figures["flat"] = max(figures["hundred"], figures["each"]) / figures["one"]
    return figures


MEASURES: dict[str, Measure] = {
    measure.__name__: measure for measure in (single, burst, paced, publish, crowd, channels)
}
