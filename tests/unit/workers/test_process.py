"""
A worker process is started again, with growing delays.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from twisted.internet.error import ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.workers.process import ProcessState, WorkerProcess
from rt_twisted.workers.restarts import FIRST_DELAY, MAX_DELAY, STEADY


class FakeReactor(Clock):
    """
    A clock that ignores the control channel.
    """

    def adoptStreamConnection(self, descriptor: int, family: int, factory: object) -> None:
        pass


@dataclass
class FakeProcess:
    """
    A process that exits when the test calls its protocol.
    """

    protocol: Any
    pid: int = 4711
    signals: list[int] = field(default_factory=list)

    def signalProcess(self, number: int) -> None:
        self.signals.append(number)

    def exit(self) -> None:
        self.protocol.processExited(Failure(ProcessTerminated(1, None, 256)))


class Observer:
    """
    Stores what it is notified of.
    """

    def __init__(self) -> None:
        self.states: list[ProcessState] = []

    def changed(self, worker: WorkerProcess) -> None:
        self.states.append(worker.state)

    def received(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        raise NotImplementedError

    def exited(self, worker: WorkerProcess, last: Metrics) -> None:
        self.states.append(ProcessState.STOPPING)


def longest(low: float, high: float) -> float:
    return high


def shortest(low: float, high: float) -> float:
    return low


class Restarts:
    """
    A worker process whose restarts are counted.
    """

    def __init__(
        self,
        uniform: Callable[[float, float], float],
        fails: bool = False,
        exits_at_once: bool = False,
    ) -> None:
        self.reactor = FakeReactor()
        self.observer = Observer()
        self.processes: list[FakeProcess] = []
        self._fails = fails
        self._exits_at_once = exits_at_once
        self.worker = WorkerProcess(self.reactor, 1, self._spawn, self.observer, uniform)
        self.worker.start()

    def _spawn(self, protocol: Any, number: int, control_socket: int, crash_log: int) -> Any:
        if self._fails:
            raise OSError(24, "Too many open files")
        self.processes.append(FakeProcess(protocol))
        if self._exits_at_once:
            self.processes[-1].exit()
        return self.processes[-1]

    def delay(self) -> float:
        """
        Return the time until the next start, after which it starts.
        """
        (call,) = self.reactor.getDelayedCalls()
        delay: float = call.getTime() - self.reactor.seconds()
        self.reactor.advance(delay)
        return delay

    def delay_after(self, lived: float) -> float:
        """
        Let the process exit after it *lived* so many seconds; return the delay that follows.
        """
        self.reactor.advance(lived)
        self.processes[-1].exit()
        return self.delay()


def test_delays_grow_while_workers_end_soon() -> None:
    """
    The delay doubles from 0.1 s to 30 s, and is the first again after a worker that lasted.
    """
    restarts = Restarts(longest)
    delays = [restarts.delay_after(0.5) for _ in range(12)]

    assert delays[0] == pytest.approx(FIRST_DELAY)
    assert delays[1] == pytest.approx(2 * FIRST_DELAY)
    assert delays == sorted(delays)
    assert delays[-1] == pytest.approx(MAX_DELAY)
    assert restarts.delay_after(STEADY) == pytest.approx(FIRST_DELAY)
    assert restarts.worker.restarts == 13
    assert len(restarts.processes) == 14


def test_delays_are_random() -> None:
    """
    A delay is at least half of the longest one.
    """
    longest_delays, shortest_delays = (
        [restarts.delay_after(0) for _ in range(12)]
        for restarts in (Restarts(longest), Restarts(shortest))
    )

    assert shortest_delays == pytest.approx([delay / 2 for delay in longest_delays])


def test_a_start_that_fails_is_tried_again() -> None:
    """
    Without free descriptors the worker stays down, and the attempts have the same delays.
    """
    restarts = Restarts(longest, fails=True)
    delays = [restarts.delay() for _ in range(3)]

    assert delays == pytest.approx([FIRST_DELAY, 2 * FIRST_DELAY, 4 * FIRST_DELAY])
    assert restarts.worker.pid == 0
    assert restarts.worker.state is ProcessState.DOWN


def test_a_stopped_worker_is_not_started_again() -> None:
    """
    After `stop`, the exit of the process is the end.
    """
    restarts = Restarts(longest)
    stopped: list[object] = []
    restarts.worker.stop().addCallback(stopped.append)
    (process,) = restarts.processes
    assert process.signals == [signal.SIGTERM]
    assert not stopped
    process.exit()

    assert stopped
    assert restarts.reactor.getDelayedCalls() == []


def test_a_process_that_ends_while_it_is_spawned_is_replaced() -> None:
    """
    Twisted reports an exit within `spawnProcess` if the process has ended by then. The worker is
    down afterwards, so that stopping it waits for nothing.
    """
    restarts = Restarts(longest, exits_at_once=True)

    assert restarts.observer.states[0] is ProcessState.STARTING
    assert restarts.worker.state is ProcessState.DOWN
    assert restarts.delay() == pytest.approx(FIRST_DELAY)
    assert len(restarts.processes) == 2
    stopped: list[object] = []
    restarts.worker.stop().addCallback(stopped.append)
    assert stopped
    assert restarts.reactor.getDelayedCalls() == []
