"""
The history reader of the AMQP stream broker: one read of the stream answers many queries.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from rt_twisted.brokers.amqp.channel import AmqpConnectionClosed
from rt_twisted.brokers.amqp.content import Delivery
from rt_twisted.brokers.amqp.stream_reader import Start
from rt_twisted.brokers.history_batch import HistoryBatcher, HistoryQuery
from rt_twisted.codecs.wildcard_index import WildcardIndex
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Message, Newest, Position, Replay, Since

MAX_READ = 100_000  # messages read for one answer; older ones are reported as a gap
MAX_ANSWER_BYTES = 64 << 20

OnDelivery = Callable[[Delivery, int], bool]
Read = Callable[[Start, OnDelivery], Awaitable[None]]
# A message of the log, or None for one of another program, or a repeated idempotency key.
Decode = Callable[[Delivery, int], Message | None]


class ReplayCollector:
    """
    Collects the messages of one query while the stream is read.

    Args:
        query: its channels and what of them.
        head: the end of the log.
    """

    def __init__(self, query: HistoryQuery, head: Position) -> None:
        channels, self.since = query
        self._channels = frozenset(channels)
        self._patterns = WildcardIndex()
        for one in channels:
            if not isinstance(one, str):
                self._patterns.add(one)
        self._head = head
        self._found: deque[Message] = deque()
        self._bytes = 0
        self.complete = True
        self.start = oldest = max(0, head.offset - MAX_READ + 1)  # the first offset to read
        if isinstance(self.since, After):
            position = self.since.position
            if position.epoch != head.epoch or position.offset > head.offset:
                self.complete = False
            else:
                self.start = max(oldest, position.offset + 1)
                self.complete = self.start == position.offset + 1

    def add(self, message: Message) -> None:
        """
        Add the next message of the log, if the query is for it.
        """
        if message.position.offset < self.start:
            return
        channel = message.channel
        if channel not in self._channels and not self._patterns.matches(channel):
            return
        self._found.append(message)
        self._bytes += len(message.data)
        most = self.since.count if isinstance(self.since, Newest) else MAX_READ
        while self._found and (len(self._found) > most or self._bytes > MAX_ANSWER_BYTES):
            self._bytes -= len(self._found.popleft().data)
            self.complete = self.complete and isinstance(self.since, Newest)

    def replay(self) -> Replay:
        """
        Return the replay, once the stream has been read up to its end.
        """
        return Replay(tuple(self._found), self.complete, self._head)


class AmqpHistoryReader:
    """
    Answers history queries from the stream.

    Args:
        clock: the reactor.
        read: reads the stream from a place until its callback returns True.
        decode: makes a message of a delivery.
        head: returns the end of the log, as far as this node knows.
        catch_up: fires when the head is not behind any position that was given.
    """

    def __init__(
        self,
        clock: Any,
        read: Read,
        decode: Decode,
        head: Callable[[], Position],
        catch_up: Callable[[], Awaitable[None]],
    ) -> None:
        self._read = read
        self._decode = decode
        self._head = head
        self._catch_up = catch_up
        self.batcher = HistoryBatcher(clock, self._answer)

    async def _answer(self, queries: Sequence[HistoryQuery]) -> list[Replay]:
        try:
            return await self._collect(queries)
        except (AmqpConnectionClosed, Unavailable) as error:
            raise Unavailable(f"the stream cannot be read: {error}") from None

    async def _collect(self, queries: Sequence[HistoryQuery]) -> list[Replay]:
        head = self._head()
        if any(_is_ahead(since, head) for _, since in queries):
            await self._catch_up()
            head = self._head()
        collectors = [ReplayCollector(query, head) for query in queries]
        # Times are the server's; each needs a read of its own.
        groups: dict[datetime | None, list[ReplayCollector]] = {}
        for collector in collectors:
            groups.setdefault(_oldest_time(collector.since, time.time()), []).append(collector)
        for oldest, group in groups.items():
            if oldest is None:
                group = [one for one in group if one.start <= head.offset]
            if group and head.offset >= 0:
                await self._scan(group, oldest, head)
        return [collector.replay() for collector in collectors]

    async def _scan(
        self, collectors: list[ReplayCollector], oldest: datetime | None, head: Position
    ) -> None:
        start = min([collector.start for collector in collectors])
        first = -1

        def on_delivery(delivery: Delivery, offset: int) -> bool:
            nonlocal first
            if first < 0:
                first = offset
                for collector in collectors:
                    if isinstance(collector.since, After) and collector.start < first:
                        collector.complete = False
            if offset <= head.offset:
                message = self._decode(delivery, offset)
                if message is not None:
                    for collector in collectors:
                        collector.add(message)
            return offset >= head.offset

        await self._read(start if oldest is None else oldest, on_delivery)


def _is_ahead(since: Since, head: Position) -> bool:
    if not isinstance(since, After) or since.position.epoch != head.epoch:
        return False
    return since.position.offset > head.offset


def _oldest_time(since: Since, now: float) -> datetime | None:
    if isinstance(since, After | Newest) or not isfinite(since.seconds):
        return None
    return datetime.fromtimestamp(max(0.0, now - since.seconds), UTC)
