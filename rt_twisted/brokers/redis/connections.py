"""
The two connections of a node: one asks, one listens.

txredisapi speaks the protocol; what it would do on its own at the beginning of
a connection, and with more than bytes, is left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import hiredis
import txredisapi
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionAborted
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure

from rt_twisted.brokers.peers import describe, explain
from rt_twisted.brokers.redis.scripts import Script
from rt_twisted.brokers.redis.server import RedisServer

ENOUGH = 1 << 20  # bytes of names in one SUBSCRIBE
NOT_NOW = ("LOADING", "MASTERDOWN", "READONLY", "BUSY")  # errors that pass
# Errors that do not: a right that is missing, a command that a proxy does not know, a cluster.
NEVER = ("NOPERM", "ERR", "CROSSSLOT", "MOVED")
_PLACE = re.compile(r" script: [0-9a-f]{40}")


class RedisUnavailable(Exception):
    """
    There is no redis now; says why.
    """


class AuthFailed(Exception):
    """
    Redis does not let us in; says why. Trying at once again is of no use.
    """


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """
    Who answers.

    Args:
        run: of this process of redis.
        safe: its data is all it ever had when it starts again (an append-only
            file, and it has not taken over from another).
        evicts: it may forget any key when memory is short.
    """

    run: str
    safe: bool
    evicts: bool


def reason_of(error: BaseException | None) -> str:
    """
    What redis says, without the place in our script where it says so.
    """
    text = str(error)
    if text.startswith("ERR Error running script"):  # redis before 7
        text = text.rpartition(": -")[2]
    return _PLACE.split(text)[0]


class IPubSubListener(Protocol):
    """
    What an ear tells.
    """

    def heard(self, name: bytes, payload: bytes) -> None:
        """
        *payload* was published under *name*.
        """

    def ignored(self, name: bytes) -> None:
        """
        *name* is not heard any more, and all that was asked before is done.
        """


class CommandConnection(txredisapi.RedisProtocol):  # type: ignore[misc]  # it has no annotations
    """
    Asks. Every answer must come within *seconds*, or the connection is given up.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(charset=None, convertNumbers=False, replyTimeout=seconds)
        self.lost: Deferred[str] = Deferred()  # fires with the reason
        self._reason = ""
        self._error: BaseException | None = None  # that ended it
        self._answered = False  # in redis' protocol
        self._given_up = False  # by us, for `_reason`
        self._tls = False

    def connectionMade(self) -> None:
        """
        Nothing is sent but what we send ourselves.
        """
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.connected = 1

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """
        Take the next bytes, which may be those of another kind of server.
        """
        try:
            super().dataReceived(data, unpause)
            self._answered = True
        except txredisapi.InvalidData:
            self._foreign(data)

    def _foreign(self, data: bytes) -> None:
        if self._answered:
            self.abort("what came is not redis' protocol")
        else:
            self.abort(describe(data))

    def connectionLost(self, why: Failure) -> None:
        """
        What was asked fails.
        """
        if why.check(ConnectionAborted):  # txredisapi does that, and says nothing
            self._reason = self._reason or f"no answer for {self.replyTimeout:g} seconds"
        self._error = why.value
        self._reason = self._reason or why.getErrorMessage()
        super().connectionLost(why)
        if not self.lost.called:
            self.lost.callback(self._reason)

    def explain(self, error: Exception) -> str:
        """
        Why nothing came of a command: *error*, or what ended the connection.
        """
        if self._given_up:
            return self._reason
        return explain(self._error, self._reason or str(error), self._tls, self._answered)

    def abort(self, reason: str = "") -> None:
        """
        Give the connection up, for *reason*.
        """
        self._given_up = self._given_up or bool(reason)
        self._reason = self._reason or reason
        self.transport.abortConnection()

    def _build_command(self, *args: Any, **_: Any) -> bytes:
        return _pack(*args)

    async def enter(self, server: RedisServer) -> ServerInfo:
        """
        Log in, choose the database, and see who answers.

        Raises:
            Refused: it does not let us in.
            Away: it cannot be used now.
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
            said: bytes = await self.execute_command("INFO")
        except txredisapi.ResponseError as error:
            if str(error).startswith(NOT_NOW):
                raise RedisUnavailable(str(error)) from None
            raise AuthFailed(str(error)) from None
        except txredisapi.ConnectionError as error:
            raise RedisUnavailable(self.explain(error)) from None
        lines = [line.partition(":") for line in said.decode(errors="replace").splitlines()]
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

    async def run(self, script: Script, keys: tuple[str, str], arguments: tuple[Any, ...]) -> Any:
        """
        Have redis run *script*.

        Raises:
            Away: the connection is lost, or there was no answer in time.
            txredisapi.ResponseError: redis' own refusal.
        """
        try:
            try:
                return await self.execute_command("EVALSHA", script.digest, 2, *keys, *arguments)
            except txredisapi.ResponseError as error:
                if not str(error).startswith("NOSCRIPT"):
                    raise
                return await self.execute_command("EVAL", script.text, 2, *keys, *arguments)
        except txredisapi.ConnectionError as error:
            raise RedisUnavailable(self._reason or str(error)) from None


class PubSubConnection(CommandConnection):
    """
    Listens.
    """

    def __init__(self, seconds: float, listener: IPubSubListener) -> None:
        super().__init__(seconds)
        self._listener = listener
        self.deaf = False  # hears nothing more, although bytes may be there

    def dataReceived(self, data: bytes, unpause: bool = False) -> None:
        """
        The hot path: straight from hiredis to the listener.
        """
        reader, listener = self._reader, self._listener
        reader.feed(data)
        try:
            while not self.deaf and (reply := reader.gets()) is not False:
                if type(reply) is not list:
                    self._take_reply(reply)
                elif reply[0] == b"message":
                    listener.heard(reply[1], reply[2])
                elif reply[0] == b"unsubscribe":
                    listener.ignored(reply[1])
                # That a name is heard is confirmed by what comes behind.
        except txredisapi.InvalidData:
            self._foreign(data)

    def connectionLost(self, why: Failure) -> None:
        """
        Nothing is heard after that.
        """
        self.deaf = True
        super().connectionLost(why)

    def _take_reply(self, reply: Any) -> None:
        self._answered = True
        if self.replyQueue.waiting:
            self.replyReceived(reply)
        elif isinstance(reply, Exception):
            # A SUBSCRIBE is refused: what is said to be heard would not be.
            self.abort(str(reply))

    def abort(self, reason: str = "") -> None:
        """
        Hear nothing more.
        """
        self.deaf = True
        super().abort(reason)

    def listen(self, names: list[bytes]) -> None:
        """
        Hear what is published under *names*, literally.
        """
        self._say(b"SUBSCRIBE", names)

    def ignore(self, names: list[bytes]) -> None:
        """
        Do not hear it any more.
        """
        self._say(b"UNSUBSCRIBE", names)

    def _say(self, command: bytes, names: list[bytes]) -> None:
        # The answers come among the messages, so there is none to wait for.
        some: list[bytes] = []
        size = 0
        for name in names:
            some.append(name)
            size += len(name)
            if size > ENOUGH:
                self.transport.write(_pack(command, *some))
                some, size = [], 0
        if some:
            self.transport.write(_pack(command, *some))


def _pack(*words: Any) -> bytes:
    command: bytes = hiredis.pack_command(words)
    return command


AnyConnection = TypeVar("AnyConnection", bound=CommandConnection)


async def connect(endpoint: Any, link: AnyConnection) -> AnyConnection:
    """
    Connect *link*.

    Raises:
        Away: nobody is there.
    """
    factory = Factory.forProtocol(lambda: link)
    factory.noisy = False  # of its start and stop, with each try
    try:
        await endpoint.connect(factory)
    except CancelledError:
        raise
    except Exception as error:  # whatever the endpoint may raise
        raise RedisUnavailable(str(error) or type(error).__name__) from error
    return link


async def find_master(reactor: Any, server: RedisServer, seconds: float) -> tuple[str, int] | None:
    """
    Where the sentinels say that the master is; None if *server* has none.

    Raises:
        Away: none of them knows.
    """
    if not server.master:
        return None
    reasons = []
    for host, port in server.addresses:
        one = RedisServer(((host, port),))
        link = CommandConnection(seconds)
        try:
            await connect(one.endpoint(reactor, None, seconds), link)
            found = await link.execute_command("SENTINEL", "get-master-addr-by-name", server.master)
            if found:
                return found[0].decode(), int(found[1])
            reasons.append(f"{one} knows no {server.master!r}")
        except RedisUnavailable as error:
            reasons.append(f"{one}: {error}")
        except txredisapi.RedisError as error:
            reasons.append(f"{one}: {link.explain(error)}")
        finally:
            if link.transport is not None:
                link.transport.abortConnection()
    raise RedisUnavailable("; ".join(reasons))
