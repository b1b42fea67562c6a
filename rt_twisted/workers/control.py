"""
A worker's end of the control channel: commands of the parent, reports, and queries.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Generator
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.hub.hub import Hub
from rt_twisted.metrics.snapshot import (
    Snapshot,
    StatsQuery,
    WorkerReport,
    pack_report,
    unpack_snapshot,
)
from rt_twisted.model.errors import HttpError
from rt_twisted.net.slices import run_in_slices
from rt_twisted.workers.control_channel import ControlChannel

REPORT_INTERVAL = 1.0  # seconds; a worker that crashes loses the counts of so much time
MAX_CHANNELS = 50_000  # in a report; the others are summed
BROKER_SECONDS = 3.0  # the longest time that `ready` waits for the broker
BROKER_CHECK = 0.05  # seconds between two checks of the broker
QUERY_SECONDS = 3.0  # for the parent to answer; it gives its workers less

_log = Logger()
_reporting = _log.failureHandler("while reporting to the parent")


class Controllable(Protocol):
    """
    The daemon of a worker, as its parent controls it.
    """

    @property
    def stopping(self) -> bool:
        """
        Whether the process has been asked to stop.
        """

    def reload(self) -> None:
        """
        Read the settings again.
        """

    def reopen_logs(self) -> None:
        """
        Open the log files again.
        """

    def stop(self) -> None:
        """
        Stop gracefully; the second call does not wait for running requests.
        """


class ControlClient(Service):
    """
    Reports to the parent, obeys its commands, and stops the daemon when the parent ends.

    It observes the lifecycle of the daemon, as a `SystemdNotifier` does elsewhere.

    Args:
        reactor: the reactor.
        descriptor: of the socket to the parent.
        hub: whose metrics are reported.

    Attributes:
        daemon: what the parent controls; set before the service starts.
    """

    daemon: Controllable | None = None

    def __init__(self, reactor: Any, descriptor: int, hub: Hub) -> None:
        self._reactor = reactor
        self._hub = hub
        self._queries: dict[int, Deferred[Snapshot]] = {}
        self._last_query = 0
        self._stopping_now = False
        self._broker_check: Any = None  # the call of the next check
        self._channel = ControlChannel(self._on_message, self._on_lost)
        self._descriptor = descriptor
        self._loop = LoopingCall(self._report)
        self._loop.clock = IReactorTime(reactor)

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        factory = Factory.forProtocol(lambda: self._channel)
        factory.noisy = False
        with socket.socket(fileno=self._descriptor) as ours:
            ours.setblocking(False)
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)

    def stopService(self) -> None:
        # The channel stays open: the parent takes its end for the end of the process.
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._loop.running:
            self._loop.stop()
        self._cancel_broker_check()
        self._report()

    def ready(self) -> None:
        """
        Report that the daemon has started or reloaded.

        New connections come to this worker then, so it waits for the broker, but at most
        BROKER_SECONDS, as the broker may be unreachable for long.
        """
        if not self._loop.running:
            self._loop.start(REPORT_INTERVAL)
        self._cancel_broker_check()
        self._send_ready(self._reactor.seconds() + BROKER_SECONDS)

    def _send_ready(self, until: float) -> None:
        if self._hub.why_not_ready() and self._reactor.seconds() < until:
            self._broker_check = self._reactor.callLater(BROKER_CHECK, self._send_ready, until)
        else:
            self._channel.send("ready")

    def _cancel_broker_check(self) -> None:
        if self._broker_check is not None and self._broker_check.active():
            self._broker_check.cancel()

    def reloading(self) -> None:
        """
        Do nothing: the parent has ordered the reload.
        """

    def stopping(self) -> None:
        """
        Report that this worker accepts no new connections.
        """
        self._channel.send("stopping")

    def ask(self, query: StatsQuery) -> Deferred[Snapshot]:
        """
        Ask the parent for the metrics of all workers.

        Raises (in the Deferred):
            HttpError: 503, the parent does not answer.
        """
        self._last_query += 1
        number = self._last_query
        fields = {
            "names": list(query.names),
            "most": query.max_channels,
            "every": query.all_channels,
            "export": query.export,
        }
        if not self._channel.send_unless_congested("ask", number=number, **fields):
            return fail(_no_answer())
        answer: Deferred[Snapshot] = Deferred()
        self._queries[number] = answer
        answer.addTimeout(QUERY_SECONDS, self._reactor, lambda *_: fail(_no_answer()))
        answer.addBoth(self._forget_query, number)
        return answer

    def _forget_query(self, result: Any, number: int) -> Any:
        self._queries.pop(number, None)
        return result

    def _on_message(self, channel: ControlChannel, message: dict[str, Any]) -> None:
        daemon, what = self.daemon, message["what"]
        if what == "report":
            self._report(message["round"])
        elif what == "answer":
            answer = self._queries.get(message["number"])
            if answer is not None:
                answer.callback(unpack_snapshot(message["snapshot"]))
        elif daemon is None:
            return
        elif what == "reload":
            daemon.reload()
        elif what == "reopen":
            daemon.reopen_logs()
        elif what == "stop":
            # A signal to the whole process group may have stopped it already.
            if not daemon.stopping:
                daemon.stop()
        elif what == "stop now" and not self._stopping_now:
            self._stopping_now = True
            daemon.stop()

    def _on_lost(self, channel: ControlChannel) -> None:
        if self.daemon is not None and not self.daemon.stopping:
            _log.error("the parent process has ended: stopping")
            self.daemon.stop()

    def _report(self, round: int = 0) -> None:
        """
        Send a report: a whole one if a *round* asked for it, otherwise the counters.
        """
        if round:
            steps = self._report_in_steps(round)
            run_in_slices(self._reactor, steps).addErrback(_log_failure)
            return
        with _reporting:
            self._hub.metrics.cpu_seconds = time.process_time()
            self._send_report(0, WorkerReport(self._hub.metrics))

    def _report_in_steps(self, round: int) -> Generator[None, None, None]:
        channels = yield from self._hub.statistics.busiest_in_steps(MAX_CHANNELS)
        yield
        metrics = self._hub.current_metrics()
        yield
        self._send_report(round, WorkerReport(metrics, *channels))

    def _send_report(self, round: int, report: WorkerReport) -> None:
        packed = pack_report(report)
        if self._channel.send_unless_congested("report", round=round, report=packed):
            self._hub.metrics.restart_maxima()  # the parent keeps them until an export


def _log_failure(failure: Failure) -> None:
    _log.failure("while reporting to the parent", failure)


def _no_answer() -> HttpError:
    return HttpError(503, "the metrics of the other workers are not available now", retry=1)
