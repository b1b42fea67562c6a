"""
The channels a node wants to hear, and what redis has been told of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from txredisapi import ResponseError

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import PubSubConnection, RedisUnavailable
from rt_twisted.brokers.redis.publisher import encode
from rt_twisted.model.message import Position

Told = tuple[str, int]  # a channel, and when redis was told


class RedisSubscriptions:
    """
    Wishes are kept, and said again to each ear; many in one command.

    Args:
        clock: the reactor.
        marks: says when a channel is heard.
        prefix: what all our keys and names begin with.
        names: what our names of pub/sub begin with.
        plain: what a plain name has in front of the channel's; None if plain
            messages are not heard.
    """

    def __init__(
        self, clock: Any, barriers: Barriers, prefix: str, names: str, plain: str | None
    ) -> None:
        self._clock = clock
        self._barriers = barriers
        self._prefix = encode(prefix)
        self._numbered_prefix = encode(names) + b"m:"
        self._plain_prefix = None if plain is None else encode(plain)
        self._ear: PubSubConnection | None = None
        self._wanted: set[str] = set()
        self._said: dict[str, int] = {}  # to this ear, and when
        self._changed: set[str] = set()
        self._due = False
        self._waiting: dict[str, list[Deferred[Position]]] = {}
        self.heard: set[str] = set()  # what the receiver counts on
        self.numbered: dict[bytes, str] = {}  # names of pub/sub to channels
        self.plain: dict[bytes, str] = {}

    def add(self, channel: str, position: Position) -> Deferred[Position]:
        """
        See `IBroker.subscribe`; *position* is what it is told of one that is heard.
        """
        if channel in self.heard:
            return succeed(position)
        self._wanted.add(channel)
        done: Deferred[Position] = Deferred()
        self._waiting.setdefault(channel, []).append(done)
        self._change(channel)
        return done

    def remove(self, channel: str) -> None:
        """
        See `IBroker.unsubscribe`.
        """
        self._wanted.discard(channel)
        self.heard.discard(channel)
        self._waiting.pop(channel, None)
        if channel in self._said:
            self._change(channel)
        else:
            self._changed.discard(channel)

    async def say_again(self, ear: PubSubConnection) -> list[Told]:
        """
        Say all of them to a new ear.

        Returns:
            those that were not heard before; see `are_heard`.
        """
        self._said = {}
        self.numbered.clear()
        self.plain.clear()
        self._changed |= self._wanted
        new = self._say(ear)
        await self._barriers.settle(ear)
        return new

    def open(self, ear: PubSubConnection) -> None:
        """
        From now on *ear* is told of each change.
        """
        self._ear = ear
        if self._changed:
            self._schedule()

    def close(self) -> None:
        """
        There is no ear.
        """
        self._ear = None
        self._said = {}

    def are_heard(self, told: Iterable[Told], position: Position) -> None:
        """
        Everything after *position* is received, of those that are still wanted.
        """
        for channel, when in told:
            if self._said.get(channel) == when and channel in self._wanted:
                self.heard.add(channel)
                for done in self._waiting.pop(channel, ()):
                    done.callback(position)

    def _change(self, channel: str) -> None:
        self._changed.add(channel)
        self._schedule()

    def _schedule(self) -> None:
        if self._ear is not None and not self._due:
            self._due = True
            self._clock.callLater(0, self._tell)

    def _tell(self) -> None:
        self._due = False
        if self._ear is not None:
            ensureDeferred(self._say_changes(self._ear)).addErrback(
                lambda failure: failure.trap(RedisUnavailable, ResponseError)
            )

    async def _say_changes(self, ear: PubSubConnection) -> None:
        new = self._say(ear)
        if new:
            # First that they are heard, then where the log stands.
            await self._barriers.settle(ear)
            self.are_heard(new, await self._barriers.ask())

    def _say(self, ear: PubSubConnection) -> list[Told]:
        changed, self._changed = self._changed, set()
        listen: list[bytes] = []
        ignore: list[bytes] = []
        new: list[Told] = []
        for channel in changed:
            wanted = channel in self._wanted
            if wanted and channel not in self._said:
                self._said[channel] = self._barriers.next_token()
                names = self._names(channel)
                listen += names
                self.numbered[names[0]] = channel
                self.plain.update(dict.fromkeys(names[1:], channel))
            elif not wanted and channel in self._said:
                del self._said[channel]
                for name in self._names(channel):
                    ignore.append(name)
                    self.numbered.pop(name, None)
                    self.plain.pop(name, None)
            if wanted and channel not in self.heard:
                new.append((channel, self._said[channel]))
        if ignore:
            ear.ignore(ignore)
        if listen:
            ear.listen(listen)
        return new

    def _names(self, channel: str) -> list[bytes]:
        """
        What is listened to for *channel*: its numbered messages first, so that
        no plain one is without its number.
        """
        name = encode(channel)
        names = [self._numbered_prefix + name]
        if self._plain_prefix is not None:
            plain = self._plain_prefix + name
            if not plain.startswith(self._prefix):  # nobody reads those by asking for them
                names.append(plain)
        return names
