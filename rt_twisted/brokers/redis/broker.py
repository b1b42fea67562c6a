"""
The redis broker: many nodes, one log in redis.

Redis numbers each message, stores it and publishes it in one step, so all nodes have the
same positions and can replay what they never received. A node has two connections, one
for commands and one for pub/sub. If either is lost, what was missed is fetched and
delivered in order before the live stream goes on.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.connector import Reconnector, retry_policy
from rt_twisted.brokers.interfaces import (
    IBroker,
    IClaims,
    ICopying,
    IForgetting,
    IHistory,
    IPatterns,
    IReady,
    IReceiver,
    IReconfigurable,
    IRefusing,
)
from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.claims import RedisClaims
from rt_twisted.brokers.redis.copies import CopyNames, encode
from rt_twisted.brokers.redis.errors import (
    PERMANENT_ERRORS,
    TEMPORARY_ERRORS,
    AuthFailed,
    RedisUnavailable,
    ResponseError,
    reason_of,
)
from rt_twisted.brokers.redis.history import RedisHistoryReader
from rt_twisted.brokers.redis.publisher import RedisPublisher
from rt_twisted.brokers.redis.receiver import RedisReceiver
from rt_twisted.brokers.redis.scripts import ALL_SCRIPTS, FORGET, HELLO, READ_SCRIPTS, Script
from rt_twisted.brokers.redis.sequencer import Sequencer
from rt_twisted.brokers.redis.server import Address, RedisServer, ServerInfo
from rt_twisted.brokers.redis.subscriptions import RedisSubscriptions
from rt_twisted.brokers.redis.write_probe import WriteProbe
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.load_object import load_object
from rt_twisted.model.message import NOWHERE, Draft, Position, PublishResult, Replay, Since
from rt_twisted.model.retention import OVERHEAD, Retention

if TYPE_CHECKING:
    from rt_twisted.brokers.redis.connections import CommandConnection, PubSubConnection

_log = Logger()

CHECK_INTERVAL = 0.5  # seconds between two checks of the connections
BARRIER_CHECKS = 2  # checks between two barriers
SLOW_RETRY = 10.0  # seconds before the next attempt, where redis denies access
_RETRY = retry_policy(0.05, 5.0, 2.0)
_CONNECTED = "is connected"
_CONNECTIONS = "rt_twisted.brokers.redis.connections"


@implementer(
    IBroker,
    IClaims,
    ICopying,
    IForgetting,
    IHistory,
    IPatterns,
    IReady,
    IReconfigurable,
    IRefusing,
)
class RedisBroker(Service):
    """
    Carries messages through redis.

    Args:
        reactor: the reactor.
        server: the address of redis.
        retention: what each channel retains.
        prefix: what all keys and names of the daemon begin with; nodes that share a log
            have the same.
        plain: whether a plain `PUBLISH NAME data` reaches the channel NAME.
        plain_prefix: what such a NAME has before the channel's name.
        plain_out: where each message is also published for other programs; see `CopyNames`.
        wait: seconds that a publication may wait while redis is away.
        timeout: seconds after which a redis that does not answer counts as lost.
    """

    def __init__(
        self,
        reactor: Any,
        server: RedisServer,
        retention: Retention,
        prefix: str,
        plain: bool,
        plain_prefix: str,
        plain_out: str,
        wait: float,
        timeout: float,
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._retention = retention
        self._timeout = timeout
        # Pub/sub names are not divided by databases, keys are.
        self._keys = (prefix, f"{prefix}{server.db}:")
        node = secrets.token_hex(8)
        self._connections: Any = load_object(_CONNECTIONS)
        self._commands: CommandConnection | None = None
        self._pubsub: PubSubConnection | None = None
        self._server_info = ServerInfo("", False, False)
        self._ready = False  # whether both connections are prepared
        self._logged_state = ""
        self._start = NOWHERE  # the position before the first message of this epoch
        self._closed = False
        self._checks = 0
        self._copy_denied = False  # as was logged for this connection
        self._denied = False  # by the last attempt, which is not repeated soon
        self._reconnector = Reconnector(reactor, self._connect_once, self._delay)
        self._shutdown_trigger: Any = None
        self._check_loop = LoopingCall(self._check)
        self._check_loop.clock = reactor
        control = encode(f"{self._keys[1]}n:{node}")
        self._barriers = Barriers(reactor, self._call, node, control, timeout)
        self._copies = CopyNames(prefix, plain, plain_prefix, plain_out)
        self._subscriptions = RedisSubscriptions(reactor, self._barriers, *self._keys, self._copies)
        self.reserve_copies(plain_out)
        self._history = RedisHistoryReader(
            reactor, self._call, lambda: self._retention.age, self._barriers, node
        )
        self._sequencer = Sequencer(
            reactor,
            self._call,
            self._bounds,
            self._barriers,
            node,
            self._copies,
            self._on_copy_denied,
        )
        self._receiver = RedisReceiver(
            self._barriers, self._subscriptions, self._history, self._sequencer, self._reconnect
        )
        self._write_probe = WriteProbe(reactor, self._call, self._all_bounds, self._log_state)
        self._claims = RedisClaims(reactor, self._call)
        self._publisher = RedisPublisher(
            reactor,
            self._call,
            self._all_bounds,
            self._receiver.note_position,
            self._copies,
            self._on_copy_denied,
            wait,
        )

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._check_loop.start(CHECK_INTERVAL, now=False)
        self._reconnector.start()
        # Not in stopService: requests that are running then may still publish.
        self._shutdown_trigger = self._reactor.addSystemEventTrigger(
            "after", "shutdown", self.close
        )

    def stopService(self) -> None:
        # Other nodes number plain messages from now on; the rest goes on until `close`.
        super().stopService()  # type: ignore[no-untyped-call]
        self._sequencer.stop()

    def close(self) -> None:
        """
        Close the connections; the receiver gets nothing afterwards.
        """
        if self._closed or self._reconnector.stopped:
            return
        self._closed = True
        self._check_loop.stop()
        if self._reactor.running:
            self._reactor.removeSystemEventTrigger(self._shutdown_trigger)
        self._claims.stop()
        self._publisher.stop()
        self._history.batcher.stop()
        self._reconnector.stop()
        self._ready = False
        self._reconnect("the server is stopping")

    def reconfigure(self, retention: Retention) -> None:
        self._retention = retention

    def attach(self, receiver: IReceiver) -> None:
        self._receiver.receiver = receiver

    def position(self) -> Position:
        return self._receiver.head

    def check_pattern(self, pattern: Wildcard) -> None:
        pass

    def subscribe(self, channel: Selector) -> Deferred[Position]:
        return self._subscriptions.add(channel, self._receiver.head)

    def unsubscribe(self, channel: Selector) -> None:
        self._subscriptions.remove(channel)
        names = [channel] if isinstance(channel, str) else self._sequencer.matching(channel)
        for name in names:
            if not self._subscriptions.covers(name):
                self._sequencer.forget(name)

    def publish(self, drafts: Sequence[Draft]) -> Deferred[PublishResult]:
        return self._publisher.publish(drafts)

    def ready(self) -> bool:
        return self._ready

    def refuses(self) -> bool:
        return self._ready and self._write_probe.refuses

    def after(self, channels: Sequence[Selector], since: Since) -> Deferred[Replay]:
        return self._history.batcher.ask(channels, since)

    def forget(self, channel: str) -> Deferred[None]:
        return ensureDeferred(self._forget(channel))

    async def _forget(self, channel: str) -> None:
        try:
            await self._call(FORGET, *self._bounds(), encode(channel))
        except (RedisUnavailable, ResponseError) as error:
            raise Unavailable(f"redis: {error}") from None

    def check_copies(self, out: str) -> None:
        self._copies.check(out)

    def reserve_copies(self, out: str) -> None:
        reserved = self._copies.reserved(out)
        if reserved:
            self._subscriptions.reserve(reserved)

    def _on_copy_denied(self, reason: str) -> None:
        if not self._copy_denied:
            self._copy_denied = True
            _log.error(
                "redis {server} denies plain copies of messages: {reason}",
                server=self._server,
                reason=reason,
            )

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[Any]:
        return self._claims.claim(name, run, takeover)

    def is_claimed(self, name: str) -> Deferred[bool]:
        return self._claims.is_claimed(name)

    # The connections.

    async def _connect_once(self) -> bool:
        self._denied = False
        try:
            await self._run_connections()
        except (RedisUnavailable, ResponseError, ValueError) as error:
            reason = reason_of(error) or type(error).__name__
            self._log_state(f"is away: {reason}")
        except AuthFailed as error:
            reason = str(error)
            self._denied = True
            self._log_state(f"denies access: {reason}")
        except CancelledError:
            raise
        except Exception as error:
            reason = repr(error)
            _log.failure("while connected to redis")
        was_ready, self._ready = self._ready, False
        if not self._closed:
            self._publisher.close(f"redis is away: {reason}")
        return was_ready

    def _delay(self, attempts: int) -> float:
        return SLOW_RETRY if self._denied else _RETRY(attempts)

    async def _run_connections(self) -> None:
        """
        Connect, and run the pub/sub connection as long as that for commands lasts.

        Raises:
            RedisUnavailable, AuthFailed, ResponseError: always, when the connection is
                lost or cannot be made.
        """
        address = await self._connections.find_master(self._reactor, self._server, self._timeout)
        commands: CommandConnection = self._connections.CommandConnection(self._timeout)
        try:
            await self._connect(address, commands)
            self._server_info = await commands.login(self._server)
            self._commands = commands
            self._copy_denied = False
            commands.lost.addCallback(self._abort_pubsub)
            await self._open_log(commands)
            self._publisher.open()
            attempts = 0
            while commands.connected and not self._closed:
                try:
                    await self._run_pubsub(address)
                except RedisUnavailable as error:
                    reason = str(error)
                if commands.connected and not self._closed:
                    attempts = 0 if self._ready else attempts + 1
                    self._ready = False
                    await deferLater(self._reactor, _RETRY(attempts))
                    # When redis itself has stopped, both connections close, and
                    # only the loss of the other one is logged.
                    if commands.connected and not self._closed:
                        self._log_state(f"loses the pub/sub connection: {reason}")
            raise RedisUnavailable(await commands.lost or "the connection was lost")
        finally:
            self._commands = None
            if commands.transport is not None:
                commands.transport.abortConnection()

    async def _connect(self, address: Address | None, connection: CommandConnection) -> None:
        endpoint = self._server.endpoint(self._reactor, address, self._timeout)
        await self._connections.connect(endpoint, connection)

    async def _open_log(self, commands: CommandConnection) -> None:
        """
        Load the scripts, and ask redis which log it has, or make it begin one.
        """
        newest = self._receiver.newest
        try:
            for script in ALL_SCRIPTS:
                await commands.load_script(script)
            epoch, offset, start, jumps = await self._call(
                HELLO,
                secrets.token_hex(4),
                newest.epoch,
                newest.offset,
                int(self._server_info.safe),
            )
        except ResponseError as error:
            reason = reason_of(error)
            if reason.startswith(PERMANENT_ERRORS):
                raise AuthFailed(reason) from None
            raise
        self._history.epoch = epoch.decode()
        offsets = [int(float(each)) for each in jumps]
        self._history.offset_jumps = list(zip(offsets[::2], offsets[1::2], strict=True))
        self._start = Position(epoch.decode(), start)
        self._receiver.note_position(Position(epoch.decode(), offset))
        if self._server_info.evicts:
            _log.warn("{server}: its maxmemory-policy may evict the log", server=self._server)

    async def _run_pubsub(self, address: Address | None) -> None:
        """
        Receive messages until the pub/sub connection is lost.

        Raises:
            RedisUnavailable: always, when the connection is lost or cannot be made.
        """
        pubsub: PubSubConnection = self._connections.PubSubConnection(self._timeout, self._receiver)
        try:
            await self._connect(address, pubsub)
            server_info = await pubsub.login(self._server)
            if server_info.run != self._server_info.run:
                self._reconnect("another server answers now")
                raise RedisUnavailable("another server answers now")
            self._pubsub = pubsub
            self._barriers.on_connected()
            pubsub.lost.addCallback(self._barriers.on_lost)
            await self._receiver.start(pubsub, self._start)
            if self._closed:
                return
            self._ready = True
            self._write_probe.reset()
            self._log_state(_CONNECTED)
            self._subscriptions.open(pubsub)
            self._history.batcher.open()
            self._sequencer.open()
            raise RedisUnavailable(await pubsub.lost or "the connection was lost")
        finally:
            self._pubsub = None
            self._subscriptions.close()
            self._history.batcher.close()
            self._sequencer.close()
            self._receiver.stop()
            self._barriers.on_lost("")
            if pubsub.transport is not None:
                pubsub.abort()

    def _abort_pubsub(self, reason: str) -> str:
        if self._pubsub is not None:
            self._pubsub.abort(reason)
        return reason

    def _reconnect(self, reason: str) -> None:
        if self._commands is not None:
            self._commands.abort(reason)

    def _log_state(self, state: str) -> None:
        # A reactor that ends cuts the connections before it calls `close`.
        if not self._reactor.running:
            return
        before, self._logged_state = self._logged_state, state
        if state == _CONNECTED:
            log = _log.info
        elif state.partition(":")[0] == before.partition(":")[0]:
            log = _log.debug  # the same state for another reason: refused, after it was lost
        else:
            log = _log.error
        if state != before:
            log("redis {server} {state}", server=self._server, state=state)

    def _check(self) -> None:
        """
        Check that redis answers and that its pub/sub messages arrive.
        """
        if not self._ready or self._pubsub is None:
            return
        silence = self._reactor.seconds() - self._barriers.received_at
        if silence > self._timeout + CHECK_INTERVAL * BARRIER_CHECKS:
            self._pubsub.abort(f"nothing was received by pub/sub for {silence:.0f} seconds")
            return
        self._checks += 1
        if self._checks % BARRIER_CHECKS == 0:
            ensureDeferred(self._barriers.sync()).addErrback(
                lambda failure: failure.trap(RedisUnavailable, ResponseError)
            )
            self._write_probe.probe()
        self._sequencer.check()

    # Scripts.

    def _call(self, script: Script, *arguments: Any) -> Deferred[Any]:
        return ensureDeferred(self._run_script(script, arguments))

    async def _run_script(self, script: Script, arguments: tuple[Any, ...]) -> Any:
        commands = self._commands
        if commands is None:
            raise RedisUnavailable("the connection was lost")
        run = self._server_info.run
        try:
            answer = await commands.run_script(script, self._keys, (run, *arguments))
        except ResponseError as error:
            reason = reason_of(error)
            if reason.startswith(TEMPORARY_ERRORS):
                self._reconnect(reason)  # another server is the master now
            elif self._ready:
                self._write_probe.on_error(reason)
            raise
        if answer is None:  # the log is deleted, or of another run of redis
            self._reconnect("the log is gone")
            raise RedisUnavailable("the log is gone")
        if self._write_probe.refuses and script not in READ_SCRIPTS:
            self._write_probe.on_success()
        return answer

    def _bounds(self) -> tuple[int, int, int]:
        return self._retention.count, int(self._retention.age * 1000), self._retention.bytes

    def _all_bounds(self) -> tuple[int, ...]:
        kept = self._retention
        live = kept.live_bytes // OVERHEAD, int(kept.live_seconds * 1000), kept.live_bytes
        return *self._bounds(), *live
