"""
The place of one worker: whoever has it, or will.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any, Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import WorkerReport
from rt_twisted.workers.backoff import Backoff
from rt_twisted.workers.control_channel import ControlChannel
from rt_twisted.workers.crash_log import CrashLog

LAST = 3.0  # seconds to write down where it hangs; one that is stopped (SIGSTOP) cannot

_log = Logger()


class ProcessState(Enum):
    """
    Of whoever has the place.
    """

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


class ProcessObserver(Protocol):
    """
    Who hears of a berth.
    """

    def changed(self, berth: WorkerProcess) -> None:
        """
        Its state is another one.
        """

    def heard(self, berth: WorkerProcess, said: dict[str, Any]) -> None:
        """
        Its worker said something.
        """

    def exited(self, berth: WorkerProcess, last: Metrics) -> None:
        """
        Its worker is gone; these are the last numbers it told.
        """


# Number, descriptor of the line, of its last words -> a Twisted process.
Spawn = Callable[[ProcessProtocol, int, int, int], Any]


class WorkerProcess:
    """
    Starts a worker, and another when that one ends, until told to stop.

    Args:
        reactor: the reactor.
        number: from 1 on.
        spawn: starts the process.
        told: hears of it.
    """

    def __init__(self, reactor: Any, number: int, spawn: Spawn, told: ProcessObserver) -> None:
        self.number = number
        self.state = ProcessState.DOWN
        self.restarts = 0
        self.metrics = Metrics()  # the last that grew
        self.report: WorkerReport | None = None  # the last whole one
        self.silence = 0.0  # seconds without a word, as `Vigil` counts them
        self._reactor = reactor
        self._spawn = spawn
        self._told = told
        self._backoff = Backoff()
        self._born = 0.0
        self._process: Any = None
        self._pid = 0
        self._line: ControlChannel | None = None
        self._words: CrashLog | None = None
        self._next: Any = None  # the call that starts another one
        self._end: Any = None  # the call that waits for last words no longer
        self._stopped: Deferred[None] | None = None

    @property
    def pid(self) -> int:
        """
        Of the process; 0 if there is none.
        """
        return self._pid if self._process is not None else 0

    def start(self) -> None:
        """
        Put a worker here; later, if the machine has nothing left for one.
        """
        self._next = None
        try:
            self._begin()
        except OSError as error:  # of descriptors, processes or memory
            self._clear()
            wait = self._wait(0)
            _log.error(
                "worker {worker} cannot be started: {reason}; it is tried again in {wait:.1f}",
                worker=self.number,
                reason=error.strerror,
                wait=wait,
            )
            return
        self._move(ProcessState.STARTING)

    def _begin(self) -> None:
        here, there = socket.socketpair()
        with here, there:
            here.setblocking(False)
            self._line = line = ControlChannel(self._hears, lambda line: None)
            factory = Factory.forProtocol(lambda: line)
            factory.noisy = False
            self._reactor.adoptStreamConnection(here.fileno(), here.family, factory)
            self._born = self._reactor.seconds()
            self._words = words = CrashLog()
            watch = _Watch(self._ended)
            try:
                self._process = self._spawn(watch, self.number, there.fileno(), words.descriptor)
            finally:
                words.close_other()
            self._pid = self._process.pid

    def say(self, what: str, **fields: Any) -> None:
        """
        Tell the worker.
        """
        if self._line is not None:
            self._line.say(what, **fields)

    def offer(self, what: str, **fields: Any) -> bool:
        """
        Tell the worker if it listens.
        """
        return self._line is not None and self._line.offer(what, **fields)

    def stop(self) -> Deferred[None]:
        """
        No more workers here.

        Returns:
            fires when the last is gone.
        """
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._stopped = self._stopped or Deferred()
        if self._process is None:
            return succeed(None)
        if self.state is ProcessState.STARTING:
            self.signal(signal.SIGTERM)  # it does not listen yet
        else:
            self.say("stop")
        return self._stopped

    def kill_hung(self) -> None:
        """
        End a worker that says nothing any more, after it has written down where it is.
        """
        _log.error(
            "worker {worker} (pid {pid}) has said nothing for {silence:.0f} seconds, and is ended",
            worker=self.number,
            pid=self.pid,
            silence=self.silence,
        )
        self._move(ProcessState.STOPPING)
        self.signal(signal.SIGABRT)
        self._end = self._reactor.callLater(LAST, self.signal, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal to the worker, if there is one.
        """
        if self._process is not None:
            with suppress(ProcessExitedAlready):  # `_ended` is on its way
                self._process.signalProcess(number)

    def _hears(self, line: ControlChannel, said: dict[str, Any]) -> None:
        if line is not self._line:
            return
        self.silence = 0.0
        what = said["what"]
        if what == "ready":
            if self.state is ProcessState.STARTING:
                _log.info("worker {worker} is up (pid {pid})", worker=self.number, pid=self.pid)
            self._move(ProcessState.UP)
        elif what == "stopping":
            self._move(ProcessState.STOPPING)
        self._told.heard(self, said)

    def _ended(self, reason: Failure) -> None:
        if self._end is not None and self._end.active():
            self._end.cancel()
        words = self._clear()
        if words:
            _log.error("worker {worker} was here:\n{words}", worker=self.number, words=words)
        lived = self._reactor.seconds() - self._born
        self._told.exited(self, self.metrics)
        self.metrics, self.report = Metrics(), None
        if self._stopped is not None:
            self._move(ProcessState.DOWN)
            self._stopped.callback(None)
            return
        wait = self._wait(lived)
        _log.warn(
            "worker {worker} (pid {pid}) ended by {cause} after {lived:.1f} seconds, "
            "another starts in {wait:.1f}",
            worker=self.number,
            pid=self._pid,
            cause=_cause(reason),
            lived=lived,
            wait=wait,
        )
        self.restarts += 1
        self._move(ProcessState.DOWN)

    def _wait(self, lived: float) -> float:
        wait = self._backoff.after(lived)
        self._next = self._reactor.callLater(wait, self.start)
        return wait

    def _clear(self) -> str:
        """
        Let go of what is left of a worker; returns its last words.
        """
        if self._line is not None and self._line.transport is not None:
            self._line.transport.abortConnection()
        words = self._words.hear() if self._words is not None else ""
        self._process = self._line = self._words = None
        return words

    def _move(self, state: ProcessState) -> None:
        self.state = state
        self._told.changed(self)


class _Watch(ProcessProtocol):
    """
    Says when the process is gone.
    """

    def __init__(self, ended: Callable[[Failure], None]) -> None:
        self._end = ended

    def processExited(self, reason: Failure) -> None:
        self._end(reason)


def _cause(reason: Failure) -> str:
    status = getattr(reason.value, "status", None)
    if status is not None and os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            return signal.Signals(number).name
        except ValueError:  # a real-time signal
            return f"signal {number}"
    return f"status {getattr(reason.value, 'exitCode', None)}"
