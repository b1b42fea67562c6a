"""
The publisher of the AMQP brokers: it follows each message until it is acknowledged.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.amqp.config import Topology
from rt_twisted.brokers.amqp.content import MAX_BODY, MessageProperties
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.routing import UNIT_HEADER, Routing
from rt_twisted.brokers.amqp.table import MAX_SHORT
from rt_twisted.brokers.idempotency import IdempotencyKeys
from rt_twisted.brokers.publisher import MAX_PENDING_BYTES, Publication
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import UNIT, Draft, Position, PublishResult

CONFIRM_TIMEOUT = 10.0  # seconds until the server must have confirmed a message
# Seconds until a confirmed message that was not delivered here is acknowledged all the same.
DELIVERY_TIMEOUT = 2.0
# The text with which RabbitMQ closes the channel: `max_message_size`, which it announces nowhere.
_TOO_LARGE = re.compile(r"larger than (?:configured )?max size ([0-9]{1,12})")


class Unconfirmed:
    """
    A message that was sent and is not acknowledged to its publisher yet.

    Args:
        draft: what was sent.
        subscribed: whether the server delivers the message to this node too.
        sent_at: seconds.
    """

    __slots__ = ("confirmed", "draft", "position", "sent_at", "size", "subscribed", "waiting")

    def __init__(self, draft: Draft, subscribed: bool, sent_at: float) -> None:
        self.draft = draft
        self.subscribed = subscribed
        self.sent_at = sent_at
        self.size = 0  # bytes that count as pending
        self.confirmed = False
        self.position: Position | None = None
        self.waiting: list[tuple[Publication, int]] = []  # and the index of the draft there


class AmqpPublisher:
    """
    Publish messages, and acknowledge each once the server has confirmed it and its
    position is known.

    Args:
        clock: the reactor.
        topology: the exchange to publish to.
        routing: the routing keys.
        token: unique to this process; correlation ids begin with it.
        fallback_position: returns the position of a message that was confirmed and
            not delivered here within `DELIVERY_TIMEOUT`; None if such a message has
            failed after `CONFIRM_TIMEOUT`.
    """

    def __init__(
        self,
        clock: IReactorTime,
        topology: Topology,
        routing: Routing,
        token: str,
        fallback_position: Callable[[], Position] | None,
    ) -> None:
        self._clock = clock
        self._topology = topology
        self._routing = routing
        self._token = token
        self._fallback_position = fallback_position
        self._count = 0  # of messages ever sent; part of their correlation ids
        self._unconfirmed: OrderedDict[int, Unconfirmed] = OrderedDict()  # by delivery tag
        self._undelivered: OrderedDict[str, Unconfirmed] = OrderedDict()  # by correlation id
        self._by_key: dict[tuple[str, str], Unconfirmed] = {}
        self._pending_bytes = 0
        self._max_message = MAX_BODY  # bytes; lower once the server has refused a message
        self._client: AmqpConnection | None = None
        self._closed_reason = "not connected to the AMQP server yet"
        self.keys = IdempotencyKeys()

    def open(self, client: AmqpConnection) -> None:
        """
        Publish by *client* from now on; its channel is in confirm mode.
        """
        self._client = client
        client.on_confirm = self._on_confirm

    def close(self, reason: str) -> None:
        """
        Fail what is not confirmed: it may be lost with the connection.
        """
        self._client = None
        self._closed_reason = reason
        found = _TOO_LARGE.search(reason)
        if found is not None:
            # Another message of that size would close the channel, and the connections, again.
            self._max_message = min(self._max_message, int(found[1]))
        unconfirmed, self._unconfirmed = self._unconfirmed, OrderedDict()
        for message in unconfirmed.values():
            self._fail(message, reason)

    def on_blocked(self, reason: str) -> None:
        """
        Fail what is not confirmed: the server has stopped reading (`connection.blocked`).
        """
        for message in tuple(self._unconfirmed.values()):
            self._fail(message, reason)

    def check_channel(self, channel: str) -> None:
        if self._routing.key(channel) is None:
            raise HttpError(400, f"AMQP carries channel names of up to {MAX_SHORT} bytes in UTF-8")

    def _check(self, draft: Draft) -> None:
        if len(draft.data) > self._max_message:
            raise HttpError(
                413, f"the AMQP server takes messages of up to {self._max_message} bytes"
            )
        self.check_channel(draft.channel)

    def publish(
        self, drafts: Sequence[Draft], is_subscribed: Callable[[str], bool]
    ) -> Deferred[PublishResult]:
        """
        Send *drafts* to the exchange; see `IBroker.publish`.

        Args:
            drafts: the messages.
            is_subscribed: returns whether the server delivers a channel to this node.
        """
        client = self._client
        if client is None:
            return fail(Unavailable(self._closed_reason))
        if client.blocked:
            return fail(Unavailable(f"the AMQP server accepts no messages now: {client.blocked}"))
        if self._pending_bytes > MAX_PENDING_BYTES:
            return fail(Unavailable("the AMQP server is too slow"))
        try:
            for draft in drafts:
                self._check(draft)
        except HttpError:
            return fail()
        if not drafts:
            return succeed(PublishResult(()))
        publication = Publication(drafts)
        now = self._clock.seconds()
        for index, draft in enumerate(drafts):
            if draft.key is not None:
                known = self.keys.find(draft.channel, draft.key, now)
                if known is not None:
                    publication.place(index, known)
                    continue
                same = self._by_key.get((draft.channel, draft.key))
                if same is not None:
                    same.waiting.append((publication, index))
                    continue
            message = Unconfirmed(draft, is_subscribed(draft.channel), now)
            message.waiting.append((publication, index))
            self._send(client, message)
        return publication.done

    def on_delivered(self, correlation_id: str, position: Position) -> None:
        """
        Take the *position* of a message that was delivered here, or of the earlier
        message with its idempotency key. Other nodes' correlation ids change nothing.
        """
        message = self._undelivered.get(correlation_id)
        if message is not None:
            message.position = position
            del self._undelivered[correlation_id]
            if message.confirmed:
                self._place(message, position)

    def check_timeouts(self) -> None:
        """
        Settle messages whose time is over; called once a second.
        """
        now = self._clock.seconds()
        timeout = CONFIRM_TIMEOUT if self._fallback_position is None else DELIVERY_TIMEOUT
        while self._unconfirmed:
            tag, message = next(iter(self._unconfirmed.items()))
            if now - message.sent_at < CONFIRM_TIMEOUT:
                break
            del self._unconfirmed[tag]
            self._fail(message, "the AMQP server did not confirm the message in time")
        while self._undelivered:
            name, message = next(iter(self._undelivered.items()))
            if now - message.sent_at < (timeout if message.confirmed else CONFIRM_TIMEOUT):
                break
            del self._undelivered[name]
            if message.confirmed:
                self._on_undelivered(message)

    def _send(self, client: AmqpConnection, message: Unconfirmed) -> None:
        draft = message.draft
        self._count += 1
        correlation_id = f"{self._token}.{self._count}" if message.subscribed else ""
        headers = dict(self._routing.headers(draft.channel))
        type = draft.event or ""
        if type.startswith(UNIT):
            headers[UNIT_HEADER], type = type, ""
        elif len(type) > 63 and len(type.encode()) > 255:
            headers["type"], type = type, ""
        key = draft.key or ""
        if len(key) > 63 and len(key.encode()) > 255:
            headers["message-id"], key = key, ""
        message.size = client.publish(
            self._topology.number,
            self._topology.exchange,
            self._routing.key(draft.channel) or "",
            draft.data,
            MessageProperties(type, key, correlation_id, self._topology.persistent, headers),
        )
        self._pending_bytes += message.size
        self._unconfirmed[client.published] = message
        if draft.key is not None:
            self._by_key[draft.channel, draft.key] = message
        if correlation_id:
            self._undelivered[correlation_id] = message

    def _on_confirm(self, tag: int, multiple: bool, accepted: bool) -> None:
        tags = [tag]
        if multiple:
            tags = []
            for one in self._unconfirmed:
                if one > tag:
                    break
                tags.append(one)
        for one in tags:
            message = self._unconfirmed.pop(one, None)
            if message is None:
                continue
            if not accepted:
                self._fail(message, "the AMQP server rejected the message")
                continue
            message.confirmed = True
            self._pending_bytes -= message.size
            message.size = 0
            if message.position is not None:
                self._place(message, message.position)
            elif not message.subscribed:
                self._on_undelivered(message)

    def _on_undelivered(self, message: Unconfirmed) -> None:
        if self._fallback_position is None:
            self._fail(message, "the AMQP server did not deliver the message in time")
            return
        position = self._fallback_position()
        if message.draft.key is not None:
            now = self._clock.seconds()
            self.keys.remember(message.draft.channel, message.draft.key, position, now)
        self._place(message, position)

    def _place(self, message: Unconfirmed, position: Position) -> None:
        self._release(message)
        for publication, index in message.waiting:
            publication.place(index, position)

    def _fail(self, message: Unconfirmed, reason: str) -> None:
        self._release(message)
        error: Exception = Unavailable(reason)
        try:
            self._check(message.draft)
        except HttpError as never:
            error = never
        for publication, _ in message.waiting:
            publication.fail(error)
        message.waiting = []

    def _release(self, message: Unconfirmed) -> None:
        self._pending_bytes -= message.size
        message.size = 0
        draft = message.draft
        if draft.key is not None and self._by_key.get((draft.channel, draft.key)) is message:
            del self._by_key[draft.channel, draft.key]
