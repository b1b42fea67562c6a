"""
What a node waits to hear: the marks it asked redis to send to it.

Pub/sub is in order on a connection. So when a mark comes, all has come that was
published before it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail
from txredisapi import ResponseError

from rt_twisted.brokers.redis.connections import PubSubConnection, RedisUnavailable
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.scripts import MARK
from rt_twisted.model.message import Position


class Barriers:
    """
    Tokens, and who waits for them. There is one set for the life of an ear.

    Args:
        clock: the reactor.
        call: runs a script.
        node: where redis sends marks to.
        control: the name under which they come.
        timeout: seconds after which nothing is expected any more.
    """

    def __init__(self, clock: Any, call: Call, node: str, control: bytes, timeout: float) -> None:
        self._clock = clock
        self._call = call
        self._node = node
        self._timeout = timeout
        self.control = control
        self._token = 0
        self._waiting: dict[str, Deferred[Any]] = {}
        self.open = False  # whether anything can be heard
        self.heard_at = 0.0  # when the last one came

    def begin(self) -> None:
        """
        There is an ear.
        """
        self.open = True
        self.heard_at = self._clock.seconds()

    def end(self, reason: str) -> str:
        """
        There is none: what was to come will not.
        """
        self.open = False
        waiting, self._waiting = self._waiting, {}
        for done in waiting.values():
            done.errback(RedisUnavailable(reason or "the connection was lost"))
        return reason

    def next_token(self) -> int:
        """
        A number that was never used before.
        """
        self._token += 1
        return self._token

    def expect(self) -> tuple[str, Deferred[Any]]:
        """
        A token to be sent with a script, and what fires with the position of
        the mark that comes of it.
        """
        token = str(self.next_token())
        if not self.open:
            return token, fail(RedisUnavailable("the connection was lost"))
        self._waiting[token] = Deferred()
        return token, self._waiting[token]

    def came(self, token: str, position: Position | None) -> None:
        """
        The mark *token* was heard.
        """
        self.heard_at = self._clock.seconds()
        done = self._waiting.pop(token, None)
        if done is not None:
            done.callback(position)

    async def ask(self) -> Position:
        """
        Where the log stands, when all that was published before has been heard.

        Raises:
            Away: there is no redis now.
        """
        token, reached = self.expect()
        try:
            await self._call(MARK, self._node, token)
        except (RedisUnavailable, ResponseError):
            reached.addErrback(lambda _: None)
            raise
        position: Position = await self._in_time(reached)
        return position

    async def settle(self, ear: PubSubConnection) -> None:
        """
        Wait until *ear* has done all that it was asked.

        Raises:
            Away: it is lost.
        """
        token, done = self.expect()
        # Not by a PING, which redis refuses while it cannot write its file.
        ear.ignore([self.control + token.encode()])
        await self._in_time(done)

    def ignored(self, name: bytes) -> None:
        """
        *name* is not heard any more; it may be that of `settle`.
        """
        if name.startswith(self.control):
            self.came(name.removeprefix(self.control).decode(), None)

    def _in_time(self, done: Deferred[Any]) -> Deferred[Any]:
        """
        Not for ever: it fails with the connection, but that may look alive.
        """
        return done.addTimeout(self._timeout, self._clock, _too_late)


def _too_late(_: object, seconds: float) -> None:
    raise RedisUnavailable(f"nothing is heard for {seconds:g} seconds")
