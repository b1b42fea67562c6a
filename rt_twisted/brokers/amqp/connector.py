"""
A node's two connections to RabbitMQ.

A server that is short of memory stops reading from connections that publish; it must
still read acknowledgements and bindings, which go by the other connection. The two begin
and end together: after any error both are made anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import AmqpServer, Topology
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.connector import Reconnector, retry_policy, spread

_log = Logger()

PREPARE_TIMEOUT = 20.0  # seconds for connecting, login and declaring
CLOSE_TIMEOUT = 1.0  # seconds that a server has to answer `connection.close`
_RETRY = retry_policy(0.3, 13.0, 1.6)
SLOW_RETRY = 30.0  # seconds where an operator has to change something first
ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED = 403, 404, 406, 530


@dataclass(frozen=True, slots=True)
class AmqpTarget:
    """
    The servers of a cluster, and what is declared there.

    Args:
        endpoints: of the cluster members, in the order of `server.url.hosts`.
        server: the login.
        topology: the exchange, and the properties of messages.
        spec: AMQP's specification (`load_specification`).
    """

    endpoints: Sequence[IStreamClientEndpoint]
    server: AmqpServer
    topology: Topology
    spec: Any


class ConnectorState(Enum):
    """
    The state of the connections; each change is logged once.
    """

    NEW = "never tried"
    UP = "connected"
    AWAY = "not reachable, or lost"
    REFUSED = "the login was rejected"
    MISMATCH = "the exchange was declared with other properties"
    DENIED = "a permission or a feature is missing"


class ConnectionPair:
    """
    Keeps two connections to RabbitMQ.

    Args:
        reactor: the reactor.
        target: the servers, and what is declared there.
        name: shown in RabbitMQ's list of connections.
        prepare: called on each new pair of connections, logged in and with the
            exchange declared; an error of it fails the attempt.
        on_lost: called with the reason when a prepared pair is lost.
        on_blocked: called with the reason when the server accepts no messages any more.
    """

    def __init__(
        self,
        reactor: Any,
        target: AmqpTarget,
        name: str,
        prepare: Callable[[], Awaitable[None]],
        on_lost: Callable[[str], None],
        on_blocked: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        server = self._server = target.server
        self._topology = target.topology
        self._prepare = prepare
        self._on_lost = on_lost
        self._on_server_blocked = on_blocked
        self._endpoints = target.endpoints
        self._host = -1  # index of the endpoint that is used, or was tried last
        url, heartbeat = server.url, server.heartbeat
        self._factory = Factory.forProtocol(
            partial(AmqpConnection, target.spec, reactor, name, url.vhost, heartbeat, url.tls)
        )
        self._factory.noisy = False
        self._connections: list[AmqpConnection] = []  # ready or not
        self._error_state = ConnectorState.AWAY  # if the server denies the present step
        self._prepared = False
        self._state = ConnectorState.NEW
        self._blocked = ""
        self._reconnector = Reconnector(reactor, self._connect_pair, self._delay)
        self._lost: Deferred[None] = Deferred()  # fires when this pair is lost
        self.reader: AmqpConnection | None = None  # the connection that consumes
        self.writer: AmqpConnection | None = None  # and the one that publishes

    @property
    def number(self) -> int:
        """
        The AMQP channel on both connections.
        """
        return self._topology.number

    def ready(self) -> bool:
        """
        Return whether both connections are prepared.
        """
        return self._state is ConnectorState.UP

    def refuses(self) -> bool:
        """
        Return whether the server accepts no messages, as it is short of memory or disk.
        """
        return self.ready() and bool(self._blocked)

    def start(self) -> None:
        """
        Begin to connect.
        """
        self._reconnector.start()

    def stop(self) -> Deferred[Any]:
        """
        Close both connections; fires when they are closed.
        """
        connections, self._connections, self._prepared = self._connections, [], False
        self.reader = self.writer = None
        for client in connections:
            client.on_lost = client.on_closed = client.on_blocked = client.on_batch_end = _ignore
        closed = [client.shut_down(CLOSE_TIMEOUT) for client in connections]
        self._reconnector.stop()
        self._state = ConnectorState.NEW
        return gatherResults(closed)

    async def _connect_pair(self) -> bool:
        self._host = (self._host + 1) % len(self._endpoints)
        self._lost = Deferred()
        try:
            await self._open()
        except CancelledError:
            raise
        except Exception as error:
            if not self._reconnector.stopped:
                self._on_open_error(error)
            return False
        self._set_state(ConnectorState.UP)
        await self._lost
        return True

    async def _open(self) -> None:
        # Not a timeout of one await: the other connection would stay open.
        limit = self._reactor.callLater(
            PREPARE_TIMEOUT, self._abort, AmqpConnectionClosed("connecting takes too long")
        )
        try:
            self._error_state = ConnectorState.REFUSED
            reader, writer = await self._connect(), await self._connect()
            self._error_state = ConnectorState.MISMATCH
            for client in (reader, writer):
                await client.call(self.number, "channel_open")
            await writer.call(self.number, "confirm_select")
            await self._declare(reader)
        finally:
            if limit.active():
                limit.cancel()
        self._error_state = ConnectorState.DENIED
        writer.on_blocked = self._on_blocked
        self.reader, self.writer, self._prepared = reader, writer, True
        await self._prepare()
        if not self._prepared:
            raise AmqpConnectionClosed("the connection was lost")

    async def _connect(self) -> AmqpConnection:
        client: Any = await self._endpoints[self._host].connect(self._factory)
        self._connections.append(client)
        client.on_lost = client.on_closed = self._abort
        await client.login(self._server.url.user, self._server.url.password)
        return client  # type: ignore[no-any-return]  # the endpoint has no type for it

    async def _declare(self, client: AmqpConnection) -> None:
        topology = self._topology
        await client.call(
            self.number,
            "exchange_declare",
            exchange=topology.exchange,
            type=topology.type.value,
            passive=topology.passive,
            durable=topology.durable,
        )

    def _on_open_error(self, error: Exception) -> None:
        if isinstance(error, AmqpConnectionClosed):
            self._set_state(self._state_of(error.code), error.reason)
        elif isinstance(error, ConnectError):
            self._set_state(ConnectorState.AWAY, str(error))
        else:
            _log.failure("while preparing a connection to the AMQP server")
            self._set_state(ConnectorState.AWAY, repr(error))
        self._abort(AmqpConnectionClosed(str(error)))

    def _state_of(self, code: int) -> ConnectorState:
        if code not in (ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED):
            return ConnectorState.AWAY
        if self._error_state is ConnectorState.MISMATCH and code != PRECONDITION_FAILED:
            return ConnectorState.DENIED  # a permission, or a passive exchange, is missing
        return self._error_state

    def _abort(self, error: AmqpConnectionClosed) -> None:
        connections, self._connections = self._connections, []
        for client in connections:
            client.on_lost = client.on_closed = client.on_blocked = _ignore
            client.on_batch_end = _ignore
            client.abort(error)
        self.reader = self.writer = None
        self._blocked = ""
        if connections and not self._lost.called:
            self._lost.callback(None)
        if self._prepared:
            self._prepared = False
            if self._state is ConnectorState.UP:
                self._set_state(ConnectorState.AWAY, error.reason)
            self._on_lost(f"the AMQP server is away: {error.reason}")

    def _on_blocked(self, reason: str) -> None:
        if reason != self._blocked:
            self._blocked = reason
            if reason:
                _log.warn("the AMQP server accepts no messages now: {reason}", reason=reason)
                self._on_server_blocked(f"the AMQP server accepts no messages now: {reason}")
            else:
                _log.info("the AMQP server accepts messages again")

    def _set_state(self, state: ConnectorState, reason: str = "") -> None:
        if state is self._state:
            _log.debug("still not connected to the AMQP server: {reason}", reason=reason)
            return
        self._state = state
        server = self._server.name(self._host)
        if state is ConnectorState.UP:
            _log.info("connected to the AMQP server {server}", server=server)
        elif state is ConnectorState.AWAY:
            _log.warn(
                "the AMQP server {server} is away: {reason}; trying again",
                server=server,
                reason=reason,
            )
        elif state is ConnectorState.REFUSED:
            _log.error(
                "the AMQP server {server} rejects the login of {user}: {reason}; "
                "trying again every 15 to 30 seconds",
                server=server,
                user=self._server.url.user,
                reason=reason,
            )
        elif state is ConnectorState.DENIED:
            _log.error(
                "the AMQP server {server} denies what is needed: {reason}; trying again",
                server=server,
                reason=reason,
            )
        else:
            _log.error(
                "the exchange on the AMQP server {server} was declared with other properties: "
                "{reason}; set {names} to the same, or amqp-passive = 1 to use it as it is; "
                "trying again every 15 to 30 seconds",
                server=server,
                reason=reason,
                names="amqp-exchange-type and amqp-durable",
            )

    def _delay(self, attempts: int) -> float:
        """
        Return the seconds before the next attempt: the hosts are tried one after the
        other, then the pause grows.
        """
        rounds, tried = divmod(attempts, len(self._endpoints))
        if tried:
            return _RETRY(0)
        if self._state in (ConnectorState.REFUSED, ConnectorState.MISMATCH):
            return spread(SLOW_RETRY)
        return _RETRY(rounds)


def _ignore(*_: object) -> None:
    pass
