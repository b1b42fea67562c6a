"""
The stored messages of patterns in redis.

Redis has the last offset of each channel in one sorted set. So the channels that have
changed since a position are listed without looking at the others; this node finds
those that match, and fetches their messages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from rt_twisted.brokers.history_batch import HistoryQuery
from rt_twisted.brokers.redis.entries import ChannelSlice, Entry, by_offset, find_gaps
from rt_twisted.brokers.redis.errors import RedisUnavailable
from rt_twisted.brokers.redis.publisher import Call
from rt_twisted.brokers.redis.queries import ChannelQuery, FetchResult
from rt_twisted.brokers.redis.scripts import CHANGED
from rt_twisted.codecs.wildcards import Wildcard
from rt_twisted.model.message import After, Newest, Since

PAGE = 4096  # names that one script lists: redis does nothing else for about 1 ms
MAX_LISTED = 32_768  # names that are listed for one replay; more are a gap
MAX_MATCHED = 4096  # channels that are read for one pattern, the newest; more are a gap
MAX_BYTES = 16 << 20  # of data in one replay; more are a gap

Fetch = Callable[[Sequence[ChannelQuery], str, float], Awaitable[FetchResult]]


@dataclass(frozen=True, slots=True)
class ChangedChannels:
    """
    Channels with messages after some offset.

    Args:
        names: by their last message, the newest last.
        epoch: of the log.
        offset: of the log; messages after it may be of channels that are not listed.
        floor: messages up to this offset are too old, and their channels may be forgotten.
        complete: whether all channels are listed.
    """

    names: Sequence[str]
    epoch: str
    offset: int
    floor: int
    complete: bool


@dataclass(slots=True)
class PatternEntries:
    """
    Stored entries of all channels that match a pattern.

    Args:
        entries: in order.
        last_gap: offset up to which some may be missing; infinity if it is unknown.
    """

    entries: list[Entry]
    last_gap: float = 0


@dataclass(slots=True)
class PatternResult:
    """
    What was read for the patterns of a batch of queries.

    Args:
        epoch: of the log.
        offset: everything up to here was read.
        found: by pattern, and by what is read of it (`_kind`).
    """

    epoch: str
    offset: float = inf
    found: dict[tuple[Wildcard, str], PatternEntries] = field(default_factory=dict)

    def select(self, pattern: Wildcard, since: Since, start: int) -> tuple[list[Entry], bool]:
        """
        Return the entries of *pattern* after the offset *start*, and whether they are complete.
        """
        found = self.found[pattern, _kind(since, self.epoch)]
        first = bisect_right(found.entries, start, key=by_offset)
        return found.entries[first:], found.last_gap <= start


class PatternReader:
    """
    Reads what queries with patterns need.

    Args:
        call: runs a script.
        fetch: fetches channels; see `RedisHistoryReader.fetch`.
    """

    def __init__(self, call: Call, fetch: Fetch) -> None:
        self._call = call
        self._fetch = fetch

    async def changed_since(self, offset: int) -> ChangedChannels:
        """
        List the channels with messages after *offset*, up to MAX_LISTED.

        Page after page, from the lowest offset on: a channel that gets a message meanwhile
        comes later, and none is left out.

        Raises:
            RedisUnavailable: redis is away, or its log has changed meanwhile.
        """
        names: dict[str, None] = {}
        listed, known = 0, ""
        while True:
            epoch, head, floor, last, page = await self._call(CHANGED, offset, PAGE, 0)
            if known and known != epoch.decode():
                raise RedisUnavailable("its log has changed")
            known = epoch.decode()
            for name in page:
                names.pop(_decode(name), None)
                names[_decode(name)] = None
            listed += len(page)
            complete = len(page) < PAGE
            if complete or listed >= MAX_LISTED:
                return ChangedChannels(list(names), known, head, floor, complete)
            offset = int(float(last))

    async def _newest(self) -> ChangedChannels:
        epoch, head, floor, _, page = await self._call(CHANGED, 0, PAGE, 1)
        names = [_decode(name) for name in reversed(page)]
        return ChangedChannels(names, epoch.decode(), head, floor, len(page) < PAGE)

    async def read(self, queries: Iterable[HistoryQuery], epoch: str) -> PatternResult:
        """
        Read the stored messages of all patterns in *queries*; *epoch* is that of the log.

        Raises:
            RedisUnavailable: redis is away, or its log has changed meanwhile.
        """
        starts: dict[Wildcard, int] = {}
        counts: dict[Wildcard, int] = {}
        whole: dict[Wildcard, int] = {}
        for selectors, since in queries:
            for pattern in selectors:
                if isinstance(pattern, str):
                    continue
                if isinstance(since, Newest):
                    counts[pattern] = max(counts.get(pattern, 1), since.count)
                elif isinstance(since, After) and since.position.epoch == epoch:
                    start = since.position.offset
                    starts[pattern] = min(starts.get(pattern, start), start)
                else:
                    whole[pattern] = 0
        result = PatternResult(epoch)
        if starts:
            changed = await self.changed_since(min(starts.values()))
            await self._read_after(result, starts, changed, "after")
        if counts or whole:
            changed = await self._newest()
            await self._read_after(result, whole, changed, "all")
            for pattern, count in counts.items():
                await self._read_newest(result, pattern, count, changed)
        return result

    async def _read_after(
        self,
        result: PatternResult,
        starts: Mapping[Wildcard, int],
        changed: ChangedChannels,
        kind: str,
    ) -> None:
        _note(result, changed)
        after: dict[str, int] = {}
        matched: dict[Wildcard, list[str]] = {}
        for pattern, start in starts.items():
            names = [name for name in changed.names if pattern.matches(name)]
            matched[pattern] = names
            for name in reversed(names[-MAX_MATCHED:]):
                after[name] = min(after.get(name, start), start)
        queries = [ChannelQuery(name, start, 0) for name, start in after.items()]
        slices = (await self._fetch(queries, "", MAX_BYTES)).slices if queries else {}
        for pattern, start in starts.items():
            names = matched[pattern]
            found = _collect(names, slices, start, changed.offset)
            if not changed.complete or len(names) > MAX_MATCHED:
                found.last_gap = inf
            found.last_gap = max(found.last_gap, changed.floor)
            result.found[pattern, kind] = found

    async def _read_newest(
        self, result: PatternResult, pattern: Wildcard, count: int, changed: ChangedChannels
    ) -> None:
        _note(result, changed)
        names = [name for name in changed.names if pattern.matches(name)]
        # Each has at least one: the newest ones of so many channels are enough.
        newest = list(reversed(names[-min(count, MAX_MATCHED) :]))
        queries = [ChannelQuery(name, 0, count) for name in newest]
        slices = (await self._fetch(queries, "", MAX_BYTES)).newest if queries else {}
        result.found[pattern, "newest"] = _collect(newest, slices, 0, changed.offset)


def _note(result: PatternResult, changed: ChangedChannels) -> None:
    if result.epoch != changed.epoch:
        raise RedisUnavailable("its log has changed")
    result.offset = min(result.offset, changed.offset)


def _collect(
    names: Iterable[str], slices: Mapping[str, ChannelSlice], start: int, upto: int
) -> PatternEntries:
    found = PatternEntries([])
    for name in names:
        part = slices.get(name)
        if part is None:  # there were too many bytes
            found.last_gap = inf
            continue
        found.entries += [entry for entry in part.entries if entry.offset <= upto]
        # A gap that begins later is of messages that come by the live stream.
        gaps = [end for begin, end in find_gaps(part, start) if begin < upto]
        found.last_gap = max([found.last_gap, *gaps])
    found.entries.sort(key=by_offset)
    return found


def _kind(since: Since, epoch: str) -> str:
    if isinstance(since, Newest):
        return "newest"
    return "after" if isinstance(since, After) and since.position.epoch == epoch else "all"


def _decode(name: bytes) -> str:
    return name.decode("utf-8", "surrogatepass")
