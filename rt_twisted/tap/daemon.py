"""
The running daemon: listens, serves, exports metrics, and stops gracefully.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger

from rt_twisted.http.server import HttpServer
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.metrics import Metrics
from rt_twisted.net.accepting import accept_quickly
from rt_twisted.net.listeners import accept_pending, listen_on, tune_listener
from rt_twisted.net.signals import ReloadHook, handle_signals

_log = Logger()
_exporting = _log.failureHandler("while exporting metrics")

DRAIN_CHECK = 0.05  # seconds between two checks whether all connections have ended
KEYS = ("http-secret", "publish-key", "stats-key")
FLUSH_SECONDS = 0.2  # for the last bytes of streams, and requests that are on their way


class LifecycleObserver(Protocol):
    """
    What is notified of the state of the daemon: systemd, or the parent of a worker.
    """

    def ready(self) -> None:
        """
        Take note that the daemon has started, or has ended a reload.
        """

    def reloading(self) -> None:
        """
        Take note that settings are read again; `ready` follows, also if they are wrong.
        """

    def stopping(self) -> None:
        """
        Take note that the daemon is stopping.
        """


class Daemon(Service):
    """
    Starts and stops ports, HTTP server and hubs together.

    Signals are those of `handle_signals`: after SIGTERM the process ends with status 0; a
    second one does not wait for running requests.

    Args:
        reactor: the reactor.
        hubs: all channels.
        server: of all ports.
        endpoints: to listen on, each with its description.
        options: every setting by name.
        observer: is notified.
        reload: reads the settings again, and opens log files again.
        announce: called with each port, and the description of its endpoint, when all are open.
    """

    def __init__(
        self,
        reactor: Any,
        hubs: HubRegistry,
        server: HttpServer,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        options: Mapping[str, Any],
        observer: LifecycleObserver,
        reload: ReloadHook,
        announce: Callable[[Sequence[tuple[str, IListeningPort]]], None],
    ) -> None:
        self._reactor = reactor
        self._hubs = hubs
        self._server = server
        self._endpoints = endpoints
        self._options = options
        self._observer = observer
        self._read_settings = reload
        self._announce = announce
        self._ports: list[IListeningPort] = []
        self._stop_requests = 0

    def privilegedStartService(self) -> None:
        # Listen before the process drops root. Raises SystemExit with one sentence if a
        # port cannot be bound.
        for port in listen_on(self._endpoints, self._server):
            self._ports.append(port)
            tune_listener(port, self._options["dead-after"])
            accept_quickly(port)
        descriptions = [description for description, _ in self._endpoints]
        self._announce(list(zip(descriptions, self._ports, strict=True)))

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]
        self._hubs.start()
        self._server.start()
        self._log_missing_keys()
        # The reactor sets handlers of signals when it starts to run.
        self._reactor.callWhenRunning(self._on_running)

    def _on_running(self) -> None:
        handle_signals(self._reactor, self.reload, self.reopen_logs, self.stop)
        self._observer.ready()

    def reload(self) -> None:
        """
        Apply the settings as they are now; no connection is closed.
        """
        self._observer.reloading()
        before, self._options = self._options, self._read_settings()
        if any(before[name] and not self._options[name] for name in KEYS):
            self._log_missing_keys()
        self._observer.ready()

    def reopen_logs(self) -> None:
        """
        Open the log files again, after they were rotated; settings are not read.
        """
        self._read_settings.reopen_logs()

    @property
    def stopping(self) -> bool:
        """
        Whether `stop` was called.
        """
        return self._stop_requests > 0

    def stop(self) -> None:
        """
        Stop gracefully; the second call does not wait for running requests.
        """
        self._stop_requests += 1
        if self._stop_requests == 1:
            self._reactor.stop()

    def _log_missing_keys(self) -> None:
        options = self._options
        if not options["http-secret"] and not options["publish-key"]:
            _log.info(
                "no publish key is set: where a route permits no others, only this machine may "
                "publish, and clients of a proxy on it that hides their addresses"
            )
        if not options["stats-key"]:
            _log.info("no stats key is set: only this machine may see /stats")

    def stopService(self) -> Deferred[Any]:
        super().stopService()  # type: ignore[no-untyped-call]
        self._observer.stopping()
        subscribers = self._hubs.subscribers
        _log.info(
            "stopping: asking {subscribers} subscribers to reconnect", subscribers=subscribers
        )
        for port in self._ports:
            accept_pending(port)
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        self._hubs.stop(int(self._options["retry"] * 1000))
        stopped.append(ensureDeferred(self._drain()))
        return DeferredList(stopped)

    async def _drain(self) -> None:
        """
        Wait until all connections have ended, at most for `stop-seconds`.
        """
        until = self._reactor.seconds() + self._options["stop-seconds"]
        # A client whose connection is accepted may be about to send its request.
        await deferLater(self._reactor, FLUSH_SECONDS)
        self._server.stop()
        while self._server.connections and self._stop_requests < 2:
            if self._reactor.seconds() >= until:
                left = len(self._server.connections)
                _log.warn("{left} requests did not finish in time", left=left)
                return
            await deferLater(self._reactor, DRAIN_CHECK)


class MetricsSource(Protocol):
    """
    What has the metrics to export: a hub, or the sum over worker processes.
    """

    def current_metrics(self) -> Metrics | Deferred[Metrics]:
        """
        Return all metrics as they are now.
        """


class ExporterService(Service):
    """
    Passes the metrics of the daemon to an exporter, at an interval.

    Args:
        exporter: provides `IExporter`.
        source: of the metrics.
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
        super().startService()  # type: ignore[no-untyped-call]
        self._loop.start(self._interval, now=False)

    def stopService(self) -> None:
        super().stopService()  # type: ignore[no-untyped-call]
        if self._loop.running:
            self._loop.stop()

    async def _export(self) -> None:
        with _exporting:
            metrics: Any = await maybeDeferred(self._source.current_metrics)
            self._exporter.export(metrics, time.time())
            metrics.restart_maxima()
