"""
Queries of the history file, many in one read.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rt_twisted.brokers.sqlite.reader import HistoryQuery
from rt_twisted.model.message import Replay

MAX_QUERIES = 32  # different ones in one read: their replays are in memory together
MAX_REPLAYS = 256  # subscribers served by one read: some milliseconds of the reactor


class ReplayQueue:
    """
    Passes queries on, one read at a time; equal queries of one read are answered together.

    Args:
        read: returns the replays of different queries; does not fail as long as the broker
            works.
        on_error: called with an unexpected failure of *read*.
    """

    def __init__(
        self,
        read: Callable[[list[HistoryQuery]], Deferred[list[Replay]]],
        on_error: Callable[[Failure], None],
    ) -> None:
        self._read = read
        self._on_error = on_error
        self._waiting: deque[tuple[HistoryQuery, Deferred[Replay]]] = deque()
        self._reading = False

    def add(self, query: HistoryQuery) -> Deferred[Replay]:
        """
        Return the replay for *query*.
        """
        done: Deferred[Replay] = Deferred()
        self._waiting.append((query, done))
        self._read_next()
        return done

    def _read_next(self) -> None:
        if self._reading or not self._waiting:
            return
        queries: dict[HistoryQuery, list[Deferred[Replay]]] = {}
        for _ in range(min(MAX_REPLAYS, len(self._waiting))):
            query, done = self._waiting[0]
            if query not in queries and len(queries) == MAX_QUERIES:
                break
            queries.setdefault(query, []).append(done)
            self._waiting.popleft()
        self._reading = True
        answered = self._read(list(queries))
        answered.addCallback(self._on_read, queries).addErrback(self._on_error)

    def _on_read(
        self, replays: Sequence[Replay], queries: dict[HistoryQuery, list[Deferred[Replay]]]
    ) -> None:
        self._reading = False
        for replay, waiting in zip(replays, queries.values(), strict=True):
            for done in waiting:
                done.callback(replay)
        self._read_next()
