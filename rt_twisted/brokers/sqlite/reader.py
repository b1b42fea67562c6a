"""
Replays from the history file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from rt_twisted.brokers.sqlite.database import connect, from_blob, single_value, to_blob
from rt_twisted.brokers.sqlite.pattern_replay import MAX_SCANNED, PatternSpan, read_patterns
from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.message import After, Message, Newest, Position, Replay, Since, Within

HistoryQuery = tuple[Sequence[Selector], Since]


class StoreReader:
    """
    A connection that only reads, for a thread of its own.

    Args:
        path: the history file.
        epoch: of its log.
        seconds: return the time, unix seconds.
    """

    def __init__(self, path: str, epoch: str, seconds: Callable[[], float]) -> None:
        self._epoch = epoch
        self._seconds = seconds
        self._db = connect(path)
        self._db.execute("PRAGMA query_only = 1")

    def replay(self, queries: Sequence[HistoryQuery], upto: int) -> list[Replay]:
        """
        Return a replay for each of *queries* (see `IHistory.after`), up to the offset *upto*.

        Raises:
            sqlite3.Error: the file cannot be read; see `is_damage`.
        """
        self._db.execute("BEGIN")  # all replays of one moment
        try:
            floor = single_value(self._db, "SELECT floor FROM log")
            return [self._read_replay(names, since, upto, floor) for names, since in queries]
        finally:
            self._db.execute("COMMIT")

    def close(self) -> None:
        """
        Close the reading connection; the last call of the reading thread.
        """
        self._db.close()

    def _read_replay(
        self, names: Iterable[Selector], since: Since, upto: int, floor: int
    ) -> Replay:
        position = Position(self._epoch, upto)
        after, where, complete = 0, "", True
        values: tuple[float, ...] = ()
        if isinstance(since, After):
            complete = since.position.epoch == self._epoch
            after = since.position.offset if complete else 0
            if after > upto:  # nothing here is new, and what precedes *since* may be lost
                return Replay((), False, since.position)
            complete = complete and after >= floor
        elif isinstance(since, Newest):
            where, values = "ORDER BY offset DESC LIMIT ?", (since.count,)
        else:
            where, values = "AND time >= ?", (self._seconds() - since.seconds,)
        found: list[Message] = []
        patterns: list[Wildcard] = []
        for name in names:
            if not isinstance(name, str):
                patterns.append(name)
                continue
            channel = to_blob(name)
            if complete and isinstance(since, After):
                horizon = "SELECT offset FROM horizons WHERE channel = ?"
                complete = (single_value(self._db, horizon, (channel,)) or 0) <= after
            rows = self._db.execute(
                "SELECT offset, data, event FROM messages "
                f"WHERE channel = ? AND offset > ? AND offset <= ? {where}",
                (channel, after, upto, *values),
            )
            found += [
                Message(name, data, Position(self._epoch, offset), event and from_blob(event))
                for offset, data, event in rows
            ]
        if patterns:
            oldest = values[0] if isinstance(since, Within) else -inf
            count = since.count if isinstance(since, Newest) else MAX_SCANNED
            span = PatternSpan(self._epoch, after, upto, oldest, count)
            more, whole = read_patterns(self._db, patterns, span)
            known = {message.position.offset for message in found}
            found += [message for message in more if message.position.offset not in known]
            complete = complete and (whole or not isinstance(since, After))
        found.sort(key=lambda message: message.position.offset)
        if isinstance(since, Newest):
            found = found[-since.count :] if since.count else []
        return Replay(tuple(found), complete, position)
