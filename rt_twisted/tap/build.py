"""
Builds a server, or the parent of worker processes, from the options.
"""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from twisted.application.service import IService
from twisted.logger import Logger

from rt_twisted.access.key_sets import KeySets
from rt_twisted.access.revocations import Revocations
from rt_twisted.actions.context import SharedState
from rt_twisted.actions.ingest.publisher_lines import PublisherLines
from rt_twisted.brokers import EMBEDDED
from rt_twisted.http.context import HttpContext
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.live_peers import LivePeers
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.memory import WorkerMemory, resident_memory
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.model.load_object import load_object
from rt_twisted.model.settings import read_retention
from rt_twisted.net.hold_watch import HoldWatch
from rt_twisted.net.idle_collector import IdleCollector
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.net.signals import hold_signals
from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.routes import Routes, RouteServices
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.announce import Listening
from rt_twisted.tap.audit_log import AuditLog
from rt_twisted.tap.daemon import Daemon
from rt_twisted.tap.endpoints import make_endpoints
from rt_twisted.tap.factories import (
    make_app,
    make_broker,
    make_context,
    make_cors,
    make_further_hub,
    make_sidecars,
)
from rt_twisted.tap.first_use import load_all, loads_all
from rt_twisted.tap.limits import (
    read_http_limits,
    read_hub_limits,
    read_inbound_limit,
)
from rt_twisted.tap.logfiles import LogFile, Logged
from rt_twisted.tap.open_logs import open_access_log, open_audit_log, open_log
from rt_twisted.tap.options import Options
from rt_twisted.tap.reload import Reloader
from rt_twisted.tap.reporting import add_exporter, announce_by_settings
from rt_twisted.tap.routing import make_routes
from rt_twisted.tap.runner import is_twist, log_by_twist
from rt_twisted.tap.start import StartReport
from rt_twisted.workers.sidecars import SidecarSupervisor

_log = Logger()


def build(options: Options, reactor: Any) -> IService:
    """
    Build the services that *options* describe; nothing runs yet.

    Raises:
        SettingError: with file and line.
    """
    log = open_log(options)
    worker = options.inherited
    twistd = options.twistd
    logged = partial(
        Logged,
        log,
        options["log-format"],
        level=options["log-level"],
        later=lambda seconds, call: reactor.callFromThread(reactor.callLater, seconds, call),
        syslog=twistd["prefix"] if twistd and twistd.get("syslog") else None,
    )
    if worker is not None:
        from rt_twisted.workers.sockets import InheritedListeners

        hold_signals()
        services = logged(worker.number)
        build_server(services, options, reactor, log, InheritedListeners(reactor, worker.sockets))
        return services
    if twistd is None or options["check"]:
        services = logged()
    elif is_twist(options.parent):
        hold_signals()
        services = logged()
        log_by_twist(options.parent, services.filter)
    else:
        hold_signals()
        services = logged(step=StartReport(twistd).step)
    if options.without_effect:
        _log.info(
            "words of uWSGI that have no effect here: {words}",
            words=", ".join(sorted(options.without_effect)),
        )
    for note in options.environment_notes():
        _log.warn("{note}", note=note)
    sidecars = SidecarSupervisor(reactor, make_sidecars(options), options.folder)
    if options["workers"] > 1:
        # By name, as only this needs the modules of the supervisor.
        build_parent = load_object("rt_twisted.tap.parent.build_parent")
        build_parent(services, options, reactor, log, sidecars, build_server)
    else:
        build_server(services, options, reactor, log, reactor, sidecars)
    return services


def build_server(
    services: Any,
    options: Options,
    reactor: Any,
    log: LogFile | None,
    listening: Any,
    sidecars: SidecarSupervisor | None = None,
) -> list[LogFile]:
    """
    Add to *services* what serves clients.

    Args:
        services: the parent of all services.
        options: every setting by name.
        reactor: the reactor.
        log: the daemon's log; None if it is not ours.
        listening: the reactor that endpoints listen with.
        sidecars: of the daemon; None in a worker process.

    Returns:
        the access log and the audit log, as far as there are any; they are open.
    """
    worker = options.inherited
    broker = make_broker(options, reactor)
    if IService.providedBy(broker):
        services.addService(broker)
    hub = Hub(broker, reactor, read_retention(options), read_hub_limits(options))
    hubs = HubRegistry(hub, partial(make_further_hub, services, options, reactor))
    control = handoff = None
    if worker is not None:
        from rt_twisted.workers.control import ControlClient
        from rt_twisted.workers.handoff import ConnectionHandoff

        control = ControlClient(reactor, worker.control_socket, hub)
        hub.metrics.measure_memory = WorkerMemory().measure
        handoff = ConnectionHandoff.inherited(
            reactor, worker.daemon_id, worker.number, worker.handoff_sockets
        )
    inbound = hub.metrics.inbound = InboundMemory(reactor, read_inbound_limit(options))
    shared = SharedState()
    audit_file = open_audit_log(options)
    audit = AuditLog(audit_file) if audit_file is not None else None
    context_of = partial(
        make_context,
        reactor=reactor,
        hubs=hubs,
        ask=control.ask if control is not None else None,
        handoff=handoff,
        shared=shared,
        inbound=inbound,
        audit=audit,
    )
    context = context_of(options)
    routes = Routes(make_routes(options, context))
    if context.handover is not None:
        context.handover.use(routes, context)
    hubs.adopt()
    routes.reserve_copies()
    route_services = RouteServices(routes)
    limits, cors, app = read_http_limits(options), make_cors(options), make_app(options, hub)
    access_log = AccessLog(open_access_log(options), options["access-log-format"])
    shared.get(PublisherLines, PublisherLines).log = access_log
    responses = ResponseMetrics(
        routes.find,
        hub.metrics,
        access_log,
        audit.refused if audit is not None else None,
    )
    server = HttpServer(HttpContext(reactor, routes.find, limits, cors, app, responses, inbound))
    server.context.port_protocols = routes.port_protocols
    if worker is None:
        add_exporter(services, options, reactor, hub)
    endpoints = list(make_endpoints(options, listening, server.acceptableProtocols()))
    certificates = [one.contexts for _, one in endpoints if hasattr(one, "contexts")]
    if certificates:
        server.load_http2()  # ALPN offers it
    if loads_all(options):
        load_all()
    key_sets = shared.get(KeySets, partial(KeySets, reactor))
    key_sets.use(set(options["token-jwks"]))
    hub.metrics.jwks_age = key_sets.age
    reloader = Reloader(
        options,
        hubs,
        server,
        log,
        access_log,
        certificates,
        context_of,
        route_services,
        services.filter,
        sidecars,
        key_sets,
        audit,
    )
    observer = control or SystemdNotifier(os.environ, reactor)
    announced = _no_announcement if worker else partial(announce_by_settings, options)
    daemon = Daemon(reactor, hubs, server, endpoints, options, observer, reloader, announced)
    if handoff is not None:
        reactor.callWhenRunning(handoff.start, server)
    if control is not None:
        control.daemon = daemon
        services.addService(control)
    services.addService(key_sets)
    services.addService(daemon)
    services.addService(HoldWatch(reactor, hub.metrics.count_hold))
    services.addService(IdleCollector(reactor, hub.metrics.work, resident_memory))
    services.addService(route_services)  # they are started when the hub is
    if options["token-key"] or options["token-jwks"] or options["admin-key"] or _has_admin(options):
        from rt_twisted.actions.admin.bus import AdminBus

        revocations = shared.get(Revocations, Revocations)
        alone = options["broker"] in EMBEDDED
        bus = shared.get(AdminBus, partial(AdminBus, hub, reactor, revocations, alone))
        services.addService(bus)
    if options["broker"] not in EMBEDDED:
        services.addService(shared.get(LivePeers, partial(LivePeers, hub, reactor)))
    if sidecars is not None:
        services.addService(sidecars)
    return [file for file in (access_log.file, audit_file) if file is not None]


def _no_announcement(listening: Listening) -> None:
    """
    Log nothing: the parent of the workers has logged where they listen.
    """


def _has_admin(options: Options) -> bool:
    return any("admin" in line.split() for line in options["route"])
