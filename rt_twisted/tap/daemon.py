"""
The running daemon: listening, exporting, stopping in good order.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from rt_twisted.http.server import HttpServer
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.net.listeners import accept_pending, listen_on, tune_listener
from rt_twisted.net.signals import ReloadHook, handle_signals

_log = Logger()
_exporting = _log.failureHandler("while exporting numbers")

# Messages live and die by reference counts. With Python's own thresholds a
# daemon with 10,000 channels spent half of a publish looking for cycles.
GC_THRESHOLDS = (10_000, 20, 50)
POLL = 0.05  # seconds between two looks whether everybody is gone
KEYS = ("http-secret", "publish-key", "stats-key")
FLUSH = 0.2  # seconds for the last bytes of streams to leave, and the last requests to come


class LifecycleObserver(Protocol):
    """
    Who hears how the daemon is: a `Supervisor`, or a worker's `Post`.
    """

    def ready(self) -> None:
        """
        Everything is as it shall be, from the start or after `reloading`.
        """

    def reloading(self) -> None:
        """
        Settings are read again; `ready` follows, whatever comes of it.
        """

    def stopping(self) -> None:
        """
        It is going.
        """


class Daemon(Service):
    """
    Ports, front and hub, started and stopped together.

    Signals are those of `handle_signals`: after SIGTERM the process ends with status 0; a
    second one does not wait for anybody.

    Args:
        reactor: the reactor.
        hubs: all channels.
        front: what listens.
        endpoints: where, each with its description.
        options: every setting by name.
        supervisor: is told what happens.
        renew: reads the settings again, and opens log files again.
    """

    def __init__(
        self,
        reactor: Any,
        hubs: HubRegistry,
        front: HttpServer,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        options: Mapping[str, Any],
        supervisor: LifecycleObserver,
        renew: ReloadHook,
    ) -> None:
        self._reactor = reactor
        self._hubs = hubs
        self._front = front
        self._endpoints = endpoints
        self._options = options
        self._supervisor = supervisor
        self._renew = renew
        self._ports: list[IListeningPort] = []
        self._asked = 0  # how often to stop

    def privilegedStartService(self) -> None:
        """
        Listen, before root is given up.

        Raises:
            SystemExit: one sentence, somewhere that is not possible.
        """
        for port in listen_on(self._endpoints, self._front):
            self._ports.append(port)
            tune_listener(port, self._options["dead-after"])

    def startService(self) -> None:
        """
        Begin.
        """
        super().startService()  # type: ignore[no-untyped-call]
        gc.freeze()  # what is loaded by now stays
        gc.set_threshold(*GC_THRESHOLDS)
        self._hubs.start()
        self._front.start()
        self._say_what_is_open()
        # The reactor sets its own signals when it begins to run.
        self._reactor.callWhenRunning(self._runs)

    def _runs(self) -> None:
        handle_signals(self._reactor, self.reload, self.reopen_logs, self.end)
        self._supervisor.ready()

    def reload(self) -> None:
        """
        Go on with the settings as they are now. Nobody is hung up on.
        """
        self._supervisor.reloading()
        before, self._options = self._options, self._renew()
        if any(before[name] and not self._options[name] for name in KEYS):
            self._say_what_is_open()
        self._supervisor.ready()

    def reopen_logs(self) -> None:
        """
        Open the log files again, which somebody has moved away; settings stay as they are.
        """
        self._renew.reopen_logs()

    @property
    def ending(self) -> bool:
        """
        Whether it was asked to stop.
        """
        return self._asked > 0

    def end(self) -> None:
        """
        Stop in good order. Asked again it does not wait for anybody.
        """
        self._asked += 1
        if self._asked == 1:
            self._reactor.stop()

    def _say_what_is_open(self) -> None:
        options = self._options
        if not options["http-secret"] and not options["publish-key"]:
            _log.info(
                "no publish key is set: only this machine may publish, "
                "and whoever a proxy on it lets through"
            )
        if not options["stats-key"]:
            _log.info("no stats key is set: only this machine may see /stats")

    def stopService(self) -> Deferred[Any]:
        """
        Stop listening; tell readers when to come back; let requests finish.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        self._supervisor.stopping()
        subscribers = self._hubs.subscribers
        _log.info("stopping: {readers} readers are told to come back", subscribers=subscribers)
        for port in self._ports:
            accept_pending(port)
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        self._hubs.stop(int(self._options["retry"] * 1000))
        stopped.append(ensureDeferred(self._quiet()))
        return DeferredList(stopped)

    async def _quiet(self) -> None:
        """
        Wait until every connection has done what it does, or time is up.
        """
        until = self._reactor.seconds() + self._options["stop-seconds"]
        # Who is accepted already may be just about to ask.
        await deferLater(self._reactor, FLUSH)
        self._front.stop()
        while self._front.connections and self._asked < 2:
            if self._reactor.seconds() >= until:
                left = len(self._front.connections)
                _log.warn("{left} requests did not finish in time", left=left)
                return
            await deferLater(self._reactor, POLL)


class MetricsSource(Protocol):
    """
    What has the metrics to export: a hub, or the sum over worker processes.
    """

    def current_metrics(self) -> Metrics | Deferred[Metrics]:
        """
        All metrics as they are now.
        """


class ExporterService(Service):
    """
    Hands the daemon's numbers to an exporter, at an interval.

    Args:
        exporter: provides `IExporter`.
        source: of what is exported.
        clock: the reactor.
        interval: seconds.
    """

    def __init__(self, exporter: Any, source: MetricsSource, clock: Any, interval: float) -> None:
        self._exporter = exporter
        self._source = source
        self._interval = interval
        self._loop = LoopingCall(lambda: ensureDeferred(self._export()))
        self._loop.clock = clock

    def startService(self) -> None:
        """
        The first export comes after one interval.
        """
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._interval, now=False)

    def stopService(self) -> None:
        """
        No more.
        """
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    async def _export(self) -> None:
        with _exporting:
            numbers = await maybeDeferred(self._source.current_metrics)
            self._exporter.export(numbers, time.time())
