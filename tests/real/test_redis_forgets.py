"""
What redis forgets before its time, by its `maxmemory-policy` or between two of our
questions: never without a word.
"""

from __future__ import annotations

from typing import Any

import pytest

from rt_twisted.model.message import After, Draft
from tests.defaults import make_retention
from tests.real.conftest import Server
from tests.real.readers import until
from tests.real.redis_server import asking, nodes, redis

__all__ = ["redis"]  # a fixture


async def test_last_positions_are_evicted(redis: Server) -> None:
    """
    A client that returns gets a gap, as the last positions of its channels are lost.
    """
    async with nodes([f"127.0.0.1:{redis.port}"]) as [(one, ears)], asking(redis.port) as ask:
        start = await one.subscribe("a")
        await one.publish([Draft("a", b"1")])
        await ears.until(1)
        await ask("DEL", "realtime:s:a", "realtime:last")
        replay = await one.after(["a"], After(start))
        assert not replay.complete
        await until(one.ready)
        await one.publish([Draft("a", b"2")])
        await ears.until(2)
        again = await one.after(["a"], After(ears.messages[-1].position))
        assert again.complete

    assert len(ears.epochs) == 2


async def test_a_count_of_bytes_is_evicted(redis: Server) -> None:
    """
    What is there then is forgotten, as nobody knows how much it is; the bound holds.
    """
    retention = make_retention(1000, 10_000)
    async with (
        nodes([f"127.0.0.1:{redis.port}"], retention=retention) as [(one, _)],
        asking(redis.port) as ask,
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
    A replay of many channels takes several questions: what is forgotten between them is
    a gap, although it was there when the first was answered.
    """
    monkeypatch.setattr("rt_twisted.brokers.redis.history.CHUNK", 1)
    url = f"127.0.0.1:{redis.port}"
    async with nodes([url, url], retention=make_retention(1)) as [(one, ears), (two, _)]:
        start = [await one.subscribe(name) for name in "ab"][-1]
        await until(two.ready)
        await two.publish([Draft("b", b"forgotten")])
        await ears.until(1)
        recall: Any = one._history._call

        async def answer(*arguments: Any) -> Any:
            said = await recall(*arguments)
            await two.publish([Draft("b", b"new"), Draft("b", b"newer")])
            return said

        monkeypatch.setattr(one._history, "_call", answer)
        replay = await one.after(["a", "b"], After(start))
        unhurt = await one.after(["a"], After(start))

    assert replay.messages == ()
    assert not replay.complete
    assert unhurt.complete
