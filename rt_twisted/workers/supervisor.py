"""
All workers of a daemon: started, replaced, told to reload and to stop.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.logger import Logger

from rt_twisted.metrics.metrics import Metrics
from rt_twisted.metrics.snapshot import StatsQuery, pack_snapshot
from rt_twisted.net.listeners import listen_on
from rt_twisted.net.signals import ReloadHook, handle_signals
from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.workers.crash_log import NAME as LAST_WORDS
from rt_twisted.workers.environment import WorkerEnvironment
from rt_twisted.workers.handoff import HandoffSockets
from rt_twisted.workers.process import ProcessState, WorkerProcess
from rt_twisted.workers.sockets import ListenerBinder
from rt_twisted.workers.stats import StatsAggregator
from rt_twisted.workers.watchdog import Watchdog

FIRST_SOCKET = 3  # what systemd's begin with (sd_listen_fds(3))
GRACE = 3.0  # seconds beyond stop-seconds, after which a worker is not waited for
STOP_NOW = 1.0  # the same, when nobody waits
NOT_THEIRS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID")

_log = Logger()

Inherit = Callable[[int, int, str, Sequence[int], Sequence[tuple[int, int]]], WorkerEnvironment]


class Supervisor(Service):
    """
    The parent's work. Signals mean to it what they mean to a `Daemon`.

    Args:
        reactor: the reactor.
        size: how many workers.
        endpoints: where they listen, each with its description; made for *binder*.
        binder: has the sockets.
        twistd: options for each worker's twistd.
        inherit: of a worker's number, its line, the daemon's mark, the ways to the
            others and its sockets, all of it.
        folder: where they start; relative paths of the settings begin there.
        check: whether the settings can be read by who we are now; raises
            SystemExit with one sentence.
        census: adds up.
        supervisor: is told what happens.
        renew: reads the settings again, and opens log files again.
        options: every setting by name.
    """

    def __init__(
        self,
        reactor: Any,
        size: int,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        binder: ListenerBinder,
        twistd: Callable[[int], Iterable[str]],
        inherit: Inherit,
        folder: str,
        check: Callable[[], None],
        census: StatsAggregator,
        supervisor: SystemdNotifier,
        renew: ReloadHook,
        options: Mapping[str, Any],
    ) -> None:
        self._reactor = reactor
        self._endpoints = endpoints
        self._binder = binder
        self._twistd = twistd
        self._inherit = inherit
        self._folder = folder
        self._check = check
        self._census = census
        self._supervisor = supervisor
        self._renew = renew
        self._options = options
        self._ways = HandoffSockets(size)
        self._asked = 0  # how often to stop
        self._awaited: set[WorkerProcess] = set()  # who has yet to say that it is ready
        self._end: Any = None  # the call that waits no longer
        self._berths = [
            WorkerProcess(reactor, number, self._spawn, self) for number in range(1, size + 1)
        ]
        census.berths = self._berths
        self._vigil = Watchdog(reactor, self._berths, lambda: self._options["worker-timeout"])

    def privilegedStartService(self) -> None:
        """
        Bind, before root is given up.
        """
        for _ in listen_on(self._endpoints, Factory()):
            pass
        for bound in self._binder.bound:
            _log.info("bound: {address}", address=str(bound.getHost()))

    def startService(self) -> None:
        """
        Start the workers when the reactor turns.

        Raises:
            SystemExit: who we are now cannot read the settings.
        """
        self._check()
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        # The reactor sets its own signals when it begins to run.
        self._reactor.callWhenRunning(self._runs)

    def _runs(self) -> None:
        handle_signals(self._reactor, self._reload, self._reopen_logs, self._stop)
        self._awaited = set(self._berths)
        for berth in self._berths:
            berth.start()
        self._vigil.start()

    def _reload(self) -> None:
        self._supervisor.reloading()
        self._options = self._renew()
        self._awaited |= {berth for berth in self._berths if berth.state is ProcessState.UP}
        for berth in self._berths:
            # One that is starting may have read the file before, and have the old logs open.
            if berth.state in (ProcessState.STARTING, ProcessState.UP):
                berth.say("reload")
        self._say_ready()

    def _reopen_logs(self) -> None:
        self._renew.reopen_logs()
        for berth in self._berths:
            if berth.state in (ProcessState.STARTING, ProcessState.UP):
                berth.say("reopen")

    def _stop(self) -> None:
        self._asked += 1
        if self._asked == 1:
            self._reactor.stop()
        elif self._end is not None and self._end.active():
            for berth in self._berths:
                berth.say("hurry")
            self._end.reset(min(STOP_NOW, self._end.getTime() - self._reactor.seconds()))

    def stopService(self) -> Deferred[Any]:
        """
        Stop all workers in good order, and wait until they are gone.
        """
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        self._supervisor.stopping()
        _log.info("stopping: {size} workers are told to", size=len(self._berths))
        # First ours, so that the ports close when the last worker closes its own.
        for bound in self._binder.bound:
            bound.stopListening()
        self._census.stop()
        self._vigil.stop()
        gone = DeferredList([berth.stop() for berth in self._berths])
        wait = self._options["stop-seconds"] + GRACE
        self._end = self._reactor.callLater(wait, self._kill)
        return gone.addCallback(self._stopped)

    def _stopped(self, result: Any) -> None:
        self._ways.close()
        if self._end.active():
            self._end.cancel()

    def _kill(self) -> None:
        for berth in self._berths:
            if berth.pid:
                _log.warn("worker {worker} did not stop in time", worker=berth.number)
                berth.signal(signal.SIGKILL)

    # What a berth tells.

    def changed(self, berth: WorkerProcess) -> None:
        """
        Send new connections to those that are up, and say when all are.
        """
        if self._asked:
            return
        up = [each.number - 1 for each in self._berths if each.state is ProcessState.UP]
        for bound in self._binder.bound:
            bound.steer(up or range(len(self._berths)))

    def heard(self, berth: WorkerProcess, said: dict[str, Any]) -> None:
        """
        A worker is ready, tells its numbers, or asks for those of all.
        """
        what = said["what"]
        if what == "report":
            self._census.heard(berth, said["round"], said["report"])
        elif what == "ask":
            question = StatsQuery(said["names"], said["most"], said["every"])
            answer = self._census.take(question)
            answer.addCallback(
                lambda look: berth.offer("answer", number=said["number"], look=pack_snapshot(look))
            )
        elif what == "ready" and berth in self._awaited:
            self._awaited.discard(berth)
            self._say_ready()

    def exited(self, berth: WorkerProcess, last: Metrics) -> None:
        """
        A worker is gone.
        """
        self._census.lost(berth, last)

    def _say_ready(self) -> None:
        if not self._awaited:
            self._supervisor.ready()

    def _spawn(self, watch: ProcessProtocol, number: int, line: int, words: int) -> Any:
        """
        Start the process of worker *number*; it gets *line*, its sockets, and *words*,
        where it writes what it says last.
        """
        environment = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
        mine = [bound.of(number - 1) for bound in self._binder.bound]
        # A systemd endpoint looks for descriptors from 3 on, sets and closes them; what
        # is there does not matter, as ours are what it gets. Twisted has taken LISTEN_FDS
        # out of our environment and left the names.
        names = environment.get("LISTEN_FDNAMES", "")
        taken = len(names.split(":")) if names else 0
        if taken:
            environment["LISTEN_FDS"] = str(taken)
        with open(os.devnull) as nothing:
            sources = [0, 1, 2, *[nothing.fileno()] * taken, line, *[one.fileno() for one in mine]]
            first = FIRST_SOCKET + taken
            sockets = [(first + 1 + at, int(one.family)) for at, one in enumerate(mine)]
            handoff_sockets = [len(sources) + at for at in range(len(self._berths) + 1)]
            sources += [*self._ways.of(number), words]
            environment[LAST_WORDS] = str(len(sources) - 1)
            self._inherit(number, first, self._ways.mark, handoff_sockets, sockets).put(environment)
            package = [sys.executable, "-m", "rt_twisted.workers"]
            return self._reactor.spawnProcess(
                watch,
                sys.executable,
                [*package, f"{number}/{len(self._berths)}", *self._twistd(number), "realtime"],
                environment,
                self._folder if os.access(self._folder, os.X_OK) else "/",
                childFDs=dict(enumerate(sources)),
            )
