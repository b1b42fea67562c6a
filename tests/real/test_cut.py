"""
Readers whose connections break, at any moment and in any way, miss nothing; what they must miss is
a gap.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL

import pytest
from twisted.internet.defer import ensureDeferred, gatherResults

from tests.real.conftest import Server, StartDaemon
from tests.real.readers import (
    Publisher,
    Reader,
    epoch,
    join_all,
    leaving,
    offset,
    pause,
    publishers,
    until,
)

CHANNELS = tuple(f"c{number}" for number in range(6))
MUCH = ("--history=100000", "--history-bytes=64m", "--heartbeat=1")


class Log:
    """
    What was published, in order of position.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    async def publish(self, publisher: Publisher, channel: str, text: str = "") -> None:
        """
        Publish the next message of *channel*, and remember where it went.
        """
        text = f"{channel}:{len(self)}{text}"
        answer = await publisher.publish(channel, text.encode())
        self._entries.append((offset(answer["position"]), channel, text))

    def of(self, reader: Reader) -> list[tuple[int, str]]:
        """
        What *reader* is to hear from its first id on.
        """
        assert reader.first >= 0, "it never got an id"
        return sorted(
            (offset, text)
            for offset, channel, text in self._entries
            if channel in reader.channels and offset > reader.first
        )


def heard(reader: Reader) -> list[tuple[int, str]]:
    """
    What it heard, in the form of `Log.of`.
    """
    return [(offset(event.id), event.data) for event in reader.heard if event.type == "message"]


def lost_unsaid(log: Log, reader: Reader) -> list[int]:
    """
    The offsets that *reader* missed without having been told.

    A gap tells of everything up to the position in its data.
    """
    expected = [offset for offset, _ in log.of(reader)]
    lost: list[int] = []
    at = said = reader.first
    for event in reader.heard:
        if event.type == "gap":
            said = max(said, offset(json.loads(event.data)["position"]))
            continue
        between = expected[bisect_right(expected, at) : bisect_left(expected, offset(event.id))]
        lost += [missed for missed in between if missed > said]
        at = offset(event.id)
    return lost + [missed for missed in expected if missed > max(at, said)]


def chance() -> random.Random:
    """
    What decides when and how connections break: SEED in the environment, or
    another one each time; shown if the test fails.
    """
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    sys.stdout.write(f"SEED={seed}\n")
    return random.Random(seed)


def crowd(port: int, rng: random.Random) -> list[Reader]:
    """
    Readers of one, some and all channels; most of them overlap.
    """
    some = [rng.sample(CHANNELS, rng.randint(2, 5)) for _ in range(6)]
    groups = [*[[name] for name in CHANNELS], *some, [*CHANNELS], [*CHANNELS], ["quiet"]]
    return [Reader(port, group, version=rng.choice(("1.1", "1.0"))) for group in groups]


async def keep_publishing(
    log: Log, publisher: Publisher, rng: random.Random, going: list[bool]
) -> None:
    """
    Publish on channels by chance until *going* is empty.
    """
    while going:
        for _ in range(rng.choice((1, 1, 1, 20))):
            await log.publish(publisher, rng.choice(CHANNELS), " " * rng.randint(0, 300))
        await pause(rng.uniform(0.01, 0.04))


async def keep_cutting(readers: Sequence[Reader], rng: random.Random, rounds: int) -> None:
    """
    Cut and come back, by chance, *rounds* times.
    """
    for _ in range(rounds):
        for reader in readers:
            if reader.connection is None:
                fate = rng.random()
                if fate < 0.15:
                    await reader.join(sent=rng.choice((0, 10, 1000)))
                elif fate < 0.85:
                    await reader.join()
            elif rng.random() < 0.5:
                reader.cut(rng.choice(("reset", "close", "half", "deaf")), rng.randint(1, 3000))
            if rng.random() < 0.2:
                await pause(rng.uniform(0.0, 0.02))
        await pause(rng.uniform(0.02, 0.3))
    for reader in readers:
        reader.cut("reset")  # the deaf and the half as well


async def test_nobody_misses_anything(daemon: StartDaemon) -> None:
    """
    Connections of many readers break in all ways at any moment, while much is
    published: each reader has heard every message of its channels, once and in
    order, and of no gap.
    """
    rng = chance()
    server = daemon(*MUCH)
    log, readers = Log(), crowd(server.port, rng)
    async with leaving(readers), publishers(server, 3) as connections:
        # Cut before they heard anything but their first id.
        await join_all(readers)
        for reader in readers[::2]:
            reader.cut(rng.choice(("reset", "close")))
        for number in range(60):
            await log.publish(connections[0], CHANNELS[number % len(CHANNELS)])
        going = [True]
        publishing = [
            ensureDeferred(keep_publishing(log, connection, rng, going))
            for connection in connections
        ]
        await keep_cutting(readers, rng, 60)
        going.clear()
        await gatherResults(publishing)
        await join_all(readers)
        await log.publish(connections[0], "quiet")
        await until(lambda: all(heard(r)[-1:] == log.of(r)[-1:] for r in readers))
        await pause(0.3)  # for what must not come

    assert len(log) > 1000
    assert sum(reader.joined for reader in readers) > 10 * len(readers)
    for reader in readers:
        assert heard(reader) == log.of(reader), reader.channels
        assert reader.gaps == 0


async def test_what_is_lost_is_said(daemon: StartDaemon) -> None:
    """
    With little history, a reader that is away too long misses messages and gets a gap each time;
    nothing comes twice or out of order.
    """
    rng = chance()
    server = daemon("--history=5", "--heartbeat=1")
    log, readers = Log(), crowd(server.port, rng)
    async with leaving(readers), publishers(server, 2) as connections:
        await join_all(readers)
        going = [True]
        publishing = [
            ensureDeferred(keep_publishing(log, connection, rng, going))
            for connection in connections
        ]
        await keep_cutting(readers, rng, 30)
        going.clear()
        await gatherResults(publishing)
        await join_all(readers)
        for name in (*CHANNELS, "quiet"):
            await log.publish(connections[0], name)
        await until(lambda: all(heard(r)[-1:] == log.of(r)[-1:] for r in readers))

    for reader in readers:
        offsets = [offset for offset, _ in heard(reader)]
        assert offsets == sorted(set(offsets))
        assert set(heard(reader)) <= set(log.of(reader))
        assert lost_unsaid(log, reader) == [], reader.channels
    assert sum(len(heard(r)) < len(log.of(r)) for r in readers) > len(readers) / 2
    assert all(reader.gaps for reader in readers if heard(reader) != log.of(reader))
    assert readers[-1].channels == ["quiet"]
    assert readers[-1].gaps == 0, "nothing of its channel was ever lost"


async def test_a_killed_daemon_is_heard_of(daemon: StartDaemon) -> None:
    """
    A daemon that was killed starts another log: each reader that comes back is
    told of the gap once, and goes on from there.
    """
    rng = chance()
    server = daemon()
    readers = crowd(server.port, rng)
    async with leaving(readers):
        await join_all(readers)
        async with publishers(server, 1) as (publisher,):
            for name in CHANNELS:
                await publisher.publish(name, b"before")
            await until(lambda: all(r.messages for r in readers[:-1]))
        server.restart(SIGKILL)
        await until(lambda: all(reader.connection is None for reader in readers))
        before = {reader: reader.last_id for reader in readers}
        await join_all(readers)
        await until(lambda: all(r.gaps and r.last_id != before[r] for r in readers))
        for reader in readers:
            reader.cut("close")
        async with publishers(server, 1) as (publisher,):
            for name in (*CHANNELS, "quiet"):
                await publisher.publish(name, name.encode())
        await join_all(readers)  # from the id that came after the gap
        await until(lambda: all(r.messages[-1:] == sorted(r.channels)[-1:] for r in readers))

    for reader in readers:
        new = [event.data for event in reader.heard if epoch(event.id) != epoch(before[reader])]
        assert new == sorted(reader.channels)
        assert [event.type for event in reader.heard].count("gap") == 1
        gap = [event.type for event in reader.heard].index("gap")
        assert [event.data for event in reader.heard[gap + 1 :]] == new


ROUTES = (
    "--route=^/$ sse",
    "--route=^/skip$ sse:subscribe=news,slow=skip",
    "--route=^/publish$ publish",
    "--route=^/stats$ stats",
)
LARGE = " " * 20_000


@pytest.mark.parametrize(
    "patience",
    [
        pytest.param(["--backlog-bytes=64k", "--backlog-seconds=1h"], id="bytes"),
        pytest.param(["--backlog-bytes=1g", "--backlog-seconds=1"], id="seconds"),
    ],
)
async def test_a_reader_that_stalls_is_cut_off(daemon: StartDaemon, patience: list[str]) -> None:
    """
    A reader that reads nothing while too many bytes wait, or for too long, is disconnected; it
    reconnects and has missed nothing.
    """
    server = daemon(*MUCH, *patience)
    log, reader = Log(), Reader(server.port, ["news"])
    async with leaving([reader]), publishers(server, 1) as (publisher,):
        await join_all([reader])
        reader.cut("deaf")
        for _ in range(100):
            await log.publish(publisher, "news", LARGE)
        await until_none(publisher)
        reader.cut("reset")
        await join_all([reader])
        await until(lambda: heard(reader) == log.of(reader))

    assert reader.gaps == 0


async def test_a_reader_that_stalls_may_skip(daemon: StartDaemon) -> None:
    """
    With `slow=skip` it stays connected: when it reads on it gets the gap, and then the newest
    messages.
    """
    server = daemon(*ROUTES, "--backlog-bytes=64k")
    log, reader = Log(), Reader(server.port, ["news"], path="/skip")
    async with leaving([reader]), publishers(server, 1) as (publisher,):
        await join_all([reader])
        await log.publish(publisher, "news")
        await until(lambda: len(reader.messages) == 1)
        reader.cut("deaf")
        for _ in range(100):
            await log.publish(publisher, "news", LARGE)
        assert reader.connection is not None
        reader.connection.transport.resumeProducing()
        await until(lambda: heard(reader)[-1:] == log.of(reader)[-1:])
        await log.publish(publisher, "news")
        await until(lambda: heard(reader)[-1:] == log.of(reader)[-1:])

    assert reader.joined == 1
    assert reader.gaps >= 1
    assert len(heard(reader)) < 60
    assert lost_unsaid(log, reader) == []


async def test_stalled_readers_cost_little_and_hurt_nobody(daemon: StartDaemon) -> None:
    """
    50 MB are published to 100 readers who take nothing: the daemon does not grow
    by them, and 1,000 readers of another channel hear everything, at once.
    """
    server = daemon(*ROUTES)
    others = [Reader(server.port, ["other"]) for _ in range(1000)]
    skipping = [Reader(server.port, ["news"], path="/skip") for _ in range(50)]
    stalled = [*skipping, *[Reader(server.port, ["news"]) for _ in range(50)]]
    log, slowest, megabyte = Log(), 0.0, 1 << 20
    async with leaving([*others, *stalled]), publishers(server, 2) as (publisher, other):
        await join_all([*others, *stalled])
        for _ in range(20):  # fills the history
            await log.publish(publisher, "news", LARGE * 5)
        for reader in stalled:
            reader.cut("deaf")
        before = peak = resident(server)
        for _ in range(20):
            for _ in range(25):
                await log.publish(publisher, "news", LARGE * 5)
            start = time.monotonic()
            await log.publish(other, "other")
            expected = log.of(others[0])
            await until(lambda: all(len(r.heard) == len(expected) for r in others))  # noqa: B023
            slowest = max(slowest, time.monotonic() - start)
            peak = max(peak, resident(server))
        counts = dict(await publisher.ask("/stats"))

    assert counts == {"news": len(skipping), "other": len(others)}
    assert all(heard(reader) == expected for reader in others)
    assert slowest < 2.0
    assert peak - before < 8 * megabyte


def resident(server: Server) -> int:
    """
    Bytes of memory that the daemon takes.
    """
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def until_none(publisher: Publisher) -> None:
    """
    Wait until the daemon has no readers.
    """
    deadline = time.monotonic() + 15
    while await publisher.ask("/stats"):
        assert time.monotonic() < deadline, "it still has readers"
        await pause(0.1)
