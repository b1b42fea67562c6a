"""
The two connections of a node to redis: one for commands, one for pub/sub.

txredisapi implements the protocol. What it would send on its own at the beginning of a
connection, and its conversions of anything but bytes, are left out. It installs the reactor when
it is imported, so nothing else imports it, and this module is loaded when a broker is built.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import hiredis
import txredisapi
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from rt_twisted.brokers.peers import describe, explain
from rt_twisted.brokers.redis.errors import (
    TEMPORARY_ERRORS,
    AuthFailed,
    RedisUnavailable,
    ResponseError,
)
from rt_twisted.brokers.redis.scripts import Script
from rt_twisted.brokers.redis.server import RedisServer, ServerInfo

MAX_COMMAND_BYTES = 1 << 20  # of names in one SUBSCRIBE


class IPubSubListener(Protocol):
    """
    Receives the messages of a pub/sub connection.
    """

    def on_message(self, name: bytes, payload: bytes) -> None:
        """
        Receive a *payload* that was published under *name*.
        """

    def on_pattern_message(self, glob: bytes, name: bytes, payload: bytes) -> None:
        """
        Receive a *payload* that was published under *name*, which *glob* matches.

        There is one such call for each glob, and one of `on_message` if *name* is
        subscribed too.
        """

    def on_unsubscribed(self, name: bytes) -> None:
        """
        Note that *name* is unsubscribed, and that all earlier commands are carried out.
        """


class CommandConnection(txredisapi.RedisProtocol):  # type: ignore[misc]  # it has no annotations
    """
    Sends commands. It is closed if an answer does not arrive within *seconds*.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(charset=None, convertNumbers=False, replyTimeout=seconds)
        self._reader = hiredis.Reader(
            protocolError=txredisapi.InvalidData, replyError=ResponseError
        )
        self.lost: Deferred[str] = Deferred()  # fires with the reason
        self._reason = ""
        self._error: BaseException | None = None  # that ended the connection
        self._answered = False  # whether anything came in redis' protocol
        self._aborted = False  # by us, for `_reason`
        self._tls = False

    def connectionMade(self) -> None:  # txredisapi's own sends commands
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.connected = 1

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        try:
            super().dataReceived(data, unpause)
            self._answered = True
        except txredisapi.InvalidData:
            self._on_other_protocol(data)

    def _on_other_protocol(self, data: bytes) -> None:
        if self._answered:
            self.abort("the server sent what is not redis' protocol")
        else:
            self.abort(describe(data))

    def connectionLost(self, why: Failure) -> None:
        if why.check(ConnectionAborted):  # by txredisapi, without a reason
            self._reason = self._reason or f"no answer for {self.replyTimeout:g} seconds"
        self._error = why.value
        self._reason = self._reason or why.getErrorMessage()
        super().connectionLost(why)
        if not self.lost.called:
            self.lost.callback(self._reason)

    def explain(self, error: Exception) -> str:
        """
        Return why a command failed: *error*, or what ended the connection.
        """
        if self._aborted:
            return self._reason
        return explain(self._error, self._reason or str(error), self._tls, self._answered)

    def abort(self, reason: str = "") -> None:
        """
        Close the connection at once, for *reason*.
        """
        self._aborted = self._aborted or bool(reason)
        self._reason = self._reason or reason
        self.transport.abortConnection()

    def _build_command(self, *args: Any, **_: Any) -> bytes:
        return _pack(*args)

    async def login(self, server: RedisServer) -> ServerInfo:
        """
        Log in, select the database, and ask the server about itself.

        Raises:
            AuthFailed: redis denies access.
            RedisUnavailable: it cannot be used now.
        """
        self._tls = server.tls
        try:
            if server.password:
                login = (
                    (server.username, server.password) if server.username else (server.password,)
                )
                await self.execute_command("AUTH", *login)
            if server.db:
                await self.execute_command("SELECT", server.db)
            text: bytes = await self.execute_command("INFO")
        except ResponseError as error:
            if str(error).startswith(TEMPORARY_ERRORS):
                raise RedisUnavailable(str(error)) from None
            raise AuthFailed(str(error)) from None
        except txredisapi.ConnectionError as error:
            raise RedisUnavailable(self.explain(error)) from None
        lines = [line.partition(":") for line in text.decode(errors="replace").splitlines()]
        info = {name: value for name, _, value in lines}
        if info.get("loading", "0") != "0":
            raise RedisUnavailable("it is loading its data")
        if info.get("role") == "slave":
            raise RedisUnavailable("it is a replica")
        return ServerInfo(
            info.get("run_id", ""),
            info.get("aof_enabled") == "1" and info.get("second_repl_offset", "-1") == "-1",
            info.get("maxmemory", "0") != "0" and info.get("maxmemory_policy", "")[:3] == "all",
        )

    async def load_script(self, script: Script) -> None:
        """
        Store *script* in redis.

        Raises:
            RedisUnavailable, ResponseError: see `run_script`.
        """
        try:
            await self.execute_command("SCRIPT", "LOAD", script.text)
        except txredisapi.ConnectionError as error:
            raise RedisUnavailable(str(error)) from None

    async def run_script(
        self, script: Script, keys: tuple[str, str], arguments: tuple[Any, ...]
    ) -> Any:
        """
        Run *script* in redis and return its answer.

        Raises:
            RedisUnavailable: the connection is lost, or there was no answer in time.
            ResponseError: redis answered with an error.
        """
        try:
            try:
                return await self.execute_command("EVALSHA", script.digest, 2, *keys, *arguments)
            except ResponseError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await self.execute_command("EVAL", script.text, 2, *keys, *arguments)
        except txredisapi.ConnectionError as error:
            raise RedisUnavailable(self._reason or str(error)) from None


class PubSubConnection(CommandConnection):
    """
    Subscribes to pub/sub names and passes their messages to *listener*.
    """

    def __init__(self, seconds: float, listener: IPubSubListener) -> None:
        super().__init__(seconds)
        self._listener = listener
        self.closed = False  # no message is passed on, although bytes may be there

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        # The hot path: straight from hiredis to the listener.
        reader, listener = self._reader, self._listener
        reader.feed(data)
        try:
            while not self.closed and (reply := reader.gets()) is not False:
                if type(reply) is not list:
                    self._take_reply(reply)
                elif reply[0] == b"message":
                    listener.on_message(reply[1], reply[2])
                elif reply[0] == b"pmessage":
                    listener.on_pattern_message(*reply[1:])
                elif reply[0] == b"unsubscribe":
                    listener.on_unsubscribed(reply[1])
                # A SUBSCRIBE is confirmed by the answer to the UNSUBSCRIBE behind it.
        except txredisapi.InvalidData:
            self._on_other_protocol(data)

    def connectionLost(self, why: Failure) -> None:
        self.closed = True
        super().connectionLost(why)

    def _take_reply(self, reply: Any) -> None:
        self._answered = True
        if self.replyQueue.waiting:
            self.replyReceived(reply)
        elif isinstance(reply, Exception):
            # A SUBSCRIBE failed: the channels would count as subscribed.
            self.abort(str(reply))

    def abort(self, reason: str = "") -> None:
        """
        Close the connection at once, and pass no message on.
        """
        self.closed = True
        super().abort(reason)

    def subscribe(self, *names: Sequence[bytes]) -> None:
        """
        Subscribe to *names*, which are no patterns; those of one sequence in one step.
        """
        self._send(b"SUBSCRIBE", names)

    def unsubscribe(self, *names: Sequence[bytes]) -> None:
        """
        Unsubscribe from *names*; from those of one sequence in one step.
        """
        self._send(b"UNSUBSCRIBE", names)

    def subscribe_patterns(self, *globs: list[bytes]) -> None:
        """
        Subscribe to all names that *globs*, in redis' syntax, match; see `subscribe`.
        """
        self._send(b"PSUBSCRIBE", globs)

    def unsubscribe_patterns(self, *globs: list[bytes]) -> None:
        """
        Unsubscribe from *globs*; see `subscribe`.
        """
        self._send(b"PUNSUBSCRIBE", globs)

    def _send(self, command: bytes, names: Sequence[Sequence[bytes]]) -> None:
        # The answers come among the messages: none is waited for.
        part: list[bytes] = []
        size = 0
        for group in names:
            part += group
            size += sum(map(len, group))
            if size > MAX_COMMAND_BYTES:
                self.transport.write(_pack(command, *part))
                part, size = [], 0
        if part:
            self.transport.write(_pack(command, *part))


def _pack(*words: Any) -> bytes:
    command: bytes = hiredis.pack_command(words)
    return command


AnyConnection = TypeVar("AnyConnection", bound=CommandConnection)


async def connect(endpoint: Any, connection: AnyConnection) -> AnyConnection:
    """
    Connect *connection* by *endpoint*.

    Raises:
        RedisUnavailable: no server answers.
    """
    factory = Factory.forProtocol(lambda: connection)
    factory.noisy = False  # each attempt would log its start and stop
    try:
        await endpoint.connect(factory)
    except CancelledError:
        raise
    except Exception as error:  # endpoints raise many kinds
        raise RedisUnavailable(str(error) or type(error).__name__) from error
    return connection


async def find_master(reactor: Any, server: RedisServer, seconds: float) -> tuple[str, int] | None:
    """
    Ask the sentinels for the master's address; None if *server* has no sentinels.

    Raises:
        RedisUnavailable: no sentinel knows the master.
    """
    if not server.master:
        return None
    reasons = []
    for host, port in server.addresses:
        sentinel = RedisServer(((host, port),))
        connection = CommandConnection(seconds)
        try:
            await connect(sentinel.endpoint(reactor, None, seconds), connection)
            found = await connection.execute_command(
                "SENTINEL", "get-master-addr-by-name", server.master
            )
            if found:
                return found[0].decode(), int(found[1])
            reasons.append(f"{sentinel} has no master {server.master!r}")
        except RedisUnavailable as error:
            reasons.append(f"{sentinel}: {error}")
        except (ResponseError, txredisapi.RedisError) as error:
            reasons.append(f"{sentinel}: {connection.explain(error)}")
        finally:
            if connection.transport is not None:
                connection.transport.abortConnection()
    raise RedisUnavailable("; ".join(reasons))
