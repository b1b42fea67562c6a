"""
The watchdog kills workers that hang, and no others.
"""

from __future__ import annotations

from dataclasses import dataclass

from twisted.internet.task import Clock

from rt_twisted.workers.process import ProcessState
from rt_twisted.workers.watchdog import TICK, Watchdog


@dataclass
class SilentWorker:
    """
    What a watchdog needs of a worker that sends nothing.
    """

    state: ProcessState = ProcessState.UP
    silence: float = 0.0
    killed: int = 0

    def kill_hung(self) -> None:
        self.killed += 1
        self.state = ProcessState.STOPPING


def watch(clock: Clock, timeout: float, *workers: SilentWorker) -> Watchdog:
    """
    Return a watchdog of *workers* that has started.
    """
    watchdog = Watchdog(clock, workers, lambda: timeout)  # type: ignore[arg-type]  # a fake
    watchdog.start()
    return watchdog


def test_a_silent_worker_is_killed_once() -> None:
    """
    A worker without a report for the timeout is killed; one that reports, starts or stops is not.
    """
    clock = Clock()
    others = [SilentWorker(state) for state in ProcessState if state is not ProcessState.UP]
    silent, reporting = SilentWorker(), SilentWorker()
    watchdog = watch(clock, 5, silent, reporting, *others)
    for _ in range(10):
        clock.pump([TICK, TICK])
        reporting.silence = 0
        assert not silent.killed or clock.seconds() > 5
    watchdog.stop()

    assert silent.killed == 1
    assert not any(each.killed for each in (reporting, *others))
    assert not clock.getDelayedCalls()


def test_timeout_zero_kills_no_worker() -> None:
    """
    With `worker-timeout = 0` a worker may hang forever.
    """
    clock, silent = Clock(), SilentWorker()
    watchdog = watch(clock, 0, silent)
    clock.pump([TICK] * 10_000)
    watchdog.stop()

    assert not silent.killed


def test_a_suspended_parent_kills_no_worker() -> None:
    """
    After the parent was stopped, however long and often, it reads the waiting reports first.

    A clock that is set back or forth kills no worker either.
    """
    clock, worker = Clock(), SilentWorker()
    watchdog = watch(clock, 2, worker)
    for _ in range(10):
        clock.advance(3600)
        worker.silence = 0.0  # its reports were waiting
        clock.pump([TICK, TICK])
    clock.rightNow -= 7200
    clock.advance(0)
    watchdog.stop()

    assert not worker.killed
    assert worker.silence < 2
