"""
The parent of all workers: starts, replaces, reloads and stops them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import StatsQuery, pack_snapshot
from rt_twisted.net.listeners import listen_on
from rt_twisted.net.signals import ReloadHook, handle_signals
from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.workers.crash_log import VARIABLE as CRASH_LOG
from rt_twisted.workers.environment import WorkerEnvironment, inherited_variables
from rt_twisted.workers.fork_server import MAX_DESCRIPTORS
from rt_twisted.workers.forker import Forker
from rt_twisted.workers.handoff import HandoffSockets
from rt_twisted.workers.process import ProcessState, WorkerProcess
from rt_twisted.workers.sockets import ListenerBinder
from rt_twisted.workers.stats import StatsAggregator
from rt_twisted.workers.watchdog import Watchdog

FIRST_SOCKET = 3  # where systemd's descriptors begin (sd_listen_fds(3))
GRACE = 3.0  # seconds beyond stop-seconds, after which a worker is killed
GRACE_NOW = 1.0  # the same, after a second signal

_log = Logger()

# Of the worker's number, its control socket, the daemon's id, the sockets for handing
# connections over, and the bound sockets.
Inherit = Callable[[int, int, str, Sequence[int], Sequence[tuple[int, int]]], WorkerEnvironment]


class Supervisor(Service):
    """
    Runs the workers. Signals do what they do to a `Daemon`.

    Args:
        reactor: the reactor.
        size: how many workers.
        endpoints: that workers listen on, each with its description; made for *binder*.
        binder: has the sockets.
        forker: forks workers.
        twistd_arguments: returns the command line for the twistd of a worker.
        inherit: returns what a worker inherits.
        folder: that workers start in; relative paths of the settings begin there.
        check: checks that the settings can be read as the current user; raises
            SystemExit with one sentence.
        stats: sums the metrics.
        systemd: is notified.
        reload: reads the settings again, and opens log files again.
        options: every setting by name.
        announce: called with each port, and the description of its endpoint, when all are bound.
    """

    def __init__(
        self,
        reactor: Any,
        size: int,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        binder: ListenerBinder,
        forker: Forker,
        twistd_arguments: Callable[[int], Iterable[str]],
        inherit: Inherit,
        folder: str,
        check: Callable[[], None],
        stats: StatsAggregator,
        systemd: SystemdNotifier,
        reload: ReloadHook,
        options: Mapping[str, Any],
        announce: Callable[[Sequence[tuple[str, IListeningPort]]], None],
    ) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        self._binder = binder
        self._forker = forker
        self._can_fork = False
        self._twistd_arguments = twistd_arguments
        self._inherit = inherit
        self._folder = folder
        self._check = check
        self._stats = stats
        self._systemd = systemd
        self._read_settings = reload
        self._options = options
        self._announce = announce
        self._handoff_sockets = HandoffSockets(size)
        self._stop_requests = 0
        self._not_ready: set[WorkerProcess] = set()  # that are starting or reloading
        self._kill: Any = None  # the call that kills what has not stopped in time
        self._workers = [
            WorkerProcess(reactor, number, self._spawn, self) for number in range(1, size + 1)
        ]
        stats.workers = self._workers
        self._watchdog = Watchdog(reactor, self._workers, lambda: self._options["worker-timeout"])

    def privilegedStartService(self) -> None:
        # Bind before the process drops root.
        ports = list(listen_on(self._endpoints, Factory()))
        descriptions = [description for description, _ in self._endpoints]
        self._announce(list(zip(descriptions, ports, strict=True)))

    def startService(self) -> None:
        # Raises SystemExit if the user that the process runs as cannot read the settings.
        self._check()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        # The reactor sets handlers of signals when it starts to run.
        self._reactor.callWhenRunning(self._on_running)

    def _on_running(self) -> None:
        handle_signals(self._reactor, self._reload, self._reopen_logs, self._stop)
        self._not_ready = set(self._workers)
        # After the process has dropped root, which workers must not have.
        self._forker.start(inherited_variables(os.environ)).addCallback(self._start_workers)

    def _start_workers(self, can_fork: bool) -> None:
        if self._stop_requests:
            return
        self._can_fork = can_fork
        for worker in self._workers:
            worker.start()
        self._watchdog.start()

    def _reload(self) -> None:
        self._systemd.reloading()
        self._options = self._read_settings()
        self._not_ready |= {one for one in self._workers if one.state is ProcessState.UP}
        self._send_to_running("reload")
        self._notify_when_ready()

    def _reopen_logs(self) -> None:
        self._read_settings.reopen_logs()
        self._send_to_running("reopen")

    def _send_to_running(self, what: str) -> None:
        for worker in self._workers:
            # One that starts may have read the old file, and opened the old logs.
            if worker.state in (ProcessState.STARTING, ProcessState.UP):
                worker.send(what)

    def _stop(self) -> None:
        self._stop_requests += 1
        if self._stop_requests == 1:
            self._reactor.stop()
        elif self._kill is not None and self._kill.active():
            for worker in self._workers:
                worker.send("stop now")
            self._kill.reset(min(GRACE_NOW, self._kill.getTime() - self._reactor.seconds()))

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        self._systemd.stopping()
        _log.info("stopping {size} workers", size=len(self._workers))
        # Close the parent's sockets first: a port closes when the last worker closes its own.
        for bound in self._binder.bound:
            bound.stopListening()
        self._stats.stop()
        self._watchdog.stop()
        stopped = DeferredList([worker.stop() for worker in self._workers])
        seconds = self._options["stop-seconds"] + GRACE
        self._kill = self._reactor.callLater(seconds, self._kill_remaining)
        return stopped.addCallback(self._on_stopped)

    def _on_stopped(self, result: Any) -> None:
        self._handoff_sockets.close()
        self._forker.stop()
        if self._kill.active():
            self._kill.cancel()

    def _kill_remaining(self) -> None:
        for worker in self._workers:
            if worker.pid:
                _log.warn(
                    "worker {worker} did not stop in time and is killed", worker=worker.number
                )
                worker.signal(signal.SIGKILL)

    def changed(self, worker: WorkerProcess) -> None:
        """
        Send new connections only to workers that are up, if there is one.
        """
        if self._stop_requests:
            return
        up = [each.number - 1 for each in self._workers if each.state is ProcessState.UP]
        for bound in self._binder.bound:
            bound.steer(up or range(len(self._workers)))

    def received(self, worker: WorkerProcess, message: dict[str, Any]) -> None:
        """
        Process a report of a worker, its query, or its notice that it is ready.
        """
        what = message["what"]
        if what == "report":
            self._stats.on_report(worker, message["round"], message["report"])
        elif what == "ask":
            query = StatsQuery(
                message["names"], message["most"], message["every"], message["export"]
            )
            self._stats.query(query).addCallback(
                lambda snapshot: worker.send_unless_congested(
                    "answer", number=message["number"], snapshot=pack_snapshot(snapshot)
                )
            )
        elif what == "ready" and worker in self._not_ready:
            self._not_ready.discard(worker)
            self._notify_when_ready()

    def exited(self, worker: WorkerProcess, last: Metrics) -> None:
        """
        Keep the counters of a worker that has ended.
        """
        self._stats.on_exit(worker, last)

    def _notify_when_ready(self) -> None:
        if not self._not_ready:
            self._systemd.ready()

    def _spawn(
        self, protocol: ProcessProtocol, number: int, control_socket: int, crash_log: int
    ) -> Any:
        """
        Start the process of worker *number*, which inherits both descriptors and its sockets.
        """
        environment = inherited_variables(os.environ)
        bound = [each.of(number - 1) for each in self._binder.bound]
        # A systemd endpoint uses the descriptors from 3 on, and closes them. What they are
        # does not matter, as the worker listens on inherited sockets. Twisted has removed
        # LISTEN_FDS from the parent's environment and left the names.
        names = environment.get("LISTEN_FDNAMES", "")
        reserved = len(names.split(":")) if names else 0
        if reserved:
            environment["LISTEN_FDS"] = str(reserved)
        with open(os.devnull) as null:
            first = FIRST_SOCKET + reserved
            descriptors = [0, 1, 2, *[null.fileno()] * reserved, control_socket]
            descriptors += [one.fileno() for one in bound]
            sockets = [(first + 1 + at, int(one.family)) for at, one in enumerate(bound)]
            handoff = self._handoff_sockets.of(number)
            handoff_sockets = [len(descriptors) + at for at in range(len(handoff))]
            descriptors += [*handoff, crash_log]
            environment[CRASH_LOG] = str(len(descriptors) - 1)
            self._inherit(
                number, first, self._handoff_sockets.daemon_id, handoff_sockets, sockets
            ).put(environment)
            title = f"{number}/{len(self._workers)}"
            arguments = [title, *self._twistd_arguments(number)]
            folder = self._folder if os.access(self._folder, os.X_OK) else "/"
            # Twisted looks for systemd's sockets when it is imported.
            if self._can_fork and not reserved and len(descriptors) < MAX_DESCRIPTORS:
                return self._forker.fork(
                    protocol, arguments, environment, folder, descriptors[FIRST_SOCKET:]
                )
            return self._reactor.spawnProcess(
                protocol,
                sys.executable,
                [sys.executable, "-m", "rt_twisted.workers", *arguments],
                environment,
                folder,
                childFDs=dict(enumerate(descriptors)),
            )
