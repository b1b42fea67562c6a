"""
Claims in RabbitMQ: each is an exclusive queue, which the server deletes with the connection
of the node that declared it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from twisted.internet.defer import Deferred, DeferredLock, ensureDeferred
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from zope.interface import implementer

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.content import MessageProperties
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.table import MAX_SHORT
from rt_twisted.brokers.interfaces import ClaimTaken, IClaim
from rt_twisted.model.errors import Unavailable

_log = Logger()

TAKEOVER_SECONDS: Final = 5.0  # until the holder must have released its claim
RETRY: Final = 0.1  # seconds between two attempts to take a claim over
CHECK: Final = 1.0  # seconds between two attempts to restore a claim
GHOST_SECONDS: Final = 5.0  # beside two heartbeats, until the server drops a dead connection
RESOURCE_LOCKED: Final = 405
NOT_FOUND: Final = 404
_TAKEN_OVER = "another publisher has taken over"


@implementer(IClaim)
class AmqpClaim:
    """
    A claim that holds until it is lost or released.

    Args:
        claims: releases it.
        name: what is claimed.
    """

    def __init__(self, claims: AmqpClaims, name: str) -> None:
        self.lost: Deferred[str] = Deferred()
        self.name = name
        self._claims = claims

    def release(self) -> None:
        self._claims.release(self)


class AmqpClaims:
    """
    The claims of this node.

    The server answers RESOURCE_LOCKED and closes the channel if another connection has the
    queue, so queues are declared on a channel for this alone. A takeover is a message to
    the queue: its holder deletes the queue. Claims are kept while the server is away, and
    declared again on each connection.

    Args:
        clock: the reactor.
        exchange: its name is a part of the queues' names.
        number: the AMQP channel with the node's consumers; the second one after it is used
            for declarations.
        heartbeat: seconds; the server drops a dead connection after two; 0 for none.
    """

    def __init__(self, clock: Any, exchange: str, number: int, heartbeat: int) -> None:
        self._clock = clock
        self._exchange = exchange
        self._number = number
        self._patience = 2 * heartbeat + GHOST_SECONDS
        self._lock = DeferredLock()  # one declaration at a time: its error closes the channel
        self._held: dict[str, AmqpClaim] = {}
        self._queues: set[str] = set()  # names whose queues this connection has
        self._missing: dict[str, float] = {}  # held without a queue, and since when
        self._reader: AmqpConnection | None = None
        self._writer: AmqpConnection | None = None
        self._loop = LoopingCall(self._check)
        self._loop.clock = clock

    async def open(self, reader: AmqpConnection, writer: AmqpConnection) -> None:
        """
        Declare the claims on a new pair of connections.

        Raises:
            AmqpConnectionClosed: the connection is lost, or the user may not declare queues.
        """
        self._reader, self._writer = reader, writer
        now = self._clock.seconds()
        for name in tuple(self._held):
            self._missing.setdefault(name, now)
        await self._restore()

    def close(self) -> None:
        """
        Forget the connections, which are lost.
        """
        self._reader = self._writer = None
        self._queues.clear()

    def claim(self, name: str, run: str, takeover: bool) -> Deferred[AmqpClaim]:
        """
        Claim *name*; see `IClaims.claim`.
        """
        return ensureDeferred(self._claim(name, run, takeover))

    async def _claim(self, name: str, run: str, takeover: bool) -> AmqpClaim:
        deadline = self._clock.seconds() + TAKEOVER_SECONDS
        while True:
            try:
                granted = await self._lock.run(self._take, name, takeover)
            except AmqpConnectionClosed as error:
                raise Unavailable(f"amqp: {error}") from None
            if granted is not None:
                return granted
            if not takeover or self._clock.seconds() >= deadline:
                raise ClaimTaken(name)
            if self._writer is not None:
                self._writer.publish(
                    self._number, "", self._queue(name), run.encode(), MessageProperties()
                )
            await deferLater(self._clock, RETRY)

    async def _take(self, name: str, takeover: bool) -> AmqpClaim | None:
        if name in self._held and not takeover:
            raise ClaimTaken(name)
        if self._reader is None:
            raise AmqpConnectionClosed("the AMQP server is away")
        if name not in self._held and name not in self._queues and not await self._declare(name):
            return None
        before = self._held.get(name)
        claim = self._held[name] = AmqpClaim(self, name)
        if before is not None:
            before.lost.callback(_TAKEN_OVER)
        return claim

    def is_claimed(self, name: str) -> Deferred[bool]:
        """
        Return whether *name* is claimed; see `IClaims.is_claimed`.
        """
        return ensureDeferred(self._is_claimed(name))

    async def _is_claimed(self, name: str) -> bool:
        if name in self._held:
            return True
        try:
            return await self._lock.run(self._exists, name)
        except AmqpConnectionClosed as error:
            raise Unavailable(f"amqp: {error}") from None

    def release(self, claim: AmqpClaim) -> None:
        """
        Release *claim*, if it is held.
        """
        if self._held.get(claim.name) is claim:
            self._forget(claim.name)

    def stop(self) -> None:
        """
        Stop restoring claims: the daemon is stopping, and the server deletes the queues.
        """
        self._held.clear()
        self._missing.clear()
        if self._loop.running:
            self._loop.stop()

    def _forget(self, name: str) -> None:
        del self._held[name]
        self._missing.pop(name, None)
        deleted = self._lock.run(self._delete, name)
        # With the connection the queue is gone too.
        deleted.addErrback(lambda failure: failure.trap(AmqpConnectionClosed))

    def _lose(self, name: str) -> None:
        claim = self._held.get(name)
        if claim is not None:
            self._forget(name)
            claim.lost.callback(_TAKEN_OVER)

    async def _restore(self) -> None:
        """
        Declare the queues of claims that have none, and lose those that another node has.
        """
        now = self._clock.seconds()
        for name, since in tuple(self._missing.items()):
            if await self._lock.run(self._restored, name):
                self._missing.pop(name, None)
            elif now - since > self._patience:
                # Until then the queue may be that of our own former connection.
                self._lose(name)
        if self._missing and not self._loop.running:
            self._loop.start(CHECK, now=False)

    async def _restored(self, name: str) -> bool:
        return name not in self._held or name in self._queues or await self._declare(name)

    def _check(self) -> Deferred[None]:
        if not self._missing:
            self._loop.stop()
        return ensureDeferred(self._restore()).addErrback(self._on_error)

    def _on_error(self, failure: Any) -> None:
        if not failure.check(AmqpConnectionClosed):
            _log.failure("while restoring claims", failure)

    async def _declare(self, name: str) -> bool:
        """
        Declare the queue of *name*; False if another connection has it.
        """
        queue = self._queue(name)
        reader = await self._open_channel()
        try:
            await reader.call(self._number + 2, "queue_declare", queue=queue, exclusive=True)
        except AmqpConnectionClosed as error:
            if error.code != RESOURCE_LOCKED:
                raise
            return False
        reader.consumers[queue] = lambda _: self._lose(name)
        await reader.call(
            self._number, "basic_consume", queue=queue, consumer_tag=queue, no_ack=True
        )
        if reader is not self._reader:
            raise AmqpConnectionClosed("the connection was lost")
        self._queues.add(name)
        return True

    async def _delete(self, name: str) -> None:
        if name in self._held or name not in self._queues or self._reader is None:
            return
        self._queues.discard(name)
        reader, queue = self._reader, self._queue(name)
        # Without the consumer, as the server reports to consumers that their queue is gone.
        await reader.call(self._number, "basic_cancel", consumer_tag=queue)
        await reader.call(self._number, "queue_delete", queue=queue)
        reader.consumers.pop(queue, None)

    async def _exists(self, name: str) -> bool:
        reader = await self._open_channel()
        try:
            await reader.call(
                self._number + 2, "queue_declare", queue=self._queue(name), passive=True
            )
        except AmqpConnectionClosed as error:
            if error.code not in (RESOURCE_LOCKED, NOT_FOUND):
                raise
            return error.code == RESOURCE_LOCKED
        return name in self._held

    async def _open_channel(self) -> AmqpConnection:
        reader, number = self._reader, self._number + 2
        if reader is None:
            raise AmqpConnectionClosed("the AMQP server is away")
        reader.private_channels.add(number)
        if number not in reader.channels:
            await reader.call(number, "channel_open")
        return reader

    def _queue(self, name: str) -> str:
        queue = f"live.{self._exchange}.{name}"
        if len(queue.encode()) <= MAX_SHORT:
            return queue
        return f"live.{hashlib.sha256(queue.encode()).hexdigest()}"
