"""
What all workers count together, and what those counted that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

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

PATIENCE = 1.0  # seconds that workers have to tell their numbers


class StatsAggregator:
    """
    Asks the workers, all of them at a time, and adds up.

    Whoever asks while they are being asked waits for the next round: so there is
    one at a time, however many ask, and no answer is older than its question.

    What grows never falls: a worker that is gone, or too busy to answer, counts with
    the last that it told. What is counted now is of those that answered.

    Args:
        clock: the reactor.
    """

    def __init__(self, clock: Any) -> None:
        self.berths: Sequence[WorkerProcess] = ()
        self._clock = clock
        self._started = clock.seconds()
        self._gone = Metrics()
        self._waiting: list[tuple[StatsQuery, Deferred[Snapshot]]] = []
        self._asking: list[tuple[StatsQuery, Deferred[Snapshot]]] = []
        self._missing: set[WorkerProcess] = set()  # who is asked and has not answered
        self._deaf: set[WorkerProcess] = set()  # who has not answered in an earlier round
        self._round = 0
        self._timer: Any = None

    def take(self, question: StatsQuery) -> Deferred[Snapshot]:
        """
        Ask all workers. Fires after PATIENCE at the latest, twice that for who has
        to wait; does not fail.
        """
        answer: Deferred[Snapshot] = Deferred()
        self._waiting.append((question, answer))
        if not self._asking:
            self._ask()
        return answer

    def current_metrics(self) -> Deferred[Metrics]:
        """
        The sum, as exporters want it.
        """
        every = self.take(StatsQuery(all_channels=True))
        return every.addCallback(lambda refresh: refresh.metrics)

    def stop(self) -> None:
        """
        Answer who waits with what is known.
        """
        while self._asking:
            self._finish()

    def heard(self, berth: WorkerProcess, round: int, packed: Sequence[Any]) -> None:
        """
        *berth* told its numbers, in a *round* or, with 0, what grows by itself.
        """
        report = unpack_report(packed)
        berth.metrics = report.metrics
        if not round:
            return
        self._deaf.discard(berth)
        berth.report = report
        if round == self._round:
            self._answered(berth)

    def lost(self, berth: WorkerProcess, last: Metrics) -> None:
        """
        The worker of *berth* is gone.
        """
        absorb_exited(self._gone, last)
        self._deaf.discard(berth)
        self._answered(berth)

    def _ask(self) -> None:
        self._asking, self._waiting = self._waiting, []
        self._round += 1
        for berth in self.berths:
            berth.report = None
        # Who owes an answer gets no further question: they would pile up.
        free = [
            one for one in self.berths if one.state is ProcessState.UP and one not in self._deaf
        ]
        asked = {berth for berth in free if berth.offer("tell", round=self._round)}
        self._missing = asked
        self._timer = self._clock.callLater(PATIENCE if asked else 0, self._finish)

    def _answered(self, berth: WorkerProcess) -> None:
        if berth in self._missing:
            self._missing.discard(berth)
            if not self._missing:
                self._finish()

    def _finish(self) -> None:
        if self._timer.active():
            self._timer.cancel()
        self._deaf |= self._missing
        self._missing = set()
        answered, self._asking = self._asking, []
        channels = ChannelMerge()
        for berth in self.berths:
            if berth.report is not None:
                channels.add(berth.report)
        subscribers = channels.subscribers()
        for question, answer in answered:
            total = self._sum()
            total.channels = subscribers if question.all_channels else {}
            shown, others = channels.shown(question)
            answer.callback(Snapshot(total, len(subscribers), shown, others, self._each()))
        if self._waiting:
            self._ask()

    def _sum(self) -> Metrics:
        total = Metrics()
        own = Metrics(cpu_seconds=0.0)
        own.refresh(self._clock.seconds())
        total.cpu_seconds, total.memory_bytes = own.cpu_seconds, own.memory_bytes
        add_counters(total, self._gone)
        for berth in self.berths:
            if berth.report is not None:
                add(total, berth.report.metrics)
            else:
                add_counters(total, berth.metrics)
        total.uptime = self._clock.seconds() - self._started
        return total

    def _each(self) -> list[WorkerMetrics]:
        return [
            WorkerMetrics(
                berth.number,
                berth.pid,
                _state(berth),
                berth.restarts,
                (berth.report or WorkerReport(Metrics())).metrics,
            )
            for berth in self.berths
        ]


def _state(berth: WorkerProcess) -> str:
    if berth.state is ProcessState.UP and berth.report is None:
        return "silent"
    return berth.state.value
