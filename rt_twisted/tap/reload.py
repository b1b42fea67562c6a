"""
Reloads: read the settings again, and apply those that do not need a restart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.logger import Logger

from rt_twisted.access.gate import Gate
from rt_twisted.access.grants import Grant
from rt_twisted.access.key_sets import KeySets
from rt_twisted.actions.context import ActionContext
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.model.settings import read_retention
from rt_twisted.routes import Routes, RouteServices
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.audit_log import AuditLog
from rt_twisted.tap.factories import (
    make_cors,
    make_sidecars,
)
from rt_twisted.tap.limits import (
    read_http_limits,
    read_hub_limits,
    read_inbound_limit,
)
from rt_twisted.tap.log_filter import LogFilter
from rt_twisted.tap.logfiles import LogFile
from rt_twisted.tap.open_logs import open_access_log
from rt_twisted.tap.options import Options
from rt_twisted.tap.routing import make_routes
from rt_twisted.tap.setting_values import SettingError
from rt_twisted.tap.settings import SETTINGS
from rt_twisted.workers.sidecars import SidecarSupervisor

_log = Logger()

KEYS_SPREAD = 10.0  # seconds over which clients are disconnected whose keys were removed


class Reloader:
    """
    Reads the settings again and applies them to the running daemon.

    Args:
        options: as they were at the start.
        hubs: all channels.
        server: of all ports.
        log: opened again at each reload; None if it is not ours.
        access_log: its file is opened again, too.
        certificates: have a `reload` that raises ValueError with one sentence, and
            then has changed nothing.
        make_context: builds the context of actions from settings.
        route_services: the actions that are services.
        log_filter: has the level of the log.
        sidecars: of the daemon; None in a worker process.
        key_sets: fetched from issuers.
        audit: the audit log; None without one.
    """

    def __init__(
        self,
        options: Options,
        hubs: HubRegistry,
        server: HttpServer,
        log: LogFile | None,
        access_log: AccessLog,
        certificates: Sequence[Any],
        make_context: Callable[[Options], ActionContext],
        route_services: RouteServices,
        log_filter: LogFilter,
        sidecars: SidecarSupervisor | None,
        key_sets: KeySets,
        audit: AuditLog | None = None,
    ) -> None:
        self._at_start = self._current = options
        self._hubs = hubs
        self._server = server
        self._log = log
        self._access_log = access_log
        self._certificates = certificates
        self._make_context = make_context
        self._route_services = route_services
        self._log_filter = log_filter
        self._sidecars = sidecars
        self._key_sets = key_sets
        self._audit = audit

    def __call__(self) -> Mapping[str, Any]:
        """
        Apply all settings, or none of them and log why.

        Returns:
            the settings that are in force now.
        """
        self.reopen_logs()
        try:
            fresh = self._current.read_again()
            self._apply(fresh)
        except SettingError as error:
            self._hubs.discard()
            _log.error("reload failed, nothing has changed: {reason}", reason=str(error))
        except Exception:  # from a class of the user's
            self._hubs.discard()
            _log.failure("reload failed, nothing has changed")
        else:
            self._log_changes(fresh)
            self._current = fresh
        return self._current

    def reopen_logs(self) -> None:
        """
        Open the log files again by their names, after they were rotated.
        """
        audit = self._audit.file if self._audit is not None else None
        for file in (self._log, self._access_log.file, audit):
            _reopen(file)

    def _apply(self, fresh: Options) -> None:
        # First what may fail; nothing has changed then.
        commands = make_sidecars(fresh) if self._sidecars is not None else ()
        context = self._make_context(fresh)
        running = self._route_services.routes
        routes = Routes(make_routes(fresh, context)).keep_services(running)
        retention, limits = read_retention(fresh), read_hub_limits(fresh)
        http_limits, cors = read_http_limits(fresh), make_cors(fresh)
        same_log = fresh["access-log"] == self._current["access-log"]
        log_before = self._access_log.file
        access_file = log_before if same_log else open_access_log(fresh)
        for certificate in self._certificates:
            try:
                certificate.reload()
            except ValueError as error:
                raise SettingError(str(error)) from None
        self._log_filter.set_level(fresh["log-level"])
        self._hubs.adopt()
        routes.reserve_copies()
        self._hubs.reconfigure(retention, limits)
        context.inbound.limit = read_inbound_limit(fresh)
        self._access_log.use(access_file, fresh["access-log-format"])
        self._server.context.reconfigure(
            routes.find,
            http_limits,
            cors,
            ResponseMetrics(
                routes.find,
                self._hubs.main.metrics,
                self._access_log,
                self._audit.refused if self._audit is not None else None,
            ),
        )
        if context.handover is not None:
            context.handover.use(routes, context)
        self._server.context.port_protocols = routes.port_protocols
        self._route_services.replace(routes)
        self._key_sets.use(set(fresh["token-jwks"]))
        for hub in self._hubs:
            hub.holders.end_all(partial(_is_untrusted, context.gate), KEYS_SPREAD)
        if self._sidecars is not None:
            self._sidecars.replace(commands)
        if not same_log and log_before is not None:
            log_before.close()

    def _log_changes(self, fresh: Options) -> None:
        # Names only: values may be secrets.
        changed = [
            name
            for name, one in SETTINGS.items()
            if one.reloadable and _differ(fresh, self._current, name)
        ]
        _log.info("reloaded, changed: {names}", names=", ".join(changed) or "nothing")
        _warn_of_restart(fresh, self._at_start)


class ParentReloader:
    """
    Reads the settings again in the parent of workers, which apply them themselves.

    Args:
        options: as they were at the start.
        log: opened again at each reload; None if it is not ours.
        log_filter: has the level of the log.
        sidecars: of the daemon.
    """

    def __init__(
        self,
        options: Options,
        log: LogFile | None,
        log_filter: LogFilter,
        sidecars: SidecarSupervisor,
    ) -> None:
        self._at_start = self._current = options
        self._log = log
        self._log_filter = log_filter
        self._sidecars = sidecars

    def __call__(self) -> Mapping[str, Any]:
        self.reopen_logs()
        try:
            fresh = self._current.read_again()
            commands = make_sidecars(fresh)
        except SettingError as error:
            _log.error("reload failed, nothing has changed: {reason}", reason=str(error))
        else:
            self._current = fresh
            self._sidecars.replace(commands)
            self._log_filter.set_level(fresh["log-level"])
            _warn_of_restart(self._current, self._at_start)
        return self._current

    def reopen_logs(self) -> None:
        """
        Open the log file again by its name, after it was rotated.
        """
        _reopen(self._log)


def _is_untrusted(gate: Gate, grant: Grant) -> bool:
    """
    Return whether *grant* comes from a token whose key is not set any more.
    """
    tokens = gate.tokens
    return bool(grant.verified_by) and (tokens is None or not tokens.trusts(grant.verified_by))


def _reopen(file: LogFile | None) -> None:
    if file is not None:
        try:
            file.reopen()
        except OSError as error:
            _log.error(
                "cannot reopen the log {path}: {reason}", path=file.path, reason=error.strerror
            )


def _warn_of_restart(fresh: Options, start: Options) -> None:
    """
    Log the names of changed settings that need a restart.
    """
    fixed = [
        name for name, one in SETTINGS.items() if not one.reloadable and _differ(fresh, start, name)
    ]
    if fixed:
        _log.warn("these settings need a restart to change: {names}", names=", ".join(fixed))


def _differ(one: Options, other: Options, name: str) -> bool:
    return bool(one[name] != other[name])
