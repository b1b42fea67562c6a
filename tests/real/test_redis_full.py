"""
A redis that is reachable and rejects writes: its memory or disk is full, or its replicas are
gone.
"""

from __future__ import annotations

import http.client
import json
import shutil
from contextlib import AsyncExitStack, closing
from pathlib import Path
from signal import SIGKILL
from typing import Any

import pytest
from hiredis import ReplyError

from rt_twisted.brokers.interfaces import IRefusing
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft
from tests.real.conftest import PATIENCE, Serve, Server, StartDaemon
from tests.real.redis_server import nodes, redis, redis_commands, start_redis, turn
from tests.real.subscribers import Subscriber, disconnecting, join_all, until
from tests.real.test_daemon import publish
from tests.real.test_redis_connecting import states

__all__ = ["redis", "states"]  # fixtures


def ask(server: Server, path: str) -> tuple[int, bytes]:
    """
    Return status and body of GET.
    """
    with closing(
        http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    ) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()


def broker_of(server: Server) -> Any:
    """
    Return the daemon's report on its broker.
    """
    return json.loads(ask(server, "/stats?format=full")[1])["broker"]


async def test_a_full_memory_is_seen_and_subscribers_are_served(
    redis: Server, daemon: StartDaemon
) -> None:
    """
    Publishers are rejected; load balancers still send subscribers, which get their replay.
    Monitoring sees it, also on a node without publishers, until it is over.
    """
    options = ("--broker=redis", f"--redis-port={redis.port}")
    servers = [daemon(*options), daemon(*options)]
    subscriber = Subscriber(servers[1].port, ["news"])
    async with disconnecting([subscriber]), redis_commands(redis.port) as command:
        await join_all([subscriber])
        await until(lambda: all(ask(each, "/readyz")[0] == 200 for each in servers))
        assert publish(servers[0].port, channel="news", message="1") == 200
        await until(lambda: subscriber.messages == ["1"])
        assert [broker_of(server) for server in servers] == [{"ready": True, "refuses": False}] * 2
        await command("CONFIG", "SET", "maxmemory", "1")
        assert publish(servers[0].port, channel="news", message="2") == 503
        assert broker_of(servers[0]) == {"ready": True, "refuses": True}
        assert ask(servers[0], "/readyz") == (200, b"ready\n")
        assert b"\nrealtime_broker_refuses 1.0\n" in ask(servers[0], "/metrics")[1]
        late = Subscriber(servers[0].port, ["news"])
        late.last_id = f"{subscriber.last_id.rpartition('.')[0]}.0"
        async with disconnecting([late]):
            await join_all([late])
            await until(lambda: late.messages == ["1"])
        third = daemon(*options)
        await until(lambda: broker_of(third)["refuses"])
        await command("CONFIG", "SET", "maxmemory", "0")
        await until(
            lambda: not any(broker_of(each)["refuses"] for each in (*servers, third)), PATIENCE
        )
        assert b"\nrealtime_broker_refuses 0.0\n" in ask(servers[0], "/metrics")[1]
        assert publish(servers[0].port, channel="news", message="3") == 200
        await until(lambda: subscriber.messages == ["1", "3"])

    assert [each.log.count("rejects writes: OOM") for each in (servers[0], third)] == [1, 1]


async def test_it_was_full_when_it_stopped(serve: Serve, states: list[str]) -> None:
    """
    Redis restarts full: subscribers receive and get their replay, as before.
    """
    server = start_redis(serve, "--appendonly", "yes")
    async with nodes([f"127.0.0.1:{server.port}"]) as [(one, receiver)]:
        start = await one.subscribe("a")
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)
        server.kill(SIGKILL)
        await until(lambda: not one.ready())
        server.command += ["--maxmemory", "1"]
        server.start()
        await until(one.ready)
        replay = await one.after(["a"], After(start))
        assert [message.data for message in replay.messages] == [b"1"]
        assert replay.complete
        await until(one.refuses)
        with pytest.raises(Unavailable, match="OOM"):
            await one.publish([Draft("a", b"refused")])

    assert not receiver.missing
    assert len(receiver.epochs) == 1


async def _save_nothing(redis: Server) -> None:
    async with redis_commands(redis.port) as command:
        await command("CONFIG", "SET", "save", "")


async def test_a_full_disk(serve: Serve, tmp_path: Path, states: list[str]) -> None:
    """
    Redis rejects writes that it cannot save (MISCONF), and even a PING: subscribers receive as
    before, and new ones can subscribe to new channels.
    """
    data = tmp_path / "data"
    data.mkdir()
    server = start_redis(serve, "--save", "3600 1", "--dir", str(data))
    async with (
        AsyncExitStack() as ends,
        redis_commands(server.port) as command,
        nodes([f"127.0.0.1:{server.port}"]) as [(one, receiver)],
    ):
        start = await one.subscribe("a")
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)
        shutil.rmtree(data)  # redis can write nothing there, so it would not stop either
        ends.push_async_callback(_save_nothing, server)
        await command("BGSAVE")
        while b"rdb_last_bgsave_status:err" not in await command("INFO", "persistence"):
            await turn()
        with pytest.raises(Unavailable, match="MISCONF"):
            await one.publish([Draft("a", b"refused")])
        assert one.refuses()
        assert one.ready()
        replay = await one.after(["a"], After(start))
        assert [message.data for message in replay.messages] == [b"1"]
        await one.subscribe("b")
        with pytest.raises(ReplyError, match="MISCONF"):
            await command("PING")
        assert states[0] == "is connected"
        assert states[1].startswith("rejects writes: MISCONF")
        assert len(states) == 2
        await command("CONFIG", "SET", "save", "")
        await until(lambda: not one.refuses())
        await one.publish([Draft("b", b"2")])
        await receiver.until(2)

    assert [message.data for message in receiver.messages] == [b"1", b"2"]
    assert receiver.missing == []
    assert states[2:] == ["is connected"]
    assert IRefusing.providedBy(one)
