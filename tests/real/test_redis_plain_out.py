"""
Plain copies (`redis-plain-out`): programs that only use redis receive what the daemon numbers,
and no node takes a copy for a new message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory, Protocol

from rt_twisted.brokers.redis.server import RedisServer
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Draft
from tests.contracts.brokers import BrokerContract, HistoryContract, SharedLogContract
from tests.fakes import RecordingReceiver
from tests.real.conftest import Server
from tests.real.redis_server import nodes, proxies, redis, redis_commands, start_redis, turn
from tests.real.subscribers import pause, until
from tests.real.test_cut import seeded_random
from tests.real.test_redis_failures import MUCH, subscribe_all

__all__ = ["redis"]  # a fixture

TEXTS = [b"hello", b"42", b"", b"\xff\x00\r\n", b"hello", b"hello", bytes(range(256)) * 999]


class TestWithCopies(BrokerContract, HistoryContract, SharedLogContract):
    """
    RedisBroker fulfils the contracts while it copies each message to the channel's own name.
    """

    @pytest_twisted.async_yield_fixture
    async def broker(self, redis: Server, receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a node.
        """
        url = f"127.0.0.1:{redis.port}"
        async with nodes([url], [receiver], plain_out="same") as [(broker, _)]:
            await until(broker.ready)
            yield broker

    @pytest_twisted.async_yield_fixture
    async def other(self, redis: Server, other_receiver: RecordingReceiver) -> AsyncIterator[Any]:
        """
        Start a second node.
        """
        url = f"127.0.0.1:{redis.port}"
        async with nodes([url], [other_receiver], plain_out="same") as [(broker, _)]:
            await until(broker.ready)
            yield broker


class Program(Protocol):
    """
    A redis program: it subscribes to names, and may answer each message.
    """

    transport: Any

    def __init__(self) -> None:
        import hiredis

        self._reader = hiredis.Reader()
        self.received: list[tuple[bytes, bytes]] = []
        self.subscribed = 0

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if reply[0] == b"message":
                self.received.append((reply[1], reply[2]))
            else:
                self.subscribed += 1


@asynccontextmanager
async def program(port: int, *names: str) -> AsyncIterator[Program]:
    """
    Start a program that is subscribed to *names* in the redis on *port*.
    """
    import hiredis
    from twisted.internet import reactor

    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    found: Program = await endpoint.connect(Factory.forProtocol(Program))
    pack: Any = hiredis.pack_command
    found.transport.write(pack(("SUBSCRIBE", *names)))
    try:
        await until(lambda: found.subscribed == len(names))
        yield found
    finally:
        found.transport.abortConnection()
        await turn()


@pytest.mark.parametrize("count", [1, 3])
async def test_programs_receive_what_is_published(redis: Server, count: int) -> None:
    """
    A program receives the bytes alone, in order, once; each node receives the message once, and
    what programs publish under the same name too, also if it is the same.
    """
    url = f"127.0.0.1:{redis.port}"
    async with (
        redis_commands(redis.port) as ask,
        program(redis.port, "a") as other,
        nodes([url] * count, retention=MUCH, plain_out="same") as made,
    ):
        await subscribe_all(*[broker for broker, _ in made], channels=["a"])
        for text in TEXTS:
            await gatherResults(
                [made[-1][0].publish([Draft("a", text, "kind")]), ask("PUBLISH", "a", text)]
            )
        total = 2 * len(TEXTS)
        received = await gatherResults([receiver.until(total) for _, receiver in made])
        await until(lambda: len(other.received) == total)
        await pause(0.1)  # for what must not come

    assert all(messages == received[0] for messages in received)
    assert sorted(m.data for m in received[0]) == sorted(TEXTS * 2)
    assert [m.data for m in received[0] if m.event == "kind"] == TEXTS
    assert len(received[0]) == len(other.received) == total
    assert sorted(data for _, data in other.received) == sorted(TEXTS * 2)


async def test_a_program_answers_on_the_same_channel(redis: Server) -> None:
    """
    What a program answers is received once, and not sent back to it.
    """
    url = f"127.0.0.1:{redis.port}"
    async with (
        redis_commands(redis.port) as ask,
        program(redis.port, "a") as other,
        nodes([url] * 2, retention=MUCH, plain_out="same") as made,
    ):
        await subscribe_all(*[broker for broker, _ in made], channels=["a"])
        for number in range(50):
            await made[number % 2][0].publish([Draft("a", b"%d" % number)])
            await until(lambda number=number: len(other.received) == 2 * number + 1)  # type: ignore[misc]
            assert other.received[-1][1] == b"%d" % number
            await ask("PUBLISH", "a", b"%d" % number)
            await until(lambda number=number: len(other.received) == 2 * number + 2)  # type: ignore[misc]
        received = await gatherResults([receiver.until(100) for _, receiver in made])
        await pause(0.1)

    assert received[0] == received[1]
    assert [int(m.data) for m in received[0]] == [number // 2 for number in range(100)]
    assert len(other.received) == 100


async def test_names(redis: Server) -> None:
    """
    Copies have the channel's own name, or one with a prefix. Under that prefix nothing is
    received, and plain messages are copied to it. The setting is no by default.
    """
    url = f"127.0.0.1:{redis.port}"
    async with (
        redis_commands(redis.port) as ask,
        program(redis.port, "a", "out.a", "in.a") as other,
        AsyncExitStack() as stack,
    ):

        async def publish(channel: str = "a", out: str | None = None, **settings: Any) -> Any:
            [(one, receiver)] = await stack.enter_async_context(nodes([url], **settings))
            await subscribe_all(one, channels=["a", "out.a"])
            await one.publish([Draft(channel, b"x", out=out)])
            await ask("PUBLISH", "out.a", "ignored?")
            await ask("PUBLISH", "in.a", "plain")
            await one.publish([Draft("a", b"end", out="no")])
            taken = ("a", b"plain") if settings.get("plain_prefix") else ("a", b"end")
            await until(lambda: {taken, ("a", b"end")} <= set(_pairs(receiver)))
            await stack.aclose()
            found = [each for each in other.received if each[1] not in (b"ignored?",)]
            other.received.clear()
            return found, _pairs(receiver)

        plain = (b"in.a", b"plain")
        copies, received = await publish()
        assert copies == [plain]
        assert ("out.a", b"ignored?") in received
        assert (await publish(plain_out="same"))[0] == [(b"a", b"x"), plain]
        assert (await publish(out="same"))[0] == [(b"a", b"x"), plain]
        assert (await publish(plain_out="same", out="no"))[0] == [plain]
        copies, received = await publish(plain_out="out.")
        assert copies == [(b"out.a", b"x"), plain]
        assert [channel for channel, _ in received] == ["a", "a"]
        copies, received = await publish(plain_out="same", plain_prefix="in.")
        assert copies == [(b"in.a", b"x"), plain]
        copies, received = await publish(plain_out="out.", plain_prefix="in.")
        assert sorted(copies) == sorted([(b"out.a", b"x"), plain, (b"out.a", b"plain")])
        assert sorted(received) == [("a", b"end"), ("a", b"plain"), ("a", b"x")]
        assert (await publish("realtime:0:m:a", plain_out="same"))[0] == [plain]


def _pairs(receiver: RecordingReceiver) -> list[tuple[str, bytes]]:
    """
    Return channel and data of what *receiver* has received.
    """
    return [(message.channel, message.data) for message in receiver.messages]


async def test_a_known_key_is_not_copied_again(redis: Server) -> None:
    """
    A repeated publication with an idempotency key has no second copy.
    """
    url = f"127.0.0.1:{redis.port}"
    async with program(redis.port, "a") as other, nodes([url], plain_out="same") as [(one, _)]:
        await until(one.ready)
        for _ in range(3):
            await one.publish([Draft("a", b"x", key="k"), Draft("a", b"y")])
        await until(lambda: len(other.received) == 4)
        await pause(0.05)

    assert [data for _, data in other.received] == [b"x", b"y", b"y", b"y"]


async def test_redis_denies_the_copies(redis: Server) -> None:
    """
    Messages whose copies the ACL forbids reach all nodes; what programs publish next, too.
    """
    async with redis_commands(redis.port) as ask:
        await ask(
            "ACL", "SETUSER", "narrow", "on", ">s", "~*", "+@all", "resetchannels", "&realtime:*"
        )
        denied = RedisServer.parse(f"redis://narrow:s@127.0.0.1:{redis.port}")
        async with (
            nodes([denied], plain=False, plain_out="same") as [(one, _)],
            nodes([f"127.0.0.1:{redis.port}"]) as [(two, receiver)],
        ):
            await until(one.ready)
            await subscribe_all(two, channels=["a"])
            for number in range(20):
                [position] = (await one.publish([Draft("a", b"x")])).positions
                await ask("PUBLISH", "a", "x")
                received = await receiver.until(2 * number + 2)
                assert position in [message.position for message in received]
            await pause(0.05)
            assert len(receiver.messages) == 40


async def test_nodes_and_channels_come_and_go(redis: Server) -> None:
    """
    Whatever happens to connections and subscriptions, each message is received once by the nodes
    that are subscribed, and programs receive each copy once.
    """
    rng = seeded_random()
    async with AsyncExitStack() as stack:
        ask = await stack.enter_async_context(redis_commands(redis.port))
        proxy_list = await stack.enter_async_context(proxies(redis.port, 2))
        other = await stack.enter_async_context(program(redis.port, "a", "b"))
        urls = [f"127.0.0.1:{proxy.port}" for proxy in proxy_list] + [f"127.0.0.1:{redis.port}"] * 2
        made = await stack.enter_async_context(
            nodes(urls, retention=MUCH, timeout=20.0, plain_out="same")
        )
        brokers = [broker for broker, _ in made]
        await subscribe_all(*brokers, channels=["a", "b"])
        sent: dict[str, list[bytes]] = {"a": [], "b": []}
        for round in range(15):
            for proxy in proxy_list:
                if rng.random() < 0.3:
                    proxy.cut()
                else:
                    proxy.freeze(rng.random() < 0.4)
            for _ in range(40):
                channel = rng.choice("ab")
                data = b"%d" % rng.randrange(3)  # many are the same
                sent[channel].append(data)
                if rng.random() < 0.5:
                    await ask("PUBLISH", channel, data)
                else:
                    await brokers[2].publish([Draft(channel, data)])
                if round % 3 == 0:
                    brokers[3].unsubscribe("c")
                    brokers[3].subscribe("c")
                await pause(0.002)
        for proxy in proxy_list:
            proxy.freeze(False)
        received = await gatherResults([receiver.until(600) for _, receiver in made])
        await until(lambda: len(other.received) == 600)
        await pause(0.2)

    for messages, (_, receiver) in zip(received, made, strict=True):
        assert len(receiver.messages) == 600
        assert messages == received[0]
    for channel in "ab":
        assert sorted(m.data for m in received[0] if m.channel == channel) == sorted(sent[channel])
        assert [data for name, data in other.received if name == channel.encode()] == sent[channel]


async def test_resubscribing_a_busy_channel(redis: Server) -> None:
    """
    A node that leaves and joins a channel while its messages arrive never numbers a copy.
    """
    url = f"127.0.0.1:{redis.port}"
    async with nodes([url] * 2, retention=MUCH, plain_out="same") as [(one, receiver), (two, _)]:
        start = await one.subscribe("a")
        await until(two.ready)
        for _ in range(100):
            two.subscribe("a").addErrback(lambda _: None)
            sent = one.publish([Draft("a", b"x")] * 20)
            await pause(0.001)
            two.unsubscribe("a")
            await sent
        await receiver.until(2000)
        await pause(1.5)  # another node's sequencer would take over after a second
        replay = await one.after(["a"], After(start))

    assert len(receiver.messages) == len(replay.messages) == 2000


async def test_redis_restarts(serve: Any, tmp_path: Any) -> None:
    """
    A redis that is killed and started again with its file loses nothing for nodes, and they
    report no gap: copies are no plain messages of unknown number.
    """
    options = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
    server = start_redis(serve, *options, folder=tmp_path)
    url = f"127.0.0.1:{server.port}"
    async with nodes([url] * 2, retention=MUCH, plain_out="same") as made:
        brokers = [broker for broker, _ in made]
        await subscribe_all(*brokers, channels=["a"])
        sent = 0
        for _ in range(3):
            for _ in range(30):
                for broker in brokers:
                    try:
                        await broker.publish([Draft("a", b"%d" % sent, key=f"k{sent}")])
                    except Unavailable:
                        continue
                    sent += 1
            server.kill()
            await until(lambda: not any(broker.ready() for broker in brokers))
            server.start()
            await until(lambda: all(broker.ready() for broker in brokers))
        received = await gatherResults([receiver.until(sent) for _, receiver in made])

    assert received[0] == received[1]
    assert [int(m.data) for m in received[0]] == list(range(sent))
    assert [receiver.missing for _, receiver in made] == [[], []]
