"""
The epoch of the log after redis was killed, has lost data, or was replaced.
"""

from __future__ import annotations

from signal import SIGKILL

import pytest
from twisted.internet.defer import gatherResults

from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft, Position
from tests.real.conftest import Serve, Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands, start_redis
from tests.real.subscribers import pause, until
from tests.real.test_redis_connecting import states
from tests.real.test_redis_failures import CHANNELS, MUCH, Log, subscribe_all

__all__ = ["redis", "states"]  # fixtures


async def test_killed_and_back_with_its_file(serve: Serve) -> None:
    """
    With an append-only file the log is the same, also for a node that was not connected before.
    """
    redis = start_redis(serve, "--appendonly", "yes")
    log = Log()
    async with nodes([f"127.0.0.1:{redis.port}"] * 2, retention=MUCH) as made:
        (one, receiver), (two, other_receiver) = made
        await subscribe_all(one, two)
        first = one.position()
        log.start(one, two)
        for _ in range(3):
            await pause(0.2)
            redis.kill(SIGKILL)
            await until(lambda: not one.ready())
            redis.start()
            await until(lambda: one.ready() and two.ready())
        await log.stop()
        await log.is_received(receiver, other_receiver)
        assert len(receiver.epochs) == 1
    redis.restart(SIGKILL)
    async with nodes([f"127.0.0.1:{redis.port}"], retention=MUCH) as [(fresh, _)]:
        await subscribe_all(fresh)
        replay = await fresh.after(CHANNELS, After(first))
        assert replay.complete
        assert list(replay.messages) == log.messages


async def test_killed_and_empty(redis: Server) -> None:
    """
    Another log begins; all earlier positions are unknown.
    """
    async with nodes([f"127.0.0.1:{redis.port}"] * 2) as [(one, receiver), (two, other_receiver)]:
        await subscribe_all(one, two)
        [old] = (await one.publish([Draft("c1", b"old")])).positions
        redis.restart(SIGKILL)
        await until(lambda: len(receiver.epochs) == 2 and len(other_receiver.epochs) == 2)
        await until(lambda: one.ready() and two.ready())
        [new] = (await two.publish([Draft("c1", b"new")])).positions
        await until(lambda: bool(receiver.messages) and receiver.messages[-1].position == new)
        await until(
            lambda: bool(other_receiver.messages) and other_receiver.messages[-1].position == new
        )
        replay = await one.after(["c1"], After(old))

    assert new.epoch != old.epoch
    assert not replay.complete
    assert [message.data for message in replay.messages] == [b"new"]


async def test_back_with_old_data(serve: Serve) -> None:
    """
    A node has newer positions: another log begins, and no position is used twice.
    """
    redis = start_redis(serve, "--save", "900 1")
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)]:
        await subscribe_all(one)
        [kept] = (await one.publish([Draft("c1", b"kept")])).positions
        async with redis_commands(redis.port) as ask:
            await ask("SAVE")
        [lost] = (await one.publish([Draft("c1", b"lost")])).positions
        await receiver.until(2)
        redis.restart(SIGKILL)
        await until(lambda: len(receiver.epochs) == 2 and one.ready())
        [new] = (await one.publish([Draft("c1", b"new")])).positions
        replies = [await one.after(["c1"], After(each)) for each in (kept, lost)]

    assert new.epoch != kept.epoch
    assert new.offset > lost.offset
    assert [replay.complete for replay in replies] == [False, False]


async def test_back_with_all_its_data(serve: Serve) -> None:
    """
    A node that was connected before can tell that nothing is lost: the log continues.
    """
    redis = start_redis(serve, "--save", "900 1")
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)]:
        await subscribe_all(one)
        [old] = (await one.publish([Draft("c1", b"old")])).positions
        await receiver.until(1)
        async with redis_commands(redis.port) as ask:
            await ask("SAVE")
        redis.restart(SIGKILL)
        await until(lambda: not one.ready())
        await until(one.ready)
        [new] = (await one.publish([Draft("c1", b"new")])).positions
        await receiver.until(2)
        replay = await one.after(["c1"], After(old))
        never = await one.after(["c1"], After(Position(old.epoch, old.offset + 5)))

    assert new.epoch == old.epoch
    assert len(receiver.epochs) == 1
    assert receiver.missing == []
    assert replay.complete
    assert [message.data for message in replay.messages] == [b"new"]
    assert not never.complete, "it may have been given before, and is lost"


async def test_losses_that_no_node_can_detect(serve: Serve) -> None:
    """
    Without a node from before, and without an append-only file, losses are unknown: another log
    begins.
    """
    redis = start_redis(serve, "--save", "900 1")
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, _)]:
        await subscribe_all(one)
        [old] = (await one.publish([Draft("c1", b"old")])).positions
    async with redis_commands(redis.port) as ask:
        await ask("SAVE")
    redis.restart(SIGKILL)
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(two, _)]:
        await subscribe_all(two)
        replay = await two.after(["c1"], After(old))

    assert replay.position.epoch != old.epoch
    assert not replay.complete


async def test_a_loss_that_is_proved_later_begins_another_log(serve: Serve) -> None:
    """
    A node that was disconnected has positions that redis lacks: another log begins for all nodes.
    """
    redis = start_redis(serve, "--appendonly", "yes", "--save", "900 1")
    async with proxies(redis.port, 1) as [proxy]:
        urls = [f"127.0.0.1:{redis.port}", f"127.0.0.1:{proxy.port}"]
        async with nodes(urls) as [(one, receiver), (two, other_receiver)]:
            await subscribe_all(one, two)
            async with redis_commands(redis.port) as ask:
                run = await ask("HGET", "realtime:log", "run")
                await ask("SAVE")
                [lost] = (await two.publish([Draft("c1", b"lost")])).positions
                await until(lambda: two.position().offset >= lost.offset)
                proxy.shut(True)
                proxy.cut()
                await until(lambda: not two.ready())
                # As after a failover to a replica that lacks the last write.
                await ask("HINCRBY", "realtime:log", "offset", -1)
                await ask("HSET", "realtime:log", "run", b"another" + run)
                await ask("HSET", "realtime:log", "run", run)
                await ask("HINCRBY", "realtime:log", "offset", 1 << 20)
                await ask("ZADD", "realtime:leaps", lost.offset - 1 + (1 << 20), lost.offset - 1)
            proxy.shut(False)
            await until(lambda: len(receiver.epochs) == 2 and len(other_receiver.epochs) == 2)


async def test_flushed(redis: Server) -> None:
    """
    `FLUSHALL` under running nodes begins another log.
    """
    async with nodes([f"127.0.0.1:{redis.port}"] * 2) as [(one, receiver), (two, other_receiver)]:
        await subscribe_all(one, two)
        await one.publish([Draft("c1", b"1"), Draft("c1", b"2")])
        async with redis_commands(redis.port) as ask:
            await ask("FLUSHALL")
        await until(lambda: len(receiver.epochs) == 2 and len(other_receiver.epochs) == 2)
        await until(lambda: one.ready() and two.ready())
        await one.publish([Draft("c1", b"3")])
        await gatherResults([receiver.until(3), other_receiver.until(3)])


async def test_late_in_another_log(redis: Server) -> None:
    """
    A node that joins another log later than the others receives what it has missed of it.
    """
    async with proxies(redis.port, 1) as [proxy]:
        urls = [f"127.0.0.1:{redis.port}", f"127.0.0.1:{proxy.port}"]
        async with nodes(urls) as [(one, receiver), (two, other_receiver)]:
            await subscribe_all(one, two)
            await one.publish([Draft("c1", b"old")])
            await gatherResults([receiver.until(1), other_receiver.until(1)])
            proxy.shut(True)
            proxy.cut()
            redis.restart(SIGKILL)
            await until(lambda: len(receiver.epochs) == 2 and one.ready())
            await one.publish([Draft("c1", b"1"), Draft("c2", b"2")])
            proxy.shut(False)
            await other_receiver.until(3)

    assert [message.data for message in other_receiver.messages] == [b"old", b"1", b"2"]
    assert other_receiver.messages[1:] == receiver.messages[1:]
    assert len(other_receiver.epochs) == 2


async def test_it_becomes_a_replica(redis: Server, states: list[str]) -> None:
    """
    Nodes leave a server that accepts no writes any more.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        await subscribe_all(one)
        await one.publish([Draft("c1", b"1")])
        await ask("REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(Unavailable, match=r"^redis: READONLY [^@]*$"):
            await one.publish([Draft("c1", b"2")])
        await until(lambda: states[-1] == "is away: it is a replica")
        assert not one.ready()
        await ask("REPLICAOF", "NO", "ONE")
        await until(one.ready)
        await one.publish([Draft("c1", b"3")])
        await receiver.until(2)

    assert [message.data for message in receiver.messages] == [b"1", b"3"]
    assert receiver.missing == []
