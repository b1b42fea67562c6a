"""
Barriers: tokens that redis sends back to a node by pub/sub.

Pub/sub is in order on a connection. So when a barrier arrives, everything has arrived
that was published before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, fail

from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.scripts import BARRIER
from rt_twisted.model.message import Position

if TYPE_CHECKING:
    from rt_twisted.brokers.redis.connections import PubSubConnection


class Barriers:
    """
    Sends barriers and waits for them on the pub/sub connection.

    Args:
        clock: the reactor.
        call: runs a script.
        node: the name of this node, to which redis sends barriers.
        control: the pub/sub name under which they arrive.
        timeout: seconds after which a barrier fails.
    """

    def __init__(self, clock: Any, call: Call, node: str, control: bytes, timeout: float) -> None:
        self._clock = clock
        self._call = call
        self._node = node
        self._timeout = timeout
        self.control = control
        self._token = 0
        self._waiting: dict[str, Deferred[Any]] = {}
        self.open = False  # whether there is a pub/sub connection
        self.received_at = 0.0  # when the last barrier arrived

    def on_connected(self) -> None:
        """
        Accept barriers: there is a pub/sub connection.
        """
        self.open = True
        self.received_at = self._clock.seconds()

    def on_lost(self, reason: str) -> str:
        """
        Fail all barriers that wait: the pub/sub connection is lost.
        """
        self.open = False
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done.errback(RedisUnavailable(reason or "the connection was lost"))
        return reason

    def next_token(self) -> int:
        """
        Return a number that was never used before.
        """
        self._token += 1
        return self._token

    def expect(self) -> tuple[str, Deferred[Any]]:
        """
        Return a token to be sent with a script, and a Deferred of the log's position,
        which fires when the token arrives.
        """
        token = str(self.next_token())
        if not self.open:
            return token, fail(RedisUnavailable("the connection was lost"))
        self._waiting[token] = Deferred()
        return token, self._waiting[token]

    def on_token(self, token: str, position: Position | None) -> None:
        """
        Fire the Deferred of a *token* that has arrived.
        """
        self.received_at = self._clock.seconds()
        done = self._waiting.pop(token, None)
        if done is not None:
            done.callback(position)

    async def sync(self) -> Position:
        """
        Return the log's position, once all that was published before has arrived.

        Raises:
            RedisUnavailable: redis is away.
        """
        token, reached = self.expect()
        try:
            await self._call(BARRIER, self._node, token)
        except (RedisUnavailable, ResponseError):
            reached.addErrback(lambda _: None)
            raise
        position: Position = await self._with_timeout(reached)
        return position

    async def flush(self, pubsub: PubSubConnection) -> None:
        """
        Wait until redis has carried out all commands of *pubsub*.

        Raises:
            RedisUnavailable: the connection is lost.
        """
        token, done = self.expect()
        # Not by a PING, which redis refuses while it cannot write its file.
        pubsub.unsubscribe([self.control + token.encode()])
        await self._with_timeout(done)

    def on_unsubscribed(self, name: bytes) -> None:
        """
        Check whether the confirmed *name* is one of `flush`.
        """
        if name.startswith(self.control):
            self.on_token(name.removeprefix(self.control).decode(), None)

    def _with_timeout(self, done: Deferred[Any]) -> Deferred[Any]:
        # A lost connection fails the barrier, but a dead one may look alive.
        return done.addTimeout(self._timeout, self._clock, _on_timeout)


def _on_timeout(_: object, seconds: float) -> None:
    raise RedisUnavailable(f"nothing was received by pub/sub for {seconds:g} seconds")
