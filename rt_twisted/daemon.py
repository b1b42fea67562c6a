"""
The running daemon: listening, exporting, stopping in good order.
"""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, DeferredList, ensureDeferred, maybeDeferred
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rt_twisted.front.http import Front
from rt_twisted.hub import Hub
from rt_twisted.wire import tune_listener

_log = Logger()
_exporting = _log.failureHandler("while exporting numbers")

# Messages live and die by reference counts. With Python's own thresholds a
# daemon with 10,000 channels spent half of a publish looking for cycles.
GC_THRESHOLDS = (10_000, 20, 50)
POLL = 0.05  # seconds between two looks whether everybody is gone
FLUSH = 0.2  # seconds for the last bytes of streams to leave


def open_files() -> int:
    """
    How many file descriptors this process may have, raised to what it may
    raise itself to.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 20


class Daemon(Service):
    """
    Ports, front and hub, started and stopped together.

    Args:
        reactor: the reactor.
        hub: all channels.
        front: what listens.
        endpoints: where, each with its description.
        options: every setting by name.
    """

    def __init__(
        self,
        reactor: Any,
        hub: Hub,
        front: Front,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        options: Mapping[str, Any],
    ) -> None:
        self._reactor = reactor
        self._hub = hub
        self._front = front
        self._endpoints = endpoints
        self._options = options
        self._ports: list[IListeningPort] = []

    def privilegedStartService(self) -> None:
        """
        Listen, before root is given up.

        Raises:
            SystemExit: one sentence, somewhere that is not possible.
        """
        for description, endpoint in self._endpoints:
            failures: list[Failure] = []
            listening = endpoint.listen(self._front)
            listening.addCallback(self._listens).addErrback(failures.append)
            if failures:  # endpoints that listen fail at once
                reason = getattr(failures[0].value, "socketError", failures[0].getErrorMessage())
                sys.exit(f"realtime: cannot listen on {description}: {reason}")

    def _listens(self, port: IListeningPort) -> None:
        self._ports.append(port)
        tune_listener(port, self._options["dead-after"])

    def startService(self) -> None:
        """
        Begin.
        """
        super().startService()  # type: ignore[no-untyped-call]
        gc.freeze()  # what is loaded by now stays
        gc.set_threshold(*GC_THRESHOLDS)
        self._hub.start()
        self._front.start()
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
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports = []
        self._hub.stop(int(self._options["retry"] * 1000))
        self._front.stop()
        stopped.append(ensureDeferred(self._quiet()))
        return DeferredList(stopped)

    async def _quiet(self) -> None:
        """
        Wait until every connection has done what it does, or time is up.
        """
        until = self._reactor.seconds() + self._options["stop-seconds"]
        await deferLater(self._reactor, FLUSH)
        while self._front.connections and self._reactor.seconds() < until:
            await deferLater(self._reactor, POLL)


class Exporting(Service):
    """
    Hands the hub's numbers to an exporter, at an interval.

    Args:
        exporter: provides `IExporter`.
        hub: whose numbers.
        clock: the reactor.
        interval: seconds.
    """

    def __init__(self, exporter: Any, hub: Hub, clock: Any, interval: float) -> None:
        self._exporter = exporter
        self._hub = hub
        self._interval = interval
        self._loop = LoopingCall(self._export)
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

    def _export(self) -> None:
        with _exporting:
            self._exporter.export(self._hub.numbers(), time.time())
