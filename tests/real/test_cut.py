"""
Subscribers whose connections break at any moment and in any way lose nothing; what is no longer
retained is reported by a gap.
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
from tests.real.subscribers import (
    Publisher,
    Subscriber,
    disconnecting,
    epoch,
    join_all,
    offset,
    pause,
    publishers,
    until,
)

CHANNELS = tuple(f"c{number}" for number in range(6))
MUCH = ("--history=100000", "--history-bytes=64m", "--heartbeat=1")


class Log:
    """
    Published messages, in order of position.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[int, str, str]] = []

    def __len__(self) -> int:
        return len(self._entries)

    async def publish(self, publisher: Publisher, channel: str, text: str = "") -> None:
        """
        Publish the next message of *channel*, and record its position.
        """
        text = f"{channel}:{len(self)}{text}"
        answer = await publisher.publish(channel, text.encode())
        self._entries.append((offset(answer["position"]), channel, text))

    def of(self, subscriber: Subscriber) -> list[tuple[int, str]]:
        """
        Return the messages that *subscriber* has to receive after its first id.
        """
        assert subscriber.first >= 0, "the subscriber has no id"
        return sorted(
            (offset, text)
            for offset, channel, text in self._entries
            if channel in subscriber.channels and offset > subscriber.first
        )


def received(subscriber: Subscriber) -> list[tuple[int, str]]:
    """
    Return the received messages, in the form of `Log.of`.
    """
    return [
        (offset(event.id), event.data) for event in subscriber.events if event.type == "message"
    ]


def unreported_losses(log: Log, subscriber: Subscriber) -> list[int]:
    """
    Return the offsets that *subscriber* missed without a gap.

    A gap reports all losses up to the position in its data.
    """
    expected = [offset for offset, _ in log.of(subscriber)]
    lost: list[int] = []
    position = reported = subscriber.first
    for event in subscriber.events:
        if event.type == "gap":
            reported = max(reported, offset(json.loads(event.data)["position"]))
            continue
        between = expected[
            bisect_right(expected, position) : bisect_left(expected, offset(event.id))
        ]
        lost += [missed for missed in between if missed > reported]
        position = offset(event.id)
    return lost + [missed for missed in expected if missed > max(position, reported)]


def seeded_random() -> random.Random:
    """
    Return the source of randomness, seeded with SEED of the environment, or anew.

    The seed is shown if the test fails.
    """
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    sys.stdout.write(f"SEED={seed}\n")
    return random.Random(seed)


def make_subscribers(port: int, rng: random.Random) -> list[Subscriber]:
    """
    Return subscribers of one, some and all channels; most of them overlap.
    """
    some = [rng.sample(CHANNELS, rng.randint(2, 5)) for _ in range(6)]
    groups = [*[[name] for name in CHANNELS], *some, [*CHANNELS], [*CHANNELS], ["quiet"]]
    return [Subscriber(port, group, version=rng.choice(("1.1", "1.0"))) for group in groups]


async def keep_publishing(
    log: Log, publisher: Publisher, rng: random.Random, going: list[bool]
) -> None:
    """
    Publish on random channels until *going* is empty.
    """
    while going:
        for _ in range(rng.choice((1, 1, 1, 20))):
            await log.publish(publisher, rng.choice(CHANNELS), " " * rng.randint(0, 300))
        await pause(rng.uniform(0.01, 0.04))


async def keep_cutting(subscribers: Sequence[Subscriber], rng: random.Random, rounds: int) -> None:
    """
    Cut and reconnect at random, *rounds* times.
    """
    for _ in range(rounds):
        for subscriber in subscribers:
            if subscriber.connection is None:
                choice = rng.random()
                if choice < 0.15:
                    await subscriber.join(sent=rng.choice((0, 10, 1000)))
                elif choice < 0.85:
                    await subscriber.join()
            elif rng.random() < 0.5:
                subscriber.cut(
                    rng.choice(("reset", "close", "half", "stall")), rng.randint(1, 3000)
                )
            if rng.random() < 0.2:
                await pause(rng.uniform(0.0, 0.02))
        await pause(rng.uniform(0.02, 0.3))
    for subscriber in subscribers:
        subscriber.cut("reset")  # the stalled and the half cut ones as well


async def test_cut_connections_lose_nothing(daemon: StartDaemon) -> None:
    """
    Connections of many subscribers break in all ways at any moment, while much is published.
    Each subscriber receives every message of its channels, once and in order, without a gap.
    """
    rng = seeded_random()
    server = daemon(*MUCH)
    log, subscribers = Log(), make_subscribers(server.port, rng)
    async with disconnecting(subscribers), publishers(server, 3) as connections:
        # Cut before they receive anything but their first id.
        await join_all(subscribers)
        for subscriber in subscribers[::2]:
            subscriber.cut(rng.choice(("reset", "close")))
        for number in range(60):
            await log.publish(connections[0], CHANNELS[number % len(CHANNELS)])
        going = [True]
        publishing = [
            ensureDeferred(keep_publishing(log, connection, rng, going))
            for connection in connections
        ]
        await keep_cutting(subscribers, rng, 60)
        going.clear()
        await gatherResults(publishing)
        await join_all(subscribers)
        await log.publish(connections[0], "quiet")
        await until(lambda: all(received(r)[-1:] == log.of(r)[-1:] for r in subscribers))
        await pause(0.3)  # for events that must not arrive

    assert len(log) > 1000
    assert sum(subscriber.joined for subscriber in subscribers) > 10 * len(subscribers)
    for subscriber in subscribers:
        assert received(subscriber) == log.of(subscriber), subscriber.channels
        assert subscriber.gaps == 0


async def test_each_loss_is_reported_by_a_gap(daemon: StartDaemon) -> None:
    """
    With little history, a subscriber that is disconnected for too long misses messages and gets
    a gap each time; no message arrives twice or out of order.
    """
    rng = seeded_random()
    server = daemon("--history=5", "--heartbeat=1")
    log, subscribers = Log(), make_subscribers(server.port, rng)
    async with disconnecting(subscribers), publishers(server, 2) as connections:
        await join_all(subscribers)
        going = [True]
        publishing = [
            ensureDeferred(keep_publishing(log, connection, rng, going))
            for connection in connections
        ]
        await keep_cutting(subscribers, rng, 30)
        going.clear()
        await gatherResults(publishing)
        await join_all(subscribers)
        for name in (*CHANNELS, "quiet"):
            await log.publish(connections[0], name)
        await until(lambda: all(received(r)[-1:] == log.of(r)[-1:] for r in subscribers))

    for subscriber in subscribers:
        offsets = [offset for offset, _ in received(subscriber)]
        assert offsets == sorted(set(offsets))
        assert set(received(subscriber)) <= set(log.of(subscriber))
        assert unreported_losses(log, subscriber) == [], subscriber.channels
    assert sum(len(received(r)) < len(log.of(r)) for r in subscribers) > len(subscribers) / 2
    assert all(
        subscriber.gaps for subscriber in subscribers if received(subscriber) != log.of(subscriber)
    )
    assert subscribers[-1].channels == ["quiet"]
    assert subscribers[-1].gaps == 0, "its channel lost nothing"


async def test_a_killed_daemon_is_reported_by_one_gap(daemon: StartDaemon) -> None:
    """
    A daemon that was killed starts another log: each subscriber that reconnects gets one gap,
    and then the messages of the new log.
    """
    rng = seeded_random()
    server = daemon()
    subscribers = make_subscribers(server.port, rng)
    async with disconnecting(subscribers):
        await join_all(subscribers)
        async with publishers(server, 1) as (publisher,):
            for name in CHANNELS:
                await publisher.publish(name, b"before")
            await until(lambda: all(r.messages for r in subscribers[:-1]))
        server.restart(SIGKILL)
        await until(lambda: all(subscriber.connection is None for subscriber in subscribers))
        before = {subscriber: subscriber.last_id for subscriber in subscribers}
        await join_all(subscribers)
        await until(lambda: all(r.gaps and r.last_id != before[r] for r in subscribers))
        for subscriber in subscribers:
            subscriber.cut("close")
        async with publishers(server, 1) as (publisher,):
            for name in (*CHANNELS, "quiet"):
                await publisher.publish(name, name.encode())
        await join_all(subscribers)  # from the id that followed the gap
        await until(lambda: all(r.messages[-1:] == sorted(r.channels)[-1:] for r in subscribers))

    for subscriber in subscribers:
        new = [
            event.data
            for event in subscriber.events
            if epoch(event.id) != epoch(before[subscriber])
        ]
        assert new == sorted(subscriber.channels)
        assert [event.type for event in subscriber.events].count("gap") == 1
        gap = [event.type for event in subscriber.events].index("gap")
        assert [event.data for event in subscriber.events[gap + 1 :]] == new


ROUTES = (
    "--route=^/$ sse",
    "--route=^/skip$ sse:subscribe=news,slow=skip",
    "--route=^/publish$ publish",
    "--route=^/stats$ stats",
)
LARGE = " " * 20_000


@pytest.mark.parametrize(
    "limits",
    [
        pytest.param(["--backlog-bytes=64k", "--backlog-seconds=1h"], id="bytes"),
        pytest.param(["--backlog-bytes=1g", "--backlog-seconds=1"], id="seconds"),
    ],
)
async def test_a_stalled_subscriber_is_disconnected(daemon: StartDaemon, limits: list[str]) -> None:
    """
    A subscriber that does not read is disconnected when its backlog is too large or too old; it
    reconnects and loses nothing.
    """
    server = daemon(*MUCH, *limits)
    log, subscriber = Log(), Subscriber(server.port, ["news"])
    async with disconnecting([subscriber]), publishers(server, 1) as (publisher,):
        await join_all([subscriber])
        subscriber.cut("stall")
        for _ in range(100):
            await log.publish(publisher, "news", LARGE)
        await until_none(publisher)
        subscriber.cut("reset")
        await join_all([subscriber])
        await until(lambda: received(subscriber) == log.of(subscriber))

    assert subscriber.gaps == 0


async def test_a_stalled_subscriber_may_skip(daemon: StartDaemon) -> None:
    """
    With `slow=skip` a stalled subscriber stays connected: when it reads again, it gets a gap and
    the newest messages.
    """
    server = daemon(*ROUTES, "--backlog-bytes=64k")
    log, subscriber = Log(), Subscriber(server.port, ["news"], path="/skip")
    async with disconnecting([subscriber]), publishers(server, 1) as (publisher,):
        await join_all([subscriber])
        await log.publish(publisher, "news")
        await until(lambda: len(subscriber.messages) == 1)
        subscriber.cut("stall")
        for _ in range(100):
            await log.publish(publisher, "news", LARGE)
        assert subscriber.connection is not None
        subscriber.connection.transport.resumeProducing()
        await until(lambda: received(subscriber)[-1:] == log.of(subscriber)[-1:])
        await log.publish(publisher, "news")
        await until(lambda: received(subscriber)[-1:] == log.of(subscriber)[-1:])

    assert subscriber.joined == 1
    assert subscriber.gaps >= 1
    assert len(received(subscriber)) < 60
    assert unreported_losses(log, subscriber) == []


async def test_stalled_subscribers_cost_little_and_delay_no_others(daemon: StartDaemon) -> None:
    """
    50 MB are published to 100 subscribers that do not read: the memory of the daemon does not
    grow, and 1,000 subscribers of another channel receive each message at once.
    """
    server = daemon(*ROUTES)
    others = [Subscriber(server.port, ["other"]) for _ in range(1000)]
    skipping = [Subscriber(server.port, ["news"], path="/skip") for _ in range(50)]
    stalled = [*skipping, *[Subscriber(server.port, ["news"]) for _ in range(50)]]
    log, slowest, megabyte = Log(), 0.0, 1 << 20
    async with disconnecting([*others, *stalled]), publishers(server, 2) as (publisher, other):
        await join_all([*others, *stalled])
        for _ in range(20):  # fills the history
            await log.publish(publisher, "news", LARGE * 5)
        for subscriber in stalled:
            subscriber.cut("stall")
        before = peak = resident(server)
        for _ in range(20):
            for _ in range(25):
                await log.publish(publisher, "news", LARGE * 5)
            start = time.monotonic()
            await log.publish(other, "other")
            expected = log.of(others[0])
            await until(lambda: all(len(r.events) == len(expected) for r in others))  # noqa: B023
            slowest = max(slowest, time.monotonic() - start)
            peak = max(peak, resident(server))
        counts = dict(await publisher.get("/stats"))

    assert counts == {"news": len(skipping), "other": len(others)}
    assert all(received(subscriber) == expected for subscriber in others)
    assert slowest < 2.0
    assert peak - before < 8 * megabyte


def resident(server: Server) -> int:
    """
    Return the resident memory of the daemon in bytes.
    """
    pages = int(Path(f"/proc/{server.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def until_none(publisher: Publisher) -> None:
    """
    Wait until the daemon has no subscribers.
    """
    deadline = time.monotonic() + 15
    while await publisher.get("/stats"):
        assert time.monotonic() < deadline, "there are still subscribers"
        await pause(0.1)
