"""
A node's connections to RabbitMQ, and their life.

There are two: a server that is short of memory stops reading from those who
publish, and must not stop hearing which messages and channels are wanted. They
live and die together: whatever goes wrong, both begin anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.logger import Logger

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.config import AmqpServer, Topology
from rt_twisted.brokers.amqp.protocol import AmqpConnection, AmqpConnectionFactory
from rt_twisted.brokers.connector import Reconnector, retry_policy, spread

_log = Logger()

PREPARE = 20.0  # seconds for connecting, login and declaring
BYE = 1.0  # seconds a server has to answer when we leave
_RETRY = retry_policy(0.3, 13.0, 1.6)
SLOW_RETRY = 30.0  # seconds where an operator has to change something first
ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED = 403, 404, 406, 530


class ConnectorState(Enum):
    """
    How it stands; each change is logged once.
    """

    NEW = "never tried"
    UP = "connected"
    AWAY = "not there, or lost"
    REFUSED = "there, and does not let us in"
    WRONG = "there, and has something else under our names"
    UNABLE = "there, and cannot do what is needed"


class ConnectionPair:
    """
    Both connections.

    Args:
        reactor: the reactor.
        endpoints: where the members of the cluster are, as in `server.addresses`.
        server: how to log in there.
        topology: which channel and exchange to use.
        spec: AMQP's specification.
        name: shown in RabbitMQ's list of connections.
        prepare: called on each new pair of connections, logged in and with the
            exchange declared; what it raises or returns counts.
        lost: called with the reason when a pair that *prepare* has seen is gone.
        refuse: called with the reason when the server takes no messages any more.
    """

    def __init__(
        self,
        reactor: Any,
        endpoints: Sequence[IStreamClientEndpoint],
        server: AmqpServer,
        topology: Topology,
        spec: Any,
        name: str,
        prepare: Callable[[], Awaitable[None]],
        lost: Callable[[str], None],
        refuse: Callable[[str], None],
    ) -> None:
        self._reactor = reactor
        self._server = server
        self._topology = topology
        self._prepare = prepare
        self._lost = lost
        self._refuse = refuse
        self._endpoints = endpoints
        self._host = -1  # index of the endpoint that is used, or was tried last
        self._factory = AmqpConnectionFactory(
            spec, reactor, name, server.vhost, server.heartbeat, server.tls
        )
        self._begun: list[AmqpConnection] = []  # all there are, ready or not
        self._step = ConnectorState.AWAY  # what it means if the server says no now
        self._prepared = False
        self._state = ConnectorState.NEW
        self._blocked = ""
        self._reconnector = Reconnector(reactor, self._connect_pair, self._delay)
        self._over: Deferred[None] = Deferred()  # fires when this pair is gone
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
        Whether there are both connections.
        """
        return self._state is ConnectorState.UP

    def refuses(self) -> bool:
        """
        Whether the server takes no messages, being short of memory or disk.
        """
        return self.ready() and bool(self._blocked)

    def start(self) -> None:
        """
        Begin to connect.
        """
        self._reconnector.start()

    def stop(self) -> Deferred[Any]:
        """
        Say goodbye, but not for long.
        """
        begun, self._begun, self._prepared = self._begun, [], False
        self.reader = self.writer = None
        for client in begun:
            client.on_lost = client.on_closed = client.on_blocked = client.on_settled = _ignore
        gone = [client.leave(BYE) for client in begun]
        self._reconnector.stop()
        self._state = ConnectorState.NEW
        return gatherResults(gone)

    def drop(self, why: str) -> None:
        """
        Give both connections up; others follow.
        """
        self._down(AmqpConnectionClosed(why))

    # A new pair.

    async def _connect_pair(self) -> bool:
        self._host = (self._host + 1) % len(self._endpoints)
        self._over = Deferred()
        try:
            await self._open()
        except CancelledError:
            raise
        except Exception as error:
            if not self._reconnector.stopped:
                self._not_opened(error)
            return False
        self._attempted(ConnectorState.UP)
        await self._over
        return True

    async def _open(self) -> None:
        # Not an await's own limit: where it waits for both, one would go on.
        limit = self._reactor.callLater(
            PREPARE, self._down, AmqpConnectionClosed("it takes too long to log in")
        )
        try:
            self._step = ConnectorState.REFUSED
            reader, writer = await self._connect(), await self._connect()
            self._step = ConnectorState.WRONG
            for client in (reader, writer):
                await client.call(self.number, "channel_open")
            await writer.call(self.number, "confirm_select")
            await self._declare(reader)
        finally:
            if limit.active():
                limit.cancel()
        self._step = ConnectorState.UNABLE
        writer.on_blocked = self._hold
        self.reader, self.writer, self._prepared = reader, writer, True
        await self._prepare()
        if not self._prepared:
            raise AmqpConnectionClosed("lost again")

    async def _connect(self) -> AmqpConnection:
        client: Any = await self._endpoints[self._host].connect(self._factory)
        self._begun.append(client)
        client.on_lost = client.on_closed = self._down
        await client.login(self._server.user, self._server.password)
        return client  # type: ignore[no-any-return]  # endpoints do not say what they make

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

    def _not_opened(self, error: Exception) -> None:
        if isinstance(error, AmqpConnectionClosed):
            self._attempted(self._meaning(error.code), error.reason)
        elif isinstance(error, ConnectError):
            self._attempted(ConnectorState.AWAY, str(error))
        else:
            _log.failure("while preparing a connection to the AMQP server")
            self._attempted(ConnectorState.AWAY, repr(error))
        self._down(AmqpConnectionClosed(str(error)))

    def _meaning(self, code: int) -> ConnectorState:
        if code not in (ACCESS_REFUSED, NOT_FOUND, PRECONDITION_FAILED, NOT_ALLOWED):
            return ConnectorState.AWAY
        if self._step is ConnectorState.WRONG and code != PRECONDITION_FAILED:
            return ConnectorState.UNABLE  # a right is missing, or what is not to be declared
        return self._step

    # The end of a pair.

    def _down(self, why: AmqpConnectionClosed) -> None:
        begun, self._begun = self._begun, []
        for client in begun:
            client.on_lost = client.on_closed = client.on_blocked = _ignore
            client.on_settled = _ignore
            client.abort(why)
        self.reader = self.writer = None
        self._blocked = ""
        if begun and not self._over.called:
            self._over.callback(None)
        if self._prepared:
            self._prepared = False
            if self._state is ConnectorState.UP:
                self._attempted(ConnectorState.AWAY, why.reason)
            self._lost(f"the AMQP server is away: {why.reason}")

    def _hold(self, reason: str) -> None:
        if reason != self._blocked:
            self._blocked = reason
            if reason:
                _log.warn("the AMQP server takes no messages now: {reason}", reason=reason)
                self._refuse(f"the AMQP server takes nothing now: {reason}")
            else:
                _log.info("the AMQP server takes messages again")

    # How it stands.

    def _attempted(self, state: ConnectorState, reason: str = "") -> None:
        if state is self._state:
            _log.debug("still not: {reason}", reason=reason)
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
                "the AMQP server {server} does not let {user} in: {reason}; "
                "trying again now and then",
                server=server,
                user=self._server.user,
                reason=reason,
            )
        elif state is ConnectorState.UNABLE:
            _log.error(
                "the AMQP server {server} cannot do what is needed: {reason}; trying again",
                server=server,
                reason=reason,
            )
        else:
            _log.error(
                "the AMQP server {server} has something else than is set here: {reason}; "
                "set {names} as it was declared, or amqp-passive = 1 to take it as it is; "
                "trying again now and then",
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
        if self._state in (ConnectorState.REFUSED, ConnectorState.WRONG):
            return spread(SLOW_RETRY)
        return _RETRY(rounds)


def _ignore(*_: object) -> None:
    pass
