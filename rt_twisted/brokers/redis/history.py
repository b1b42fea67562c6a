"""
What redis remembers, asked for by many at once.

All questions of one turn are one round: each channel is fetched once, for the
one who needs most of it, and everybody is answered from that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from txredisapi import ResponseError

from rt_twisted.brokers.redis.barriers import Barriers
from rt_twisted.brokers.redis.connections import RedisUnavailable
from rt_twisted.brokers.redis.entries import ChannelSlice, Entry, by_offset, find_gaps, read_slice
from rt_twisted.brokers.redis.publisher import Call, encode
from rt_twisted.brokers.redis.scripts import RECALL
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import After, Newest, Position, Replay, Since, Within

_log = Logger()

CHUNK = 256  # channels of one script: redis does nothing else for about 1 ms
CHUNK_BYTES = 4 << 20  # and so many bytes, before it lets others in
ROUND = 4096  # channels of one round; who comes later waits for the next

RedisHistoryQuery = tuple[tuple[str, ...], Since]
Waiting = dict[Deferred[Replay], None]  # those who ask the same, in order


@dataclass(frozen=True, slots=True)
class ChannelQuery:
    """
    What is to be fetched of a channel.

    Args:
        channel: its name.
        after: offset.
        newest: so many of the newest; 0 for all.
    """

    channel: str
    after: int = 0
    newest: int = 0


@dataclass(slots=True)
class Recalled:
    """
    What was fetched.

    Args:
        position: where the log stood at first; perhaps there is newer in the trails.
        since: offset from which this epoch answers for what is missing.
        now: unix milliseconds, by redis' clock.
        trails: by channel.
        newest: by channel, where only the newest were wanted.
        skipped: channels for which there was no room.
    """

    position: Position
    since: int
    now: float
    trails: dict[str, ChannelSlice] = field(default_factory=dict)
    newest: dict[str, ChannelSlice] = field(default_factory=dict)
    skipped: list[str] = field(default_factory=list)


class RedisHistoryReader:
    """
    Asks redis for what is remembered.

    Args:
        clock: the reactor.
        call: runs a script.
        age: seconds that messages are remembered.
        marks: say when the live stream has come so far.
        node: the name of this one.
    """

    def __init__(
        self, clock: Any, call: Call, age: Callable[[], float], barriers: Barriers, node: str
    ) -> None:
        self._clock = clock
        self._call = call
        self._age = age
        self._barriers = barriers
        self._node = node
        self._open = False
        self._stopped = False
        self._due = False
        self._round: Deferred[None] | None = None
        self._asked: dict[RedisHistoryQuery, Waiting] = {}
        self.epoch = ""  # of the log, and
        self.leaps: Sequence[tuple[int, int]] = ()  # between which offsets it has leapt

    def after(self, channels: Sequence[str], since: Since) -> Deferred[Replay]:
        """
        See `IHistory.after`. One that is cancelled is not asked, if it is not yet.
        """
        question = tuple(channels), since
        done: Deferred[Replay] = Deferred(partial(self._withdraw, question))
        self._asked.setdefault(question, {})[done] = None
        self._schedule()
        return done

    def _withdraw(self, question: RedisHistoryQuery, done: Deferred[Replay]) -> None:
        waiting = self._asked.get(question, {})
        waiting.pop(done, None)
        if not waiting:
            self._asked.pop(question, None)

    def open(self) -> None:
        """
        The live stream is there; questions are answered.
        """
        self._open = True
        self._schedule()

    def close(self) -> None:
        """
        It is not. Questions wait.
        """
        self._open = False

    def stop(self) -> None:
        """
        There are no answers any more.
        """
        self._open = False
        self._stopped = True
        asked, self._asked = self._asked, {}
        for waiting in asked.values():
            for done in _still(waiting):
                done.errback(Unavailable("the server is stopping"))

    def _schedule(self) -> None:
        if self._open and self._asked and not self._due and self._round is None:
            self._due = True
            self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._due = False
        if not self._open or self._round is not None:
            return
        asked: dict[RedisHistoryQuery, Waiting] = {}
        channels = 0
        while self._asked and channels < ROUND:
            question = next(iter(self._asked))
            asked[question] = self._asked.pop(question)
            channels += len(question[0])
        self._round = ensureDeferred(self._answer(asked))
        self._round.addErrback(self._unexpected, asked)
        self._round.addCallback(self._ended)

    def _unexpected(self, failure: Failure, asked: dict[RedisHistoryQuery, Waiting]) -> None:
        _log.failure("while asking redis", failure)
        for waiting in asked.values():
            for done in _still(waiting):
                done.errback(Unavailable("redis gave an answer that we do not understand"))

    def _ended(self, _: object) -> None:
        self._round = None
        self._schedule()

    async def _answer(self, asked: dict[RedisHistoryQuery, Waiting]) -> None:
        wanted = list(_merge(asked, self.epoch))
        token, reached = self._barriers.expect()
        try:
            recalled = await self.fetch(wanted, token)
            await reached
        except (RedisUnavailable, ResponseError) as error:
            reached.addErrback(lambda _: None)
            if isinstance(error, RedisUnavailable):  # they wait for it to come back
                for question, waiting in asked.items():
                    for done in _still(waiting):
                        self._asked.setdefault(question, {})[done] = None
                if self._stopped:
                    self.stop()
                return
            for waiting in asked.values():
                for done in _still(waiting):
                    done.errback(Unavailable(f"redis: {error}"))
            return
        for question, waiting in asked.items():
            replay = self._replay(question, recalled)
            for done in _still(waiting):
                done.callback(replay)

    async def fetch(
        self, wanted: Sequence[ChannelQuery], token: str, most: float = float("inf")
    ) -> Recalled:
        """
        Have what is remembered of channels.

        Args:
            wanted: of which channels what.
            token: of a mark to be sent with the first answer.
            most: bytes; for channels that come after that there is no room.

        Raises:
            Away: redis is not there, or its log has changed meanwhile.
        """
        left = list(wanted)
        first: Recalled | None = None
        age = self._age() * 1000
        while left or first is None:
            chunk = left[:CHUNK]
            arguments = [
                argument
                for want in chunk
                for argument in (encode(want.channel), want.after, want.newest)
            ]
            answer = await self._call(RECALL, self._node, token, CHUNK_BYTES, *arguments)
            token = ""
            epoch, offset, floor, since, now = answer[:5]
            epoch = epoch.decode()
            if first is None:
                first = Recalled(Position(epoch, offset), since, now)
            elif first.position.epoch != epoch:
                raise RedisUnavailable("its log has changed")
            for want, (last, rows) in zip(chunk, answer[5:], strict=False):
                trail = read_slice(want.channel, epoch, floor, now - age, last, rows)
                (first.newest if want.newest else first.trails)[want.channel] = trail
                most -= sum([len(entry.message.data) for entry in trail.entries])
            left = left[len(answer) - 5 :]
            if most < 0:
                first.skipped = [want.channel for want in left]
                break
        return first

    def is_known(self, position: Position, recalled: Recalled) -> bool:
        """
        Whether *position* is one of this log, and none that was lost with the
        memory of a redis.
        """
        offset = position.offset
        return (
            position.epoch == recalled.position.epoch
            and recalled.since <= offset <= recalled.position.offset
            and not any(old < offset < new for old, new in self.leaps)
        )

    def _replay(self, question: RedisHistoryQuery, recalled: Recalled) -> Replay:
        channels, since = question
        # What is newer than the replay's position comes by the live stream.
        upto = recalled.position.offset
        found: list[Entry] = []
        complete = True
        start = 0
        if isinstance(since, After):
            complete = self.is_known(since.position, recalled)
            if since.position.epoch == recalled.position.epoch:
                start = since.position.offset
        trails = recalled.newest if isinstance(since, Newest) else recalled.trails
        for channel in channels:
            trail = trails[channel]
            found += [entry for entry in trail.entries if start < entry.offset <= upto]
            if isinstance(since, After):
                # One that ends later may begin before: the trail is newer than *upto*
                # if the position came with the answer for other channels.
                complete = complete and not any(hole < upto for hole, _ in find_gaps(trail, start))
        found.sort(key=by_offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        elif isinstance(since, Within):
            oldest = recalled.now - since.seconds * 1000
            found = [entry for entry in found if entry.time >= oldest]
        return Replay(tuple([entry.message for entry in found]), complete, recalled.position)


def _still(waiting: Waiting) -> Iterator[Deferred[Replay]]:
    """
    Those who have not gone meanwhile; one that is answered may have others go.
    """
    for done in tuple(waiting):
        if not done.called:
            yield done


def _merge(asked: Iterable[RedisHistoryQuery], epoch: str) -> Iterator[ChannelQuery]:
    """
    For each channel the least that is enough for everybody.
    """
    after: dict[str, int] = {}
    newest: dict[str, int] = {}
    for channels, since in asked:
        for channel in channels:
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
