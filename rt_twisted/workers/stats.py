"""
Sums the metrics of all workers, those that have ended included.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rt_twisted.metrics.memory import WorkerMemory
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import (
    ChannelMerge,
    Snapshot,
    StatsQuery,
    WorkerMetrics,
    WorkerReport,
    absorb_exited,
    add,
    add_counters,
    unpack_report,
)
from rt_twisted.workers.process import ProcessState, WorkerProcess

REPORT_SECONDS = 1.0  # for the workers to report


class StatsAggregator:
    """
    Requests reports of all workers, and sums them.

    Queries that arrive during a round wait for the next one: there is one round at a
    time, however many queries there are, and no answer is older than its query.

    Counters never decrease: a worker that has ended, or is too busy to report, counts
    with its last report. Gauges are summed over the workers that reported.

    Args:
        clock: the reactor.

    Attributes:
        workers: all of them.
    """

    def __init__(self, clock: Any) -> None:
        self.workers: Sequence[WorkerProcess] = ()
        self._clock = clock
        self._started_at = clock.seconds()
        self._memory = WorkerMemory()
        self._longest_hold = 0.0  # of all workers since the last export, in seconds
        self._exited = Metrics()  # the counters of workers that have ended
        self._next: list[tuple[StatsQuery, Deferred[Snapshot]]] = []  # for the next round
        self._current: list[tuple[StatsQuery, Deferred[Snapshot]]] = []  # of this round
        self._pending: set[WorkerProcess] = set()  # have not reported in this round
        self._unresponsive: set[WorkerProcess] = set()  # have not reported in an earlier one
        self._round = 0
        self._timer: Any = None

    def query(self, query: StatsQuery) -> Deferred[Snapshot]:
        """
        Request the metrics of all workers.

        Returns:
            fires after at most REPORT_SECONDS, or twice that if a round is running;
            never fails.
        """
        answer: Deferred[Snapshot] = Deferred()
        self._next.append((query, answer))
        if not self._current:
            self._start_round()
        return answer

    def current_metrics(self) -> Deferred[Metrics]:
        """
        Return the sum of all workers, for exporters.
        """
        answer = self.query(StatsQuery(all_channels=True, export=True))
        return answer.addCallback(lambda snapshot: snapshot.metrics)

    def stop(self) -> None:
        """
        Answer all queries with what has been reported.
        """
        while self._current:
            self._finish_round()

    def on_report(self, worker: WorkerProcess, round: int, packed: Sequence[Any]) -> None:
        """
        Store a report of *worker*: a whole one of a *round*, or with 0 its counters.
        """
        report = unpack_report(packed)
        worker.metrics = report.metrics
        self._longest_hold = max(self._longest_hold, report.metrics.reactor_longest_hold_seconds)
        if not round:
            return
        self._unresponsive.discard(worker)
        worker.report = report
        if round == self._round:
            self._reported(worker)

    def on_exit(self, worker: WorkerProcess, last: Metrics) -> None:
        """
        Keep the counters of a worker that has ended.
        """
        absorb_exited(self._exited, last)
        self._unresponsive.discard(worker)
        self._reported(worker)

    def _start_round(self) -> None:
        self._current, self._next = self._next, []
        self._round += 1
        for worker in self.workers:
            worker.report = None
        # Requests to an unresponsive worker would pile up.
        responsive = [
            one
            for one in self.workers
            if one.state is ProcessState.UP and one not in self._unresponsive
        ]
        self._pending = {
            worker
            for worker in responsive
            if worker.send_unless_congested("report", round=self._round)
        }
        timeout = REPORT_SECONDS if self._pending else 0
        self._timer = self._clock.callLater(timeout, self._finish_round)

    def _reported(self, worker: WorkerProcess) -> None:
        if worker in self._pending:
            self._pending.discard(worker)
            if not self._pending:
                self._finish_round()

    def _finish_round(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._unresponsive |= self._pending
        self._pending = set()
        queries, self._current = self._current, []
        channels = ChannelMerge()
        for worker in self.workers:
            if worker.report is not None:
                channels.add(worker.report)
        subscribers = channels.subscribers()
        for query, answer in queries:
            total = self._sum()
            total.channels = subscribers if query.all_channels else {}
            shown, others = channels.shown(query)
            answer.callback(Snapshot(total, len(subscribers), shown, others, self._each()))
        if any(query.export for query, _ in queries):
            self._longest_hold = 0.0
        if self._next:
            self._start_round()

    def _sum(self) -> Metrics:
        total = Metrics()
        own = Metrics(measure_memory=self._memory.measure)
        own.refresh(self._clock.seconds())
        total.cpu_seconds, total.memory_bytes = own.cpu_seconds, own.memory_bytes
        add_counters(total, self._exited)
        for worker in self.workers:
            if worker.report is not None:
                add(total, worker.report.metrics)
            else:
                add_counters(total, worker.metrics)
        total.reactor_longest_hold_seconds = self._longest_hold
        total.uptime = self._clock.seconds() - self._started_at
        return total

    def _each(self) -> list[WorkerMetrics]:
        return [
            WorkerMetrics(
                worker.number,
                worker.pid,
                _state(worker),
                worker.restarts,
                (worker.report or WorkerReport(Metrics())).metrics,
            )
            for worker in self.workers
        ]


def _state(worker: WorkerProcess) -> str:
    if worker.state is ProcessState.UP and worker.report is None:
        return "silent"
    return worker.state.value
