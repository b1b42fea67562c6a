"""
Replays from the stream: one reading answers all who ask meanwhile.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from math import isfinite

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.stream_reader import Start
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Message, Newest, Position, Replay, Since

_log = Logger()

LOOK = 100_000  # messages read for one answer; what is older is said to be a gap
BYTES = 64 << 20  # bytes in one answer

Take = Callable[[Delivery, int], bool]
Read = Callable[[Start, Take], Awaitable[None]]
# A message of the log, or None for what is nobody's, or was there before.
Decode = Callable[[Delivery, int], Message | None]


class AmqpHistoryQuery:
    """
    Somebody who asks, and what is found for him.

    Args:
        channels: their names.
        since: what of them.
        gone: called with this if nobody waits for the answer any more.
    """

    def __init__(
        self, channels: Sequence[str], since: Since, gone: Callable[[AmqpHistoryQuery], None]
    ) -> None:
        self.channels = frozenset(channels)
        self.since = since
        self.done: Deferred[Replay] = Deferred(lambda _: gone(self))
        self.complete = True
        self.start = 0  # offset of the first that is looked for
        self._found: deque[Message] = deque()
        self._bytes = 0

    def begin(self, head: Position) -> None:
        """
        Where to begin, now that the log ends at *head*.
        """
        oldest = max(0, head.offset - LOOK + 1)
        since = self.since
        self.start = oldest
        if isinstance(since, After):
            if since.position.epoch != head.epoch or since.position.offset > head.offset:
                self.complete = False
            else:
                self.start = max(oldest, since.position.offset + 1)
                self.complete = self.start == since.position.offset + 1

    def take(self, message: Message) -> None:
        """
        The next message of the log.
        """
        if message.channel not in self.channels or message.position.offset < self.start:
            return
        self._found.append(message)
        self._bytes += len(message.data)
        most = self.since.count if isinstance(self.since, Newest) else LOOK
        while self._found and (len(self._found) > most or self._bytes > BYTES):
            self._bytes -= len(self._found.popleft().data)
            self.complete = self.complete and isinstance(self.since, Newest)

    def answer(self, head: Position) -> None:
        """
        It has all there is up to *head*.
        """
        if not self.done.called:
            self.done.callback(Replay(tuple(self._found), self.complete, head))

    def fail(self, reason: str) -> None:
        """
        There is no answer.
        """
        if not self.done.called:
            self.done.errback(Unavailable(reason))


class AmqpHistoryReader:
    """
    Answers questions, one reading after the other.

    Args:
        read: reads the stream from a place until it is enough.
        decode: makes a message of what was read.
        head: where the log ends, as we know it.
        catch_up: fires when that is not behind any position that was given.
    """

    def __init__(
        self,
        read: Read,
        decode: Decode,
        head: Callable[[], Position],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._read = read
        self._decode = decode
        self._head = head
        self._catch_up = catch_up
        self._asked: dict[AmqpHistoryQuery, None] = {}  # in order
        self._open = False
        self._busy = False

    def ask(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        See `IHistory.after`.
        """
        question = AmqpHistoryQuery(channels, since, self._withdraw)
        self._asked[question] = None
        self._go_on()
        return question.done

    def _withdraw(self, question: AmqpHistoryQuery) -> None:
        self._asked.pop(question, None)

    def open(self) -> None:
        """
        There is a stream to read.
        """
        self._open = True
        self._go_on()

    def close(self) -> None:
        """
        There is none; who asks has to wait.
        """
        self._open = False

    def _go_on(self) -> None:
        if self._open and self._asked and not self._busy:
            self._busy = True
            Deferred.fromCoroutine(self._answer_all()).addErrback(_unexpected)

    async def _answer_all(self) -> None:
        try:
            while self._open and self._asked:
                asked, self._asked = list(self._asked), {}
                try:
                    await self._answer(asked)
                except (AmqpConnectionClosed, Unavailable) as error:
                    for question in asked:
                        question.fail(f"the stream cannot be read: {error}")
        finally:
            self._busy = False

    async def _answer(self, asked: list[AmqpHistoryQuery]) -> None:
        head = self._head()
        if any(_ahead(question.since, head) for question in asked):
            await self._catch_up()
            head = self._head()
        # Times are the server's; each needs a reading of its own.
        groups: dict[datetime | None, list[AmqpHistoryQuery]] = {}
        for question in asked:
            question.begin(head)
            groups.setdefault(_moment(question.since, time.time()), []).append(question)
        for moment, questions in groups.items():
            if moment is None:
                questions = [one for one in questions if one.start <= head.offset]
            if questions and head.offset >= 0:
                await self._scan(questions, moment, head)
        for question in asked:
            question.answer(head)

    async def _scan(
        self, questions: list[AmqpHistoryQuery], moment: datetime | None, head: Position
    ) -> None:
        start = min([question.start for question in questions])
        first = -1

        def take(delivery: Delivery, offset: int) -> bool:
            nonlocal first
            if first < 0:
                first = offset
                for question in questions:
                    if isinstance(question.since, After) and question.start < first:
                        question.complete = False
            if offset <= head.offset:
                message = self._decode(delivery, offset)
                if message is not None:
                    for question in questions:
                        question.take(message)
            return offset >= head.offset

        await self._read(start if moment is None else moment, take)


def _ahead(since: Since, head: Position) -> bool:
    if not isinstance(since, After) or since.position.epoch != head.epoch:
        return False
    return since.position.offset > head.offset


def _moment(since: Since, now: float) -> datetime | None:
    if isinstance(since, After | Newest) or not isfinite(since.seconds):
        return None
    return datetime.fromtimestamp(max(0.0, now - since.seconds), UTC)


def _unexpected(failure: Failure) -> None:
    _log.failure("while reading the stream", failure)
