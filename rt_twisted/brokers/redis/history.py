"""
The history reader of the redis broker.

All queries of a batch share one fetch: each channel is fetched once, with as much of it
as any query needs, and every query is answered from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from rt_twisted.brokers.history_batch import HistoryBatcher, HistoryQuery
from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.copies import encode
from rt_twisted.brokers.redis.entries import Entry, by_offset, find_gaps, read_slice
from rt_twisted.brokers.redis.errors import RedisUnavailable, ResponseError
from rt_twisted.brokers.redis.pattern_history import PatternReader, PatternResult
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.queries import ChannelQuery, FetchResult
from rt_twisted.brokers.redis.scripts import RECALL
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Newest, Position, Replay, Within

CHUNK = 256  # channels of one script: redis does nothing else for about 1 ms
CHUNK_BYTES = 4 << 20  # of data in one script's answer
MAX_CHANNELS = 4096  # of one batch


class RedisHistoryReader:
    """
    Reads messages that redis stores.

    Args:
        clock: the reactor.
        call: runs a script.
        age: returns the seconds that messages are retained.
        barriers: tell when the live stream has come as far as an answer.
        node: the name of this node.
    """

    def __init__(
        self, clock: Any, call: Call, age: Callable[[], float], barriers: Barriers, node: str
    ) -> None:
        self._call = call
        self._age = age
        self._barriers = barriers
        self._node = node
        self.patterns = PatternReader(call, self.fetch)
        self.batcher = HistoryBatcher(clock, self._answer, (RedisUnavailable,), MAX_CHANNELS)
        self.epoch = ""  # of the log
        self.offset_jumps: Sequence[tuple[int, int]] = ()  # (from, to): offsets lost between

    async def _answer(self, queries: Sequence[HistoryQuery]) -> Iterator[Replay]:
        patterns = await self._read_patterns(queries)
        token, reached = self._barriers.expect()
        try:
            result = await self.fetch(list(_merge(queries, self.epoch)), token)
            await reached
        except Exception as error:
            reached.addErrback(lambda _: None)
            if isinstance(error, ResponseError):
                raise Unavailable(f"redis: {error}") from None
            raise
        if patterns.found and patterns.epoch != result.position.epoch:
            raise RedisUnavailable("its log has changed")
        return (self._replay(query, result, patterns) for query in queries)

    async def _read_patterns(self, queries: Sequence[HistoryQuery]) -> PatternResult:
        try:
            return await self.patterns.read(queries, self.epoch)
        except ResponseError as error:
            raise Unavailable(f"redis: {error}") from None

    async def fetch(
        self, wanted: Sequence[ChannelQuery], token: str, max_bytes: float = float("inf")
    ) -> FetchResult:
        """
        Fetch stored messages of channels.

        Args:
            wanted: which channels, and what of each.
            token: of a barrier that is sent with the first answer.
            max_bytes: the channels after the one that exceeds it are skipped.

        Raises:
            RedisUnavailable: redis is away, or its log has changed meanwhile.
        """
        left = list(wanted)
        result: FetchResult | None = None
        age = self._age() * 1000
        while left or result is None:
            chunk = left[:CHUNK]
            arguments = [
                argument
                for query in chunk
                for argument in (encode(query.channel), query.after, query.newest)
            ]
            answer = await self._call(RECALL, self._node, token, CHUNK_BYTES, *arguments)
            token = ""
            epoch, offset, floor, since, now = answer[:5]
            epoch = epoch.decode()
            if result is None:
                result = FetchResult(Position(epoch, offset), since, now)
            elif result.position.epoch != epoch:
                raise RedisUnavailable("its log has changed")
            for query, (last, rows) in zip(chunk, answer[5:], strict=False):
                part = read_slice(query.channel, epoch, floor, now - age, last, rows)
                (result.newest if query.newest else result.slices)[query.channel] = part
                max_bytes -= sum([len(entry.message.data) for entry in part.entries])
            left = left[len(answer) - 5 :]
            if max_bytes < 0:
                result.skipped = [query.channel for query in left]
                break
        return result

    def is_known(self, position: Position, result: FetchResult) -> bool:
        """
        Tell whether *position* is of this log, and was not lost when redis lost its
        latest messages.
        """
        offset = position.offset
        return (
            position.epoch == result.position.epoch
            and result.since <= offset <= result.position.offset
            and not any(old < offset < new for old, new in self.offset_jumps)
        )

    def _replay(self, query: HistoryQuery, result: FetchResult, patterns: PatternResult) -> Replay:
        channels, since = query
        # What is newer than the replay's position comes by the live stream.
        upto, epoch = result.position.offset, result.position.epoch
        if not all(isinstance(channel, str) for channel in channels):
            upto = int(min(upto, patterns.offset))
        found: list[Entry] = []
        complete = True
        start = 0
        if isinstance(since, After):
            complete = self.is_known(since.position, result)
            if since.position.epoch == epoch:
                start = since.position.offset
        slices = result.newest if isinstance(since, Newest) else result.slices
        for channel in channels:
            if not isinstance(channel, str):
                entries, whole = patterns.select(channel, since, start)
                found += entries
                complete = complete and (whole or not isinstance(since, After))
                continue
            part = slices[channel]
            found += [entry for entry in part.entries if start < entry.offset <= upto]
            if isinstance(since, After):
                # A gap that ends later may begin before: the slice is newer than *upto*
                # if the position came with the answer for other channels.
                complete = complete and not any(gap < upto for gap, _ in find_gaps(part, start))
        # Each once: a pattern may match a channel that is also named.
        found = sorted({entry.offset: entry for entry in found}.values(), key=by_offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        elif isinstance(since, Within):
            oldest = result.now - since.seconds * 1000
            found = [entry for entry in found if entry.time >= oldest]
        return Replay(tuple([entry.message for entry in found]), complete, Position(epoch, upto))


def _merge(queries: Iterable[HistoryQuery], epoch: str) -> Iterator[ChannelQuery]:
    """
    Yield for each channel the smallest fetch that is enough for all *queries*.
    """
    after: dict[str, int] = {}
    newest: dict[str, int] = {}
    for channels, since in queries:
        for channel in channels:
            if not isinstance(channel, str):
                continue
            if isinstance(since, Newest):
                newest[channel] = max(newest.get(channel, 1), since.count)
                continue
            start = 0
            if isinstance(since, After) and since.position.epoch == epoch:
                start = since.position.offset
            after[channel] = min(after.get(channel, start), start)
    for channel, start in after.items():
        yield ChannelQuery(channel, after=start)
    for channel, count in newest.items():
        yield ChannelQuery(channel, newest=count)
