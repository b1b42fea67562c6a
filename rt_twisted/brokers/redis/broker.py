"""
Many nodes, one log in redis.

Redis numbers each message, remembers it and publishes it in one step, so all
nodes speak of the same positions, and replay what they never saw. A node has
two connections: one asks, one listens. If either is lost, what was missed is
fetched and told in order before the live stream goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from txredisapi import RedisError, ResponseError
from zope.interface import implementer

from rt_twisted.brokers.connector import Reconnector, retry_policy
from rt_twisted.brokers.interfaces import (
    IBroker,
    IHistory,
    IReady,
    IReceiver,
    IReconfigurable,
    IRefusing,
)
from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import (
    NEVER,
    NOT_NOW,
    AuthFailed,
    CommandConnection,
    PubSubConnection,
    RedisUnavailable,
    ServerInfo,
    connect,
    find_master,
    reason_of,
)
from rt_twisted.brokers.redis.history import RedisHistoryReader
from rt_twisted.brokers.redis.publisher import RedisPublisher, encode
from rt_twisted.brokers.redis.receiver import RedisReceiver
from rt_twisted.brokers.redis.scripts import ALL, HELLO, READING, Script
from rt_twisted.brokers.redis.sequencer import Sequencer
from rt_twisted.brokers.redis.server import Address, RedisServer
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.brokers.redis.write_probe import WriteProbe
from rt_twisted.model.message import NOWHERE, Draft, Position, PublishResult, Replay, Since
from rt_twisted.model.retention import Retention

_log = Logger()

TICK = 0.5  # seconds between two looks at everything
PULSE = 2  # ticks between two marks
SLOW_RETRY = 10.0  # seconds to another try where redis does not let us in
_RETRY = retry_policy(0.05, 5.0, 2.0)


@implementer(IBroker, IHistory, IReady, IReconfigurable, IRefusing)
class RedisBroker(Service):
    """
    Carries messages through redis.

    Args:
        reactor: the reactor.
        server: where redis is.
        keep: what each channel remembers.
        prefix: what all our keys and names begin with; nodes that share a log
            have the same.
        plain: whether a plain `PUBLISH NAME data` reaches the channel NAME.
        plain_prefix: what such a NAME has in front of the channel's.
        wait: seconds a publication may wait while redis is away.
        timeout: seconds after which a redis that does not answer is given up.
    """

    def __init__(
        self,
        reactor: Any,
        server: RedisServer,
        retention: Retention,
        prefix: str,
        plain: bool,
        plain_prefix: str,
        wait: float,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._retention = retention
        self._timeout = timeout
        # Redis does not divide names of pub/sub by databases.
        self._keys = (prefix, f"{prefix}{server.db}:")
        node = secrets.token_hex(8)
        self._link: CommandConnection | None = None
        self._ear: PubSubConnection | None = None
        self._greeting = ServerInfo("", False, False)
        self._there = False  # both connections are
        self._state = ""  # as it was said last
        self._start = NOWHERE  # what the log may remember begins behind this
        self._closed = False
        self._ticks = 0
        self._refused = False  # by the last attempt, which is not repeated soon
        self._reconnector = Reconnector(reactor, self._stay_connected, self._delay)
        self._trigger: Any = None
        self._tick = LoopingCall(self._look)
        self._tick.clock = reactor
        control = encode(f"{self._keys[1]}n:{node}")
        self._barriers = Barriers(reactor, self._call, node, control, timeout)
        self._subscriptions = RedisSubscriptions(
            reactor, self._barriers, *self._keys, plain_prefix if plain else None
        )
        self._history = RedisHistoryReader(
            reactor, self._call, lambda: self._retention.age, self._barriers, node
        )
        self._plain = Sequencer(reactor, self._call, self._bounds, self._barriers, node)
        self._hearing = RedisReceiver(
            self._barriers, self._subscriptions, self._history, self._plain, self._drop
        )
        self._taking = WriteProbe(reactor, self._call, self._bounds, self._say)
        self._publisher = RedisPublisher(
            reactor, self._call, self._bounds, self._hearing.learn, wait
        )

    # Life.

    def startService(self) -> None:
        """
        Connect, and stay connected.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._tick.start(TICK, now=False)
        self._reconnector.start()
        # Not in stopService: requests that are running then may still publish.
        self._trigger = self._reactor.addSystemEventTrigger("after", "shutdown", self.close)

    def stopService(self) -> None:
        """
        Leave plain messages to other nodes; the rest goes on until `close`.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._plain.stop()

    def close(self) -> None:
        """
        Let go of redis; nothing is told afterwards.
        """
        if self._closed or self._reconnector.stopped:
            return
        self._closed = True
        self._tick.stop()
        if self._reactor.running:
            self._reactor.removeSystemEventTrigger(self._trigger)
        self._publisher.stop()
        self._history.batcher.stop()
        self._reconnector.stop()
        self._there = False
        self._drop("the server is stopping")  # it may be our own caller that is told so

    def reconfigure(self, retention: Retention) -> None:
        """
        Go on with other bounds.
        """
        self._retention = retention

    # What a broker does.

    def attach(self, receiver: IReceiver) -> None:
        """
        See `IBroker.attach`.
        """
        self._hearing.receiver = receiver

    def position(self) -> Position:
        """
        What was last told.
        """
        return self._hearing.head

    def subscribe(self, channel: str) -> Deferred[Position]:
        """
        See `IBroker.subscribe`.
        """
        return self._subscriptions.add(channel, self._hearing.head)

    def unsubscribe(self, channel: str) -> None:
        """
        See `IBroker.unsubscribe`.
        """
        self._subscriptions.remove(channel)
        self._plain.forget(channel)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        """
        Everything of one turn goes out together.
        """
        return self._publisher.publish(drafts)

    def ready(self) -> bool:
        """
        Whether both connections are there.
        """
        return self._there

    def refuses(self) -> bool:
        """
        See `IRefusing.refuses`.
        """
        return self._there and self._taking.refuses

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        See `IHistory.after`.
        """
        return self._history.batcher.ask(channels, since)

    # Being connected.

    async def _stay_connected(self) -> bool:
        self._refused = False
        try:
            await self._be_connected()
        except (RedisUnavailable, RedisError, ValueError) as error:
            reason = reason_of(error) or type(error).__name__
            self._say(f"is away: {reason}")
        except AuthFailed as error:
            reason = str(error)
            self._refused = True
            self._say(f"does not let us in: {reason}")
        except CancelledError:
            raise
        except Exception as error:
            reason = repr(error)
            _log.failure("while connected to redis")
        was_ready, self._there = self._there, False
        if not self._closed:
            self._publisher.close(f"redis is away: {reason}")
        return was_ready

    def _delay(self, attempts: int) -> float:
        return SLOW_RETRY if self._refused else _RETRY(attempts)

    async def _be_connected(self) -> None:
        """
        Returns never.

        Raises:
            Away, Refused, ResponseError: there is no redis any more, or not yet.
        """
        address = await find_master(self._reactor, self._server, self._timeout)
        link = CommandConnection(self._timeout)
        try:
            await self._connect(address, link)
            self._greeting = await link.enter(self._server)
            self._link = link
            link.lost.addCallback(self._deafen)
            await self._greet(link)
            self._publisher.open()
            attempt = 0
            while link.connected and not self._closed:
                try:
                    await self._hear(address)
                except RedisUnavailable as error:
                    reason = str(error)
                if link.connected and not self._closed:
                    attempt = 0 if self._there else attempt + 1
                    self._there = False
                    await deferLater(self._reactor, _RETRY(attempt))
                    # A redis that ends closes both connections, and is away.
                    if link.connected and not self._closed:
                        self._say(f"is not heard: {reason}")
            raise RedisUnavailable(await link.lost or "the connection was lost")
        finally:
            self._link = None
            if link.transport is not None:
                link.transport.abortConnection()

    async def _connect(self, address: Address | None, link: CommandConnection) -> None:
        endpoint = self._server.endpoint(self._reactor, address, self._timeout)
        await connect(endpoint, link)

    async def _greet(self, link: CommandConnection) -> None:
        """
        Learn which log this is, or have redis begin one.
        """
        known = self._hearing.known
        try:
            for script in ALL:
                await link.execute_command("SCRIPT", "LOAD", script.text)
            epoch, offset, start, jumps = await self._call(
                HELLO, secrets.token_hex(4), known.epoch, known.offset, int(self._greeting.safe)
            )
        except ResponseError as error:
            reason = reason_of(error)
            if reason.startswith(NEVER):
                raise AuthFailed(reason) from None
            raise
        self._history.epoch = epoch.decode()
        offsets = [int(float(one)) for one in jumps]
        self._history.offset_jumps = list(zip(offsets[::2], offsets[1::2], strict=True))
        self._start = Position(epoch.decode(), start)
        self._hearing.learn(Position(epoch.decode(), offset))
        if self._greeting.evicts:
            _log.warn("{server}: its maxmemory-policy may evict the log", server=self._server)

    async def _hear(self, address: Address | None) -> None:
        """
        Listen until that is over.

        Raises:
            Away: it is.
        """
        ear = PubSubConnection(self._timeout, self._hearing)
        try:
            await self._connect(address, ear)
            greeting = await ear.enter(self._server)
            if greeting.run != self._greeting.run:
                self._drop("another server answers now")
                raise RedisUnavailable("another server answers now")
            self._ear = ear
            self._barriers.begin()
            ear.lost.addCallback(self._barriers.end)
            await self._hearing.begin(ear, self._start)
            if self._closed:
                return
            self._there = True
            self._taking.begin()
            self._say("is there")
            self._subscriptions.open(ear)
            self._history.batcher.open()
            self._plain.open()
            raise RedisUnavailable(await ear.lost or "the connection was lost")
        finally:
            self._ear = None
            self._subscriptions.close()
            self._history.batcher.close()
            self._plain.close()
            self._hearing.end()
            self._barriers.end("")
            if ear.transport is not None:
                ear.abort()

    def _deafen(self, reason: str) -> str:
        if self._ear is not None:
            self._ear.abort(reason)
        return reason

    def _drop(self, reason: str) -> None:
        """
        Begin anew, with a hello.
        """
        if self._link is not None:
            self._link.abort(reason)

    def _say(self, state: str) -> None:
        # A reactor that ends cuts our connections before it calls `close`.
        if not self._reactor.running:
            return
        before, self._state = self._state, state
        if state == "is there":
            tell = _log.info
        elif state.partition(":")[0] == before.partition(":")[0]:
            tell = _log.debug  # still, if for another reason: refused, after it was lost
        else:
            tell = _log.error
        if state != before:
            tell("redis {server} {state}", server=self._server, state=state)

    def _look(self) -> None:
        """
        Now and then: is redis still there, and does it still reach our ear?
        """
        if not self._there or self._ear is None:
            return
        silence = self._reactor.seconds() - self._barriers.heard_at
        if silence > self._timeout + TICK * PULSE:
            self._ear.abort(f"nothing is heard for {silence:.0f} seconds")
            return
        self._ticks += 1
        if self._ticks % PULSE == 0:
            ensureDeferred(self._barriers.ask()).addErrback(
                lambda failure: failure.trap(RedisUnavailable, ResponseError)
            )
            self._taking.look()
        self._plain.look()

    # Scripts.

    def _call(self, script: Script, *arguments: Any) -> Deferred[Any]:
        return ensureDeferred(self._run(script, arguments))

    async def _run(self, script: Script, arguments: tuple[Any, ...]) -> Any:
        link = self._link
        if link is None:
            raise RedisUnavailable("the connection was lost")
        try:
            answer = await link.run(script, self._keys, (self._greeting.run, *arguments))
        except ResponseError as error:
            reason = reason_of(error)
            if reason.startswith(NOT_NOW):
                self._drop(reason)  # another is the master now
            elif self._there:
                self._taking.refused(reason)
            raise
        if answer is None:  # its log is gone, or somebody else's
            self._drop("the log has gone")
            raise RedisUnavailable("the log has gone")
        if self._taking.refuses and script not in READING:
            self._taking.took()
        return answer

    def _bounds(self) -> tuple[int, int, int]:
        return self._retention.count, int(self._retention.age * 1000), self._retention.bytes
