"""
A worker's end of the line: what it is told, what it tells, whom it asks.
"""

from __future__ import annotations

import socket
import time
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from rt_twisted.hub.hub import Hub
from rt_twisted.metrics.snapshot import (
    Snapshot,
    StatsQuery,
    WorkerReport,
    pack_report,
    unpack_snapshot,
)
from rt_twisted.model.errors import HttpError
from rt_twisted.workers.control_channel import ControlChannel

INTERVAL = 1.0  # seconds between two reports: so much of what is counted dies with a worker
MOST_CHANNELS = 50_000  # in a report; the rest is summed
BROKER_SECONDS = 3.0  # that the broker may take until the parent is told
LOOK = 0.05  # seconds between two looks at it
PATIENCE = 3.0  # seconds for the parent to answer; it gives its workers less

_log = Logger()
_reporting = _log.failureHandler("while reporting to the parent")


class Controllable(Protocol):
    """
    The daemon, as its parent sees it.
    """

    @property
    def ending(self) -> bool:
        """
        Whether it was asked to stop.
        """

    def reload(self) -> None:
        """
        Read the settings again.
        """

    def reopen_logs(self) -> None:
        """
        Open the log files again.
        """

    def end(self) -> None:
        """
        Stop in good order; the second time at once.
        """


class ControlClient(Service):
    """
    Reports to the parent, does what it says, and ends when it is gone. It is told
    what a `Supervisor` is.

    Args:
        reactor: the reactor.
        descriptor: of the socket to the parent.
        hub: whose numbers.
    """

    daemon: Controllable | None = None

    def __init__(self, reactor: Any, descriptor: int, hub: Hub) -> None:
        self._reactor = reactor
        self._hub = hub
        self._asked: dict[int, Deferred[Snapshot]] = {}
        self._questions = 0
        self._hurried = False
        self._look: Any = None  # the call that looks for the broker again
        self._line = ControlChannel(self._hears, self._lost)
        self._descriptor = descriptor
        self._loop = LoopingCall(self._report)
        self._loop.clock = IReactorTime(reactor)

    def startService(self) -> None:
        """
        Take up the line.
        """
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        factory = Factory.forProtocol(lambda: self._line)
        factory.noisy = False
        with socket.socket(fileno=self._descriptor) as ours:
            ours.setblocking(False)
            self._reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, factory)

    def stopService(self) -> None:
        """
        The line goes with the process: until then its end is a sign of life.
        """
        super().stopService()  # type: ignore[no-untyped-call]  # as above
        if self._loop.running:
            self._loop.stop()
        self._look_no_more()
        self._report()

    # As a supervisor.

    def ready(self) -> None:
        """
        Everything is as it shall be, from the start or after `reloading`. The parent
        hears of it when the broker is there too, as new connections come then; or after
        a while, as the broker may be away for long.
        """
        if not self._loop.running:
            self._loop.start(INTERVAL)
        self._look_no_more()
        self._say_ready(self._reactor.seconds() + BROKER_SECONDS)

    def _say_ready(self, until: float) -> None:
        if self._hub.why_not_ready() and self._reactor.seconds() < until:
            self._look = self._reactor.callLater(LOOK, self._say_ready, until)
        else:
            self._line.say("ready")

    def _look_no_more(self) -> None:
        if self._look is not None and self._look.active():
            self._look.cancel()

    def reloading(self) -> None:
        """
        The parent knows.
        """

    def stopping(self) -> None:
        """
        No new readers, please.
        """
        self._line.say("stopping")

    def close(self) -> None:
        """
        See `stopService`.
        """

    # As one of several.

    def ask(self, question: StatsQuery) -> Deferred[Snapshot]:
        """
        The numbers of all workers.

        Raises (in the Deferred):
            Refusal: the parent does not answer.
        """
        self._questions += 1
        number = self._questions
        fields = {
            "names": list(question.names),
            "most": question.max_channels,
            "every": question.all_channels,
        }
        if not self._line.offer("ask", number=number, **fields):
            return fail(_unknown())
        answer: Deferred[Snapshot] = Deferred()
        self._asked[number] = answer
        answer.addTimeout(PATIENCE, self._reactor, lambda *_: fail(_unknown()))
        answer.addBoth(self._forget, number)
        return answer

    def _forget(self, result: Any, number: int) -> Any:
        self._asked.pop(number, None)
        return result

    def _hears(self, line: ControlChannel, said: dict[str, Any]) -> None:
        daemon, what = self.daemon, said["what"]
        if what == "tell":
            self._report(said["round"])
        elif what == "answer":
            answer = self._asked.get(said["number"])
            if answer is not None:
                answer.callback(unpack_snapshot(said["look"]))
        elif daemon is None:
            return
        elif what == "reload":
            daemon.reload()
        elif what == "reopen":
            daemon.reopen_logs()
        elif what == "stop":
            # Whoever sends signals to a whole group of processes has said it already.
            if not daemon.ending:
                daemon.end()
        elif what == "hurry" and not self._hurried:
            self._hurried = True
            daemon.end()

    def _lost(self, line: ControlChannel) -> None:
        if self.daemon is not None and not self.daemon.ending:
            _log.error("the parent is gone")
            self.daemon.end()

    def _report(self, round: int = 0) -> None:
        """
        Tell the numbers: all of them if asked for, in a *round*, else what grows.
        """
        with _reporting:
            if round:
                report = WorkerReport(
                    self._hub.current_metrics(), *self._hub.busiest_channels(MOST_CHANNELS)
                )
            else:
                self._hub.metrics.cpu_seconds = time.process_time()
                report = WorkerReport(self._hub.metrics)
            self._line.offer("report", round=round, report=pack_report(report))


def _unknown() -> HttpError:
    return HttpError(503, "what the other workers count is not known now", retry=1)
