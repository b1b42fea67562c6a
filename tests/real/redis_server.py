"""
A redis server for a test, a proxy before it, and brokers on it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint, clientFromString
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure

from tests.defaults import redis_broker_settings
from tests.fakes import RecordingReceiver
from tests.real.conftest import Serve, Server, free_port, require


def start_redis(serve: Serve, *options: str, port: int = 0, folder: Path | None = None) -> Server:
    """
    Start redis-server, without a file unless *options* give one.
    """
    program = require("redis-server", "redis-server")
    port = port or free_port()
    save = () if any("save" in option for option in options) else ("--save", "")
    return serve(
        [
            program,
            "--port",
            str(port),
            "--bind",
            "127.0.0.1",
            "--dir",
            ".",
            "--loglevel",
            "warning",
            *save,
            *options,
        ],
        port,
        folder,
    )


@pytest.fixture
def redis(serve: Serve) -> Server:
    """
    Start an empty redis.
    """
    return start_redis(serve)


class RedisCommands(Protocol):
    """
    A connection that sends redis one command after the other; it handles bytes only.
    """

    transport: Any

    def __init__(self) -> None:
        import hiredis

        self._reader = hiredis.Reader()
        self._waiting: list[Deferred[Any]] = []

    def ask(self, *words: str | bytes | int) -> Deferred[Any]:
        """
        Send a command; fires with its answer.
        """
        import hiredis

        done: Deferred[Any] = Deferred()
        self._waiting.append(done)
        pack: Any = hiredis.pack_command
        self.transport.write(pack(words))
        return done

    def dataReceived(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            done = self._waiting.pop(0)
            if isinstance(answer, Exception):
                done.errback(answer)
            else:
                done.callback(answer)

    def connectionLost(self, reason: Failure | None = None) -> None:
        waiting, self._waiting = self._waiting, []
        for done in waiting:
            done.errback(reason or Failure(ConnectionError()))


@asynccontextmanager
async def redis_commands(port: int) -> AsyncIterator[Callable[..., Deferred[Any]]]:
    """
    Connect to the redis on *port*; yields a function that sends a command.
    """
    from twisted.internet import reactor

    endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{port}")
    connection: RedisCommands = await endpoint.connect(Factory.forProtocol(RedisCommands))
    try:
        yield connection.ask
    finally:
        connection.transport.abortConnection()
        await turn()


async def turn() -> None:
    """
    Let the reactor run what is due.
    """
    from twisted.internet import reactor

    clock: Any = reactor
    await deferLater(clock, 0.01)


@asynccontextmanager
async def nodes(
    urls: Sequence[Any], receiver: Sequence[Any] = (), **settings: Any
) -> AsyncIterator[list[tuple[Any, Any]]]:
    """
    Start brokers, by addresses or `RedisServer`s, with their receivers; they become ready if
    redis is reachable.
    """
    from twisted.internet import reactor

    from rt_twisted.brokers.redis.broker import RedisBroker
    from rt_twisted.brokers.redis.server import RedisServer as Place

    made = []
    for index, url in enumerate(urls):
        place = url if isinstance(url, Place) else Place.parse(url)
        broker = RedisBroker(reactor, place, **{**redis_broker_settings(), **settings})
        mine = receiver[index] if receiver else RecordingReceiver()
        broker.attach(mine)
        broker.startService()
        made.append((broker, mine))
    try:
        yield made
    finally:
        for broker, _ in made:
            broker.stopService()
            broker.close()
        await turn()


class Proxy:
    """
    Stands between a node and its redis, and fails as networks do.

    Args:
        port: of redis.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._pairs: set[tuple[Any, Any]] = set()
        self._frozen = False
        self._shut = False
        self._listener: Any = None
        self.port = 0

    async def open(self) -> None:
        """
        Listen on a port of its own.
        """
        from twisted.internet import reactor

        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self._listener = await endpoint.listen(_factory(lambda: Half(self, None)))
        self.port = self._listener.getHost().port

    async def close(self) -> None:
        """
        Stop listening, and reset all connections.
        """
        self.cut()
        await self._listener.stopListening()
        await turn()

    def cut(self) -> None:
        """
        Reset all connections.
        """
        for pair in tuple(self._pairs):
            for transport in pair:
                transport.abortConnection()

    def shut(self, shut: bool) -> None:
        """
        Refuse new connections, or accept them again.
        """
        self._shut = shut

    def freeze(self, frozen: bool) -> None:
        """
        Forward nothing, or go on.
        """
        self._frozen = frozen
        for pair in self._pairs:
            for transport in pair:
                if frozen:
                    transport.pauseProducing()
                else:
                    transport.resumeProducing()

    def on_connected(self, half: Half) -> None:
        """
        Connect a node's connection to redis, or join both halves.
        """
        from twisted.internet import reactor

        if self._shut:
            half.transport.abortConnection()
            return
        if half.other is None:
            half.transport.pauseProducing()
            endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self._to}")
            connected: Any = endpoint.connect(_factory(lambda: Half(self, half)))
            connected.addErrback(lambda _: half.transport.abortConnection())
            return
        half.other.other = half
        self._pairs.add((half.other.transport, half.transport))
        if self._frozen:
            half.transport.pauseProducing()
        else:
            half.other.transport.resumeProducing()

    def on_lost(self, half: Half) -> None:
        """
        Close the other half of a connection that is lost.
        """
        for pair in tuple(self._pairs):
            if half.transport in pair:
                self._pairs.discard(pair)
                for transport in pair:
                    transport.abortConnection()


class Half(Protocol):
    """
    One side of a connection through a proxy.
    """

    transport: Any

    def __init__(self, proxy: Proxy, other: Half | None) -> None:
        self._proxy = proxy
        self.other = other

    def connectionMade(self) -> None:
        self._proxy.on_connected(self)

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.other.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self._proxy.on_lost(self)


def _factory(make: Callable[[], Protocol]) -> Any:
    return Factory.forProtocol(make)


@asynccontextmanager
async def proxies(port: int, count: int) -> AsyncIterator[list[Proxy]]:
    """
    Open *count* proxies before the redis on *port*.
    """
    made = [Proxy(port) for _ in range(count)]
    for proxy in made:
        await proxy.open()
    try:
        yield made
    finally:
        for proxy in made:
            await proxy.close()
