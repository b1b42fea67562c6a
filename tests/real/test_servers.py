"""
Routes that name another server: one daemon, the channels of several brokers.
"""

from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path
from signal import SIGHUP, SIGKILL
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import pytest

from tests.real.conftest import Serve, Server, StartDaemon, free_port
from tests.real.redis_server import redis, redis_commands, start_redis
from tests.real.subscribers import Subscriber, disconnecting, join_all, publishers, until

__all__ = ["redis"]  # a fixture

SECRET = "correct horse"

ROUTES = """
route = ^/near$ sse:news
route = ^/publish$ publish
route = ^/far$ sse:server=127.0.0.1:{one},subscribe=news
route = ^/far/publish$ publish:server=127.0.0.1:{one}
"""


async def test_the_channels_of_another_server(
    redis: Server, daemon: StartDaemon, serve: Serve, tmp_path: Path
) -> None:
    """
    Channels of the same name on two brokers have nothing to do with each other;
    a reload adds a third one; one that is unavailable does not affect the others.
    """
    config = tmp_path / "realtime.conf"
    config.write_text(ROUTES.format(one=redis.port))
    server = daemon(f"--config={config}")
    near, far = Subscriber(server.port, [], "/near"), Subscriber(server.port, [], "/far")
    third = start_redis(serve)
    more = Subscriber(server.port, [], "/more")
    async with (
        disconnecting([near, far, more]),
        redis_commands(redis.port) as ask,
        redis_commands(third.port) as ask_third,
        publishers(server, 1) as [publisher],
    ):
        await join_all([near, far])
        await publisher.publish("news", b"near")
        assert await ask("PUBLISH", "news", "far") == 1
        await until(lambda: bool(near.events and far.events))

        lines = f"route = ^/more$ sse:server=127.0.0.1:{third.port},subscribe=news\n"
        config.write_text(ROUTES.format(one=redis.port) + lines)
        server.send(SIGHUP)
        await until(lambda: "reloaded" in server.log)
        await join_all([more])
        assert await ask_third("PUBLISH", "news", "more") == 1
        await until(lambda: bool(more.events))

        redis.kill(SIGKILL)
        await until(lambda: "is away" in server.log)
        await publisher.publish("news", b"near again")
        await until(lambda: len(near.events) == 2)
        redis.start()
        # It has another log; plain publications meanwhile reached no subscriber.
        await until(lambda: far.gaps == 2)

    assert near.messages == ["near", "near again"]
    assert far.messages == ["far"]
    assert more.messages == ["more"]
    assert near.gaps == more.gaps == 0


async def test_a_socket_and_a_password(
    daemon: StartDaemon, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A route names its redis by host and port or by the path of a socket, with the password in
    the line, in the environment or in a file. The log has no password.
    """
    monkeypatch.setenv("REDIS_SECRET", SECRET)
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    path = f"/tmp/rt-{os.getpid()}.sock"  # the path of a socket is limited to 107 bytes
    one = start_redis(serve, "--requirepass", SECRET, "--unixsocket", path)
    servers = [
        f"server=127.0.0.1:{one.port},password={SECRET}",
        f"server={path},password=env:REDIS_SECRET",
        f"server=unix:{path},password=file:{file}",
        f"server=redis://:{quote(SECRET)}@127.0.0.1:{one.port}",
        f"server=127.0.0.1:{one.port},password=not {SECRET}",
    ]
    config = tmp_path / "realtime.conf"
    lines = [f"route = ^/{n}$ sse:{each},subscribe=news" for n, each in enumerate(servers)]
    config.write_text("\n".join([*lines, f"route = ^/publish$ publish:{servers[1]},out=same"]))
    server = daemon(f"--config={config}")
    subscribers = [Subscriber(server.port, [], f"/{number}") for number in range(4)]
    async with (
        disconnecting(subscribers),
        redis_commands(one.port) as ask,
        publishers(server, 1) as [publisher],
    ):
        await ask("AUTH", SECRET)
        await join_all(subscribers)
        await publisher.publish("news", b"posted")
        assert await ask("PUBLISH", "news", "plain") == 4
        await until(lambda: all(len(subscriber.events) == 2 for subscriber in subscribers))
        await until(lambda: "denies access" in server.log)

    assert all(subscriber.messages == ["posted", "plain"] for subscriber in subscribers)
    config.write_text(f"route = ^/x$ sse:server=127.0.0.1:70000,password={SECRET}\n")
    server.send(SIGHUP)
    await until(lambda: "reload failed" in server.log)
    assert "password=***" in server.log
    assert SECRET not in server.log


async def test_a_reload_that_fails_connects_to_nothing(
    redis: Server, daemon: StartDaemon, tmp_path: Path
) -> None:
    """
    The servers of routes that are not used in the end get no connection; those of routes that
    are used get two.
    """
    config = tmp_path / "realtime.conf"
    good = f"route = ^/far$ sse:server=127.0.0.1:{redis.port},subscribe=news\n"
    config.write_text("route = ^/near$ sse:news\n")
    server = daemon(f"--config={config}")
    async with redis_commands(redis.port) as ask:

        async def connections() -> int:
            stats: bytes = await ask("INFO", "stats")
            return int(stats.partition(b"total_connections_received:")[2].split()[0])

        before = await connections()
        config.write_text(f"{good}route = ^/x$ nothing\n")
        for count in (1, 2):
            server.send(SIGHUP)
            await until(lambda count=count: server.log.count("reload failed") == count)  # type: ignore[misc]
        config.write_text(good)
        server.send(SIGHUP)
        far = Subscriber(server.port, [], "/far")
        async with disconnecting([far]):
            await until(lambda: "reloaded" in server.log)
            await join_all([far])
            assert await ask("PUBLISH", "news", "x") == 1
        assert await connections() == before + 2


async def test_while_the_server_of_a_route_is_away(daemon: StartDaemon, serve: Serve) -> None:
    """
    Its subscribers get the head of their response at once, of whatever transport, and messages
    when the server is there.
    """
    port = free_port()
    far = f"server=127.0.0.1:{port},subscribe=news"
    server = daemon(
        f"--route=^/sse$ sse:{far}",
        f"--route=^/stream$ stream:{far},type=text/plain",
        f"--route=^/poll$ poll:{far},wait=1",
        f"--route=^/ws$ websocket:{far}",
        rf"--route=^/socket\.io/ socket.io:{far}",
        f"--route=^/publish$ publish:server=127.0.0.1:{port}",
    )
    for path in ("/sse", "/stream"):
        with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as client:
            client.settimeout(10)
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.recv(12) == b"HTTP/1.1 200"
    upgrade = (
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with closing(socket.create_connection(("127.0.0.1", server.port), 10)) as client:
        client.settimeout(10)
        client.sendall(upgrade.encode())
        assert client.recv(12) == b"HTTP/1.1 101"
    with urlopen(f"{server.url}/socket.io/?EIO=4&transport=polling", timeout=10) as answer:
        assert answer.read()[:1] == b"0"
    with pytest.raises(HTTPError, match="503"):
        urlopen(f"{server.url}/poll", timeout=10)
    subscriber = Subscriber(server.port, [], "/sse")
    async with disconnecting([subscriber]):
        start_redis(serve, port=port)
        await join_all([subscriber])
        async with publishers(server, 1) as [publisher]:
            await publisher.publish("news", b"there")
            await until(lambda: bool(subscriber.events))
    assert subscriber.messages == ["there"]
