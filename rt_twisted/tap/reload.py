"""
What a reload does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.logger import Logger

from rt_twisted.actions.context import ActionContext
from rt_twisted.http.server import HttpServer
from rt_twisted.hub.registry import HubRegistry
from rt_twisted.metrics.responses import ResponseMetrics
from rt_twisted.routes import Routes, RouteServices
from rt_twisted.tap.access_log import AccessLog
from rt_twisted.tap.factories import (
    make_cors,
    make_routes,
    open_access_log,
)
from rt_twisted.tap.limits import (
    read_http_limits,
    read_hub_limits,
    read_inbound_limit,
    read_retention,
)
from rt_twisted.tap.log_filter import LogFilter
from rt_twisted.tap.logfiles import LogFile
from rt_twisted.tap.options import Options
from rt_twisted.tap.settings import SETTINGS, SettingError

_log = Logger()


class Reloader:
    """
    Reads the settings again and has what runs go on with them.

    Args:
        options: as they were at the start.
        hubs: all channels.
        front: what listens.
        log: opened anew each time; None if it is not ours.
        access_log: the same.
        certificates: have a `reload` that raises ValueError, with one sentence,
            and then has changed nothing.
        make_context: builds what actions are given from other settings.
        route_services: the actions that are services.
        log_filter: has the level of the log.
    """

    def __init__(
        self,
        options: Options,
        hubs: HubRegistry,
        front: HttpServer,
        log: LogFile | None,
        access_log: LogFile | None,
        certificates: Sequence[Any],
        make_context: Callable[[Options], ActionContext],
        route_services: RouteServices,
        log_filter: LogFilter,
    ) -> None:
        self._start = self._now = options
        self._hubs = hubs
        self._front = front
        self._log = log
        self._access_log = access_log
        self._certificates = certificates
        self._make_context = make_context
        self._route_services = route_services
        self._log_filter = log_filter

    def __call__(self) -> Mapping[str, Any]:
        """
        All of it, or nothing and a line in the log that says why.

        Returns:
            the settings that are in force now.
        """
        self.reopen_logs()
        try:
            fresh = self._now.read_again()
            self._take_on(fresh)
        except SettingError as error:
            _log.error("not reloaded, nothing has changed: {reason}", reason=str(error))
        except Exception:  # a class of the user's
            _log.failure("not reloaded, nothing has changed")
        else:
            self._tell(fresh)
            self._now = fresh
        return self._now

    def reopen_logs(self) -> None:
        """
        Go on in the files that have the names of the logs now.
        """
        for file in (self._log, self._access_log):
            _reopen(file)

    def _take_on(self, fresh: Options) -> None:
        hubs, front = self._hubs, self._front
        # Whatever may be wrong comes first.
        context = self._make_context(fresh)
        running = self._route_services.routes
        routes = Routes(make_routes(fresh, context)).keep_services(running)
        retention, limits = read_retention(fresh), read_hub_limits(fresh)
        http_limits, cors = read_http_limits(fresh), make_cors(fresh)
        same = fresh["access-log"] == self._now["access-log"]
        access_log = self._access_log if same else open_access_log(fresh)
        for one in self._certificates:
            try:
                one.reload()
            except ValueError as error:
                raise SettingError(str(error)) from None
        self._log_filter.set_level(fresh["log-level"])
        hubs.reconfigure(retention, limits)
        context.inbound.limit = read_inbound_limit(fresh)
        lines = AccessLog(access_log) if access_log else None
        front.reconfigure(
            routes.find,
            http_limits,
            cors,
            ResponseMetrics(routes.find, hubs.main.metrics, lines),
        )
        self._route_services.replace(routes)
        if not same and self._access_log is not None:
            self._access_log.close()
        self._access_log = access_log

    def _tell(self, fresh: Options) -> None:
        """
        Which names have changed; values may be secrets.
        """
        changed = [
            name
            for name, one in SETTINGS.items()
            if one.reloadable and _differ(fresh, self._now, name)
        ]
        _log.info("reloaded, changed: {names}", names=", ".join(changed) or "nothing")
        _tell_fixed(fresh, self._start)


class ParentReloader:
    """
    What a reload is for the parent of workers, which take on what is new by themselves.

    Args:
        options: as they were at the start.
        log: opened anew each time; None if it is not ours.
        log_filter: has the level of the log.
    """

    def __init__(self, options: Options, log: LogFile | None, log_filter: LogFilter) -> None:
        self._start = self._now = options
        self._log = log
        self._log_filter = log_filter

    def __call__(self) -> Mapping[str, Any]:
        """
        The settings that are in force now.
        """
        self.reopen_logs()
        try:
            self._now = self._now.read_again()
        except SettingError as error:
            _log.error("not reloaded, nothing has changed: {reason}", reason=str(error))
        else:
            self._log_filter.set_level(self._now["log-level"])
            _tell_fixed(self._now, self._start)
        return self._now

    def reopen_logs(self) -> None:
        """
        Go on in the file that has the name of the log now.
        """
        _reopen(self._log)


def _reopen(file: LogFile | None) -> None:
    if file is not None:
        try:
            file.reopen()
        except OSError as error:
            _log.error("{path}: {reason}", path=file.path, reason=error.strerror)


def _tell_fixed(fresh: Options, start: Options) -> None:
    """
    Which names wait for a restart.
    """
    fixed = [
        name for name, one in SETTINGS.items() if not one.reloadable and _differ(fresh, start, name)
    ]
    if fixed:
        _log.warn("these change at the next start only: {names}", names=", ".join(fixed))


def _differ(one: Options, other: Options, name: str) -> bool:
    return bool(one[name] != other[name])
