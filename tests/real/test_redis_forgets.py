"""
What redis forgets before its time, by its `maxmemory-policy` or between two queries, is always
reported.
"""

from __future__ import annotations

from typing import Any

import pytest

from rt_twisted.model.message import After, Draft
from tests.defaults import make_retention
from tests.real.conftest import Server
from tests.real.redis_server import nodes, redis, redis_commands
from tests.real.subscribers import until

__all__ = ["redis"]  # a fixture


async def test_last_positions_are_evicted(redis: Server) -> None:
    """
    Subscribers that reconnect get a gap: the last messages of their channels are unknown.
    """
    async with (
        nodes([f"127.0.0.1:{redis.port}"]) as [(one, receiver)],
        redis_commands(redis.port) as ask,
    ):
        start = await one.subscribe("a")
        await one.publish([Draft("a", b"1")])
        await receiver.until(1)
        await ask("DEL", "realtime:s:a", "realtime:last")
        replay = await one.after(["a"], After(start))
        assert not replay.complete
        await until(one.ready)
        await one.publish([Draft("a", b"2")])
        await receiver.until(2)
        again = await one.after(["a"], After(receiver.messages[-1].position))
        assert again.complete

    assert len(receiver.epochs) == 2


async def test_a_count_of_bytes_is_evicted(redis: Server) -> None:
    """
    The channel's stored messages are dropped, as their size is unknown; the bound holds.
    """
    retention = make_retention(1000, 10_000)
    async with (
        nodes([f"127.0.0.1:{redis.port}"], retention=retention) as [(one, _)],
        redis_commands(redis.port) as ask,
    ):
        start = await one.subscribe("a")
        await one.publish([Draft("a", bytes(744)) for _ in range(50)])
        await ask("DEL", "realtime:b:a")
        await one.publish([Draft("a", bytes(744)) for _ in range(30)])
        replay = await one.after(["a"], After(start))
        assert len(replay.messages) == 10
        assert not replay.complete
        await ask("DEL", "realtime:b:a", "realtime:s:a")
        await one.publish([Draft("a", bytes(744)) for _ in range(30)])
        assert len((await one.after(["a"], After(start))).messages) == 10


async def test_messages_are_forgotten_while_it_answers(
    redis: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """
    A replay of many channels takes several queries: what is forgotten between them is a gap,
    although it was stored at the first.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.history.CHUNK", 1)
    url = f"127.0.0.1:{redis.port}"
    async with nodes([url, url], retention=make_retention(1)) as [(one, receiver), (two, _)]:
        start = [await one.subscribe(name) for name in "ab"][-1]
        await until(two.ready)
        await two.publish([Draft("b", b"forgotten")])
        await receiver.until(1)
        recall: Any = one._history._call

        async def answer(*arguments: Any) -> Any:
            states = await recall(*arguments)
            await two.publish([Draft("b", b"new"), Draft("b", b"newer")])
            return states

        monkeypatch.setattr(one._history, "_call", answer)
        replay = await one.after(["a", "b"], After(start))
        unhurt = await one.after(["a"], After(start))

    assert replay.messages == ()
    assert not replay.complete
    assert unhurt.complete
