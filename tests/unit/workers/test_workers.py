"""
What several processes of one daemon need to be one: sums, waiting, sockets, words.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from zope.interface import implementer

from rt_twisted.brokers.interfaces import IReady
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.metrics.metrics import BOUNDS, ChannelCounts, Histogram, Metrics
from rt_twisted.metrics.snapshot import (
    ChannelMerge,
    Snapshot,
    StatsQuery,
    WorkerMetrics,
    WorkerReport,
    absorb_exited,
    add,
    pack_report,
    pack_snapshot,
    unpack_report,
    unpack_snapshot,
)
from rt_twisted.model.errors import HttpError
from rt_twisted.tap.build import build
from rt_twisted.tap.options import Options
from rt_twisted.tap.settings import SettingError
from rt_twisted.workers import crash_log
from rt_twisted.workers.backoff import FIRST, MOST, STEADY, Backoff
from rt_twisted.workers.control import ControlClient
from rt_twisted.workers.control_channel import ControlChannel
from rt_twisted.workers.crash_log import CrashLog
from rt_twisted.workers.environment import VARIABLE, WorkerEnvironment
from rt_twisted.workers.process import ProcessState
from rt_twisted.workers.sockets import InheritedListeners, ListenerBinder
from rt_twisted.workers.stats import PATIENCE, StatsAggregator
from rt_twisted.workers.watchdog import TICK, Watchdog
from tests.defaults import make_hub

# Waiting.


def test_who_ends_soon_waits_longer_each_time() -> None:
    """
    From a tenth of a second to half a minute, and as at first after one that lasted.
    """
    longest, shortest = Backoff(lambda low, high: high), Backoff(lambda low, high: low)

    waits = [longest.after(0.5) for _ in range(12)]
    assert waits[0] == FIRST
    assert waits == sorted(waits)
    assert waits[-1] == MOST
    assert longest.after(STEADY) == FIRST
    assert [shortest.after(0) for _ in range(12)] == [wait / 2 for wait in waits]


# Silence.


@dataclass
class Silent:
    """
    A berth as a vigil sees it.
    """

    state: ProcessState = ProcessState.UP
    silence: float = 0.0
    given_up: int = 0

    def kill_hung(self) -> None:
        """
        See `Berth.give_up`.
        """
        self.given_up += 1
        self.state = ProcessState.STOPPING


def vigil(clock: Clock, patience: float, *berths: Silent) -> Watchdog:
    """
    One that looks.
    """
    made = Watchdog(clock, berths, lambda: patience)  # type: ignore[arg-type]  # what it needs
    made.start()
    return made


def test_who_says_nothing_is_given_up_once() -> None:
    """
    After so many seconds; not who speaks, comes up or stops.
    """
    clock = Clock()
    others = [Silent(state) for state in ProcessState if state is not ProcessState.UP]
    silent, spoken = Silent(), Silent()
    looks = vigil(clock, 5, silent, spoken, *others)
    for _ in range(10):
        clock.pump([TICK, TICK])
        spoken.silence = 0
        assert not silent.given_up or clock.seconds() > 5
    looks.stop()

    assert silent.given_up == 1
    assert not any(each.given_up for each in (spoken, *others))
    assert not clock.getDelayedCalls()


def test_nobody_is_given_up_if_that_is_not_wanted() -> None:
    """
    With 0.
    """
    clock, silent = Clock(), Silent()
    looks = vigil(clock, 0, silent)
    clock.pump([TICK] * 10_000)
    looks.stop()

    assert not silent.given_up


def test_a_parent_that_slept_blames_nobody() -> None:
    """
    However long it was stopped, and however often: it has to hear first what was said
    meanwhile. Nor does a clock that is set back or forth.
    """
    clock, berth = Clock(), Silent()
    looks = vigil(clock, 2, berth)
    for _ in range(10):
        clock.advance(3600)
        berth.silence = 0.0  # what it had said was waiting
        clock.pump([TICK, TICK])
    clock.rightNow -= 7200
    clock.advance(0)
    looks.stop()

    assert not berth.given_up
    assert berth.silence < 2


def test_last_words() -> None:
    """
    Where a process was when it was aborted; nothing of one that ends by itself.
    """
    said = []
    here = "print('here', flush=True)"
    for code in (f"def hangs(): {here}; import time; time.sleep(1000)\nhangs()", here):
        words = CrashLog()
        child = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os; from {crash_log.__name__} import leave\nleave(os.environ)\n{code}",
            ],
            env={**os.environ, crash_log.NAME: str(words.descriptor)},
            pass_fds=[words.descriptor],
            stdout=subprocess.PIPE,
        )
        words.close_other()
        assert child.stdout is not None
        assert child.stdout.readline() == b"here\n"
        if code != here:
            child.send_signal(signal.SIGABRT)
        child.communicate()
        said.append(words.hear())

    assert said[0].startswith("Fatal Python error: Aborted")
    assert "in hangs" in said[0]
    assert said[1] == ""


# Sums.

totals = st.integers(0, 2**53)
tallies = st.dictionaries(st.sampled_from(("client", "lost", "behind")), totals, max_size=3)


@st.composite
def metrics(draw: st.DrawFn) -> Metrics:
    """
    Any numbers a process may have.
    """
    made = Metrics(
        subscribers=draw(totals),
        subscribers_limit=draw(totals),
        behind=draw(totals),
        joined=draw(totals),
        published=draw(totals),
        delivered=draw(totals),
        gaps=draw(totals),
        uptime=1.5,
        cpu_seconds=0.25,
        memory_bytes=draw(totals),
    )
    made.closed = Counter(draw(tallies))
    made.requests = Counter(draw(st.dictionaries(st.integers(200, 599), totals, max_size=3)))
    made.refused["readers"].update(draw(tallies))
    made.rates = {10: {"joined": 1.25}, 60: {"joined": 0.5}}
    made.fanout.observe(0.003)
    made.fanout.observe(100)
    return made


def plain(metrics: Metrics) -> Any:
    """
    All that *counts* hold, to be compared.
    """
    report: Any = json.loads(json.dumps(pack_report(WorkerReport(metrics))))
    return report


names = st.text(max_size=5)
channels = st.lists(st.builds(ChannelCounts, names, totals, totals, st.just("e.7")), max_size=3)


@given(metrics(), channels)
def test_a_report_arrives_as_it_was(told: Metrics, shown: list[ChannelCounts]) -> None:
    """
    Through JSON, with every number and every name.
    """
    report = WorkerReport(told, shown, ChannelCounts("", 1, 2, channels=3))
    packed = json.loads(json.dumps(pack_report(report)))
    again = unpack_report(packed)

    assert plain(again.metrics) == plain(told)
    assert (again.shown, again.others) == (shown, report.others)
    assert again.metrics.requests == told.requests


@given(metrics(), channels)
def test_a_look_arrives_as_it_was(told: Metrics, shown: list[ChannelCounts]) -> None:
    """
    With its workers, and the readers of all channels.
    """
    told.channels = {one.name: one.subscribers for one in shown}
    worker = WorkerMetrics(2, 4711, "up", 3, Metrics(subscribers=5))
    look = Snapshot(told, 3, shown, ChannelCounts("", 0, 0, channels=0), [worker])
    again = unpack_snapshot(json.loads(json.dumps(pack_snapshot(look))))

    assert plain(again.metrics) == plain(told)
    assert again.metrics.channels == told.channels
    assert (again.shown, again.channels_with_subscribers) == (shown, 3)
    (found,) = again.workers
    assert (found.worker, found.pid, found.state, found.restarts) == (2, 4711, "up", 3)
    assert plain(found.metrics) == plain(worker.metrics)


@given(st.lists(metrics(), max_size=3))
def test_the_sum_is_of_all(parts: list[Metrics]) -> None:
    """
    Numbers, causes, statuses, rates, and how long turns took.
    """
    total = Metrics()
    for part in parts:
        add(total, part)

    assert total.subscribers == sum(part.subscribers for part in parts)
    assert total.delivered == sum(part.delivered for part in parts)
    assert total.closed["lost"] == sum(part.closed["lost"] for part in parts)
    assert sum(total.fanout.buckets) == 2 * len(parts)
    assert total.rates.get(10, {}).get("joined", 0) == 1.25 * len(parts)


def test_who_is_gone_leaves_what_it_counted() -> None:
    """
    What grows stays; its readers are no more, and count as lost.
    """
    last = Metrics(subscribers=4, joined=10, delivered=50, memory_bytes=99)
    last.closed["client"] = 6
    total = Metrics()
    absorb_exited(total, last)

    assert (total.joined, total.delivered) == (10, 50)
    assert (total.subscribers, total.memory_bytes) == (0, 0)
    assert total.closed == {"client": 6, "lost": 4}


def test_channels_of_several_are_one() -> None:
    """
    Readers are summed; a message that two workers heard is one.
    """
    known = ChannelMerge()
    for shown in (
        [ChannelCounts("a", 3, 7, "e.9"), ChannelCounts("b", 0, 2, "e.2")],
        [ChannelCounts("a", 2, 5, "e.10"), ChannelCounts("c", 9, 1, "e.3")],
    ):
        known.add(WorkerReport(Metrics(), shown, ChannelCounts("", 1, 4, channels=2)))

    assert known.subscribers() == {"a": 5, "c": 9}
    shown, others = known.shown(StatsQuery(max_channels=2))
    assert shown == [ChannelCounts("c", 9, 1, "e.3"), ChannelCounts("a", 5, 7, "e.10")]
    assert others == ChannelCounts("", 2, 10, channels=5)
    assert known.shown(StatsQuery(["a", "no"]))[0] == [shown[1], ChannelCounts("no", 0, 0)]


class Place:
    """
    A worker as a census sees it.
    """

    def __init__(self, number: int) -> None:
        self.number = self.pid = number
        self.restarts = 0
        self.state = ProcessState.UP
        self.metrics = Metrics()
        self.report: WorkerReport | None = None
        self.asked: list[int] = []

    def offer(self, what: str, round: int) -> bool:
        self.asked.append(round)
        return self.state is ProcessState.UP


class Office:
    """
    A census of three.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.census = StatsAggregator(self.clock)
        self.places = [Place(number) for number in (1, 2, 3)]
        self.census.berths = self.places  # type: ignore[assignment]  # as far as it looks

    def tell(self, place: Place, delivered: int, round: int | None = None) -> None:
        number = place.asked[-1] if round is None else round
        report = WorkerReport(Metrics(subscribers=1, delivered=delivered))
        packed = json.loads(json.dumps(pack_report(report)))
        self.census.heard(place, number, packed)  # type: ignore[arg-type]  # as above

    def take(self) -> list[Snapshot]:
        looks: list[Snapshot] = []
        self.census.take(StatsQuery()).addCallback(looks.append)
        return looks


def test_all_are_asked_and_the_answer_is_their_sum() -> None:
    """
    As soon as the last has told.
    """
    office = Office()
    looks = office.take()
    for place in office.places:
        assert not looks
        office.tell(place, 10)

    assert looks[0].metrics.delivered == 30
    assert looks[0].metrics.subscribers == 3
    assert [one.state for one in looks[0].workers] == ["up"] * 3
    assert office.clock.getDelayedCalls() == []


def test_who_asks_meanwhile_gets_the_next_round() -> None:
    """
    However many ask: one round at a time, and no answer older than its question.
    """
    office = Office()
    first, second, third = office.take(), office.take(), office.take()
    for place in office.places:
        office.tell(place, 1)
    assert first
    assert not second
    for place in office.places:
        office.tell(place, 2)

    assert second[0].metrics.delivered == third[0].metrics.delivered == 6
    assert [place.asked for place in office.places] == [[1, 2]] * 3


def test_who_does_not_tell_is_left_out_and_no_total_falls() -> None:
    """
    After a second; its last total stays, its readers are not known. It is not asked
    again before it has answered.
    """
    office = Office()
    office.take()
    for place in office.places:
        office.tell(place, 10)
    looks = office.take()
    for place in office.places[:2]:
        office.tell(place, 11)
    office.clock.advance(PATIENCE)

    assert looks[0].metrics.delivered == 11 + 11 + 10
    assert looks[0].metrics.subscribers == 2
    assert [one.state for one in looks[0].workers] == ["up", "up", "silent"]

    looks = office.take()
    for place in office.places[:2]:
        office.tell(place, 11)
    assert looks
    assert office.places[2].asked == [1, 2]
    office.tell(office.places[2], 12)
    looks = office.take()
    for place in office.places:
        office.tell(place, 13)
    assert looks[0].metrics.delivered == 39


def test_who_ends_meanwhile_is_not_waited_for() -> None:
    """
    And its successor counts on from what it had.
    """
    office = Office()
    looks = office.take()
    office.tell(office.places[0], 10)
    office.tell(office.places[1], 10)
    gone = office.places[2]
    gone.state = ProcessState.DOWN
    office.census.lost(gone, Metrics(delivered=7))  # type: ignore[arg-type]  # as above

    assert looks[0].metrics.delivered == 27
    assert looks[0].workers[2].state == "down"


# The line.


def test_a_parent_that_does_not_read_holds_nobody_up() -> None:
    """
    What can wait is not sent; what must arrive is.
    """
    line = ControlChannel(lambda line, said: None, lambda line: None)
    transport = StringTransport()
    line.makeConnection(transport)  # type: ignore[no-untyped-call]
    assert line.offer("report", n=1)
    line.pauseProducing()
    assert not line.offer("report", n=2)
    line.say("ready")
    line.resumeProducing()
    assert line.offer("report", n=3)

    heard: list[Any] = []
    other = ControlChannel(lambda line, said: heard.append(said), lambda line: None)
    other.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    for byte in transport.value():
        other.dataReceived(bytes([byte]))  # type: ignore[no-untyped-call]
    assert [said.get("n", said["what"]) for said in heard] == [1, "ready", 3]


async def test_no_answer_is_said_after_a_while() -> None:
    """
    A worker whose parent hangs answers 503, and forgets the question.
    """
    clock = Clock()
    post = ControlClient(clock, -1, make_hub(MemoryBroker(clock, "e"), clock))
    post._line.makeConnection(StringTransport())  # type: ignore[no-untyped-call]
    answer: Deferred[Snapshot] = post.ask(StatsQuery())
    clock.advance(10)

    with pytest.raises(HttpError) as refused:
        await answer
    assert refused.value.status == 503
    assert post._asked == {}


class Absent(MemoryBroker):
    """
    A broker that is away at first.
    """

    there = False

    def ready(self) -> bool:
        return self.there


def waiting() -> tuple[Clock, Absent, ControlClient, StringTransport]:
    """
    The post of a worker that has been waiting for its broker for a second.
    """
    clock = Clock()
    broker = implementer(IReady)(Absent)(clock, "e")
    post = ControlClient(clock, -1, make_hub(broker, clock))
    transport = StringTransport()
    post._line.makeConnection(transport)  # type: ignore[no-untyped-call]
    post.ready()
    clock.pump([0.1] * 10)
    return clock, broker, post, transport


@pytest.mark.parametrize("comes", [True, False])
def test_new_connections_come_when_the_broker_is_there(comes: bool) -> None:
    """
    Or after a while, if it is away.
    """
    clock, broker, post, transport = waiting()
    assert b"ready" not in transport.value()
    broker.there = comes
    clock.pump([0.1] * (1 if comes else 25))

    assert transport.value().count(b"ready") == 1
    post.stopService()
    assert clock.getDelayedCalls() == []


def test_a_worker_that_stops_does_not_say_that_it_is_ready() -> None:
    """
    Not even one that waited for the broker, and was told to read its settings again:
    new connections would be sent to it.
    """
    clock, _, post, transport = waiting()
    post.ready()
    post.stopService()
    clock.pump([0.1] * 50)

    assert b"ready" not in transport.value()


# Sockets.


async def test_each_worker_has_a_socket_and_the_kernel_deals() -> None:
    """
    On one port; new connections go to those that are named, and to no other.
    """
    from twisted.internet import reactor

    binder = ListenerBinder(reactor, 4, replaceable=False)
    await serverFromString(binder, "tcp:0:interface=127.0.0.1:backlog=500").listen(Factory())
    (bound,) = binder.bound
    port = bound.getHost().port
    try:
        for named in ([0, 1, 2, 3], [1, 3], [2]):
            bound.steer(named)
            shares = _deal(bound.sockets, port, 40 * len(named))
            assert [index for index, share in enumerate(shares) if share] == named
            assert min(share for share in shares if share) > 10
        with pytest.raises(CannotListenError):
            ListenerBinder(reactor, 4, replaceable=False).listenTCP(
                port, Factory(), interface="127.0.0.1"
            )
    finally:
        bound.stopListening()


def _deal(sockets: Any, port: int, count: int) -> list[int]:
    callers = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(count)]
    shares = []
    for listener in sockets:
        share = 0
        while True:
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                break
            connection.close()
            share += 1
        shares.append(share)
    for caller in callers:
        caller.close()
    return shares


async def test_what_is_bound_is_accepted_from() -> None:
    """
    Whatever the endpoint: its own reactor is given what its parent's had bound, in
    the same order.
    """
    from twisted.internet import reactor

    loop: Any = reactor
    binder = ListenerBinder(loop, 1, replaceable=False)
    strings = ("tcp:0:interface=127.0.0.1", r"tcp6:0:interface=\:\:1")
    for string in strings:
        await serverFromString(binder, string).listen(Factory())
    inherited = [(socket.dup(one.of(0).fileno()), int(one.of(0).family)) for one in binder.bound]
    heir = InheritedListeners(loop, inherited)
    ports = [
        await serverFromString(heir, each).listen(Factory.forProtocol(Protocol)) for each in strings
    ]

    assert [port.getHost() for port in ports] == [one.getHost() for one in binder.bound]
    for port in ports:
        await port.stopListening()
    for one in binder.bound:
        one.stopListening()


# What a worker is given.


def test_a_worker_inherits_once() -> None:
    """
    All of it arrives, and its own children do not get it.
    """
    fixed = {"broker": [("redis", "a.conf:3")]}
    given = {"port": [("1", "--port")]}
    left = WorkerEnvironment(2, 4, 3, "ab", [5, 6], [(4, 2)], given, fixed, "a.conf", ["/x"])
    environment: dict[str, str] = {"HOME": "/"}
    left.put(environment)
    taken = WorkerEnvironment.pop(environment)

    assert taken is not None
    assert (taken.number, taken.size, taken.control_socket, taken.config) == (2, 4, 3, "a.conf")
    assert [tuple(each) for each in taken.sockets] == [(4, 2)]
    assert (taken.daemon_id, taken.handoff_sockets) == ("ab", [5, 6])
    assert environment == {"HOME": "/"}
    assert WorkerEnvironment.pop(environment) is None


def test_a_worker_keeps_what_a_reload_does_not_take_on(tmp_path: Any, monkeypatch: Any) -> None:
    """
    One that starts later has the same ports and broker as the others, whatever the file says
    by then; what a reload takes on, it has from the file.
    """
    file = tmp_path / "a.conf"
    file.write_text("port = 7001\nretry = 3\nworkers = 4\n")
    parent = Options()
    parent.parseOptions([f"--config={file}", "--dead-after=30"])
    environment: dict[str, str] = {}
    parent.worker_environment(3, 5, "ab", [6], []).put(environment)
    file.write_text("port = 7002\nretry = 4\nworkers = 2\n")
    monkeypatch.setenv(VARIABLE, environment[VARIABLE])
    worker = Options()
    worker.parseOptions([])

    assert (worker["port"], worker["retry"], worker["workers"]) == (7001, 4, 4)
    assert worker["dead-after"] == 30
    assert worker.places["port"] == [f"{file}:1"]
    assert worker.inherited is not None
    assert worker.read_again()["port"] == 7001


# What cannot be.


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            "workers = 4\n",
            "a.conf:1: workers: 4 processes cannot share the channels of the embedded broker; "
            "use --broker redis or amqp, or one worker",
        ),
        (
            "history-file = log\nworkers = 2\n",
            "a.conf:2: workers: 2 processes cannot share a history-file; "
            "use --broker redis or amqp without it, or one worker",
        ),
    ],
)
def test_what_workers_cannot_share_is_refused(
    lines: str, sentence: str, tmp_path: Any, monkeypatch: Any
) -> None:
    """
    One sentence, with the place and the cure.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.conf").write_text(lines)
    options = Options()
    options.parseOptions(["--config=a.conf"])

    with pytest.raises(SettingError) as wrong:
        build(options, Clock())
    assert str(wrong.value) == sentence


def test_quantiles_need_as_many_buckets_in_every_process() -> None:
    """
    The sum has the shape of its parts.
    """
    total = Metrics()
    add(total, Metrics(fanout=Histogram()))

    assert len(total.fanout.buckets) == len(BOUNDS) + 1
