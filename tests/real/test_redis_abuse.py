"""
The redis broker when another program uses its names and keys, or fills the memory.
"""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft, Position, Within
from tests.defaults import make_retention
from tests.real.conftest import Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands
from tests.real.subscribers import pause, until
from tests.real.test_redis_connecting import states

__all__ = ["redis", "states"]  # fixtures


async def test_a_forged_log(redis: Server) -> None:
    """
    A message of an unknown log is ignored, and no subscriber gets a gap.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        await one.subscribe("a")
        for epoch in ("another", "e\rdata:x", ""):
            await ask("PUBLISH", "realtime:0:m:a", f"{epoch} 9000000 0 0 \nforged")
        await ask("PUBLISH", "realtime:0:m:a", f"{one.position().epoch} 9 0 2 e\rdata: x\nforged")
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)

    assert [message.data for message in receiver.messages] == [b"1"]
    assert len(receiver.epochs) == 1


async def test_a_forged_offset(redis: Server) -> None:
    """
    A forged offset would make all later messages look old. The next barrier shows it: another log
    begins, and messages go on.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        await one.subscribe("a")
        [position] = (await one.publish([Draft("a", b"1")])).positions
        await receiver.until(1)
        await ask("PUBLISH", "realtime:0:m:a", f"{position.epoch} {1 << 60} 0 0 \nforged")
        await until(lambda: len(receiver.epochs) == 2 and one.ready())
        await one.publish([Draft("a", b"2")])
        await receiver.until(3)

    assert [message.data for message in receiver.messages] == [b"1", b"forged", b"2"]


async def test_another_program_writes_to_the_keys(redis: Server) -> None:
    """
    Foreign entries are ignored; what is lost by them is a gap; all else goes on.
    """
    async with (
        proxies(redis.port, 1) as [proxy],
        redis_commands(redis.port) as ask,
        nodes([f"127.0.0.1:{proxy.port}"]) as [(one, receiver)],
    ):
        start = [await one.subscribe(name) for name in "abc"][-1]
        await one.publish([Draft(name, name.encode()) for name in "abc"])
        await receiver.until(3)
        await ask("XADD", "realtime:s:a", "*", "foo", "bar")
        await ask("SET", "realtime:s:b", "foo")
        whole, lost = [await one.after([name], After(start)) for name in "ab"]
        proxy.cut()
        await until(lambda: not one.ready())
        await until(one.ready)
        await one.publish([Draft("b", b"more")])
        await receiver.until(4)

    assert [message.data for message in whole.messages] == [b"a"]
    assert (lost.messages, lost.complete) == ((), False)
    assert receiver.missing == []


async def test_no_memory(redis: Server, states: list[str]) -> None:
    """
    Publishing fails, which is logged once; subscribers receive, also after a cut. When there is
    memory again, plain messages get their numbers.
    """
    async with (
        proxies(redis.port, 1) as [proxy],
        redis_commands(redis.port) as ask,
        nodes([f"127.0.0.1:{proxy.port}"]) as [(one, receiver)],
    ):
        await one.subscribe("a")
        await ask("PUBLISH", "a", "1")
        await receiver.until(1)
        start = one.position()
        await ask("CONFIG", "SET", "maxmemory", "1")
        for _ in range(5):
            with pytest.raises(Unavailable, match="OOM"):
                await one.publish([Draft("a", b"refused")])
        await ask("PUBLISH", "a", "2")
        await pause(3)  # to be tried again and again, and not to be states each time
        assert states[0] == "is connected"
        assert states[1].startswith("rejects writes: OOM command not allowed")
        assert len(states) == 2
        proxy.cut()
        await until(lambda: not one.ready())
        await until(one.ready)
        replay = await one.after(["a"], After(start))
        assert replay.complete
        await ask("CONFIG", "SET", "maxmemory", "0")
        await receiver.until(2)
        await until(lambda: bool(receiver.missing))  # more may have arrived while it was cut

    assert [message.data for message in receiver.messages] == [b"1", b"2"]


async def test_a_flood_without_numbers(redis: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Plain messages that wait for their numbers are bounded over all channels; dropped ones are a
    gap as soon as redis accepts it.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.sequencer.MAX_PENDING_BYTES", 100_000)
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        for name in ("idle", "a"):
            await one.subscribe(name)
            await ask("PUBLISH", name, "1")
        await receiver.until(2)
        await ask("CONFIG", "SET", "maxmemory", "1")
        for _ in range(20):
            await ask("PUBLISH", "a", bytes(10_000))
        await ask("CONFIG", "SET", "maxmemory", "0")
        await until(lambda: bool(receiver.missing))
        await ask("PUBLISH", "idle", "2")
        await until(lambda: bool(receiver.messages) and receiver.messages[-1].data == b"2")

    assert {channel for channel, _ in receiver.missing} == {"a"}
    assert len(receiver.messages) < 2 + 20


async def test_more_channels_without_numbers_than_are_remembered(
    redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    The channel that is forgotten gets a gap for its messages, and no other channel does.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.sequencer.MAX_CHANNELS", 2)
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        for name in "abc":
            await one.subscribe(name)
        await ask("CONFIG", "SET", "maxmemory", "1")
        for name in "abc":
            await ask("PUBLISH", name, name)
        await ask("CONFIG", "SET", "maxmemory", "0")
        await receiver.until(2)
        await until(lambda: bool(receiver.missing))

    assert [channel for channel, _ in receiver.missing] == ["a"]
    assert {message.channel for message in receiver.messages} == {"b", "c"}


async def test_subscribers_come_and_go_while_it_is_away() -> None:
    """
    Nothing remains of subscribers that have left.
    """
    async with nodes(["127.0.0.1:1"]) as [(one, _)]:
        tracemalloc.start()
        try:
            for number in range(5000):
                name = f"{number:01000}"
                one.subscribe(name)
                query: Any = one.after([name], After(Position("e", number)))
                query.addErrback(lambda _: None)
                query.cancel()
                one.unsubscribe(name)
            kept, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert kept < 1_000_000


async def test_any_name(redis: Server) -> None:
    """
    No byte of a channel's name has a meaning for redis or for the broker.
    """
    names = ["a b", "\n", "\0", "*", "[a]", "a\r\nPUBLISH b c", "x" * 100_000, "ü\udc80", ":", "0"]
    async with nodes([f"127.0.0.1:{redis.port}"] * 2, retention=make_retention()) as made:
        (one, receiver), (two, other_receiver) = made
        for broker in (one, two):
            for name in names:
                await broker.subscribe(name)
        drafts = [Draft(name, b"%d" % index, key=name) for index, name in enumerate(names)]
        positions = (await one.publish(drafts)).positions
        assert (await two.publish(drafts)).positions == positions
        async with redis_commands(redis.port) as ask:
            for name in names:
                await ask("PUBLISH", name.encode("utf-8", "surrogatepass"), "plain")
        for mine in (receiver, other_receiver):
            await mine.until(2 * len(names))
            assert [(m.channel, m.data) for m in mine.messages[: len(names)]] == [
                (draft.channel, draft.data) for draft in drafts
            ]
            plain = [m.channel for m in mine.messages[len(names) :]]
            assert sorted(plain) == sorted(names)
        replay = await two.after(names, Within(60))
    assert list(replay.messages) == receiver.messages
