"""
History queries that arrive together share one read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock

from rt_twisted.brokers.history_batch import HistoryBatcher, HistoryQuery
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.model.errors import Unavailable
from rt_twisted.model.message import Newest, Position, Replay


class Away(Exception):
    """
    The server is away.
    """


class Reads:
    """
    Records the batches; each is answered when the test fires its Deferred.
    """

    def __init__(self, max_channels: int = 0) -> None:
        self.clock = Clock()
        self.batches: list[Sequence[HistoryQuery]] = []
        self.answers: list[Deferred[Iterable[Replay]]] = []
        self.batcher = HistoryBatcher(self.clock, self._answer, (Away,), max_channels)
        self.batcher.open()

    async def _answer(self, queries: Sequence[HistoryQuery]) -> Iterable[Replay]:
        self.batches.append(queries)
        self.answers.append(Deferred())
        return await self.answers[-1]

    def ask(self, *channels: str) -> list[Any]:
        results: list[Any] = []
        self.batcher.ask(channels, Newest(1)).addBoth(results.append)
        return results

    def turn(self) -> list[list[Selector]]:
        """
        Let the reactor turn; returns the channels of each query of the latest batch.
        """
        self.clock.advance(0)
        return [list(channels) for channels, _ in self.batches[-1]]


def replay(offset: int) -> Replay:
    return Replay((), True, Position("e", offset))


def test_the_queries_of_a_turn_are_one_batch() -> None:
    """
    Equal queries share an answer; later queries wait for the next batch.
    """
    reads = Reads()
    results = [reads.ask("a"), reads.ask("b", "c"), reads.ask("a")]
    assert reads.turn() == [["a"], ["b", "c"]]
    later = reads.ask("d")
    assert reads.turn() == [["a"], ["b", "c"]]

    reads.answers[0].callback([replay(1), replay(2)])

    assert results == [[replay(1)], [replay(2)], [replay(1)]]
    assert reads.turn() == [["d"]]
    reads.answers[1].callback([replay(3)])
    assert later == [replay(3)]


def test_a_batch_is_bounded() -> None:
    """
    A batch is full once it has as many channels as one read may have.
    """
    reads = Reads(max_channels=3)
    for name in "abcde":
        reads.ask(name)

    assert reads.turn() == [["a"], ["b"], ["c"]]
    reads.answers[0].callback([replay(1)] * 3)
    assert reads.turn() == [["d"], ["e"]]


def test_a_cancelled_query_is_not_asked() -> None:
    """
    A query that is cancelled leaves the queue, or its answer goes nowhere.
    """
    reads = Reads()
    queued = reads.batcher.ask(["a"], Newest(1))
    queued.addErrback(lambda failure: failure.trap(CancelledError))
    running = reads.batcher.ask(["b"], Newest(1))
    running.addErrback(lambda failure: failure.trap(CancelledError))
    queued.cancel()
    assert reads.turn() == [["b"]]

    running.cancel()
    reads.answers[0].callback([replay(1)])

    assert reads.ask("c") == []
    assert reads.turn() == [["c"]]


def test_queries_wait_for_the_server() -> None:
    """
    A batch whose connection is lost is requested again on the next one.
    """
    reads = Reads()
    result = reads.ask("a")
    reads.turn()
    reads.batcher.close()
    reads.answers[0].errback(Away())
    reads.turn()
    assert len(reads.batches) == 1
    assert not result

    reads.batcher.open()
    assert reads.turn() == [["a"]]
    reads.answers[1].callback([replay(1)])
    assert result == [replay(1)]


def test_stopping_fails_what_waits() -> None:
    """
    Queued queries fail at once; those of a batch that is lost afterwards fail too.
    """
    reads = Reads()
    running = reads.ask("a")
    reads.turn()
    queued = reads.ask("b")

    reads.batcher.stop()
    assert queued[0].check(Unavailable)
    reads.answers[0].errback(Away())
    assert running[0].check(Unavailable)


@pytest.mark.parametrize(
    ("error", "logged"), [(Unavailable("too slow"), 0), (KeyError("epoch"), 1)]
)
def test_a_failed_read_fails_its_queries(
    error: Exception, logged: int, clean_reactor: list[Any]
) -> None:
    """
    An unexpected error is logged, and the next batch is read.
    """
    reads = Reads()
    result = reads.ask("a")
    reads.turn()

    reads.answers[0].errback(error)

    assert result[0].check(Unavailable)
    assert len(clean_reactor) == logged
    clean_reactor.clear()
    reads.ask("b")
    assert reads.turn() == [["b"]]
