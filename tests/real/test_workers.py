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
from tests.real.readers import Reader, join_all, leaving, publishers, until
from tests.real.redis_server import start_redis
from tests.real.test_daemon import publish
from tests.real.test_restart import Inheriting, Systemd
from tests.unit.net.test_tls import trusting

SIZE = 3


class WorkerDaemon:
    """
    A daemon with workers.

    Args:
        server: its parent.
        size: how many.
    """

    def __init__(self, server: Server, size: int) -> None:
        self.server = server
        self.port = server.port
        self.size = size

    def up(self, size: int | None = None) -> WorkerDaemon:
        """
        Wait until so many workers have come up, since the start.
        """
        size = size or self.size
        settled(lambda: len(re.findall(r"worker \d+ is up", self.server.log)) >= size)
        return self

    def ask(self, path: str, timeout: float = PATIENCE) -> bytes:
        """
        Return the body that GET *path* returns, from any of the processes.
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
        return json.loads(self.ask("/stats?format=full", timeout))

    def metrics(self) -> dict[str, float]:
        """
        Return the samples of `/metrics` by name.
        """
        lines = self.ask("/metrics").decode().splitlines()
        pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
        return {name: float(value) for name, value in pairs}

    def pids(self) -> list[int]:
        """
        Of the workers.
        """
        return [worker["pid"] for worker in self.stats()["workers"]]

    def pids_when_up(self) -> list[int]:
        """
        Of the workers, as soon as all are.
        """
        while True:
            workers = self.stats()["workers"]
            if all(worker["state"] == "up" for worker in workers):
                return [worker["pid"] for worker in workers]
            time.sleep(PAUSE)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """
        Send a signal to the parent alone, and wait until nobody is left.

        Returns:
            its exit status; negative if it died of a signal.
        """
        everybody = [self.server.pid, *children(self.server.pid)]
        assert len(everybody) > 1
        self.server.send(number)
        settled(lambda: all(map(gone, everybody)))
        return self.server.kill(signal.SIGCONT)


def settled(condition: Callable[[], Any]) -> None:
    """
    Wait until *condition* is true.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(PAUSE)


def stat(pid: int) -> list[str]:
    """
    State, parent and so on of a process (proc(5)); nothing if there is none.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return []


def gone(pid: int) -> bool:
    """
    Whether a process has ended, whether anybody has heard of it or not.
    """
    return stat(pid)[:1] in ([], ["Z"])


def children(pid: int) -> list[int]:
    """
    Processes that *pid* has started and that run.
    """
    everybody = [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [each for each in everybody if stat(each)[1:2] == [str(pid)] and not gone(each)]


def files(pid: int) -> list[str]:
    """
    What a process has open.
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
    The environment of daemons that share a broker of one's own.
    """
    port = free_port()
    environment = {"PYTHONPATH": str(ROOT), "RELAY_PORT": str(port)}
    serve([sys.executable, "-m", "tests.real.relay", str(port)], port, environment=environment)
    return environment


@pytest.fixture
def broker(request: pytest.FixtureRequest, serve: Serve) -> Broker:
    """
    What the workers share: `redis`, or else the relay.
    """
    if getattr(request, "param", "relay") == "redis":
        redis = start_redis(serve)
        return ["--broker=redis", f"--redis-port={redis.port}"], {}
    relay: dict[str, str] = request.getfixturevalue("relay")
    return ["--broker=tests.real.relay.RelayBroker"], relay


@pytest.fixture
def start_workers(daemon: StartDaemon, broker: Broker) -> Start:
    """
    Starts daemons with workers.
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


# Readers and publishers.


@BOTH
async def test_everybody_hears_everything_once(start_workers: Start) -> None:
    """
    Readers are dealt out to all workers, publishers too; each reader hears each message
    once and in the same order, and the numbers are those of all.
    """
    daemon = start_workers().up()
    readers = [Reader(daemon.port, ["news"]) for _ in range(90)]
    async with leaving(readers), publishers(daemon.server, 8) as senders:
        await join_all(readers)
        for number in range(40):
            await senders[number % 8].publish("news", b"m%d" % number)
        await until(lambda: all(len(reader.messages) >= 40 for reader in readers))
        said = await senders[0].ask("/stats?format=full")
        assert await senders[1].ask("/stats") == [["news", 90]]
        assert await senders[2].ask("/stats?channel=news&channel=other") == [["news", 90]]

    assert {tuple(reader.messages) for reader in readers} == {tuple(readers[0].messages)}
    assert sorted(readers[0].messages) == sorted(f"m{number}" for number in range(40))
    shares = [worker["readers"] for worker in said["workers"]]
    assert sum(shares) == said["readers"]["now"] == said["readers"]["joined"] == 90
    assert min(shares) > 5, "the kernel deals them out"
    assert said["messages"]["delivered"] == 90 * 40
    assert said["channels"]["shown"][0]["readers"] == 90
    assert said["channels"]["shown"][0]["messages"] == 40
    assert [worker["state"] for worker in said["workers"]] == ["up"] * SIZE


@BOTH
async def test_a_worker_that_is_killed_is_replaced(start_workers: Start) -> None:
    """
    Workers are killed with SIGKILL, four times while publishers publish. Their readers reconnect to
    the other workers, and no reader misses or repeats a message. No counter decreases.
    """
    daemon = start_workers().up()
    readers = [Reader(daemon.port, ["news"]) for _ in range(30)]
    published = 0

    async def publish_some(count: int) -> None:
        nonlocal published
        async with publishers(daemon.server, 1) as (sender,):
            end = published + count
            while published < end:
                try:
                    await sender.publish("news", b"m%d" % published)
                except AssertionError as error:
                    # Who waited in a dead worker's socket is the first at its successor,
                    # which may have no broker yet: nothing was taken, so again.
                    assert b" 503 " in error.args[0]
                else:
                    published += 1

    async with leaving(readers):
        await join_all(readers)
        before: dict[str, float] = {}
        for round in range(4):
            await publish_some(20)
            after = daemon.metrics()
            fallen = [name for name, value in before.items() if after.get(name, 0.0) < value]
            # A worker's own begin anew with it, a channel's with those who have it open.
            own = ("realtime_worker_", "realtime_channel_")
            assert [name for name in fallen if "_total" in name and not name.startswith(own)] == []
            before = after
            victim = daemon.pids()[round % SIZE]
            os.kill(victim, signal.SIGKILL)
            await until(lambda victim=victim: gone(victim))  # type: ignore[misc]
            await publish_some(20)
            await join_all(readers)
            await until(lambda round=round: daemon.server.log.count("is up") == SIZE + round + 1)  # type: ignore[misc]
        await until(lambda: all(len(reader.messages) >= published for reader in readers))
        said = daemon.stats()

    wanted = [f"m{number}" for number in range(160)]
    assert all(reader.messages == wanted and not reader.gaps for reader in readers)
    assert sum(worker["restarts"] for worker in said["workers"]) == 4
    assert said["readers"]["joined"] == 30 + sum(said["readers"]["closed"].values())
    assert daemon.server.log.count("ended by SIGKILL after") == 4


def test_a_worker_that_is_told_to_stop_is_replaced(start_workers: Start) -> None:
    """
    SIGTERM to one worker: another takes its place, the others go on.
    """
    daemon = start_workers().up()
    before = daemon.pids()
    os.kill(before[0], signal.SIGTERM)
    daemon.up(SIZE + 1)

    after = daemon.pids()
    assert after[0] != before[0]
    assert after[1:] == before[1:]
    assert "ended by status 0 after" in daemon.server.log


def test_a_worker_that_cannot_be_started_is_tried_again(start_workers: Start) -> None:
    """
    For a moment the parent gets no descriptors, at another place each time: when it gets
    them again, the worker is there, and nothing is left of the tries.
    """
    daemon = start_workers().up()
    parent = daemon.server.pid
    before = os.listdir(f"/proc/{parent}/fd")
    limits = resource.prlimit(parent, resource.RLIMIT_NOFILE)
    refused = "worker 1 cannot be started: Too many open files"
    for tries, left in enumerate((3, 5), 1):
        # Two are free when a worker is gone.
        resource.prlimit(parent, resource.RLIMIT_NOFILE, (len(before) - 2 + left, limits[1]))
        seen = len(daemon.server.log)
        os.kill(daemon.pids()[0], signal.SIGKILL)
        settled(lambda seen=seen: refused in daemon.server.log[seen:])  # type: ignore[misc]
        resource.prlimit(parent, resource.RLIMIT_NOFILE, limits)
        daemon.up(SIZE + tries)

    settled(lambda: len(os.listdir(f"/proc/{parent}/fd")) == len(before))


def test_nobody_is_sent_to_a_worker_that_cannot_start(start_workers: Start, tmp_path: Path) -> None:
    """
    One that ends at once again and again is tried again less and less often; meanwhile
    the others serve everybody, and the parent stays.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    daemon = start_workers(f"--config={file}").up()
    file.write_text("retry = soon\n")
    os.kill(daemon.pids()[1], signal.SIGKILL)
    settled(lambda: daemon.server.log.count("worker 2 (pid") >= 4)

    assert "a.conf:1: retry must be a time" in daemon.server.log
    for number in range(60):
        assert publish(daemon.port, channel="news", message=f"m{number}") == 200
    states = [worker["state"] for worker in daemon.stats()["workers"]]
    assert (states[0], states[2]) == ("up", "up")
    assert states[1] in ("down", "starting")
    waits = re.findall(r"worker 2 .*another starts in (\d+\.\d)", daemon.server.log)
    assert float(waits[3]) > float(waits[0])
    file.write_text("")
    daemon.up(SIZE + 1)
    assert daemon.stop() == 0


def test_one_that_does_not_answer_is_left_out_and_said(start_workers: Start) -> None:
    """
    A worker that hangs holds nobody up who looks at the numbers: it is `silent`, and
    what it had counted stays in the sums.
    """
    daemon = start_workers().up()
    pids = daemon.pids()
    for number in range(30):
        assert publish(daemon.port, channel="news", message=f"m{number}") == 200
    before = daemon.stats()
    os.kill(pids[0], signal.SIGSTOP)
    try:
        said = _stats_of_another(daemon)
        assert [worker["state"] for worker in said["workers"]] == ["silent", "up", "up"]
        assert said["messages"]["published"] >= before["messages"]["published"]
    finally:
        os.kill(pids[0], signal.SIGCONT)
    settled(lambda: daemon.stats()["workers"][0]["state"] == "up")


def test_a_worker_that_hangs_is_replaced_and_says_where(
    start_workers: Start, tmp_path: Path
) -> None:
    """
    One that hangs in somebody's own code, and one that is stopped and can say nothing:
    each is ended and another takes its place.
    """
    (tmp_path / "hanging.py").write_text(HANGING)
    daemon = start_workers(
        "--worker-timeout=3",
        "--route=^/hang$ hanging.Hang",
        "--route=^/stats$ stats",
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
    ).up()
    before = daemon.pids_when_up()
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as asking:
        asking.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        settled(lambda: "in hangs_here" in daemon.server.log)
        assert asking.recv(100) == b"", "its connections are closed"
    settled(lambda: re.search(r"worker \d \(pid \d+\) ended by SIGABRT after", daemon.server.log))
    victim = daemon.pids_when_up()[0]
    os.kill(victim, signal.SIGSTOP)
    settled(lambda: f"(pid {victim}) ended by SIGKILL after" in daemon.server.log)
    after = daemon.pids_when_up()

    assert victim not in after
    said = re.findall(r"worker \d \(pid (\d+)\) has reported nothing for \d+ s", daemon.server.log)
    assert str(victim) in said
    assert set(map(int, said)) & set(before)


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


def test_a_parent_that_was_stopped_ends_nobody(start_workers: Start) -> None:
    """
    A parent that was stopped reads the pending reports of its workers before it judges them silent.
    """
    daemon = start_workers("--worker-timeout=5").up()
    before = daemon.pids_when_up()
    daemon.server.send(signal.SIGSTOP)
    time.sleep(7)  # longer than the timeout: that is what it is about
    daemon.server.send(signal.SIGCONT)

    assert daemon.pids_when_up() == before
    assert "has reported nothing" not in daemon.server.log


def test_the_numbers_are_known_while_workers_wait_for_the_broker(daemon: StartDaemon) -> None:
    """
    One that is asked before it has said that it is up gets an answer all the same.
    """
    server = daemon(f"--workers={SIZE}", "--broker=redis", f"--redis-port={free_port()}")
    said = WorkerDaemon(server, SIZE).stats()

    assert {worker["state"] for worker in said["workers"]} <= {"starting", "up"}


def _stats_of_another(daemon: WorkerDaemon) -> Any:
    """
    Ask until a worker that does not hang gets the question.
    """
    while True:
        try:
            return daemon.stats(timeout=4)
        except TimeoutError:
            continue


# Signals.


async def test_a_reload_reaches_all_and_drops_nobody(start_workers: Start, tmp_path: Path) -> None:
    """
    SIGHUP to the parent: all workers take on the file as it is now, readers stay, and
    both logs that were moved away are begun anew by all.
    """
    file, log, access = tmp_path / "a.conf", tmp_path / "daemon.log", tmp_path / "access.log"
    file.write_text(f"access-log = {access}\n")
    daemon = start_workers(f"--config={file}", "--log-format=json").up()
    readers = [Reader(daemon.port, ["news"]) for _ in range(30)]
    async with leaving(readers):
        await join_all(readers)
        access.rename(log)
        file.write_text(f"access-log = {access}\nmax-message = 5\ndead-after = 30\n")
        daemon.server.send(signal.SIGHUP)
        await until(lambda: daemon.server.log.count("reloaded, changed: max-message") == SIZE)
        statuses = Counter(
            publish(daemon.port, channel="news", message=text)
            for text in ["123456"] * 20 + ["12345"] * 20
        )
        await until(lambda: all(len(reader.messages) == 20 for reader in readers))
        assert all(reader.joined == 1 for reader in readers)

    assert statuses == {413: 20, 200: 20}
    lines = [json.loads(line) for line in daemon.server.log.splitlines()]
    told = [line["worker"] for line in lines if line["text"].startswith("reloaded")]
    assert sorted(told) == [1, 2, 3]
    fixed = [line for line in lines if "need a restart to change: dead-after" in line["text"]]
    assert [line.get("worker", 0) for line in fixed] == [0], "the parent says it, once"
    assert len(log.read_text().splitlines()) == 30
    assert len(access.read_text().splitlines()) >= 40
    line = r'127\.0\.0\.1 - - \[\S+ \+0000\] "(POST|GET) /\S* HTTP/1\.1" (200|413) \d+'
    assert all(re.fullmatch(line, each) for each in access.read_text().splitlines())


def test_a_log_that_is_moved_away_is_let_go(start_workers: Start, tmp_path: Path) -> None:
    """
    By the parent too, which only looks whether it can be opened: who deletes it gets
    the disk's room back.
    """
    path = tmp_path / "access.log"
    daemon = start_workers(f"--access-log={path}").up()
    everybody = [daemon.server.pid, *children(daemon.server.pid)]
    path.rename(tmp_path / "access.log.1")
    daemon.server.send(signal.SIGHUP)

    settled(lambda: not any("access.log.1" in name for pid in everybody for name in files(pid)))


def test_sigusr1_opens_every_log_again(start_workers: Start, tmp_path: Path) -> None:
    """
    The parent and each worker write to the new files, and read no settings again.
    """
    path = tmp_path / "access.log"
    daemon = start_workers(f"--access-log={path}").up()
    everybody = [daemon.server.pid, *children(daemon.server.pid)]
    path.rename(tmp_path / "access.log.1")
    daemon.server.send(signal.SIGUSR2)
    daemon.server.send(signal.SIGUSR1)

    settled(lambda: not any("access.log.1" in name for pid in everybody for name in files(pid)))
    assert [daemon.server.pid, *children(daemon.server.pid)] == everybody
    assert "reloaded" not in daemon.server.log


def test_a_reload_reaches_who_is_starting(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A worker that had read the file before, and waits for the broker, reads it again.
    """
    file = tmp_path / "a.conf"
    file.write_text("")
    options = [f"--workers={SIZE}", "--broker=redis", f"--redis-port={free_port()}"]
    start_workers = WorkerDaemon(daemon(f"--config={file}", *options), SIZE).up()
    os.kill(start_workers.pids()[0], signal.SIGKILL)
    settled(lambda: start_workers.server.log.count("no stats key is set") == SIZE + 1)
    file.write_text("retry = 7\n")
    start_workers.server.send(signal.SIGHUP)

    settled(lambda: start_workers.server.log.count("reloaded, changed: retry") == SIZE)


def test_sigterm_stops_all_in_good_order(start_workers: Start) -> None:
    """
    Readers get the time of their reconnect, and an incomplete request may finish. No process is
    left, and the exit status is 0. A second signal does not wait.
    """
    daemon = start_workers("--stop-seconds=20").up()
    readers = [socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) for _ in range(12)]
    for reader in readers:
        reader.sendall(b"GET /?channels=news HTTP/1.0\r\nHost: a\r\n\r\n")
        assert reader.recv(65536)
    half = socket.create_connection(("127.0.0.1", daemon.port), PATIENCE)
    half.sendall(
        b"POST /publish?channel=a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
    )
    half.sendall(b"Content-Length: 3\r\n\r\nab")
    everybody = children(daemon.server.pid)
    daemon.server.send(signal.SIGTERM)
    for reader in readers:
        text = b""
        while data := reader.recv(65536):
            text += data
        assert b"retry: " in text
        reader.close()
    assert not all(map(gone, everybody)), "one waits"
    half.sendall(b"c")
    assert half.recv(65536).startswith(b"HTTP/1.1 ")
    half.close()
    settled(lambda: all(map(gone, [daemon.server.pid, *everybody])))
    assert daemon.server.kill(signal.SIGCONT) == 0

    daemon.server.start()
    daemon.up(2 * SIZE)
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as half:
        half.sendall(b"POST /publish HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        publish(daemon.port, channel="news", message="first")
        everybody = children(daemon.server.pid)
        daemon.server.send(signal.SIGTERM)
        settled(lambda: daemon.server.log.count("subscribers to reconnect") == 2 * SIZE)
        begun = time.monotonic()
        daemon.server.send(signal.SIGTERM)
        settled(lambda: all(map(gone, [daemon.server.pid, *everybody])))
        assert time.monotonic() - begun < 15, "not stop-seconds"
    assert daemon.server.kill(signal.SIGCONT) == 0


def test_a_parent_that_is_killed_leaves_nobody(start_workers: Start) -> None:
    """
    kill -9 of the parent: its workers end by themselves, and the port is free.
    """
    daemon = start_workers().up()

    assert daemon.stop(signal.SIGKILL) == -signal.SIGKILL
    assert daemon.server.log.count("the parent process has ended") == SIZE
    daemon.server.start()
    daemon.up(2 * SIZE)


def test_systemd_hears_of_one_daemon(start_workers: Start, tmp_path: Path) -> None:
    """
    READY once, when all workers are; RELOADING and READY, STOPPING: from the parent.
    """
    systemd = Systemd(tmp_path)
    file = tmp_path / "a.conf"
    file.write_text("")
    daemon = start_workers(f"--config={file}", env=systemd.environment)
    systemd.hears("READY=1")
    assert daemon.server.log.count("is up (pid") == SIZE
    systemd.hears("WATCHDOG=1")
    daemon.server.send(signal.SIGHUP)
    systemd.hears("RELOADING=1\nMONOTONIC_USEC=")
    systemd.hears("READY=1")
    assert daemon.server.log.count("reloaded, changed: nothing") == SIZE
    assert daemon.stop() == 0
    systemd.hears("STOPPING=1")
    systemd.close()


# Where it listens, and as whom.


def test_every_kind_of_endpoint_works(start_workers: Start, tmp_path: Path) -> None:
    """
    TLS by setting and by endpoint, a unix socket with its mode, TCP on port 0: all
    workers take part, and one that ends takes nothing away.
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
    ).up()
    some = [int(port) for port in re.findall(r"host='127.0.0.1', port=(\d+)", daemon.server.log)]
    (port,) = {*some} - {daemon.port, tls_port, ssl_port}

    def plain(family: int, where: Any) -> socket.socket:
        connection = socket.socket(family)
        connection.settimeout(PATIENCE)
        connection.connect(where)
        return connection

    def sealed(port: int) -> socket.socket:
        context: ssl.SSLContext = trusting(authority)
        return context.wrap_socket(plain(socket.AF_INET, ("127.0.0.1", port)))

    def check() -> None:
        for _ in range(10):
            for connection in (
                plain(socket.AF_UNIX, str(path)),
                plain(socket.AF_INET, ("127.0.0.1", port)),
                sealed(tls_port),
                sealed(ssl_port),
            ):
                with connection:
                    connection.sendall(b"GET /healthz HTTP/1.0\r\nHost: a\r\n\r\n")
                    assert connection.recv(100).startswith(b"HTTP/1.1 200 ")

    check()
    os.kill(daemon.pids()[0], signal.SIGTERM)
    daemon.up(SIZE + 1)
    check()
    assert path.stat().st_mode & 0o777 == 0o600
    assert daemon.stop() == 0
    assert not path.exists()


def test_a_socket_from_systemd_is_shared(relay: dict[str, str], tmp_path: Path) -> None:
    """
    Socket activation: all workers accept from the one that systemd made.
    """
    with socket.create_server(("127.0.0.1", 0), backlog=512) as held:
        launch = (
            "import os, sys\nos.set_inheritable(os.dup2(int(sys.argv[1]), 3), True)\n"
            "os.environ.update(LISTEN_FDS='1', LISTEN_FDNAMES='web')\n"
            "os.environ['LISTEN_PID'] = str(os.getpid())\n"
            f"os.environ.update({relay!r})\n"
            "os.execv(sys.argv[2], sys.argv[2:])\n"
        )
        held.set_inheritable(True)
        options = ["--endpoint=systemd:domain=INET:index=0", f"--workers={SIZE}"]
        options.append("--broker=tests.real.relay.RelayBroker")
        python = str(Path(TWISTD[0]).with_name("python"))
        command = [python, "-c", launch, str(held.fileno()), *TWISTD, "realtime", *options]
        server = Inheriting(command, held.getsockname()[1], tmp_path, {})
        server.start()
        try:
            daemon = WorkerDaemon(server, SIZE).up()
            os.kill(daemon.pids()[0], signal.SIGKILL)
            daemon.up(SIZE + 1)
            said = [publish(daemon.port, channel="news", message="m") for _ in range(20)]
            assert said == [200] * 20
            assert daemon.stop() == 0
        finally:
            server.stop()


def test_a_daemon_of_its_own_has_workers(relay: dict[str, str], tmp_path: Path) -> None:
    """
    Without -n, in another folder, as another user: a twistd that becomes a daemon. Paths
    in its file begin where it was started, and log lines say which worker speaks.
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
    for folder in tmp_path.parents[:2] if root else ():
        folder.chmod(0o755)  # pytest's own are for root alone
    subprocess.run(command, cwd=home, env=os.environ | relay, check=True, timeout=PATIENCE)
    pid = int((home / "pid").read_text())
    try:
        settled(lambda: (home / "daemon.log").read_text().count("is up (pid") == SIZE)
        workers = children(pid)
        assert len(workers) == SIZE
        if root:
            assert {os.stat(f"/proc/{worker}").st_uid for worker in workers} == {65534}
        assert publish(port, channel="news", message="m", key="secret") == 200
        os.kill(pid, signal.SIGHUP)
        settled(lambda: (home / "daemon.log").read_text().count("reloaded, changed: not") == SIZE)
    finally:
        os.kill(pid, signal.SIGTERM)
        settled(lambda: gone(pid))
    assert all(map(gone, workers))
    assert re.search(r"(?m)^\S+ \[w2\] \[rt_twisted", (home / "daemon.log").read_text())
    assert len((home / "access.log").read_text().splitlines()) == 1


# What cannot be.


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
def test_wrong_settings_are_one_sentence(
    options: list[str], sentence: str | None, tmp_path: Path
) -> None:
    """
    The parent says it, ends with 1, and has not started anybody.
    """
    ended = subprocess.run(
        [*TWISTD, "realtime", f"--port={free_port()}", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "RELAY_PORT": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )

    said = ended.stderr.strip().splitlines()
    assert ended.returncode == 1
    assert len(said) == 1
    assert said[0].startswith("realtime: ")
    if sentence is not None:
        assert said[0] == f"realtime: {sentence}"
    assert "[w" not in ended.stdout


def test_a_port_in_use_is_said_and_not_shared(start_workers: Start, tmp_path: Path) -> None:
    """
    Workers' sockets could be shared with another daemon of the same user; only
    `reuse-port` does that.
    """
    first = start_workers().up()
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


def test_one_crew_takes_over_from_another(start_workers: Start, tmp_path: Path) -> None:
    """
    `reuse-port`: while two listen, nobody new reaches the old one; when that ends,
    nobody is refused.
    """
    port = free_port()
    old = start_workers("--reuse-port=1", port=port).up()
    new = start_workers("--reuse-port=1", port=port, folder=tmp_path / "new").up()
    theirs = children(new.server.pid)
    for _ in range(30):
        assert sorted(new.pids()) == sorted(theirs)
    assert old.stop() == 0
    for _ in range(30):
        assert sorted(new.pids()) == sorted(theirs)
