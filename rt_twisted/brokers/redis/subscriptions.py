"""
The channels that a node is subscribed to, and what redis knows of that.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed
from txredisapi import ResponseError

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import PubSubConnection, RedisUnavailable
from rt_twisted.brokers.redis.copies import ANNOUNCED, CopyNames, encode
from rt_twisted.model.message import Position

SentSubscription = tuple[str, int]  # a channel, and the number of its SUBSCRIBE


class RedisSubscriptions:
    """
    Keeps subscriptions, and sends them on each pub/sub connection, many in one command.

    Args:
        clock: the reactor.
        barriers: tell when redis has carried out a command.
        prefix: what all keys and names of the daemon begin with.
        names: what its pub/sub names begin with.
        copies: the names of plain messages and copies.
    """

    def __init__(
        self, clock: Any, barriers: Barriers, prefix: str, names: str, copies: CopyNames
    ) -> None:
        self._clock = clock
        self._barriers = barriers
        self._prefix = encode(prefix)
        self._numbered_prefix = encode(names) + b"m:"
        self._plain_prefix = encode(copies.plain_prefix) if copies.plain else None
        self._reserved = {self._prefix}  # prefixes of names that are not plain ones
        self._announcement = copies.announcement
        self._pubsub: PubSubConnection | None = None
        self._requested: set[str] = set()
        self._sent: dict[str, int] = {}  # on this connection: channels, and the SUBSCRIBE's number
        self._changed: set[str] = set()
        self._scheduled = False
        self._waiting: dict[str, list[Deferred[Position]]] = {}
        self.subscribed: set[str] = set()  # channels of which the receiver must miss nothing
        self.numbered: dict[bytes, str] = {}  # pub/sub names of numbered messages to channels
        self.plain: dict[bytes, str] = {}

    def add(self, channel: str, position: Position) -> Deferred[Position]:
        """
        Subscribe to *channel*; fires with *position* if it is subscribed already.
        """
        if channel in self.subscribed:
            return succeed(position)
        self._requested.add(channel)
        done: Deferred[Position] = Deferred()
        self._waiting.setdefault(channel, []).append(done)
        self._change(channel)
        return done

    def remove(self, channel: str) -> None:
        """
        Unsubscribe from *channel*.
        """
        self._requested.discard(channel)
        self.subscribed.discard(channel)
        self._waiting.pop(channel, None)
        if channel in self._sent:
            self._change(channel)
        else:
            self._changed.discard(channel)

    async def resubscribe(self, pubsub: PubSubConnection) -> list[SentSubscription]:
        """
        Send all subscriptions on a new connection.

        Returns:
            those that were not subscribed before, for `confirm`.
        """
        self._sent = {}
        self.numbered.clear()
        self.plain.clear()
        self._changed |= self._requested
        new = self._send(pubsub)
        await self._barriers.flush(pubsub)
        return new

    def open(self, pubsub: PubSubConnection) -> None:
        """
        Send each change on *pubsub* from now on.
        """
        self._pubsub = pubsub
        if self._changed:
            self._schedule()

    def close(self) -> None:
        """
        Stop sending: the pub/sub connection is lost.
        """
        self._pubsub = None
        self._sent = {}

    def confirm(self, sent: Iterable[SentSubscription], position: Position) -> None:
        """
        Fire the subscriptions of *sent* that are still requested: everything after
        *position* is received.
        """
        for channel, number in sent:
            if self._sent.get(channel) == number and channel in self._requested:
                self.subscribed.add(channel)
                for done in self._waiting.pop(channel, ()):
                    done.callback(position)

    def reserve(self, prefix: bytes) -> None:
        """
        Receive no plain messages under names that begin with *prefix*.
        """
        self._reserved.add(prefix)
        names = [name for name in self.plain if name.startswith(prefix)]
        for name in names:
            del self.plain[name]
        if self._pubsub is not None and names:
            self._pubsub.unsubscribe(names)

    def announced_copy(self, name: bytes, flags: int) -> bytes:
        """
        Return the name of the plain copy that follows a message with *flags*.

        Args:
            name: the pub/sub name of the message.
            flags: with ANNOUNCED.

        Returns:
            b"" if this node receives no plain messages of that name.
        """
        if self._plain_prefix is None or flags - flags % ANNOUNCED != self._announcement:
            return b""
        return self._plain_prefix + name.removeprefix(self._numbered_prefix)

    def _change(self, channel: str) -> None:
        self._changed.add(channel)
        self._schedule()

    def _schedule(self) -> None:
        if self._pubsub is not None and not self._scheduled:
            self._scheduled = True
            self._clock.callLater(0, self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if self._pubsub is not None:
            ensureDeferred(self._send_changes(self._pubsub)).addErrback(
                lambda failure: failure.trap(RedisUnavailable, ResponseError)
            )

    async def _send_changes(self, pubsub: PubSubConnection) -> None:
        new = self._send(pubsub)
        if new:
            # First that they are active, then the log's position.
            await self._barriers.flush(pubsub)
            self.confirm(new, await self._barriers.sync())

    def _send(self, pubsub: PubSubConnection) -> list[SentSubscription]:
        changed, self._changed = self._changed, set()
        subscribe: list[list[bytes]] = []
        unsubscribe: list[list[bytes]] = []
        new: list[SentSubscription] = []
        for channel in changed:
            requested = channel in self._requested
            if requested and channel not in self._sent:
                self._sent[channel] = self._barriers.next_token()
                names = self._names(channel)
                subscribe.append(names)
                self.numbered[names[0]] = channel
                self.plain.update(dict.fromkeys(names[1:], channel))
            elif not requested and channel in self._sent:
                del self._sent[channel]
                unsubscribe.append(self._names(channel))
                for name in unsubscribe[-1]:
                    self.numbered.pop(name, None)
                    self.plain.pop(name, None)
            if requested and channel not in self.subscribed:
                new.append((channel, self._sent[channel]))
        if unsubscribe:
            pubsub.unsubscribe(*unsubscribe)
        if subscribe:
            pubsub.subscribe(*subscribe)
        return new

    def _names(self, channel: str) -> list[bytes]:
        """
        Return the pub/sub names of *channel*: that of numbered messages first, so that
        no plain message arrives whose number would be missed.
        """
        name = encode(channel)
        names = [self._numbered_prefix + name]
        if self._plain_prefix is not None:
            plain = self._plain_prefix + name
            if not plain.startswith(tuple(self._reserved)):
                names.append(plain)
        return names
