"""
What all workers count together, and what those counted that are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred

from rt_twisted.counts import Counts
from rt_twisted.reports import (
    Channels,
    Look,
    Question,
    Report,
    WorkerCounts,
    add,
    bury,
    grow,
    unpack_report,
)
from rt_twisted.workers.berth import Berth, State

PATIENCE = 1.0  # seconds that workers have to tell their numbers


class Census:
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
        self.berths: Sequence[Berth] = ()
        self._clock = clock
        self._started = clock.seconds()
        self._gone = Counts()
        self._waiting: list[tuple[Question, Deferred[Look]]] = []
        self._asking: list[tuple[Question, Deferred[Look]]] = []
        self._missing: set[Berth] = set()  # who is asked and has not answered
        self._deaf: set[Berth] = set()  # who has not answered in an earlier round
        self._round = 0
        self._timer: Any = None

    def take(self, question: Question) -> Deferred[Look]:
        """
        Ask all workers. Fires after PATIENCE at the latest, twice that for who has
        to wait; does not fail.
        """
        answer: Deferred[Look] = Deferred()
        self._waiting.append((question, answer))
        if not self._asking:
            self._ask()
        return answer

    def numbers(self) -> Deferred[Counts]:
        """
        The sum, as exporters want it.
        """
        every = self.take(Question(every=True))
        return every.addCallback(lambda look: look.counts)

    def stop(self) -> None:
        """
        Answer who waits with what is known.
        """
        while self._asking:
            self._finish()

    def heard(self, berth: Berth, round: int, packed: Sequence[Any]) -> None:
        """
        *berth* told its numbers, in a *round* or, with 0, what grows by itself.
        """
        report = unpack_report(packed)
        berth.counts = report.counts
        if not round:
            return
        self._deaf.discard(berth)
        berth.report = report
        if round == self._round:
            self._answered(berth)

    def lost(self, berth: Berth, last: Counts) -> None:
        """
        The worker of *berth* is gone.
        """
        bury(self._gone, last)
        self._deaf.discard(berth)
        self._answered(berth)

    def _ask(self) -> None:
        self._asking, self._waiting = self._waiting, []
        self._round += 1
        for berth in self.berths:
            berth.report = None
        # Who owes an answer gets no further question: they would pile up.
        free = [one for one in self.berths if one.state is State.UP and one not in self._deaf]
        asked = {berth for berth in free if berth.offer("tell", round=self._round)}
        self._missing = asked
        self._timer = self._clock.callLater(PATIENCE if asked else 0, self._finish)

    def _answered(self, berth: Berth) -> None:
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
        channels = Channels()
        for berth in self.berths:
            if berth.report is not None:
                channels.add(berth.report)
        readers = channels.readers()
        for question, answer in answered:
            total = self._sum()
            total.channels = readers if question.every else {}
            shown, others = channels.shown(question)
            answer.callback(Look(total, len(readers), shown, others, self._each()))
        if self._waiting:
            self._ask()

    def _sum(self) -> Counts:
        total = Counts()
        own = Counts(cpu_seconds=0.0)
        own.look(self._clock.seconds())
        total.cpu_seconds, total.memory_bytes = own.cpu_seconds, own.memory_bytes
        grow(total, self._gone)
        for berth in self.berths:
            if berth.report is not None:
                add(total, berth.report.counts)
            else:
                grow(total, berth.counts)
        total.uptime = self._clock.seconds() - self._started
        return total

    def _each(self) -> list[WorkerCounts]:
        return [
            WorkerCounts(
                berth.number,
                berth.pid,
                _state(berth),
                berth.restarts,
                (berth.report or Report(Counts())).counts,
            )
            for berth in self.berths
        ]


def _state(berth: Berth) -> str:
    if berth.state is State.UP and berth.report is None:
        return "silent"
    return berth.state.value
