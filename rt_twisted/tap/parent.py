"""
Builds the parent of worker processes from the options.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from rt_twisted.brokers import EMBEDDED
from rt_twisted.net.systemd import SystemdNotifier
from rt_twisted.tap.endpoints import make_endpoints
from rt_twisted.tap.logfiles import LogFile, Logged
from rt_twisted.tap.options import Options
from rt_twisted.tap.reload import ParentReloader
from rt_twisted.tap.reporting import add_exporter, announce_by_settings
from rt_twisted.tap.setting_errors import setting_error
from rt_twisted.tap.setting_values import SettingError
from rt_twisted.workers.forker import Forker
from rt_twisted.workers.sidecars import SidecarSupervisor
from rt_twisted.workers.sockets import ListenerBinder
from rt_twisted.workers.stats import StatsAggregator
from rt_twisted.workers.supervisor import Supervisor


def build_parent(
    services: Any,
    options: Options,
    reactor: Any,
    log: LogFile | None,
    sidecars: SidecarSupervisor,
    build_server: Callable[..., list[LogFile]],
) -> None:
    """
    Add to *services* what starts worker processes and sums their metrics.

    Args:
        services: the parent of all services.
        options: every setting by name.
        reactor: the reactor.
        log: the daemon's log; None if it is not ours.
        sidecars: of the daemon.
        build_server: builds what a worker builds.
    """
    size = options["workers"]
    if options["history-file"]:
        text = f"{size} processes cannot share a history-file; use --broker redis or amqp"
        raise setting_error(options, "workers", f"{text} without it, or one worker")
    if options["broker"] in EMBEDDED:
        text = f"{size} processes cannot share the channels of the embedded broker; "
        raise setting_error(options, "workers", f"{text}use --broker redis or amqp, or one worker")
    twistd = options.twistd or {}
    if twistd.get("chroot"):
        raise setting_error(options, "workers", "worker processes cannot be started in a --chroot")

    def check() -> None:
        # Build what a worker builds, and discard it: a mistake is one error here, not one
        # from each worker.
        binder = ListenerBinder(reactor, size, replaceable=False)
        for file in build_server(Logged(None, "text"), options, reactor, None, binder):
            file.close()  # it would keep the disk space of a rotated file

    def check_again() -> None:
        # Root can read files that the workers' user cannot.
        if any(twistd.get(name) is not None for name in ("uid", "gid")):
            try:
                options.read_again()
                check()
            except SettingError as error:
                sys.exit(f"realtime: {error}")

    check()
    stats = StatsAggregator(reactor)
    add_exporter(services, options, reactor, stats)
    binder = ListenerBinder(reactor, size, options["reuse-port"])
    supervisor = Supervisor(
        reactor,
        size,
        list(make_endpoints(options, binder, ())),
        binder,
        Forker(reactor),
        lambda number: _twistd_arguments(options, log, number),
        options.worker_environment,
        options.folder,
        check_again,
        stats,
        SystemdNotifier(os.environ, reactor),
        ParentReloader(options, log, services.filter, sidecars),
        options,
        partial(announce_by_settings, options),
    )
    services.addService(supervisor)
    services.addService(sidecars)


def _twistd_arguments(options: Options, log: LogFile | None, number: int) -> Iterator[str]:
    """
    Yield the command line for the twistd of worker *number*.

    It must neither fork nor change its user: the parent has done so.
    """
    twistd = options.twistd or {}
    yield from ("-n", "--pidfile=")
    if log is not None:
        yield f"--logfile={'-' if log.path == '+' else log.path}"  # twistd has no name for stderr
    for name in ("reactor", "logger", "facility"):
        if twistd.get(name):
            yield f"--{name}={twistd[name]}"
    if twistd.get("syslog"):
        yield from ("--syslog", f"--prefix={twistd['prefix']}-w{number}")
    if twistd.get("rundir", ".") != ".":
        yield f"--rundir={os.path.join(options.folder, twistd['rundir'])}"
    yield options.command.word
