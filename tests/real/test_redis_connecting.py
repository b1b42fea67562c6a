"""
Connecting to redis: TLS, Unix sockets, passwords, databases, Sentinel; and two daemons on one
redis.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP
from typing import Any

import pytest
from twisted.internet.defer import gatherResults
from twisted.logger import ILogObserver, globalLogPublisher
from zope.interface import implementer

from rt_twisted.brokers.client_tls import ClientTls
from rt_twisted.brokers.redis.server import RedisServer as Place
from rt_twisted.model.message import After, Draft
from tests.pems import Authority
from tests.real.conftest import Serve, Server, StartDaemon, free_port, require
from tests.real.redis_server import nodes, redis, redis_commands, start_redis, turn
from tests.real.subscribers import Subscriber, disconnecting, join_all, publishers, until

__all__ = ["redis"]  # a fixture


async def carries(place: Place) -> None:
    """
    Publish at *place*; the message arrives and is stored.
    """
    async with nodes([place]) as [(broker, receiver)]:
        start = await broker.subscribe("a")
        await broker.publish([Draft("a", b"1")])
        await receiver.until(1)
        replay = await broker.after(["a"], After(start))
        assert replay.complete
        assert list(replay.messages) == receiver.messages


@pytest.fixture
def states() -> Iterator[list[str]]:
    """
    Collect the states that the broker logs.
    """
    states: list[str] = []

    @implementer(ILogObserver)
    def observe(event: Any) -> None:
        if "state" in event:
            states.append(event["state"])

    globalLogPublisher.addObserver(observe)
    yield states
    globalLogPublisher.removeObserver(observe)


async def test_tls(serve: Serve, tmp_path: Path, states: list[str]) -> None:
    """
    TLS works with the test's authority. With the system's, or for another host name, it fails,
    and the log names the cause.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("redis", "localhost", "127.0.0.1")
    port = free_port()
    start_redis(
        serve,
        *("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key),
        *("--tls-ca-cert-file", authority.file, "--tls-auth-clients", "no"),
    )
    files = ClientTls(authority.file)
    await carries(Place.parse(f"rediss://localhost:{port}", files=files))
    await carries(Place.parse(f"rediss://127.0.0.1:{port}/3", files=files))

    async with nodes([f"rediss://localhost:{port}"]):
        await until(lambda: bool(states) and "certificate verify failed" in states[-1])


async def test_a_client_certificate(serve: Serve, tmp_path: Path, states: list[str]) -> None:
    """
    A redis that requires a certificate (`tls-auth-clients yes`) gets it, with its chain; without
    one the log names the cause. A renewed certificate needs no restart.
    """
    authority = Authority(tmp_path)
    certificate, key = authority.pair("redis", "localhost")
    mine, my_key = authority.pair("daemon", "daemon", intermediate=True)
    port = free_port()
    start_redis(
        serve,
        *("--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key),
        *("--tls-ca-cert-file", authority.file, "--tls-auth-clients", "yes"),
    )
    place = Place.parse(f"rediss://localhost:{port}", files=ClientTls(authority.file, mine, my_key))
    await carries(place)

    both = tmp_path / "both.pem"
    both.write_bytes(Path(mine).read_bytes() + Path(my_key).read_bytes())
    await carries(replace(place, files=ClientTls(authority.file, str(both))))

    states.clear()
    url = f"rediss://localhost:{port}"
    async with nodes([Place.parse(url, files=ClientTls(authority.file))]):
        await until(lambda: any("requires a client certificate" in one for one in states))


async def test_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    """
    Databases are separate, although redis' pub/sub is not.
    """
    start_redis(serve, "--unixsocket", f"{tmp_path}/sock")
    url = f"unix://{tmp_path}/sock"
    await carries(Place.parse(f"{url}?db=2"))
    async with nodes([url, f"{url}?db=1"]) as [(one, receiver), (two, other_receiver)]:
        await gatherResults([one.subscribe("a"), two.subscribe("a")])
        await one.publish([Draft("a", b"0")])
        await two.publish([Draft("a", b"1")])
        await gatherResults([receiver.until(1), other_receiver.until(1)])
    assert [m.data for m in receiver.messages + other_receiver.messages] == [b"0", b"1"]


async def test_users_and_passwords(redis: Server, states: list[str]) -> None:
    """
    The permissions in the documentation suffice; a wrong password is logged.
    """
    rules = (
        "on >se:cr/et resetkeys ~realtime:* resetchannels &* -@all "
        "+auth +select +info +script|load +eval +evalsha +subscribe +unsubscribe +publish "
        "+hmget +hset +hincrby +get +set +del +pexpire +time "
        "+zadd +zscore +zcard +zpopmin +zrange +zrangebyscore +zrevrangebyscore +zremrangebyscore "
        "+xadd +xdel +xrange +xrevrange"
    )
    async with redis_commands(redis.port) as ask:
        await ask("ACL", "SETUSER", "node", *rules.split())
        await ask("CONFIG", "SET", "requirepass", "word")
    host = f"127.0.0.1:{redis.port}"
    await carries(Place.parse(f"redis://node:se%3Acr%2Fet@{host}"))
    await carries(Place.parse(f"redis://:word@{host}/1"))
    await carries(Place.parse(host, password="word"))
    async with redis_commands(redis.port) as ask:
        await ask("AUTH", "word")
        await ask("ACL", "SETUSER", "node", "resetchannels", "&realtime:*")
    url = f"redis://node:se%3Acr%2Fet@{host}"
    async with nodes([url], plain=False) as [(broker, receiver)]:
        await broker.subscribe("a")
        await broker.publish([Draft("a", b"1")])
        await receiver.until(1)
    async with nodes([url]) as [(broker, _)]:
        broker.subscribe("a")
        await until(
            lambda: bool(states) and states[-1].startswith("loses the pub/sub connection: NOPERM")
        )
        assert not broker.ready()
    async with nodes([f"redis://node:wrong@{host}"]) as [(broker, _)]:
        await until(lambda: bool(states) and states[-1].startswith("denies access: WRONGPASS"))
        assert not broker.ready()
    async with nodes([host]):
        await until(lambda: bool(states) and states[-1].startswith("denies access: NOAUTH"))
    async with redis_commands(redis.port) as ask:
        await ask("AUTH", "word")
        for right in ("script|load", "hmget"):
            await ask("ACL", "SETUSER", right, *rules.replace(f"+{right} ", "").split())
    for right in ("script|load", "hmget"):
        states.clear()
        async with nodes([f"redis://{right}:se%3Acr%2Fet@{host}"]):
            await until(lambda: bool(states))
            assert states[0].startswith("denies access: ")


async def test_a_cluster_is_refused(serve: Serve, states: list[str]) -> None:
    """
    A redis cluster is rejected: one order needs one place.
    """
    server = start_redis(serve, "--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    async with redis_commands(server.port) as ask:
        await ask("CLUSTER", "ADDSLOTS", *range(16384))
        while b"cluster_state:ok" not in await ask("CLUSTER", "INFO"):
            await turn()
    async with nodes([f"127.0.0.1:{server.port}"]):
        await until(lambda: bool(states) and states[-1].startswith("denies access: CROSSSLOT"))


async def test_another_kind_of_server(daemon: StartDaemon, states: list[str]) -> None:
    """
    An HTTP server at the port: one log line, and no traceback with each attempt.
    """
    async with nodes([f"127.0.0.1:{daemon().port}"]):
        await until(lambda: bool(states))
    assert states == ["is away: the server speaks HTTP at this port"]


async def test_a_server_that_does_not_answer_is_logged(redis: Server, states: list[str]) -> None:
    """
    The log says that there was no answer, not that the broker closed the connection.
    """
    async with nodes([f"127.0.0.1:{redis.port}"], timeout=2.0):
        await until(lambda: "is connected" in states)
        redis.send(SIGSTOP)
        try:
            await until(lambda: any(text.startswith("is away: ") for text in states))
        finally:
            redis.send(SIGCONT)

    assert "is away: no answer for 2 seconds" in states


async def test_a_stop_is_no_failure(redis: Server, daemon: StartDaemon) -> None:
    """
    A deployment logs no errors.
    """
    server = daemon("--broker=redis", f"--redis-port={redis.port}")
    await until(lambda: "is connected" in server.log)
    server.restart()
    await until(lambda: server.log.count("is connected") == 2)

    assert "is away" not in server.log
    assert "#error" not in server.log


async def test_its_state_is_logged_once(redis: Server, states: list[str]) -> None:
    """
    The state is not logged again with every attempt.
    """
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(broker, _)]:
        await until(broker.ready)
        redis.kill(SIGKILL)
        await until(lambda: len(states) > 1)
        redis.start()
        await until(broker.ready)
    assert states[0] == states[-1] == "is connected"
    assert len(states) <= 5
    assert len(set(states)) >= len(states) - 1


async def test_sentinel(serve: Serve, tmp_path: Path) -> None:
    """
    The master dies and a replica takes over: nodes follow, and go on publishing. What the replica
    lacks is another log.
    """
    master = start_redis(serve)
    replica = start_redis(serve, "--replicaof", "127.0.0.1", str(master.port))
    port = free_port()
    folder = tmp_path / "sentinel"
    folder.mkdir()
    (folder / "sentinel.conf").write_text(
        f"port {port}\nbind 127.0.0.1\nsentinel monitor mine 127.0.0.1 {master.port} 1\n"
        "sentinel down-after-milliseconds mine 500\nsentinel failover-timeout mine 5000\n"
    )
    program = require("redis-server", "redis-server")
    serve([program, "sentinel.conf", "--sentinel"], port, folder)
    async with redis_commands(replica.port) as ask, redis_commands(port) as sentinel:
        await _until_linked(ask, sentinel)
        dead = free_port()
        url = f"sentinel://127.0.0.1:{dead},127.0.0.1:{port}/mine"
        async with nodes([url, url]) as [(one, receiver), (two, other_receiver)]:
            await gatherResults([one.subscribe("a"), two.subscribe("a")])
            [before] = (await one.publish([Draft("a", b"1")])).positions
            await gatherResults([receiver.until(1), other_receiver.until(1)])
            master.kill(SIGKILL)
            await until(lambda: not one.ready(), 10)
            await until(lambda: one.ready() and two.ready(), 40)
            [after] = (await two.publish([Draft("a", b"2")])).positions
            await gatherResults([receiver.until(2), other_receiver.until(2)])
            assert receiver.messages == other_receiver.messages
            assert after.epoch != before.epoch or after.offset > before.offset
        master.start()  # its fixture expects it to run


async def _until_linked(ask: Any, sentinel: Any) -> None:
    from tests.real.subscribers import pause

    while b"master_link_status:up" not in await ask("INFO", "replication"):
        await pause(0.05)
    while not await sentinel("SENTINEL", "replicas", "mine"):
        await pause(0.05)


def command_line(redis: Server, channel: str, text: str) -> int:
    """
    Publish with redis-cli; returns how many connections received the message.
    """
    program = require("redis-cli", "redis-tools")
    command: Sequence[str] = [program, "-p", str(redis.port), "publish", channel, text]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


async def test_two_daemons(redis: Server, daemon: StartDaemon, serve: Serve) -> None:
    """
    `redis-cli publish` reaches the subscribers of both daemons, once, with the same id; one
    daemon is killed, and its subscribers resume at the other.
    """
    options = ("--broker=redis", f"--redis-port={redis.port}", "--heartbeat=1")
    servers = [daemon(*options), daemon(*options)]
    subscribers = [Subscriber(server.port, ["lotofnews"]) for server in servers for _ in range(2)]
    async with disconnecting(subscribers):
        await join_all(subscribers)
        async with publishers(servers[1], 1) as [publisher]:
            assert command_line(redis, "lotofnews", "hello") == 2
            await until(lambda: all(len(subscriber.events) == 1 for subscriber in subscribers))
            await publisher.publish("lotofnews", b"posted")
            await until(lambda: all(len(subscriber.events) == 2 for subscriber in subscribers))
            servers[0].kill(SIGKILL)
            for number in range(5):
                assert command_line(redis, "lotofnews", str(number)) == 1
            await publisher.publish("lotofnews", b"last")
            await until(
                lambda: all(subscriber.connection is None for subscriber in subscribers[:2])
            )
            for subscriber in subscribers[:2]:
                subscriber.port = servers[1].port
            await join_all(subscribers)
            texts = ["0", "1", "2", "3", "4", "hello", "last", "posted"]
            await until(
                lambda: all(sorted(subscriber.messages) == texts for subscriber in subscribers)
            )
    assert len({tuple(subscriber.events) for subscriber in subscribers}) == 1
    assert [subscriber.gaps for subscriber in subscribers] == [0] * 4
    servers[0].start()  # its fixture expects it to run
