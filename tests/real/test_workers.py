"""
A daemon of several processes, started as a user does: subscribers, publishers, systemd and
monitoring see one daemon.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.pems import Authority
from tests.real.conftest import PATIENCE, PAUSE, ROOT, TWISTD, Serve, Server, StartDaemon, free_port
from tests.real.redis_server import start_redis
from tests.real.subscribers import Subscriber, disconnecting, join_all, publishers, until
from tests.real.test_daemon import publish
from tests.real.test_restart import InheritingServer, Systemd
from tests.unit.net.test_tls import trusting

SIZE = 3


class WorkerDaemon:
    """
    A daemon with worker processes.

    Args:
        server: the parent process.
        size: number of workers.
    """

    def __init__(self, server: Server, size: int) -> None:
        self.server = server
        self.port = server.port
        self.size = size

    def wait_until_up(self, size: int | None = None) -> WorkerDaemon:
        """
        Wait until *size* workers have started, counted from the first start.
        """
        size = size or self.size
        wait_until(lambda: len(re.findall(r"worker \d+ is up", self.server.log)) >= size)
        return self

    def get(self, path: str, timeout: float = PATIENCE) -> bytes:
        """
        Return the body of GET *path*, from any worker.
        """
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        with closing(connection):
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            assert response.status == 200, body
            return body

    def stats(self, timeout: float = PATIENCE) -> Any:
        """
        Return all statistics of `/stats`.
        """
        return json.loads(self.get("/stats?format=full", timeout))

    def metrics(self) -> dict[str, float]:
        """
        Return the samples of `/metrics` by name.
        """
        lines = self.get("/metrics").decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def pids(self) -> list[int]:
        """
        Return the process ids of the workers.
        """
        return [worker["pid"] for worker in self.stats()["workers"]]

    def pids_when_up(self) -> list[int]:
        """
        Return the process ids of the workers when all of them are up.
        """
        while True:
            workers = self.stats()["workers"]
            if all(worker["state"] == "up" for worker in workers):
                return [worker["pid"] for worker in workers]
            time.sleep(PAUSE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """
        Send a signal to the parent alone, and wait until all processes have ended.

        Returns:
            the exit status of the parent; negative if a signal killed it.
        """
        pids = [self.server.pid, *children(self.server.pid)]
        assert len(pids) > 1
        self.server.send(number)
        wait_until(lambda: all(map(has_ended, pids)))
        return self.server.kill(signal.SIGCONT)


def wait_until(condition: Callable[[], Any]) -> None:
    """
    Wait until *condition* is true.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE)


def process_stat(pid: int) -> list[str]:
    """
    Return the fields of a process from its state on (proc(5)); [] if it does not exist.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def has_ended(pid: int) -> bool:
    """
    Return whether a process has ended, reaped or not.
    """
    return process_stat(pid)[:1] in ([], ["Z"])


def children(pid: int) -> list[int]:
    """
    Return the ids of the running children of *pid*, and of theirs: the fork server and workers.
    """
    running = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    found = [
        each for each in running if process_stat(each)[1:2] == [str(pid)] and not has_ended(each)
    ]
    return found + [each for child in found for each in children(child)]


def memory(pid: int, kind: str = "Private_") -> int:
    """
    Return the bytes of memory of a *kind*: by default what a process shares with no other.
    """
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith(kind))


def open_files(pid: int) -> list[str]:
    """
    Return the paths of a process's open files.
    """
    found = []
    for each in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed by now
            found.append(os.readlink(each))
    return found


Start = Callable[..., WorkerDaemon]
Broker = tuple[list[str], dict[str, str]]  # options and environment of its daemons
BOTH = pytest.mark.parametrize("broker", ["relay", "redis"], indirect=True)


@pytest.fixture
def relay(serve: Serve) -> dict[str, str]:
    """
    Return the environment of daemons that share the broker of `tests.real.relay`.
    """
    port = free_port()
    environment = {"PYTHONPATH": str(ROOT), "RELAY_PORT": str(port)}
    serve([sys.executable, "-m", "tests.real.relay", str(port)], port, environment=environment)
    return environment


@pytest.fixture
def broker(request: pytest.FixtureRequest, serve: Serve) -> Broker:
    """
    Return options and environment of a shared broker: `redis`, or the relay.
    """
    if getattr(request, "param", "relay") == "redis":
        redis = start_redis(serve)
        return ["--broker=redis", f"--redis-port={redis.port}"], {}
    relay: dict[str, str] = request.getfixturevalue("relay")
    return ["--broker=tests.real.relay.RelayBroker"], relay


@pytest.fixture
def start_workers(daemon: StartDaemon, broker: Broker) -> Start:
    """
    Return a function that starts daemons with workers.
    """
    shared, environment = broker

    def start(
        *options: str, size: int = SIZE, env: dict[str, str] | None = None, **more: Any
    ) -> WorkerDaemon:
        server = daemon(
            f"--workers={size}",
            *shared,
            *options,
            environment=environment | (env or {}),
            **more,
        )
        return WorkerDaemon(server, size)

    return start


# Subscribers and publishers.


@BOTH
async def test_subscribers_of_all_workers_receive_each_message_once(start_workers: Start) -> None:
    """
    Connections are distributed over all workers. Each subscriber receives each message once, in
    the same order, and the statistics are those of all workers.
    """
    daemon = start_workers().wait_until_up()
    subscribers = [Subscriber(daemon.port, ["news"]) for _ in range(90)]
    async with disconnecting(subscribers), publishers(daemon.server, 8) as senders:
        await join_all(subscribers)
        for number in range(40):
            await senders[number % 8].publish("news", b"m%d" % number)
        await until(lambda: all(len(subscriber.messages) >= 40 for subscriber in subscribers))
        stats = await senders[0].get("/stats?format=full")
        assert await senders[1].get("/stats") == [["news", 90]]
        assert await senders[2].get("/stats?channel=news&channel=other") == [["news", 90]]

    assert {tuple(subscriber.messages) for subscriber in subscribers} == {
        tuple(subscribers[0].messages)
    }
    assert sorted(subscribers[0].messages) == sorted(f"m{number}" for number in range(40))
    shares = [worker["readers"] for worker in stats["workers"]]
    assert sum(shares) == stats["readers"]["now"] == stats["readers"]["joined"] == 90
    assert min(shares) > 5, "the kernel distributes the connections"
    assert stats["messages"]["delivered"] == 90 * 40
    assert stats["channels"]["shown"][0]["readers"] == 90
    assert stats["channels"]["shown"][0]["messages"] == 40
    assert [worker["state"] for worker in stats["workers"]] == ["up"] * SIZE


@BOTH
async def test_a_worker_that_is_killed_is_replaced(start_workers: Start) -> None:
    """
    Workers are killed with SIGKILL, four times while publishers publish. Their subscribers
    reconnect to the other workers, and receive each message once. No counter decreases.
    """
    daemon = start_workers().wait_until_up()
    subscribers = [Subscriber(daemon.port, ["news"]) for _ in range(30)]
    published = 0

    async def publish_some(count: int) -> None:
        nonlocal published
        async with publishers(daemon.server, 1) as (sender,):
            end = published + count
            while published < end:
                try:
                    await sender.publish("news", b"m%d" % published)
                except AssertionError as error:
                    # A connection that waited in a killed worker's socket is the first of its
                    # successor, which may have no broker yet: nothing was accepted, so retry.
                    assert b" 503 " in error.args[0]
                else:
                    published += 1

    async with disconnecting(subscribers):
        await join_all(subscribers)
        before: dict[str, float] = {}
        for round in range(4):
            await publish_some(20)
            after = daemon.metrics()
            fallen = [name for name, value in before.items() if after.get(name, 0.0) < value]
            # Counters of a worker or channel restart with it.
            own = ("realtime_worker_", "realtime_channel_")
            assert [name for name in fallen if "_total" in name and not name.startswith(own)] == []
            before = after
            victim = daemon.pids()[round % SIZE]
            os.kill(victim, signal.SIGKILL)
            await until(lambda victim=victim: has_ended(victim))  # type: ignore[misc]
            await publish_some(20)
            await join_all(subscribers)
            await until(lambda round=round: daemon.server.log.count("is up") == SIZE + round + 1)  # type: ignore[misc]
        await until(
            lambda: all(len(subscriber.messages) >= published for subscriber in subscribers)
        )
        stats = daemon.stats()

    expected = [f"m{number}" for number in range(160)]
    assert all(
        subscriber.messages == expected and not subscriber.gaps for subscriber in subscribers
    )
    assert sum(worker["restarts"] for worker in stats["workers"]) == 4
    assert stats["readers"]["joined"] == 30 + sum(stats["readers"]["closed"].values())
    assert daemon.server.log.count("ended by SIGKILL after") == 4


def test_a_worker_that_gets_sigterm_is_replaced(start_workers: Start) -> None:
    """
    A worker that ends after SIGTERM is replaced; the other workers continue.
    """
    daemon = start_workers().wait_until_up()
    before = daemon.pids()
    os.kill(before[0], signal.SIGTERM)
    daemon.wait_until_up(SIZE + 1)

    after = daemon.pids()
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert "ended by status 0 after" in daemon.server.log


def test_workers_share_memory_and_survive_the_end_of_their_fork_server(
    start_workers: Start,
) -> None:
    """
    A worker has less than half of the memory for itself, and the statistics count shared memory
    once. If the fork server is killed, another one starts, and the workers are replaced.
    """
    daemon = start_workers().wait_until_up()
    before = daemon.pids()
    [fork_server] = [each for each in children(daemon.server.pid) if each not in before]
    assert memory(before[0]) < memory(daemon.server.pid) * 0.6
    counted = daemon.stats()["process"]["memory_bytes"]
    of_all = sum(memory(pid, "Pss:") for pid in (daemon.server.pid, *before))
    assert 0.8 * of_all < counted < 1.2 * of_all
    os.kill(fork_server, signal.SIGKILL)
    daemon.wait_until_up(2 * SIZE)

    assert not {*daemon.pids_when_up()} & {*before}
    assert "the fork server has ended" in daemon.server.log


def test_the_start_of_a_worker_is_retried(start_workers: Start) -> None:
    """
    The parent runs out of file descriptors, at two different steps of a start. When it has some
    again, the worker starts, and failed attempts leave no descriptor open.
    """
    daemon = start_workers().wait_until_up()
    parent = daemon.server.pid
    before = os.listdir(f"/proc/{parent}/fd")
    limits = resource.prlimit(parent, resource.RLIMIT_NOFILE)
    refused = "worker 1 cannot be started: Too many open files"
    for tries, left in enumerate((3, 5), 1):
        # The end of a worker frees two.
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (len(before) - 2 + left, limits[1]))
        seen = len(daemon.server.log)
        os.kill(daemon.pids()[0], signal.SIGKILL)
        wait_until(lambda seen=seen: refused in daemon.server.log[seen:])  # type: ignore[misc]
        resource.prlimit(parent, resource.RLIMIT_NOFILE, limits)
        daemon.wait_until_up(SIZE + tries)

    wait_until(lambda: len(os.listdir(f"/proc/{parent}/fd")) == len(before))


def test_a_worker_that_cannot_start_gets_no_connections(
    start_workers: Start, tmp_path: Path
) -> None:
    """
    A worker that ends at each start is restarted with growing delays; meanwhile the others
    serve all requests, and the parent continues.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    daemon = start_workers(f"--config={file}").wait_until_up()
    file.write_text("retry = soon\n")
    os.kill(daemon.pids()[1], signal.SIGKILL)
    wait_until(lambda: daemon.server.log.count("worker 2 (pid") >= 4)

    assert "a.conf:1: retry must be a time" in daemon.server.log
    for number in range(60):
        assert publish(daemon.port, channel="news", message=f"m{number}") == 200
    states = [worker["state"] for worker in daemon.stats()["workers"]]
    assert (states[0], states[2]) == ("up", "up")
    assert states[1] in ("down", "starting")
    waits = re.findall(r"worker 2 .*another starts in (\d+\.\d)", daemon.server.log)
    assert float(waits[3]) > float(waits[0])
    file.write_text("")
    daemon.wait_until_up(SIZE + 1)
    assert daemon.stop() == 0


def test_a_worker_that_does_not_answer_is_reported_as_silent(start_workers: Start) -> None:
    """
    A worker that hangs does not delay statistics: its state is `silent`, and its last counts
    are still part of the sums.
    """
    daemon = start_workers().wait_until_up()
    pids = daemon.pids()
    for number in range(30):
        assert publish(daemon.port, channel="news", message=f"m{number}") == 200
    before = daemon.stats()
    os.kill(pids[0], signal.SIGSTOP)
    try:
        stats = _stats_of_another(daemon)
        assert [worker["state"] for worker in stats["workers"]] == ["silent", "up", "up"]
        assert stats["messages"]["published"] >= before["messages"]["published"]
    finally:
        os.kill(pids[0], signal.SIGCONT)
    wait_until(lambda: daemon.stats()["workers"][0]["state"] == "up")


def test_a_worker_that_hangs_is_replaced_with_a_traceback(
    start_workers: Start, tmp_path: Path
) -> None:
    """
    A worker that hangs in a plug-in, and one that is suspended and cannot write a traceback,
    are killed and replaced.
    """
    (tmp_path / "hanging.py").write_text(HANGING)
    daemon = start_workers(
        "--worker-timeout=3",
        "--route=^/hang$ hanging.Hang",
        "--route=^/stats$ stats",
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    ).wait_until_up()
    before = daemon.pids_when_up()
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as connection:
        connection.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: "in hangs_here" in daemon.server.log)
        assert connection.recv(100) == b"", "its connections are closed"
    wait_until(
        lambda: re.search(r"worker \d \(pid \d+\) ended by SIGABRT after", daemon.server.log)
    )
    victim = daemon.pids_when_up()[0]
    os.kill(victim, signal.SIGSTOP)
    wait_until(lambda: f"(pid {victim}) ended by SIGKILL after" in daemon.server.log)
    after = daemon.pids_when_up()

    assert victim not in after
    reported = re.findall(
        r"worker \d \(pid (\d+)\) has reported nothing for \d+ s", daemon.server.log
    )
    assert str(victim) in reported
    assert set(map(int, reported)) & set(before)


HANGING = """
import time
from dataclasses import dataclass
from rt_twisted.api import IAction
from zope.interface import implementer

@implementer(IAction)
@dataclass
class Hang:
    methods = ("GET",)

    def act(self, exchange, match):
        hangs_here()

def hangs_here():
    time.sleep(1000)
"""


def test_a_parent_that_was_suspended_kills_no_worker(start_workers: Start) -> None:
    """
    A parent that was stopped reads the pending reports of its workers before it judges them silent.
    """
    daemon = start_workers("--worker-timeout=5").wait_until_up()
    before = daemon.pids_when_up()
    daemon.server.send(signal.SIGSTOP)
    time.sleep(7)  # longer than the timeout
    daemon.server.send(signal.SIGCONT)

    assert daemon.pids_when_up() == before
    assert "has reported nothing" not in daemon.server.log


def test_stats_are_available_while_workers_wait_for_the_broker(daemon: StartDaemon) -> None:
    """
    /stats responds also while no worker has reported that it is up.
    """
    server = daemon(f"--workers={SIZE}", "--broker=redis", f"--redis-port={free_port()}")
    stats = WorkerDaemon(server, SIZE).stats()

    assert {worker["state"] for worker in stats["workers"]} <= {"starting", "up"}


def _stats_of_another(daemon: WorkerDaemon) -> Any:
    """
    Request statistics until a worker that does not hang gets the request.
    """
    while True:
        try:
            return daemon.stats(timeout=4)
        except TimeoutError:
            continue


# Signals.


async def test_a_reload_reaches_all_workers_and_disconnects_no_subscriber(
    start_workers: Start, tmp_path: Path
) -> None:
    """
    After SIGHUP to the parent all workers use the current file and reopen rotated logs, and all
    subscribers stay connected.
    """
    file, log, access = tmp_path / "a.conf", tmp_path / "daemon.log", tmp_path / "access.log"
    file.write_text(f"access-log = {access}\n")
    daemon = start_workers(f"--config={file}", "--log-format=json").wait_until_up()
    subscribers = [Subscriber(daemon.port, ["news"]) for _ in range(30)]
    async with disconnecting(subscribers):
        await join_all(subscribers)
        access.rename(log)
        file.write_text(f"access-log = {access}\nmax-message = 5\ndead-after = 30\n")
        daemon.server.send(signal.SIGHUP)
        await until(lambda: daemon.server.log.count("reloaded, changed: max-message") == SIZE)
        statuses = Counter(
            publish(daemon.port, channel="news", message=text)
            for text in ["123456"] * 20 + ["12345"] * 20
        )
        await until(lambda: all(len(subscriber.messages) == 20 for subscriber in subscribers))
        assert all(subscriber.joined == 1 for subscriber in subscribers)

    assert statuses == {413: 20, 200: 20}
    lines = [json.loads(line) for line in daemon.server.log.splitlines()]
    workers = [line["worker"] for line in lines if line["text"].startswith("reloaded")]
    assert sorted(workers) == [1, 2, 3]
    fixed = [line for line in lines if "need a restart to change: dead-after" in line["text"]]
    assert [line.get("worker", 0) for line in fixed] == [0], "only the parent logs it, once"
    assert not log.read_text(), "the subscribers had not ended"
    await until(lambda: access.read_text().count("reason=") >= 30)
    assert len(access.read_text().splitlines()) >= 70
    request = r'"(POST|GET) /\S* HTTP/1\.1" (200|413) \d+( seconds=\S+ messages=20 reason=lost)?'
    line = rf"127\.0\.0\.1 - - \[\S+ \+0000\] {request}"
    assert all(re.fullmatch(line, each) for each in access.read_text().splitlines())


def test_a_rotated_log_is_closed(start_workers: Start, tmp_path: Path) -> None:
    """
    The parent and the workers close a rotated log, so that its disk space is free once it is
    deleted.
    """
    path = tmp_path / "access.log"
    daemon = start_workers(f"--access-log={path}").wait_until_up()
    pids = [daemon.server.pid, *children(daemon.server.pid)]
    path.rename(tmp_path / "access.log.1")
    daemon.server.send(signal.SIGHUP)

    wait_until(lambda: not any("access.log.1" in name for pid in pids for name in open_files(pid)))


def test_sigusr1_opens_every_log_again(start_workers: Start, tmp_path: Path) -> None:
    """
    After SIGUSR1 the parent and each worker write to the new files, without a reload.
    """
    path = tmp_path / "access.log"
    daemon = start_workers(f"--access-log={path}").wait_until_up()
    pids = [daemon.server.pid, *children(daemon.server.pid)]
    path.rename(tmp_path / "access.log.1")
    daemon.server.send(signal.SIGUSR2)
    daemon.server.send(signal.SIGUSR1)

    wait_until(lambda: not any("access.log.1" in name for pid in pids for name in open_files(pid)))
    assert [daemon.server.pid, *children(daemon.server.pid)] == pids
    assert "reloaded" not in daemon.server.log


def test_a_reload_reaches_a_worker_that_is_starting(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A worker that has read the file and waits for its broker reads the file again.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    options = [f"--workers={SIZE}", "--broker=redis", f"--redis-port={free_port()}"]
    start_workers = WorkerDaemon(daemon(f"--config={file}", *options), SIZE).wait_until_up()
    os.kill(start_workers.pids()[0], signal.SIGKILL)
    wait_until(lambda: start_workers.server.log.count("no stats key is set") == SIZE + 1)
    file.write_text("retry = 7\n")
    start_workers.server.send(signal.SIGHUP)

    wait_until(lambda: start_workers.server.log.count("reloaded, changed: retry") == SIZE)


def test_sigterm_stops_all_workers_gracefully(start_workers: Start) -> None:
    """
    Subscribers get a reconnect time, and an incomplete request may finish. No process is
    left, and the exit status is 0. After a second signal the daemon does not wait.
    """
    daemon = start_workers("--stop-seconds=20").wait_until_up()
    subscribers = [
        socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in range(12)
    ]
    for subscriber in subscribers:
        subscriber.sendall(b"GET /?channels=news HTTP/1.0\r\nHost: a\r\n\r\n")
        assert subscriber.recv(65536)
    half = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
    half.sendall(
        b"POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    )
    half.sendall(b"Content-Length: 3\r\n\r\nab")
    pids = children(daemon.server.pid)
    daemon.server.send(signal.SIGTERM)
    for subscriber in subscribers:
        text = b""
        while data := subscriber.recv(65536):
            text += data
        assert b"retry: " in text
        subscriber.close()
    assert not all(map(has_ended, pids)), "a worker waits for the request"
    half.sendall(b"c")
    assert half.recv(65536).startswith(b"HTTP/1.1 ")
    half.close()
    wait_until(lambda: all(map(has_ended, [daemon.server.pid, *pids])))
    assert daemon.server.kill(signal.SIGCONT) == 0

    daemon.server.start()
    daemon.wait_until_up(2 * SIZE)
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as half:
        half.sendall(b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        publish(daemon.port, channel="news", message="first")
        pids = children(daemon.server.pid)
        daemon.server.send(signal.SIGTERM)
        wait_until(lambda: daemon.server.log.count("subscribers to reconnect") == 2 * SIZE)
        start_time = time.monotonic()
        daemon.server.send(signal.SIGTERM)
        wait_until(lambda: all(map(has_ended, [daemon.server.pid, *pids])))
        assert time.monotonic() - start_time < 15, "not stop-seconds"
    assert daemon.server.kill(signal.SIGCONT) == 0


def test_workers_end_when_their_parent_is_killed(start_workers: Start) -> None:
    """
    After kill -9 of the parent its workers end by themselves, and the port is free.
    """
    daemon = start_workers().wait_until_up()

    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert daemon.server.log.count("the parent process has ended") == SIZE
    daemon.server.start()
    daemon.wait_until_up(2 * SIZE)


def test_systemd_gets_the_notifications_of_one_daemon(start_workers: Start, tmp_path: Path) -> None:
    """
    The parent sends READY when all workers are up, RELOADING and READY, and STOPPING.
    """
    systemd = Systemd(tmp_path)
    file = tmp_path / "a.conf"
    file.write_text("")
    daemon = start_workers(f"--config={file}", env=systemd.environment)
    systemd.wait_for("READY=1")
    assert daemon.server.log.count("is up (pid") == SIZE
    systemd.wait_for("WATCHDOG=1")
    daemon.server.send(signal.SIGHUP)
    systemd.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    systemd.wait_for("READY=1")
    assert daemon.server.log.count("reloaded, changed: nothing") == SIZE
    assert daemon.stop() == 0
    systemd.wait_for("STOPPING=1")
    systemd.close()


# Endpoints and users.


def test_all_endpoint_types_work_with_workers(start_workers: Start, tmp_path: Path) -> None:
    """
    All workers serve TLS by setting and by endpoint, a unix socket with its mode, and TCP on
    port 0. The end of one worker closes no endpoint.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("server", "localhost", "127.0.0.1")
    path, tls_port, ssl_port = tmp_path / "socket", free_port(), free_port()
    daemon = start_workers(
        "--use-ssl=1",
        f"--ssl-port={tls_port}",
        f"--ssl-cert={certificate}",
        f"--ssl-key={key}",
        f"--endpoint=unix:{path}:mode=600",
        f"--endpoint=ssl:{ssl_port}:interface=127.0.0.1:certKey={certificate}:privateKey={key}",
        "--endpoint=tcp:0:interface=127.0.0.1",
    ).wait_until_up()
    some = [int(port) for port in re.findall(r"//127.0.0.1:(\d+)/", daemon.server.log)]
    (port,) = {*some} - {daemon.port, tls_port, ssl_port}

    def plain(family: int, address: Any) -> socket.socket:
        connection = socket.socket(family)
        connection.settimeout(PATIENCE)
        connection.connect(address)
        return connection

    def tls(port: int) -> socket.socket:
        context: ssl.SSLContext = trusting(authority)
        return context.wrap_socket(plain(socket.AF_INET, ("127.0.0.1", port)))

    def check() -> None:
        for _ in range(10):
            for connection in (
                plain(socket.AF_UNIX, str(path)),
                plain(socket.AF_INET, ("127.0.0.1", port)),
                tls(tls_port),
                tls(ssl_port),
            ):
                with connection:
                    connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n")
                    assert connection.recv(100).startswith(b"HTTP/1.1 200 ")

    check()
    os.kill(daemon.pids()[0], signal.SIGTERM)
    daemon.wait_until_up(SIZE + 1)
    check()
    assert path.stat().st_mode & 0o777 == 0o600
    assert daemon.stop() == 0
    assert not path.exists()


def test_a_socket_from_systemd_is_shared(relay: dict[str, str], tmp_path: Path) -> None:
    """
    With socket activation all workers accept connections of the inherited socket.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        launcher = (
            "import os, sys\nos.set_inheritable(os.dup2(int(sys.argv[1]), 3), True)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            f"os.environ.update({relay!r})\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        listener.set_inheritable(True)
        options = ["--endpoint=systemd:domain=INET:index=0", f"--workers={SIZE}"]
        options.append("--broker=tests.real.relay.RelayBroker")
        python = str(Path(TWISTD[0]).with_name("python"))
        command = [python, "-c", launcher, str(listener.fileno()), *TWISTD, "realtime", *options]
        server = InheritingServer(command, listener.getsockname()[1], tmp_path, {})
        server.start()
        try:
            daemon = WorkerDaemon(server, SIZE).wait_until_up()
            os.kill(daemon.pids()[0], signal.SIGKILL)
            daemon.wait_until_up(SIZE + 1)
            statuses = [publish(daemon.port, channel="news", message="m") for _ in range(20)]
            assert statuses == [200] * 20
            assert daemon.stop() == 0
        finally:
            server.stop()


def test_workers_of_a_daemon_in_the_background(relay: dict[str, str], tmp_path: Path) -> None:
    """
    Without -n twistd runs in the background, in another folder, as another user. Paths in the
    configuration file are relative to the start folder, and log lines name the worker.
    """
    port = free_port()
    run, home = tmp_path / "run", tmp_path / "home"
    for folder in (tmp_path, run, home):
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
    # The user to which twistd switches must be able to read Python.
    found = [Path(sys.executable).resolve(), *Path(sys.executable).resolve().parents]
    root = os.geteuid() == 0 and all(path.stat().st_mode & 0o005 for path in found)
    (home / "key").write_text("secret")
    (home / "a.conf").write_text(f"http-secret = file:{home}/key\naccess-log = access.log\n")
    command = [TWISTD[0], "--pidfile=pid", f"--rundir={run}", "--logfile=daemon.log"]
    command += ["--uid=65534", "--gid=65534"] if root else []
    command += ["realtime", f"--port={port}", f"--workers={SIZE}", "--config=a.conf"]
    command += ["--broker=tests.real.relay.RelayBroker"]
    for folder in tmp_path.parents if root else ():
        if not folder.stat().st_mode & 0o005:  # pytest's own are for root alone
            folder.chmod(0o755)
    subprocess.run(command, cwd=home, env=os.environ | relay, check=True, timeout=PATIENCE)
    pid = int((home / "pid").read_text())
    try:
        wait_until(lambda: (home / "daemon.log").read_text().count("is up (pid") == SIZE)
        workers = children(pid)
        assert len(workers) == SIZE + 1  # and the fork server
        if root:
            assert {os.stat(f"/proc/{worker}").st_uid for worker in workers} == {65534}
        assert publish(port, channel="news", message="m", key="secret") == 200
        os.kill(pid, signal.SIGHUP)
        wait_until(
            lambda: (home / "daemon.log").read_text().count("reloaded, changed: not") == SIZE
        )
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: has_ended(pid))
    assert all(map(has_ended, workers))
    assert re.search(r"(?m)^\S+ \[w2\] \[rt_twisted", (home / "daemon.log").read_text())
    assert len((home / "access.log").read_text().splitlines()) == 1


# Errors.


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--workers=4"],
            "--workers: 4 processes cannot share the channels of the embedded broker; "
            "use --broker redis or amqp, or one worker",
        ),
        (
            ["--workers=4", "--history-file=log"],
            "--workers: 4 processes cannot share a history-file; "
            "use --broker redis or amqp without it, or one worker",
        ),
        (["--workers=0"], "--workers must be a number from 1 to 256, not '0'"),
        (
            ["--workers=2", "--broker=tests.real.relay.RelayBroker", "--route=^/$ nonsense"],
            None,
        ),
        (["--workers=2", "--broker=tests.real.relay.None"], None),
    ],
)
def test_wrong_settings_give_one_error_line(
    options: list[str], sentence: str | None, tmp_path: Path
) -> None:
    """
    The parent prints the error, exits with status 1, and starts no worker.
    """
    ended = subprocess.run(
        [*TWISTD, "realtime", f"--port={free_port()}", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RELAY_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    errors = ended.stderr.strip().splitlines()
    assert ended.returncode == 1
    assert len(errors) == 1
    assert errors[0].startswith("realtime: ")
    if sentence is not None:
        assert errors[0] == f"realtime: {sentence}"
    assert "[w" not in ended.stdout


def test_a_port_in_use_is_an_error(start_workers: Start, tmp_path: Path) -> None:
    """
    A second daemon of the same user cannot listen on the port of workers, except with
    `reuse-port`.
    """
    first = start_workers().wait_until_up()
    ended = subprocess.run(
        [
            *TWISTD,
            "realtime",
            f"--port={first.port}",
            "--workers=2",
            "--broker=tests.real.relay.RelayBroker",
        ],
        cwd=tmp_path,
        env=os.environ | first.server.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    assert ended.returncode == 1
    assert "Address already in use" in ended.stdout


def test_new_workers_replace_the_old_ones_without_refusals(
    start_workers: Start, tmp_path: Path
) -> None:
    """
    With `reuse-port`, new connections reach the new daemon while both listen, and no connection
    is refused when the old one ends.
    """
    port = free_port()
    old = start_workers("--reuse-port=1", port=port).wait_until_up()
    new = start_workers("--reuse-port=1", port=port, folder=tmp_path / "new").wait_until_up()
    new_pids = children(new.server.pid)
    for _ in range(30):
        assert {*new.pids()} < {*new_pids}  # and the fork server
    assert old.stop() == 0
    for _ in range(30):
        assert {*new.pids()} < {*new_pids}  # and the fork server
