"""
`python -m benchmarks.brokers`: costs of redis and RabbitMQ between the nodes, compared with the
embedded broker and with a redis connection for each subscriber.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from benchmarks import backing, servers
from benchmarks.broker_figures import AMQP, EMBEDDED, LEAN, QUICK, REDIS, SHEET, UWSGI, Work
from benchmarks.load import Load, LoadResult, loading
from benchmarks.machine import SetupError, compile_c, cores
from benchmarks.rounds import Comparison, Task
from benchmarks.servers import Dialect, Running, Server, running

EXCHANGE = "bench"
BATCH = 100  # messages per request or pipeline
_IN_FLIGHT = 16
_CARRIER, _FURTHER = (
    "carrier",
    "further",
)  # other watched processes: redis or RabbitMQ, further nodes


@dataclass(frozen=True, slots=True)
class Party:
    """
    A column of the comparison.

    Args:
        name: of the column.
        node: makes the server, from redis or RabbitMQ.
        carrier: starts redis or RabbitMQ.
        method: how the load publishes, bypassing the daemon; the only one if *posts* is false.
        posts: whether the server accepts POST.
    """

    name: str
    node: Callable[[Running | None], Server]
    carrier: Callable[[Path, int], AbstractContextManager[Running]] | None = None
    method: str = ""
    posts: bool = True


@dataclass(frozen=True, slots=True)
class Stage:
    """
    Environment of a measure.
    """

    party: Party
    work: Work
    load: Path

    @contextmanager
    def nodes(self, count: int = 1, readers_on: int = 1) -> Iterator[Load]:
        """
        Start *count* nodes on one core, and redis or RabbitMQ and the load on the other.

        The first *readers_on* nodes get the subscribers, the last one gets the POST requests.
        """
        node_core, other_core = cores()
        with ExitStack() as stack:
            temporary = TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)
            folder = Path(stack.enter_context(temporary))
            watched, words = {}, []
            carrier = None
            if self.party.carrier:
                (home := folder / "carrier").mkdir()
                carrier = stack.enter_context(self.party.carrier(home, other_core))
                watched[_CARRIER] = carrier.pid
                words += [f"{self.party.method}={carrier.port}", f"exchange={EXCHANGE}"]
            found = []
            for number in range(count):
                home = folder / f"node{number}"
                home.mkdir()
                server = self.party.node(carrier)
                found.append(stack.enter_context(running(server, home, node_core)))
            if count > 1:
                watched[_FURTHER] = found[-1].pid
            words.append(f"post_port={found[-1].port}")
            more = found[1:readers_on]
            load = stack.enter_context(loading(self.load, found[0], more, words, watched))
            if not self.party.posts:
                load.by(self.party.method)
            yield load


Measure: TypeAlias = Callable[[Stage], dict[str, float]]


def _costs(done: LoadResult, count: int) -> dict[str, float]:
    """
    Return the CPU of each process in us, divided by *count*.
    """
    cpu = {name: ran * 1e6 / count for name, ran in done.others.items()}
    return {"cpu": done.server_cpu * 1e6 / count} | cpu


def fan_out(stage: Stage) -> dict[str, float]:
    """
    Measure one message at a time to all subscribers of a channel.
    """
    with stage.nodes() as load:
        load.use("a", 1)
        load.open(stage.work.readers)
        load.publish(10)
        done = load.publish(stage.work.single)
        return _costs(done, done.deliveries)


def burst(stage: Stage) -> dict[str, float]:
    """
    Measure sixteen messages in flight.
    """
    with stage.nodes() as load:
        load.use("a", 1)
        load.open(stage.work.readers)
        load.publish(2 * _IN_FLIGHT, _IN_FLIGHT)
        done = load.publish(stage.work.burst, _IN_FLIGHT)
        return _costs(done, done.deliveries) | {"rate": done.deliveries / done.seconds}


def intake(stage: Stage) -> dict[str, float]:
    """
    Measure batches that are posted to another node, for one subscriber; the embedded broker has
    only one node.
    """
    if not stage.party.posts:
        return {}
    with stage.nodes(2 if stage.party.carrier else 1) as load:
        return _measure_intake(load, stage.work)


def foreign(stage: Stage) -> dict[str, float]:
    """
    Measure messages that are published in pipelines, bypassing the daemon.
    """
    if not stage.party.method or not stage.party.posts:
        return {}
    with stage.nodes() as load:
        load.by(stage.party.method)
        return _measure_intake(load, stage.work)


def _measure_intake(load: Load, work: Work) -> dict[str, float]:
    load.use("a", 1)
    load.open(1)
    load.publish(1)  # the first one decides which node numbers the channel
    load.publish(8 * BATCH, 8, BATCH)
    done = load.publish(work.intake, 8, BATCH)
    shares = {"rate": done.count / done.seconds, "busy": done.server_cpu / done.seconds}
    return _costs(done, done.count) | shares


def hop(stage: Stage) -> dict[str, float]:
    """
    Measure one message at a time for one subscriber: posted, and published bypassing the daemon.
    """
    if not stage.party.posts:
        return {}
    figures: dict[str, float] = {}
    methods = {"post": "http"} | ({"plain": stage.party.method} if stage.party.method else {})
    with stage.nodes() as load:
        load.use("a", 1)
        load.open(1)
        for name, method in methods.items():
            load.by(method)
            load.publish(50)
            done = load.publish(stage.work.plain)
            for process, cost in _costs(done, done.count).items():
                figures[f"{name}_{process}"] = cost
            waits = load.pace(stage.work.plain // 2, 200).latencies
            figures[name], figures[f"{name}_p99"] = waits["each_p50"], waits["each_p99"]
    return figures


def wanted(stage: Stage) -> dict[str, float]:
    """
    Measure a subscriber on each of many channels, with a message to each in turn, one at a time,
    and if there are enough channels, a hundred at a time.
    """
    work = stage.work
    if not stage.party.posts:
        return {}
    figures: dict[str, float] = {}
    for name, count in (("one", 1), ("hundred", work.hundred), ("many", work.wanted)):
        with stage.nodes() as load:
            load.use("a", count)
            load.open(count)
            load.publish(100)
            costs = _costs(done := load.publish(work.plain), done.count)
            figures[name] = costs["cpu"]
            if _CARRIER in costs:
                figures[{"one": "carrier"}.get(name, f"carrier_{name}")] = costs[_CARRIER]
            if count >= BATCH:
                load.publish(work.wanted, lines=BATCH)
                costs = _costs(done := load.publish(work.wanted * 2, lines=BATCH), done.count)
                figures["batched_many" if name == "many" else "batched"] = costs["cpu"]
    figures["flat"] = figures["many"] / figures["one"]
    return figures


def two(stage: Stage) -> dict[str, float]:
    """
    Measure two nodes with subscribers of one channel; the embedded broker has one node. Both nodes
    share a core, so that the figures are comparable.
    """
    work, party = stage.work, stage.party
    if not party.posts:
        return {}
    count = 2 if party.carrier else 1
    with stage.nodes(count, count) as load:
        load.use("a", 1)
        load.open(2 * work.each)
        load.publish(3)
        done = load.pace(work.paced, work.rate)
        # Each node has its share of the deliveries.
        costs = _costs(done, done.deliveries // count)
        # The last node gets the POST requests, and `cpu` is of the first one.
        if count > 1:
            costs["cpu"], costs[_FURTHER] = costs[_FURTHER], costs["cpu"]
            costs[_CARRIER] *= done.deliveries / count / done.count
        return costs | done.latencies


MEASURES: dict[str, Measure] = {
    measure.__name__: measure for measure in (fan_out, burst, intake, foreign, hop, wanted, two)
}


def _ours(options: Callable[[Running], Sequence[str]], carrier: Running | None) -> Server:
    return servers.ours(options(carrier) if carrier else ())


def _redis_options(carrier: Running) -> Sequence[str]:
    return ("--broker=redis", f"--redis-port={carrier.port}")


def _amqp_options(carrier: Running) -> Sequence[str]:
    where = f"--amqp-port={carrier.port}"
    return ("--broker=amqp", where, f"--amqp-exchange-name={EXCHANGE}")


def _relay(program: Path, words: Sequence[str], carrier: Running | None) -> Server:
    assert carrier

    def command(port: int, _: Path) -> Sequence[str]:
        return (str(program), str(port), str(carrier.port), *words)

    return Server("relay", "", Dialect("/{channel}", ""), command, "")


def _parties(folder: Path, rabbit: Running | None) -> tuple[Party, ...]:
    relay = compile_c("relay", folder)
    parties = [
        Party(EMBEDDED, lambda _: servers.ours(())),
        Party(REDIS, partial(_ours, _redis_options), backing.redis, "redis"),
        Party(UWSGI, partial(_relay, relay, ["waiting"]), backing.redis, "redis", posts=False),
        Party(LEAN, partial(_relay, relay, []), backing.redis, "redis", posts=False),
    ]
    if rabbit:
        same = partial(_same, rabbit)
        parties.insert(2, Party(AMQP, partial(_ours, _amqp_options), same, "amqp"))
    return tuple(parties)


def _same(running: Running, *_: object) -> AbstractContextManager[Running]:
    """
    Return the same RabbitMQ for the whole run: it takes seconds to start, and keeps no state.
    """
    return nullcontext(running)


@contextmanager
def _prepare(
    chosen: argparse.Namespace, folder: Path, work: Work
) -> Iterator[tuple[dict[str, str], dict[str, dict[str, Task]]]]:
    load = compile_c("load", folder)
    titles = {
        EMBEDDED: servers.ours(()).title,
        UWSGI: "relay.c, one redis connection for each subscriber, which waits as uWSGI does",
        LEAN: "relay.c, which does not",
    }
    with ExitStack() as stack:
        rabbit = None
        if AMQP in chosen.columns:
            (home := folder / "rabbit").mkdir()
            try:
                rabbit = stack.enter_context(backing.rabbit(home, cores()[1]))
                titles[AMQP] = rabbit.server.title
            except SetupError as error:
                print(f"without {AMQP}: {error}", file=sys.stderr)
        parties = _parties(folder, rabbit)
        tasks: dict[str, dict[str, Task]] = {
            measure: {party.name: partial(run, Stage(party, work, load)) for party in parties}
            for measure, run in MEASURES.items()
        }
        yield titles, tasks


COMPARISON = Comparison(
    "benchmarks.brokers",
    __doc__ or "",
    SHEET,
    Work(),
    QUICK,
    tuple(MEASURES),
    _prepare,
    often={"fan_out": 3, "burst": 3},
)

if __name__ == "__main__":
    sys.exit(COMPARISON.main(sys.argv[1:]))
