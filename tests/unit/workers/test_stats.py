"""
The metrics of several workers are one answer.
"""

from __future__ import annotations

import json

from twisted.internet.task import Clock

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery, WorkerReport, pack_report
from rt_twisted.workers.process import ProcessState
from rt_twisted.workers.stats import REPORT_SECONDS, StatsAggregator


class FakeWorker:
    """
    What an aggregator needs of a worker.
    """

    def __init__(self, number: int) -> None:
        self.number = self.pid = number
        self.restarts = 0
        self.state = ProcessState.UP
        self.metrics = Metrics()
        self.report: WorkerReport | None = None
        self.rounds: list[int] = []

    def send_unless_congested(self, what: str, round: int) -> bool:
        self.rounds.append(round)
        return self.state is ProcessState.UP


class Aggregated:
    """
    An aggregator of three workers.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.stats = StatsAggregator(self.clock)
        self.workers = [FakeWorker(number) for number in (1, 2, 3)]
        self.stats.workers = self.workers  # type: ignore[assignment]  # fakes

    def report(
        self, worker: FakeWorker, delivered: int, round: int | None = None, hold: float = 0
    ) -> None:
        number = worker.rounds[-1] if round is None else round
        report = WorkerReport(
            Metrics(subscribers=1, delivered=delivered, reactor_longest_hold_seconds=hold)
        )
        packed = json.loads(json.dumps(pack_report(report)))
        self.stats.on_report(worker, number, packed)  # type: ignore[arg-type]  # as above

    def query(self, export: bool = False) -> list[Snapshot]:
        answers: list[Snapshot] = []
        self.stats.query(StatsQuery(export=export)).addCallback(answers.append)
        return answers


def test_the_answer_is_the_sum_of_all_workers() -> None:
    """
    The answer comes as soon as the last worker has reported.
    """
    aggregated = Aggregated()
    answers = aggregated.query()
    for worker in aggregated.workers:
        assert not answers
        aggregated.report(worker, 10)

    assert answers[0].metrics.delivered == 30
    assert answers[0].metrics.subscribers == 3
    assert [one.state for one in answers[0].workers] == ["up"] * 3
    assert aggregated.clock.getDelayedCalls() == []


def test_the_longest_hold_of_any_worker_is_kept_until_an_export() -> None:
    """
    Also of a report that came between the rounds.
    """
    aggregated = Aggregated()
    aggregated.report(aggregated.workers[0], 1, round=0, hold=0.5)
    found: list[float] = []
    for export in (False, True, False):
        answers = aggregated.query(export)
        for worker in aggregated.workers:
            aggregated.report(worker, 1, hold=0.25 if found == [0.5] else 0)
        found.append(answers[0].metrics.reactor_longest_hold_seconds)

    assert found == [0.5, 0.5, 0]


def test_a_query_during_a_round_gets_the_next_one() -> None:
    """
    However many queries there are, rounds do not overlap, and no answer is older than its query.
    """
    aggregated = Aggregated()
    first, second, third = aggregated.query(), aggregated.query(), aggregated.query()
    for worker in aggregated.workers:
        aggregated.report(worker, 1)
    assert first
    assert not second
    for worker in aggregated.workers:
        aggregated.report(worker, 2)

    assert second[0].metrics.delivered == third[0].metrics.delivered == 6
    assert [worker.rounds for worker in aggregated.workers] == [[1, 2]] * 3


def test_a_silent_worker_is_left_out_and_no_counter_decreases() -> None:
    """
    After a second it counts with its last counters, and without subscribers.

    It gets no further request before it has reported.
    """
    aggregated = Aggregated()
    aggregated.query()
    for worker in aggregated.workers:
        aggregated.report(worker, 10)
    answers = aggregated.query()
    for worker in aggregated.workers[:2]:
        aggregated.report(worker, 11)
    aggregated.clock.advance(REPORT_SECONDS)

    assert answers[0].metrics.delivered == 11 + 11 + 10
    assert answers[0].metrics.subscribers == 2
    assert [one.state for one in answers[0].workers] == ["up", "up", "silent"]

    answers = aggregated.query()
    for worker in aggregated.workers[:2]:
        aggregated.report(worker, 11)
    assert answers
    assert aggregated.workers[2].rounds == [1, 2]
    aggregated.report(aggregated.workers[2], 12)
    answers = aggregated.query()
    for worker in aggregated.workers:
        aggregated.report(worker, 13)
    assert answers[0].metrics.delivered == 39


def test_a_worker_that_ends_during_a_round_is_not_awaited() -> None:
    """
    Its counters are kept.
    """
    aggregated = Aggregated()
    answers = aggregated.query()
    aggregated.report(aggregated.workers[0], 10)
    aggregated.report(aggregated.workers[1], 10)
    exited = aggregated.workers[2]
    exited.state = ProcessState.DOWN
    aggregated.stats.on_exit(exited, Metrics(delivered=7))  # type: ignore[arg-type]  # as above

    assert answers[0].metrics.delivered == 27
    assert answers[0].workers[2].state == "down"
