"""
What was published and is not answered yet.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IReactorTime

from rt_twisted.brokers.amqp.config import Topology
from rt_twisted.brokers.amqp.content import LARGEST, MessageProperties
from rt_twisted.brokers.amqp.protocol import AmqpConnection
from rt_twisted.brokers.amqp.routing import Routing
from rt_twisted.brokers.amqp.table import SHORT
from rt_twisted.brokers.memory import KnownKeys
from rt_twisted.model.errors import HttpError, Unavailable
from rt_twisted.model.message import Draft, Position, PublishResult

LIMIT = 10.0  # seconds until the server must have confirmed a message
ECHO = 2.0  # seconds until it is answered although it has not come back to us
WAITING = 64 << 20  # bytes that may be on their way to the server
# What RabbitMQ says as it closes the channel: `max_message_size`, which it announces nowhere.
_TOO_LARGE = re.compile(r"larger than (?:configured )?max size ([0-9]{1,12})")


class AmqpPublication:
    """
    What one call of `publish` handed in.
    """

    __slots__ = ("_missing", "_positions", "done")

    def __init__(self, count: int) -> None:
        self.done: Deferred[PublishResult] = Deferred()
        self._positions: list[Position] = [Position("", 0)] * count
        self._missing = count

    def place(self, index: int, position: Position) -> None:
        """
        The draft *index* is at *position*.
        """
        self._positions[index] = position
        self._missing -= 1
        if not self._missing and not self.done.called:
            self.done.callback(PublishResult(tuple(self._positions)))

    def fail(self, reason: Exception) -> None:
        """
        Something of it was not taken.
        """
        if not self.done.called:
            self.done.errback(reason)


class Unconfirmed:
    """
    A message on its way.
    """

    __slots__ = ("bytes", "confirmed", "draft", "expected", "position", "since", "waiting")

    def __init__(self, draft: Draft, expected: bool, since: float) -> None:
        self.draft = draft
        self.expected = expected  # to come back to us
        self.since = since
        self.bytes = 0
        self.confirmed = False
        self.position: Position | None = None
        self.waiting: list[tuple[AmqpPublication, int]] = []


class AmqpPublisher:
    """
    Publishes, and knows for each message whether the server has it, and where
    in the log it is.

    Args:
        clock: the reactor.
        topology: where to.
        routing: by which keys.
        token: letters that no other process has.
        late: the position of a message that the server has and that has not
            come back; None if that is no success, and has the time of all.
    """

    def __init__(
        self,
        clock: IReactorTime,
        topology: Topology,
        routing: Routing,
        token: str,
        late: Callable[[], Position] | None,
    ) -> None:
        self._clock = clock
        self._topology = topology
        self._routing = routing
        self._token = token
        self._late = late
        self._count = 0  # of messages ever sent; names them
        self._unconfirmed: OrderedDict[int, Unconfirmed] = OrderedDict()
        self._coming: OrderedDict[str, Unconfirmed] = OrderedDict()  # back to us, oldest first
        self._by_key: dict[tuple[str, str], Unconfirmed] = {}
        self._bytes = 0
        self._largest = LARGEST  # bytes of a body that the server takes, as far as is known
        self._client: AmqpConnection | None = None
        self.why = "not connected to the AMQP server yet"
        self.keys = KnownKeys()

    def open(self, client: AmqpConnection) -> None:
        """
        From now on messages go by *client*, whose channel confirms.
        """
        self._client = client
        client.on_confirm = self._confirm

    def close(self, why: str) -> None:
        """
        The connection is gone: what was not confirmed may be lost.
        """
        self._client = None
        self.why = why
        found = _TOO_LARGE.search(why)
        if found is not None:
            # It would close the channel, and with it the connections, each time.
            self._largest = min(self._largest, int(found[1]))
        unconfirmed, self._unconfirmed = self._unconfirmed, OrderedDict()
        for sent in unconfirmed.values():
            self._fail(sent, why)

    def refuse(self, why: str) -> None:
        """
        The server takes nothing at the moment; what is on its way waits there.
        """
        for sent in tuple(self._unconfirmed.values()):
            self._fail(sent, why)

    def check_channel(self, channel: str) -> None:
        """
        See `ILimited.check_channel`.
        """
        if self._routing.key(channel) is None:
            raise HttpError(400, f"AMQP carries channel names of up to {SHORT} bytes in UTF-8")

    def _check(self, draft: Draft) -> None:
        if len(draft.data) > self._largest:
            raise HttpError(413, f"the AMQP server takes messages of up to {self._largest} bytes")
        self.check_channel(draft.channel)

    def publish(
        self, drafts: Sequence[Draft], expected: Callable[[str], bool]
    ) -> Deferred[PublishResult]:
        """
        See `IBroker.publish`.

        Args:
            drafts: what.
            expected: whether a message of a channel comes back to us.
        """
        client = self._client
        if client is None:
            return fail(Unavailable(self.why))
        if client.blocked:
            return fail(Unavailable(f"the AMQP server takes nothing now: {client.blocked}"))
        if self._bytes > WAITING:
            return fail(Unavailable("the AMQP server is too slow"))
        try:
            for draft in drafts:
                self._check(draft)
        except HttpError:
            return fail()
        if not drafts:
            return succeed(PublishResult(()))
        publication = AmqpPublication(len(drafts))
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
            sent = Unconfirmed(draft, expected(draft.channel), now)
            sent.waiting.append((publication, index))
            self._send(client, sent)
        return publication.done

    def came(self, name: str, position: Position) -> None:
        """
        A message is back, or known from before; *name* is its correlation id.
        """
        sent = self._coming.get(name)
        if sent is not None:
            sent.position = position
            del self._coming[name]
            if sent.confirmed:
                self._place(sent, position)

    def tick(self) -> None:
        """
        Once a second: nobody waits for ever.
        """
        now = self._clock.seconds()
        echo = LIMIT if self._late is None else ECHO
        while self._unconfirmed:
            tag, sent = next(iter(self._unconfirmed.items()))
            if now - sent.since < LIMIT:
                break
            del self._unconfirmed[tag]
            self._fail(sent, "the AMQP server has not confirmed in time")
        while self._coming:
            name, sent = next(iter(self._coming.items()))
            if now - sent.since < (echo if sent.confirmed else LIMIT):
                break
            del self._coming[name]
            if sent.confirmed:
                self._overdue(sent)

    def _send(self, client: AmqpConnection, sent: Unconfirmed) -> None:
        draft = sent.draft
        self._count += 1
        name = f"{self._token}.{self._count}" if sent.expected else ""
        headers = dict(self._routing.headers(draft.channel))
        type = draft.event or ""
        if len(type) > 63 and len(type.encode()) > 255:
            headers["type"], type = type, ""
        key = draft.key or ""
        if len(key) > 63 and len(key.encode()) > 255:
            headers["message-id"], key = key, ""
        sent.bytes = client.publish(
            self._topology.number,
            self._topology.exchange,
            self._routing.key(draft.channel) or "",
            draft.data,
            MessageProperties(type, key, name, self._topology.persistent, headers),
        )
        self._bytes += sent.bytes
        self._unconfirmed[client.published] = sent
        if draft.key is not None:
            self._by_key[draft.channel, draft.key] = sent
        if name:
            self._coming[name] = sent

    def _confirm(self, tag: int, multiple: bool, taken: bool) -> None:
        tags = [tag]
        if multiple:
            tags = []
            for one in self._unconfirmed:
                if one > tag:
                    break
                tags.append(one)
        for one in tags:
            sent = self._unconfirmed.pop(one, None)
            if sent is None:
                continue
            if not taken:
                self._fail(sent, "the AMQP server could not take it")
                continue
            sent.confirmed = True
            self._bytes -= sent.bytes
            sent.bytes = 0
            if sent.position is not None:
                self._place(sent, sent.position)
            elif not sent.expected:
                self._overdue(sent)

    def _overdue(self, sent: Unconfirmed) -> None:
        if self._late is None:
            self._fail(sent, "the message has not come back from the AMQP server")
            return
        position = self._late()
        if sent.draft.key is not None:
            now = self._clock.seconds()
            self.keys.remember(sent.draft.channel, sent.draft.key, position, now)
        self._place(sent, position)

    def _place(self, sent: Unconfirmed, position: Position) -> None:
        self._settle(sent)
        for publication, index in sent.waiting:
            publication.place(index, position)

    def _fail(self, sent: Unconfirmed, why: str) -> None:
        self._settle(sent)
        reason: Exception = Unavailable(why)
        try:
            self._check(sent.draft)
        except HttpError as refusal:
            reason = refusal
        for publication, _ in sent.waiting:
            publication.fail(reason)
        sent.waiting = []

    def _settle(self, sent: Unconfirmed) -> None:
        self._bytes -= sent.bytes
        sent.bytes = 0
        draft = sent.draft
        if draft.key is not None and self._by_key.get((draft.channel, draft.key)) is sent:
            del self._by_key[draft.channel, draft.key]
