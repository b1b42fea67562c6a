"""
The history file of a daemon that is killed, whose disk is full, or whose file is damaged
or in use.
"""

from __future__ import annotations

import http.client
import json
import resource
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.error import ConnectionClosed

from tests.real.conftest import PATIENCE, NotStarted, Server, StartDaemon
from tests.real.subscribers import (
    Publisher,
    Subscriber,
    disconnecting,
    join_all,
    pause,
    publishers,
    until,
)
from tests.real.test_cut import CHANNELS, seeded_random

ROUNDS = 20
MUCH = ("--history=100000", "--history-bytes=64m", "--replay-bytes=64m", "--heartbeat=1")


class Acknowledged:
    """
    Messages that were published, and those that the daemon has acknowledged.
    """

    def __init__(self) -> None:
        self.by_position: dict[str, tuple[str, str]] = {}
        self.tried: set[str] = set()

    async def publish_on(self, publisher: Publisher, name: str, channel: str) -> None:
        """
        Publish one message after the other until the daemon exits.
        """
        number = 0
        while True:
            text = f"{name}.{number}"
            number += 1
            self.tried.add(text)
            try:
                answer = await publisher.publish(channel, text.encode())
            except ConnectionClosed:
                return
            assert "durable" not in answer
            before = self.by_position.setdefault(answer["position"], (channel, text))
            assert before == (channel, text), "a position was given twice"

    def of(self, channel: str) -> list[tuple[int, str]]:
        """
        Return the acknowledged messages of *channel*, in order.
        """
        return sorted(
            (int(position.rpartition(".")[2]), text)
            for position, (where, text) in self.by_position.items()
            if where == channel
        )


def replayed(server: Server, query: str) -> list[tuple[str, str]]:
    """
    Return what a new subscriber is replayed: ids and data.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"/?{query}")
    response = connection.getresponse()
    got: list[tuple[str, str]] = []
    fields: dict[str, str] = {}
    publish(server, "end", "end")
    while fields.get("data") != "end":
        name, _, value = response.readline().decode().rstrip("\n").partition(": ")
        if name:
            fields[name] = value
            continue
        if "data" in fields:
            got.append((fields.get("event") or fields.get("id", ""), fields["data"]))
        fields = {}
    connection.close()
    return got


def publish(server: Server, channel: str, text: str, key: str = "") -> dict[str, Any]:
    """
    Publish a message; return the response with its status.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    headers = {"Content-Type": "text/plain", **({"Idempotency-Key": key} if key else {})}
    connection.request("POST", f"/publish?channel={channel}", text, headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    answer: dict[str, Any] = json.loads(body) if response.status == 200 else {}
    return {**answer, "http": response.status}


async def test_killed_in_the_middle_of_publishing(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The daemon is killed twenty times, at any moment, while many publish. Every acknowledged
    message is there afterwards, once and in order. Subscribers that reconnect each time have
    received all of them, and no gap.
    """
    rng = seeded_random()
    server = daemon(*MUCH, f"--history-file={tmp_path / 'log'}")
    log = Acknowledged()
    subscribers = [Subscriber(server.port, [name]) for name in CHANNELS]
    subscribers += [Subscriber(server.port, [*CHANNELS]), Subscriber(server.port, ["quiet"])]
    async with disconnecting(subscribers):
        for round in range(ROUNDS):
            await join_all(subscribers)
            async with publishers(server, 12) as connections:
                publishing = [
                    ensureDeferred(
                        log.publish_on(connection, f"{round}.{number}", rng.choice(CHANNELS))
                    )
                    for number, connection in enumerate(connections)
                ]
                await pause(rng.uniform(0.01, 0.4))
                if round % 4 == 1:  # some subscribers are disconnected during the kill
                    rng.choice(subscribers).cut("reset")
                server.kill(SIGKILL)
                await gatherResults(publishing)
            await until(lambda: all(subscriber.connection is None for subscriber in subscribers))
            server.start()
        await join_all(subscribers)
        ends = {channel: log.of(channel)[-1:] for channel in CHANNELS}
        await until(
            lambda: all(
                ends[channel][0][1] in subscriber.messages
                for subscriber in subscribers
                for channel in subscriber.channels
                if ends.get(channel)
            )
        )
        await pause(0.3)  # for messages that must not arrive

    assert len(log.by_position) > 20 * ROUNDS
    for subscriber in subscribers:
        assert subscriber.gaps == 0
        events = [(int(event.id.rpartition(".")[2]), event.data) for event in subscriber.events]
        assert events == sorted(set(events)), "once, in order"
        assert {text for _, text in events} <= log.tried
        expected = [entry for channel in subscriber.channels for entry in log.of(channel)]
        assert set(expected) - set(events) == set()
    for channel in CHANNELS:
        kept = replayed(server, f"channels={channel},end&since=all")
        offsets = [(int(id.rpartition(".")[2]), text) for id, text in kept]
        assert offsets == sorted(set(offsets))
        assert set(log.of(channel)) - set(offsets) == set()


def test_a_clean_stop(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    All is in one file afterwards, and idempotency keys are still known.
    """
    server = daemon(f"--history-file={tmp_path / 'log'}")
    first = publish(server, "a", "1", "k")
    server.restart(SIGTERM)
    assert not list(tmp_path.glob("log.damaged*"))

    assert publish(server, "a", "1", "k")["position"] == first["position"]
    assert replayed(server, "channels=a,end&since=all") == [(first["position"], "1")]
    server.kill(SIGTERM)
    assert sorted(path.name for path in tmp_path.glob("log*")) == ["log", "log.lock"]
    server.start()


def until_logged(server: Server, text: str) -> None:
    """
    Wait for a line in the log.
    """
    deadline = time.monotonic() + PATIENCE
    while text not in server.log:
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


class Disk:
    """
    A place where a daemon may suddenly be unable to write.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, server: Server) -> None:
        """
        Let no more be written.
        """

    def free(self, server: Server) -> None:
        """
        Let the daemon write again.
        """


class Quota(Disk):
    """
    A limit of the size of files (setrlimit(2)): to the daemon it looks like a quota, or a
    disk that is not writable any more.
    """

    def fill(self, server: Server) -> None:
        size = (self.folder / "log-wal").stat().st_size
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    def free(self, server: Server) -> None:
        limits = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
        resource.prlimit(server.pid, resource.RLIMIT_FSIZE, limits)


class Small(Disk):
    """
    A file system that is full.
    """

    def fill(self, server: Server) -> None:
        with (self.folder / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(4096))
            except OSError:
                pass

    def free(self, server: Server) -> None:
        (self.folder / "filler").unlink()


def mount(folder: Path, options: str) -> bool:
    """
    Mount a file system of its own on *folder*; requires root.
    """
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """
    A folder with 8 MiB of room.
    """
    folder = tmp_path / "small"
    folder.mkdir()
    if not mount(folder, "size=8m"):
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(params=[Quota, Small])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Disk:
    """
    Each kind of disk.
    """
    folder = request.getfixturevalue("small") if request.param is Small else tmp_path
    made: Disk = request.param(folder)
    return made


BIG = "x" * 100_000


async def test_a_full_disk(disk: Disk, daemon: StartDaemon) -> None:
    """
    The outage and its end are logged once. Meanwhile subscribers receive all messages, and
    publishers learn that they are not durable. After it all of them survive a kill.
    """
    server = daemon(*MUCH, f"--history-file={disk.folder / 'log'}")
    subscriber = Subscriber(server.port, ["a"])
    async with disconnecting([subscriber]), publishers(server, 1) as (publisher,):
        await join_all([subscriber])
        start = subscriber.last_id
        assert "durable" not in await publisher.publish("a", b"0")
        disk.fill(server)
        answers = [await publisher.publish("a", f"{n}{BIG}".encode()) for n in range(1, 30)]
        assert answers[-1]["durable"] is False
        await until(lambda: len(subscriber.messages) == 30)
        assert server.log.count("cannot be written: ") == 1
        disk.free(server)
        until_logged(server, "is written again")
        last = await publisher.publish("a", b"30")
        assert "durable" not in last
        await until(lambda: len(subscriber.messages) == 31)
    server.restart(SIGKILL)

    kept = replayed(server, f"channels=a,end&since={start}")
    assert [text[:2] for _, text in kept] == [text[:2] for text in subscriber.messages]
    assert kept[-1][0] == last["position"]
    assert server.log.count("cannot be written: ") == 1
    assert server.log.count("is written again") == 1
    assert subscriber.gaps == 0


async def test_killed_with_a_full_disk(disk: Disk, daemon: StartDaemon) -> None:
    """
    Messages that were not durable are lost, and subscribers that reconnect get a gap.
    """
    server = daemon(*MUCH, f"--history-file={disk.folder / 'log'}")
    here, away = Subscriber(server.port, ["a"]), Subscriber(server.port, ["a"])
    async with disconnecting([here, away]):
        await join_all([here, away])
        async with publishers(server, 1) as (publisher,):
            await publisher.publish("a", b"0")
            await until(lambda: away.messages == ["0"])
            away.cut("reset")
            disk.fill(server)
            answers = [await publisher.publish("a", BIG.encode()) for n in range(1, 30)]
            await until(lambda: here.last_id == answers[-1]["position"])
        server.kill(SIGKILL)
        if isinstance(disk, Small):  # the other one died with the daemon
            disk.free(server)
        server.start()
        await until(lambda: here.connection is None)
        await join_all([here, away])
        await until(lambda: here.gaps == 1 and away.gaps == 1)


def test_a_full_disk_may_refuse(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    With unwritable=refuse the status is 503, also of /readyz.
    """
    server = daemon(f"--history-file={tmp_path / 'log'}", "--unwritable=refuse")
    disk = Quota(tmp_path)
    publish(server, "a", "0")
    disk.fill(server)
    statuses = [publish(server, "a", BIG)["http"] for _ in range(20)]
    assert set(statuses) == {503}
    disk.free(server)
    deadline = time.monotonic() + PATIENCE
    while publish(server, "a", "1")["http"] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)

    assert [text for _, text in replayed(server, "channels=a,end&since=all")] == ["0", "1"]
    assert server.log.count("cannot be written: ") == 1
    assert server.log.count("is written again") == 1


def test_a_read_only_disk_at_the_start(small: Path, daemon: StartDaemon) -> None:
    """
    The daemon logs one sentence and exits with status 1.
    """
    file = small / "log"
    daemon(f"--history-file={file}").kill(SIGTERM)
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)

    with pytest.raises(NotStarted, match=r"status 1\n(?s:.*)realtime: the history file .* cannot"):
        daemon(f"--history-file={file}")


def test_a_damaged_file(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    A damaged history file is logged and moved aside; a new log begins, and subscribers get a gap.
    """
    file = tmp_path / "log"
    server = daemon(f"--history-file={file}")
    before = publish(server, "a", "1")["position"]
    server.kill(SIGTERM)
    file.write_bytes(file.read_bytes()[:5000])
    server.start()

    until_logged(server, "is damaged; it is now ")
    [moved] = tmp_path.glob("log.damaged-*")
    until_logged(server, f"is damaged; it is now {moved}, and a new log begins")
    got = replayed(server, f"channels=a,end&since={before}")
    assert [type for type, _ in got] == ["gap"]
    after = publish(server, "a", "2")["position"]
    assert after.partition(".")[0] != before.partition(".")[0]


def test_two_daemons_on_one_file(daemon: StartDaemon, tmp_path: Path) -> None:
    """
    The second logs one sentence and exits; the first continues.
    """
    server = daemon(f"--history-file={tmp_path / 'log'}")
    with pytest.raises(NotStarted, match=r"realtime: the history file .* is in use by another"):
        daemon(f"--history-file={tmp_path / 'log'}")

    assert publish(server, "a", "1")["http"] == 200
    check = subprocess.run(
        [*server.command, "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, "a look at the settings touches no file"
