"""
The channels and patterns that a node is subscribed to, and what redis knows of that.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, ensureDeferred, succeed

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.copies import ANNOUNCED, CopyNames, encode
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import Position

if TYPE_CHECKING:
    from rt_twisted.brokers.redis.connections import PubSubConnection

SentSubscription = tuple[Selector, int]  # a channel or pattern, and its command's number
_SPECIAL = re.compile(rb"[*?\[\\]")  # in redis' patterns


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
        self._requested: set[Selector] = set()
        self._requested_patterns = WildcardIndex()
        # On this connection: channels and patterns, with the numbers of their commands.
        self._sent: dict[Selector, int] = {}
        self._sent_patterns = WildcardIndex()
        self._changed: set[Selector] = set()
        self._scheduled = False
        self._waiting: dict[Selector, list[Deferred[Position]]] = {}
        self.subscribed: set[Selector] = set()  # of which the receiver must miss nothing
        self.numbered: dict[bytes, str] = {}  # pub/sub names of numbered messages to channels
        self.plain: dict[bytes, str] = {}
        self.numbered_globs: set[bytes] = set()  # redis' patterns for numbered messages
        self.plain_globs: dict[bytes, Wildcard] = {}

    def add(self, channel: Selector, position: Position) -> Deferred[Position]:
        """
        Subscribe to *channel*; fires with *position* if it is subscribed already.
        """
        if channel in self.subscribed:
            return succeed(position)
        self._requested.add(channel)
        if not isinstance(channel, str):
            self._requested_patterns.add(channel)
        done: Deferred[Position] = Deferred()
        self._waiting.setdefault(channel, []).append(done)
        self._change(channel)
        return done

    def remove(self, channel: Selector) -> None:
        """
        Unsubscribe from *channel*.
        """
        self._requested.discard(channel)
        if not isinstance(channel, str):
            self._requested_patterns.discard(channel)
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
        self._forget_sent()
        self.numbered.clear()
        self.plain.clear()
        self.numbered_globs.clear()
        self.plain_globs.clear()
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
        self._forget_sent()

    def _forget_sent(self) -> None:
        self._sent = {}
        self._sent_patterns = WildcardIndex()

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

    def covers(self, channel: str) -> bool:
        """
        Return whether *channel* is requested, by its name or by a pattern.
        """
        return channel in self._requested or self._requested_patterns.matches(channel)

    def is_numbered(self, name: bytes) -> bool:
        """
        Return whether numbered messages are published under *name*.
        """
        return name.startswith(self._numbered_prefix)

    def numbered_channel(self, name: bytes) -> str:
        """
        Return the channel whose numbered messages are published under *name*.
        """
        return self.numbered.get(name) or _decode(name[len(self._numbered_prefix) :])

    def plain_channel(self, glob: bytes, name: bytes) -> str | None:
        """
        Return the channel of a plain message that *glob* has matched; None if it is to be
        taken from another subscription (`takes_plain`).
        """
        assert self._plain_prefix is not None
        pattern = self.plain_globs[glob]
        if name.startswith(tuple(self._reserved)):  # the daemon's own names are no channels
            return None
        channel = _decode(name[len(self._plain_prefix) :])
        return channel if self.takes_plain(pattern, channel) else None

    def takes_plain(self, subscription: Selector, channel: str) -> bool:
        """
        Return whether plain messages of *channel* are taken from *subscription*.

        A plain message has no number by which its copies could be found. So it is taken
        from the oldest of the subscriptions that match it: redis has that one for sure.
        """
        if not self._sent_patterns:
            return True
        others = [channel, *self._sent_patterns.matching(channel)]
        oldest = min([self._sent[one] for one in others if one in self._sent], default=0)
        return self._sent.get(subscription) == oldest

    def _change(self, channel: Selector) -> None:
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
        subscribe_globs: list[list[bytes]] = []
        unsubscribe_globs: list[list[bytes]] = []
        new: list[SentSubscription] = []
        # In the order of the commands: the numbers tell which is older.
        for channel in sorted(changed, key=_is_pattern):
            requested = channel in self._requested
            if requested and channel not in self._sent:
                self._sent[channel] = self._barriers.next_token()
                if isinstance(channel, str):
                    names = self._names(channel)
                    subscribe.append(names)
                    self.numbered[names[0]] = channel
                    self.plain.update(dict.fromkeys(names[1:], channel))
                else:
                    globs = self._globs(channel)
                    subscribe_globs.append(globs)
                    self._sent_patterns.add(channel)
                    self.numbered_globs.add(globs[0])
                    self.plain_globs.update(dict.fromkeys(globs[1:], channel))
            elif not requested and channel in self._sent:
                del self._sent[channel]
                if isinstance(channel, str):
                    unsubscribe.append(self._names(channel))
                    for name in unsubscribe[-1]:
                        self.numbered.pop(name, None)
                        self.plain.pop(name, None)
                else:
                    self._sent_patterns.discard(channel)
                    unsubscribe_globs.append(self._globs(channel))
                    for glob in unsubscribe_globs[-1]:
                        self.numbered_globs.discard(glob)
                        self.plain_globs.pop(glob, None)
            if requested and channel not in self.subscribed:
                new.append((channel, self._sent[channel]))
        if unsubscribe:
            pubsub.unsubscribe(*unsubscribe)
        if unsubscribe_globs:
            pubsub.unsubscribe_patterns(*unsubscribe_globs)
        if subscribe:
            pubsub.subscribe(*subscribe)
        if subscribe_globs:
            pubsub.subscribe_patterns(*subscribe_globs)
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

    def _globs(self, pattern: Wildcard) -> list[bytes]:
        """
        Return redis' patterns for *pattern*: that for names of numbered messages first.
        """
        glob = b"*".join([_escape(encode(piece)) for piece in pattern.pieces])
        globs = [_escape(self._numbered_prefix) + glob]
        if self._plain_prefix is not None:
            globs.append(_escape(self._plain_prefix) + glob)
        return globs


def _escape(text: bytes) -> bytes:
    return _SPECIAL.sub(rb"\\\g<0>", text)


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")


def _is_pattern(selector: Selector) -> bool:
    return not isinstance(selector, str)
