"""
`twistd realtime`: reads the settings, builds, wires.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

from twisted.application.service import IService

from rt_twisted.actions.context import SharedState
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.net.clock import use_monotonic_clock
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.net.resolver import use_daemon_resolver
from rt_twisted.net.signals import hold_signals
from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.routes import Routes, RouteServices
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.daemon import Daemon, ExporterService, MetricsSource
from rt_twisted.tap.endpoints import make_endpoints
from rt_twisted.tap.factories import (
    EMBEDDED,
    make_app,
    make_broker,
    make_context,
    make_cors,
    make_exporter,
    make_further_hub,
    make_routes,
    open_access_log,
    open_log,
    read_http_limits,
    read_inbound_limit,
    read_limits,
    read_retention,
    wrong,
)
from rt_twisted.tap.logfiles import LogFile, Logged
from rt_twisted.tap.options import Options
from rt_twisted.tap.reload import ParentReloader, Reloader
from rt_twisted.tap.settings import SettingError
from rt_twisted.tap.start import StartReport
from rt_twisted.workers.control import ControlClient
from rt_twisted.workers.handoff import ConnectionHandoff
from rt_twisted.workers.sockets import InheritedListeners, ListenerBinder
from rt_twisted.workers.stats import StatsAggregator
from rt_twisted.workers.supervisor import Supervisor


def makeService(options: Options) -> IService:
    """
    The daemon that *options* describe.

    Raises:
        SystemExit: one sentence about what is wrong.
    """
    # Here, not at the top: twistd's own option may choose another one.
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    use_daemon_resolver(reactor)
    try:
        return build(options, reactor)
    except SettingError as error:
        sys.exit(f"realtime: {error}")


def build(options: Options, reactor: Any) -> IService:
    """
    Build everything and wire it; nothing runs yet.

    Raises:
        WrongSetting: with file and line.
    """
    log = open_log(options)
    worker = options.inheritance
    twistd: Any = options.parent
    logged = partial(
        Logged,
        log,
        options["log-format"],
        level=options["log-level"],
        later=lambda seconds, call: reactor.callFromThread(reactor.callLater, seconds, call),
        syslog=twistd["prefix"] if twistd and twistd.get("syslog") else None,
    )
    if worker is not None:
        hold_signals()
        services = logged(worker.number)
        _build_server(services, options, reactor, log, InheritedListeners(reactor, worker.sockets))
        return services
    if twistd is None or options["check"]:
        services = logged()
    else:
        hold_signals()
        services = logged(step=StartReport(twistd).step)
    if options["workers"] > 1:
        _build_parent(services, options, reactor, log)
    else:
        _build_server(services, options, reactor, log, reactor)
    return services


def _build_server(
    services: Any, options: Options, reactor: Any, log: LogFile | None, net: Any
) -> LogFile | None:
    """
    What serves readers; *net* is the reactor by which it listens.

    Returns:
        the access log, which is open.
    """
    worker = options.inheritance
    broker = make_broker(options, reactor)
    if IService.providedBy(broker):
        services.addService(broker)
    hub = Hub(broker, reactor, read_retention(options), read_limits(options))
    hubs = HubRegistry(hub, partial(make_further_hub, services, options, reactor))
    post = ControlClient(reactor, worker.line, hub) if worker is not None else None
    handoff = None
    if worker is not None:
        handoff = ConnectionHandoff.inherited(
            reactor, worker.mark, worker.number, worker.handoff_sockets
        )
    inbound = hub.metrics.inbound = InboundMemory(reactor, read_inbound_limit(options))
    context_of = partial(
        make_context,
        reactor=reactor,
        hubs=hubs,
        ask=post.ask if post is not None else None,
        handoff=handoff,
        shared=SharedState(),
        inbound=inbound,
    )
    routes = Routes(make_routes(options, context_of(options)))
    route_services = RouteServices(routes)
    front = HttpServer(
        reactor,
        routes.find,
        read_http_limits(options),
        make_cors(options),
        make_app(options, hub),
        inbound=inbound,
    )
    access_log = open_access_log(options)
    front.context.access_log = ResponseMetrics(
        routes.find, hub.metrics, AccessLog(access_log) if access_log else None
    )
    if worker is None:
        _export(services, options, reactor, hub)
    endpoints = list(make_endpoints(options, net, front.acceptableProtocols()))
    certificates = [one.contexts for _, one in endpoints if hasattr(one, "contexts")]
    renew = Reloader(
        options,
        hubs,
        front,
        log,
        access_log,
        certificates,
        context_of,
        route_services,
        services.filter,
    )
    supervisor = post or SystemdNotifier(os.environ, reactor)
    daemon = Daemon(reactor, hubs, front, endpoints, options, supervisor, renew)
    if handoff is not None:
        reactor.callWhenRunning(handoff.start, front)
    if post is not None:
        post.daemon = daemon
        services.addService(post)
    services.addService(daemon)
    services.addService(route_services)  # last: they are started when the hub is
    return access_log


def _build_parent(services: Any, options: Options, reactor: Any, log: LogFile | None) -> None:
    """
    What starts workers, each of which builds what `_fill` does, and adds up their numbers.
    """
    size = options["workers"]
    if options["history-file"]:
        text = f"a history-file belongs to one process, not to {size}; take --broker redis or amqp"
        raise wrong(options, "workers", f"{text} without it, or one worker")
    if options["broker"] in EMBEDDED:
        text = f"{size} processes cannot share the channels of the embedded broker"
        raise wrong(options, "workers", f"{text}; take --broker redis or amqp, or one worker")
    twistd: Any = options.parent or {}
    if twistd.get("chroot"):
        raise wrong(options, "workers", "they cannot be started in a --chroot")

    def check() -> None:
        """
        Build it all as a worker does, and throw it away: so what is wrong is one
        sentence here, not one from each.
        """
        net = ListenerBinder(reactor, size, second=False)
        access_log = _build_server(Logged(None, "text"), options, reactor, None, net)
        if access_log is not None:
            access_log.close()  # it would keep a file that is moved away, and its room on the disk

    def check_again() -> None:
        # Root may read what workers may not.
        if any(twistd.get(name) is not None for name in ("uid", "gid")):
            try:
                options.again()
                check()
            except SettingError as error:
                sys.exit(f"realtime: {error}")

    check()
    census = StatsAggregator(reactor)
    _export(services, options, reactor, census)
    binder = ListenerBinder(reactor, size, options["reuse-port"])
    crew = Supervisor(
        reactor,
        size,
        list(make_endpoints(options, binder, ())),
        binder,
        lambda number: _words_for_twistd(options, log, number),
        options.leave,
        options.folder,
        check_again,
        census,
        SystemdNotifier(os.environ, reactor),
        ParentReloader(options, log, services.filter),
        options,
    )
    services.addService(crew)


def _words_for_twistd(options: Options, log: LogFile | None, number: int) -> Iterator[str]:
    """
    What the twistd of worker *number* is told; it is no daemon, and already who it shall be.
    """
    twistd: Any = options.parent or {}
    yield from ("-n", "--pidfile=")
    if log is not None:
        yield f"--logfile={log.path}"
    for name in ("reactor", "logger", "facility"):
        if twistd.get(name):
            yield f"--{name}={twistd[name]}"
    if twistd.get("syslog"):
        yield from ("--syslog", f"--prefix={twistd['prefix']}-w{number}")
    if twistd.get("rundir", ".") != ".":
        yield f"--rundir={os.path.join(options.folder, twistd['rundir'])}"


def _export(services: Any, options: Options, reactor: Any, source: MetricsSource) -> None:
    """
    Have the numbers of *source* sent where they are wanted.
    """
    exporter = make_exporter(options, reactor)
    if exporter is not None:
        if IService.providedBy(exporter):
            services.addService(exporter)
        services.addService(ExporterService(exporter, source, reactor, options["export-interval"]))
