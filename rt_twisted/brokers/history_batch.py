"""
Batches of history queries: those that arrive together share one read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger

from rt_twisted.codecs.wildcards import Selector
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Replay, Since

_log = Logger()

HistoryQuery = tuple[tuple[Selector, ...], Since]  # channels, and what of them
Waiting = dict[Deferred[Replay], None]  # callers with the same query, in order
Answer = Callable[[Sequence[HistoryQuery]], Awaitable[Iterable[Replay]]]


class HistoryBatcher:
    """
    Collects history queries and answers them in batches, one batch at a time.

    Args:
        clock: the reactor.
        answer: returns one replay for each query of a batch, in order. If it raises
            `Unavailable`, so do the queries.
        retry: errors of *answer* after which the queries wait for the next batch.
        max_channels: channels after which a batch is full; 0 for no limit.
    """

    def __init__(
        self,
        clock: Any,
        answer: Answer,
        retry: tuple[type[Exception], ...] = (),
        max_channels: int = 0,
    ) -> None:
        self._clock = clock
        self._answer = answer
        self._retry = retry
        self._max_channels = max_channels
        self._queries: dict[HistoryQuery, Waiting] = {}
        self._open = False
        self._stopped = False
        self._scheduled = False
        self._running = False

    def ask(self, channels: Sequence[Selector], since: Since) -> Deferred[Replay]:
        """
        Queue a query; see `IHistory.after`. Cancelling removes it from the queue.
        """
        query = tuple(channels), since
        done: Deferred[Replay] = Deferred(partial(self._withdraw, query))
        self._queries.setdefault(query, {})[done] = None
        self._schedule()
        return done

    def _withdraw(self, query: HistoryQuery, done: Deferred[Replay]) -> None:
        waiting = self._queries.get(query, {})
        waiting.pop(done, None)
        if not waiting:
            self._queries.pop(query, None)

    def open(self) -> None:
        """
        Answer what waits: the server is connected.
        """
        self._open = True
        self._schedule()

    def close(self) -> None:
        """
        Let queries wait: the server is away.
        """
        self._open = False

    def stop(self) -> None:
        """
        Fail what waits; no query is answered from now on.
        """
        self._open = False
        self._stopped = True
        queries, self._queries = self._queries, {}
        _fail(queries, "the server is stopping")

    def _schedule(self) -> None:
        if self._open and self._queries and not self._scheduled and not self._running:
            self._scheduled = True
            self._clock.callLater(0, self._begin)

    def _begin(self) -> None:
        self._scheduled = False
        if not self._open or self._running:
            return
        batch: dict[HistoryQuery, Waiting] = {}
        channels = 0
        while self._queries and (channels < self._max_channels or not self._max_channels):
            query = next(iter(self._queries))
            batch[query] = self._queries.pop(query)
            channels += len(query[0])
        self._running = True
        done = ensureDeferred(self._run(batch))
        done.addErrback(lambda failure: _log.failure("while answering history queries", failure))
        done.addCallback(self._on_end)

    def _on_end(self, _: object) -> None:
        self._running = False
        self._schedule()

    async def _run(self, batch: dict[HistoryQuery, Waiting]) -> None:
        try:
            replays = await self._answer(tuple(batch))
            for waiting, replay in zip(batch.values(), replays, strict=True):
                for done in _unanswered(waiting):
                    done.callback(replay)
        except self._retry:
            for query, waiting in batch.items():
                for done in _unanswered(waiting):
                    self._queries.setdefault(query, {})[done] = None
            if self._stopped:
                self.stop()
        except Unavailable as error:
            _fail(batch, str(error))
        except Exception:
            _log.failure("while reading the history")
            _fail(batch, "the history cannot be read")


def _fail(batch: dict[HistoryQuery, Waiting], reason: str) -> None:
    for waiting in batch.values():
        for done in _unanswered(waiting):
            done.errback(Unavailable(reason))


def _unanswered(waiting: Waiting) -> Iterator[Deferred[Replay]]:
    """
    Yield the callers that still wait: an answer to one may cancel others.
    """
    for done in tuple(waiting):
        if not done.called:
            yield done
