"""
Daemons with RabbitMQ between them, as users run them.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pika
import pytest
from twisted.internet.defer import Deferred

from tests.real.conftest import PATIENCE, Server, StartDaemon, free_port
from tests.real.live_programs import (
    ROUTES,
    STATS,
    Camera,
    camera,
    is_live,
    largest_step,
    output,
    start,
    stats,
    video,
    viewer,
    wait_for,
)
from tests.real.media_programs import decoded, probe
from tests.real.rabbit import Rabbit, rabbit
from tests.real.subscribers import (
    Publisher,
    Subscriber,
    disconnecting,
    join_all,
    pause,
    publishers,
    until,
)
from tests.real.test_amqp_failures import SETTLED, foreign

__all__ = ["camera", "rabbit", "start", "viewer"]

COUNT = itertools.count()
ROUNDS = 3


def options(server: Rabbit, name: str, *more: str) -> tuple[str, ...]:
    """
    The options of a daemon, for exchange and stream *name*.
    """
    return (
        "--broker=amqp",
        f"--amqp-url=amqp://guest:guest@127.0.0.1:{server.port}",
        f"--amqp-exchange-name={name}",
        "--amqp-heartbeat=2",
        "--history=10000",
        "--heartbeat=1",
        *more,
    )


def is_ready(server: Server) -> bool:
    """
    Return whether /readyz is 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", "/readyz")
    status = connection.getresponse().status
    connection.close()
    return status == 200


async def ready(server: Server) -> None:
    """
    Wait until /readyz is 200.
    """
    await until(partial(is_ready, server))


async def test_cyclone_sses_own_options(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    cyclone-sse's options and its publisher work: exchange, type and key are as they were.
    """
    server = daemon(
        "--broker=amqp",
        "--amqp-host=127.0.0.1",
        f"--amqp-port={rabbit.port}",
        "--amqp-vhost=/",
        "--amqp-username=guest",
        "--amqp-password=guest",
        "--amqp-exchange-name=sse-cyclone-server",
        "--amqp-exchange-type=direct",
        "--amqp-channel=1",
    )
    await ready(server)
    subscriber = Subscriber(server.port, ["base", "42"])
    async with disconnecting([subscriber]):
        await join_all([subscriber])
        connection = foreign(rabbit)
        channel = connection.channel()
        channel.exchange_declare("sse-cyclone-server", "direct")
        for key in ("base", "42", "other"):
            body = json.dumps(["comment", key])
            channel.basic_publish("sse-cyclone-server", key, body)
        connection.close()
        await until(lambda: len(subscriber.messages) == 2)

        assert [json.loads(text)[1] for text in subscriber.messages] == ["base", "42"]
        async with publishers(server, 1) as [publisher]:
            answer = await publisher.publish("base", b"by HTTP")
        await until(lambda: len(subscriber.messages) == 3)
        assert answer["position"] == subscriber.last_id


async def test_by_tls(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    The server's name is verified: with another one, the login is not sent.
    """
    more = [f"--amqp-ca={rabbit.authority}", "--amqp-exchange-name=tls"]
    url = f"--amqp-url=amqps://guest:guest@%s:{rabbit.tls_port}"
    right = daemon("--broker=amqp", url % "localhost", *more)
    wrong = daemon("--broker=amqp", url % "127.0.0.1", *more)
    await ready(right)
    async with publishers(right, 1) as [publisher]:
        assert (await publisher.publish("news", b"1"))["published"] == 1
    await until(lambda: "is away" in wrong.log)
    assert "connected to" not in wrong.log


async def test_several_hosts(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    The next host is tried at once if a host refuses connections or another program answers, and
    again when the connection is lost.
    """
    wrong = daemon()
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{wrong.port},127.0.0.1:{rabbit.port}"
    server = daemon(
        "--broker=amqp", f"--amqp-host={hosts}", "--amqp-exchange-name=hosts", "--amqp-heartbeat=2"
    )
    await ready(server)
    assert f"connected to the AMQP server 127.0.0.1:{rabbit.port}" in server.log
    # The daemon may close the second connection by itself as soon as the first is closed.
    rabbit.evaluate('[catch rabbit_networking:close_connection(P, "test") || P <- '
                    "rabbit_networking:connections()].")  # fmt: skip
    await until(lambda: server.log.count("connected to") == 2)
    await ready(server)
    async with publishers(server, 1) as [publisher]:
        assert (await publisher.publish("news", b"1"))["published"] == 1


async def test_subscribers_change_nodes_while_the_server_is_killed(
    rabbit: Rabbit, daemon: StartDaemon
) -> None:
    """
    Nothing that was acknowledged is lost, repeated or out of order, and there is no gap: the
    stream is the log of both daemons.
    """
    name = f"daemons{next(COUNT)}"
    servers = [daemon(*options(rabbit, name, f"--amqp-stream={name}")) for _ in range(2)]
    for server in servers:
        await ready(server)
    subscribers = [Subscriber(servers[n % 2].port, ["a", "b"]) for n in range(6)]
    acknowledged: dict[int, str] = {}
    going = [True]
    rng = random.Random(7)

    async def keep_publishing(publisher: Publisher, prefix: str) -> None:
        for number in itertools.count():
            if not going:
                return
            text = f"{prefix}.{number}"
            try:
                answer = await publisher.publish(rng.choice("ab"), text.encode())
            except AssertionError:  # 503
                await pause(0.1)
                continue
            acknowledged[int(answer["position"].rpartition(".")[2])] = text
            await pause(0.005)

    async with disconnecting(subscribers), publishers(servers[0], 1) as [one]:
        async with publishers(servers[1], 1) as [other]:
            await join_all(subscribers)
            busy = [
                Deferred.fromCoroutine(keep_publishing(publisher, prefix))
                for publisher, prefix in ((one, "one"), (other, "other"))
            ]
            await pause(SETTLED)
            for _ in range(ROUNDS):
                await pause(rng.uniform(0.2, 0.5))
                rabbit.kill()
                for subscriber in subscribers:
                    if rng.random() < 0.7:
                        subscriber.cut("reset")
                rabbit.start()
                for subscriber in subscribers:
                    if subscriber.connection is None:
                        subscriber.port = rng.choice(servers).port
                        await subscriber.join()
                for server in servers:
                    await ready(server)
            going.clear()
            for each in busy:
                await each
            last = max(acknowledged)
            await until(
                lambda: all(int(r.last_id.rpartition(".")[2]) >= last for r in subscribers), 30
            )
        for subscriber in subscribers:
            events = [
                (int(event.id.rpartition(".")[2]), event.data)
                for event in subscriber.events
                if event.type == "message"
            ]
            assert subscriber.gaps == 0
            assert events == sorted(set(events))
            assert len({offset for offset, _ in events}) == len(events)
            found = dict(events)
            assert {o: t for o, t in acknowledged.items() if found.get(o) != t} == {}


async def test_without_a_stream_there_is_a_gap(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    Every subscriber that was connected while messages may have been lost gets a gap.
    """
    name = f"daemons{next(COUNT)}"
    server = daemon(*options(rabbit, name))
    await ready(server)
    subscriber = Subscriber(server.port, ["a"])
    async with disconnecting([subscriber]), publishers(server, 1) as [publisher]:
        await join_all([subscriber])
        await publisher.publish("a", b"before")
        rabbit.kill()
        await until(lambda: "is away" in server.log)
        with pytest.raises(AssertionError, match="503"):
            await publisher.publish("a", b"lost")
        rabbit.start()
        await ready(server)
        await publisher.publish("a", b"after")
        await until(lambda: len(subscriber.messages) == 2)

        assert subscriber.messages == ["before", "after"]
        assert [event.type for event in subscriber.events] == ["message", "gap", "message"]
    assert server.log.count("is away") == 1
    assert server.log.count("connected to the AMQP server") == 2


async def test_an_old_exchange_can_lead_into_the_stream(
    rabbit: Rabbit, daemon: StartDaemon
) -> None:
    """
    A direct exchange passes unrouted messages to its alternate exchange: a migration for
    publishers that cannot change, as documented.
    """
    name = f"daemons{next(COUNT)}"
    connection: Any = foreign(rabbit)
    channel = connection.channel()
    channel.exchange_declare(f"old-{name}", "direct")
    rabbit.control(
        "set_policy",
        "--apply-to",
        "exchanges",
        name,
        f"^old-{name}$",
        json.dumps({"alternate-exchange": name}),
    )
    server = daemon(*options(rabbit, name, f"--amqp-stream={name}"))
    await ready(server)
    subscriber = Subscriber(server.port, ["a.b"])
    async with disconnecting([subscriber]):
        await join_all([subscriber])
        channel.basic_publish(f"old-{name}", "a.b", b"1", pika.BasicProperties(type="old"))
        await until(lambda: len(subscriber.events) == 1)
        assert (subscriber.events[0].data, subscriber.events[0].type) == ("1", "old")
    connection.close()


def post(server: Server, channels: list[str], data: bytes) -> tuple[int, str]:
    """
    Publish; returns status and text of the response.
    """
    query = urlencode([("channel", channel) for channel in channels])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request(
        "POST", f"/publish?{query}", data, {"Content-Type": "application/octet-stream"}
    )
    response = connection.getresponse()
    answer = response.status, response.read().decode()
    connection.close()
    return answer


async def test_what_amqp_can_never_carry(rabbit: Rabbit, daemon: StartDaemon) -> None:
    """
    A name over 255 bytes is 400 for publishers and subscribers, a message over RabbitMQ's
    `max_message_size` is 413: retrying is useless, and a request is rejected as a whole.
    """
    server = daemon(*options(rabbit, f"limits{next(COUNT)}", "--max-message=2m", "--max-body=3m"))
    await ready(server)
    long = "\U0001f600" * 64
    status, reason = post(server, ["news", long], b"x")
    assert (status, "255 bytes" in reason) == (400, True)
    for path in ("poll", "", "stream"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
        connection.request("GET", f"/{path}?channels={quote(long)}&wait=0")
        assert connection.getresponse().status == 400
        connection.close()
    size = "application:set_env(rabbit, max_message_size, 1000000)"
    before = rabbit.evaluate("{ok, N} = application:get_env(rabbit, max_message_size), N.")
    rabbit.evaluate(f"{size}, persistent_term:erase(max_message_size).")
    try:
        server.restart()
        await ready(server)
        first, reason = post(server, ["news"], bytes(1 << 20))
        assert (first, "1000000 bytes" in reason) == (413, True)
        await ready(server)
        assert post(server, ["news"], bytes(1 << 20))[0] == 413
        assert post(server, ["news"], bytes(999_999))[0] == 200
        assert server.log.count("is away") == 1
    finally:
        rabbit.evaluate(size.replace("1000000", before) + ".")


def test_a_live_channel_has_one_publisher_on_all_nodes(
    daemon: StartDaemon, rabbit: Rabbit, camera: Camera, viewer: Camera, tmp_path: Path
) -> None:
    """
    A second publisher on another node is refused until the first one's node is killed; then
    the viewers' stream goes on with it.
    """
    own = (*ROUTES, STATS, "--route=^/readyz$ ready", "--live-timeout=8", "--live-grace=12")
    here, there = (daemon(*options(rabbit, "live", *own)) for _ in range(2))
    for node in (here, there):
        wait_for(partial(is_ready, node))
    camera(f"{here.url}/cam.webm", 60)
    wait_for(lambda: stats(here)["live"]["publishers"] == 1)
    seen = viewer(f"{there.url}/cam.webm", "seen.webm")
    wait_for(lambda: is_live(there))
    assert camera(f"{there.url}/cam.webm", 20).wait(PATIENCE)

    here.kill(signal.SIGKILL)

    wait_for(lambda: camera(f"{there.url}/cam.webm", 3).wait(PATIENCE) == 0)
    assert output(seen).startswith("200 ")
    decoded(tmp_path / "seen.webm")
    packets = probe(tmp_path / "seen.webm")
    assert len(video(packets)) > 75
    assert largest_step(packets) < 0.09
