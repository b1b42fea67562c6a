"""
One worker process: started, replaced when it ends, stopped.
"""

from __future__ import annotations

import random
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
from rt_twisted.workers.control_channel import ControlChannel
from rt_twisted.workers.crash_log import CrashLog
from rt_twisted.workers.restarts import RestartDelays, exit_cause

ABORT_SECONDS = 3.0  # for writing tracebacks after SIGABRT; a stopped process (SIGSTOP) cannot

_log = Logger()


class ProcessState(Enum):
    """
    The state of a worker process, as `/stats` shows it.
    """

    DOWN = "down"
    STARTING = "starting"
    UP = "up"
    STOPPING = "stopping"


class ProcessObserver(Protocol):
    """
    What is notified of a worker process.
    """

    def changed(self, worker: WorkerProcess) -> None:
        """
        Take note that its state has changed.
        """

    def received(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """
        Process a message that the worker sent.
        """

    def exited(self, worker: WorkerProcess, last: Metrics) -> None:
        """
        Take note that the process has ended; *last* are the last metrics that it reported.
        """


# Starts the process; takes its protocol, the number of the worker, and the descriptors
# of its control socket and its crash log; returns Twisted's process.
Spawn = Callable[[ProcessProtocol, int, int, int], Any]


class WorkerProcess:
    """
    Starts a worker, and another one each time it ends, until `stop`.

    Args:
        reactor: the reactor.
        number: from 1 on.
        spawn: starts the process.
        observer: is notified.
        uniform: as `random.uniform`.

    Attributes:
        restarts: how often it was replaced.
        metrics: the last counters that it reported.
        report: the last whole report; None before the first.
        silence: seconds since the last message, as `Watchdog` counts them.
    """

    def __init__(
        self,
        reactor: Any,
        number: int,
        spawn: Spawn,
        observer: ProcessObserver,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self.number = number
        self.state = ProcessState.DOWN
        self.restarts = 0
        self.metrics = Metrics()
        self.report: WorkerReport | None = None
        self.silence = 0.0
        self._reactor = reactor
        self._spawn = spawn
        self._observer = observer
        self._delays = RestartDelays(uniform)
        self._started_at = 0.0
        self._process: Any = None
        self._pid = 0
        self._channel: ControlChannel | None = None
        self._crash_log: CrashLog | None = None
        self._restart: Any = None  # the call that starts the next one
        self._kill: Any = None  # the call that kills it if SIGABRT does not end it
        self._stopped: Deferred[None] | None = None

    @property
    def pid(self) -> int:
        """
        The id of the process; 0 if there is none.
        """
        return self._pid if self._process is not None else 0

    def start(self) -> None:
        """
        Start a process; if the machine lacks resources for one, try again later.
        """
        self._restart = None
        try:
            protocol = self._start_process()
        except OSError as error:  # no descriptor, process or memory is left
            self._clear()
            delay = self._schedule_restart(0)
            _log.error(
                "worker {worker} cannot be started: {reason}; next attempt in {delay:.1f} s",
                worker=self.number,
                reason=error.strerror,
                delay=delay,
            )
            return
        self._move(ProcessState.STARTING)
        protocol.report()

    def _start_process(self) -> _ExitProtocol:
        own, other = socket.socketpair()
        with own, other:
            own.setblocking(False)
            self._channel = channel = ControlChannel(self._on_message, lambda channel: None)
            factory = Factory.forProtocol(lambda: channel)
            factory.noisy = False
            self._reactor.adoptStreamConnection(own.fileno(), own.family, factory)
            self._started_at = self._reactor.seconds()
            self._crash_log = crash_log = CrashLog()
            protocol = _ExitProtocol(self._on_exit)
            try:
                self._process = self._spawn(
                    protocol, self.number, other.fileno(), crash_log.descriptor
                )
            finally:
                crash_log.close_other_end()
            self._pid = self._process.pid
            return protocol

    def send(self, what: str, **fields: Any) -> None:
        """
        Send a message to the worker.
        """
        if self._channel is not None:
            self._channel.send(what, **fields)

    def send_unless_congested(self, what: str, **fields: Any) -> bool:
        """
        Send a message that may be dropped; return whether it was sent.
        """
        channel = self._channel
        return channel is not None and channel.send_unless_congested(what, **fields)

    def stop(self) -> Deferred[None]:
        """
        Stop the worker gracefully, and start no other one.

        Returns:
            fires when the process has ended.
        """
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None
        self._stopped = self._stopped or Deferred()
        if self._process is None:
            return succeed(None)
        if self.state is ProcessState.STARTING:
            self.signal(signal.SIGTERM)  # it does not read its channel yet
        else:
            self.send("stop")
        return self._stopped

    def kill_hung(self) -> None:
        """
        Kill a worker that hangs, after it has written the tracebacks of its threads.
        """
        _log.error(
            "worker {worker} (pid {pid}) has reported nothing for {silence:.0f} s and is killed",
            worker=self.number,
            pid=self.pid,
            silence=self.silence,
        )
        self._move(ProcessState.STOPPING)
        self.signal(signal.SIGABRT)
        self._kill = self._reactor.callLater(ABORT_SECONDS, self.signal, signal.SIGKILL)

    def signal(self, number: signal.Signals) -> None:
        """
        Send a signal to the process, if there is one.
        """
        if self._process is not None:
            with suppress(ProcessExitedAlready):  # `_on_exit` follows
                self._process.signalProcess(number)

    def _on_message(self, channel: ControlChannel, message: dict[str, Any]) -> None:
        if channel is not self._channel:
            return
        self.silence = 0.0
        what = message["what"]
        if what == "ready":
            if self.state is ProcessState.STARTING:
                _log.info("worker {worker} is up (pid {pid})", worker=self.number, pid=self.pid)
            self._move(ProcessState.UP)
        elif what == "stopping":
            self._move(ProcessState.STOPPING)
        self._observer.received(self, message)

    def _on_exit(self, reason: Failure) -> None:
        if self._kill is not None and self._kill.active():
            self._kill.cancel()
        traceback = self._clear()
        if traceback:
            _log.error(
                "fatal traceback of worker {worker}:\n{traceback}",
                worker=self.number,
                traceback=traceback,
            )
        lived = self._reactor.seconds() - self._started_at
        self._observer.exited(self, self.metrics)
        self.metrics, self.report = Metrics(), None
        if self._stopped is not None:
            self._move(ProcessState.DOWN)
            self._stopped.callback(None)
            return
        delay = self._schedule_restart(lived)
        _log.warn(
            "worker {worker} (pid {pid}) ended by {cause} after {lived:.1f} s, "
            "another starts in {delay:.1f} s",
            worker=self.number,
            pid=self._pid,
            cause=exit_cause(reason),
            lived=lived,
            delay=delay,
        )
        self.restarts += 1
        self._move(ProcessState.DOWN)

    def _schedule_restart(self, lived: float) -> float:
        """
        Start another process later; return the delay.
        """
        delay = self._delays.following(lived)
        self._restart = self._reactor.callLater(delay, self.start)
        return delay

    def _clear(self) -> str:
        """
        Release what belongs to an ended process; return its crash log.
        """
        if self._channel is not None and self._channel.transport is not None:
            self._channel.transport.abortConnection()
        traceback = self._crash_log.read() if self._crash_log is not None else ""
        self._process = self._channel = self._crash_log = None
        return traceback

    def _move(self, state: ProcessState) -> None:
        self.state = state
        self._observer.changed(self)


class _ExitProtocol(ProcessProtocol):
    """
    Calls a function when the process has ended, and not before `report` has been called.

    Twisted calls `processExited` within `spawnProcess` if the process has ended by then.
    """

    def __init__(self, on_exit: Callable[[Failure], None]) -> None:
        self._on_exit = on_exit
        self._reason: Failure | None = None
        self._reports = False

    def report(self) -> None:
        """
        Call the function, at once if the process has ended already.
        """
        self._reports = True
        if self._reason is not None:
            self._on_exit(self._reason)

    def processExited(self, reason: Failure) -> None:
        self._reason = reason
        if self._reports:
            self._on_exit(reason)
