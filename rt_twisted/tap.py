"""
`twistd realtime`: reads the settings, builds, wires.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.application.service import IService
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    TCP6ServerEndpoint,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python import usage
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from rt_twisted.access import ChannelNames, Key, Keys
from rt_twisted.brokers.durable import DurableBroker
from rt_twisted.brokers.journal import Journal
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.daemon import Daemon, Exporting, open_files
from rt_twisted.exporters.graphite import GraphiteExporter
from rt_twisted.front.access_log import AccessLog
from rt_twisted.front.cors import Cors
from rt_twisted.front.head import HttpLimits
from rt_twisted.front.http import Front
from rt_twisted.front.responses import Responses
from rt_twisted.front.tls import TlsContexts, TlsEndpoint
from rt_twisted.history import Keep
from rt_twisted.house import House
from rt_twisted.hub import Hub, Limits
from rt_twisted.interfaces import IBroker, IExporter
from rt_twisted.logs import LogFile, Logged, Owner
from rt_twisted.routes import DEFAULT, Route, Routes, load, parse_route
from rt_twisted.settings import SETTINGS, Given, WrongSetting, at, read_file, read_value
from rt_twisted.subscriber import Patience, Policy
from rt_twisted.supervisor import Supervisor
from rt_twisted.wire import SharedPort

_log = Logger()

# What a reload takes on; everything else needs a restart.
LIVE = frozenset(
    "stop-seconds route origins credentials access-log trusted-proxies http-secret publish-key "
    "max-body max-message max-batch trim history history-bytes history-age history-memory "
    "replay-bytes linger heartbeat retry slow backlog-bytes backlog-seconds max-readers "
    "max-readers-per-address max-reader-channels join-rate join-queue channel-pattern "
    "max-line max-headers max-header-bytes head-seconds body-seconds idle-seconds stats-key".split()
)
BACKLOG = 4096  # connections the kernel holds for us in a storm; Twisted's 50 lose some
SPARE_FILES = 100  # descriptors for everything that is not a reader


def _repeated(name: str) -> Callable[[Options, str], None]:
    """
    What usage.Options calls for an option that may be given several times.
    """

    def give(self: Options, value: str) -> None:
        self._give(name, value)

    give.__doc__ = SETTINGS[name].help
    return give


class Options(usage.Options):
    """
    The command line of `twistd realtime`; afterwards a mapping of every
    setting's name to its value.
    """

    optParameters = [
        [setting.name, setting.short or None, None, f"{setting.help} [default: {setting.default}]"]
        for setting in SETTINGS.values()
        if not setting.repeated
    ] + [["config", "c", None, "File with the same settings, 'name = value' a line."]]
    optFlags = [["check", None, "Say whether the settings are right, and exit."]]
    synopsis = "[options]"
    longdesc = (
        "A realtime server: publish with POST /publish, read with server-sent events. "
        "The command line overrides the file. An empty value is an unset one."
    )

    opt_endpoint = _repeated("endpoint")
    opt_route = _repeated("route")
    opt_publish_key = _repeated("publish-key")
    opt_ssl_cert = _repeated("ssl-cert")
    opt_ssl_key = _repeated("ssl-key")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, list[Given]] = {}
        self._folder = os.getcwd()
        self.places: dict[str, list[str]] = {}

    def _give(self, name: str, value: str) -> None:
        self._given.setdefault(name, []).append(Given(value, f"--{name}"))

    def postOptions(self) -> None:
        """
        Read the file, then every value.

        Raises:
            SystemExit: one sentence about the first thing that is wrong.
        """
        try:
            self._read()
        except WrongSetting as error:
            sys.exit(f"realtime: {error}")
        if self["check"]:
            makeService(self)
            print("realtime: the settings are right")  # noqa: T201  # the answer to --check
            sys.exit(0)

    def again(self) -> Options:
        """
        The same command line, with the file and the secrets as they are now.

        Raises:
            WrongSetting: with file and line.
        """
        fresh = Options()
        fresh.parent = self.parent
        fresh._given = self._given
        # Whoever has become a daemon has changed its folder.
        fresh._folder = self._folder
        fresh["config"] = self["config"] and os.path.join(self._folder, self["config"])
        fresh._read()
        return fresh

    def given(self, name: str) -> bool:
        """
        Whether *name* is set at all, by file or command line.
        """
        return bool(self.places.get(name))

    def _read(self) -> None:
        for name, setting in SETTINGS.items():
            if not setting.repeated and self[name] is not None:
                self._give(name, self[name])
        from_file: dict[str, list[Given]] = {}
        if self["config"]:
            for name, given in read_file(self["config"]):
                from_file.setdefault(name, []).append(given)
        for name, setting in SETTINGS.items():
            # An empty value on the command line still overrides the file.
            found = self._given.get(name) or from_file.get(name) or []
            if setting.repeated:
                found = [given for given in found if given.text]
                defaults = [Given(setting.default, "default")] if setting.default else []
                self[name] = [read_value(name, given) for given in found or defaults]
            else:
                last = found[-1:] if found and found[-1].text else []
                default = Given(setting.default, "default")
                found = last
                value = last[0] if last else default
                self[name] = read_value(name, value) if value.text else None
            self.places[name] = [given.place for given in found]


def makeService(options: Options) -> IService:
    """
    The daemon that *options* describe.

    Raises:
        SystemExit: one sentence about what is wrong.
    """
    # Here, not at the top: twistd's own option may choose another one.
    from twisted.internet import reactor

    try:
        return build(options, reactor)
    except WrongSetting as error:
        sys.exit(f"realtime: {error}")


def build(options: Options, reactor: Any) -> IService:
    """
    Build everything and wire it; nothing runs yet.

    Raises:
        WrongSetting: with file and line.
    """
    log = _log_file(options)
    services: Any = Logged(log, options["log-format"])  # twisted.application has no annotations
    broker = _broker(options, reactor)
    if IService.providedBy(broker):
        services.addService(broker)
    hub = Hub(broker, reactor, _keep(options), _limits(options))
    house = _house(options, reactor, hub)
    front = Front(
        reactor,
        Routes(_routes(options, house)),
        _http_limits(options),
        _cors(options),
        _app(options, hub),
    )
    access_log = _access_log(options)
    front.access_log = Responses(front, hub.counts, AccessLog(access_log) if access_log else None)
    exporter = _exporter(options, reactor)
    if exporter is not None:
        if IService.providedBy(exporter):
            services.addService(exporter)
        services.addService(Exporting(exporter, hub, reactor, options["export-interval"]))
    endpoints = list(_endpoints(options, reactor, front.acceptableProtocols()))
    certificates = [one.contexts for _, one in endpoints if hasattr(one, "contexts")]
    renew = Renewal(options, reactor, broker, hub, front, log, access_log, certificates)
    supervisor = Supervisor(os.environ, reactor)
    services.addService(Daemon(reactor, hub, front, endpoints, options, supervisor, renew))
    return services  # type: ignore[no-any-return]  # as above


class Renewal:
    """
    Reads the settings again and has what runs go on with them.

    Args:
        options: as they were at the start.
        reactor: the reactor.
        broker: where messages come from.
        hub: all channels.
        front: what listens.
        log: opened anew each time; None if it is not ours.
        access_log: the same.
        certificates: have a `reload` that raises ValueError, with one sentence,
            and then has changed nothing.
    """

    def __init__(
        self,
        options: Options,
        reactor: Any,
        broker: Any,
        hub: Hub,
        front: Front,
        log: LogFile | None,
        access_log: LogFile | None,
        certificates: Sequence[Any],
    ) -> None:
        self._start = self._now = options
        self._reactor = reactor
        self._broker = broker
        self._hub = hub
        self._front = front
        self._log = log
        self._access_log = access_log
        self._certificates = certificates

    def __call__(self) -> Mapping[str, Any]:
        """
        All of it, or nothing and a line in the log that says why.

        Returns:
            the settings that are in force now.
        """
        for file in (self._log, self._access_log):
            self._reopen(file)
        try:
            fresh = self._now.again()
            self._take_on(fresh)
        except WrongSetting as error:
            _log.error("not reloaded, nothing has changed: {reason}", reason=str(error))
        except Exception:  # a class of the user's
            _log.failure("not reloaded, nothing has changed")
        else:
            self._tell(fresh)
            self._now = fresh
        return self._now

    def _take_on(self, fresh: Options) -> None:
        hub, front = self._hub, self._front
        # Whatever may be wrong comes first.
        routes = Routes(_routes(fresh, _house(fresh, self._reactor, hub)))
        keep, limits = _keep(fresh), _limits(fresh)
        http_limits, cors = _http_limits(fresh), _cors(fresh)
        same = fresh["access-log"] == self._now["access-log"]
        access_log = self._access_log if same else _access_log(fresh)
        for one in self._certificates:
            try:
                one.reload()
            except ValueError as error:
                raise WrongSetting(str(error)) from None
        if isinstance(self._broker, DurableBroker):
            self._broker.adopt(keep)
        hub.adopt(keep, limits)
        lines = AccessLog(access_log) if access_log else None
        front.adopt(routes, http_limits, cors, Responses(front, hub.counts, lines))
        if not same and self._access_log is not None:
            self._access_log.close()
        self._access_log = access_log

    def _reopen(self, file: LogFile | None) -> None:
        if file is not None:
            try:
                file.reopen()
            except OSError as error:
                _log.error("{path}: {reason}", path=file.path, reason=error.strerror)

    def _tell(self, fresh: Options) -> None:
        """
        Which names have changed; values may be secrets.
        """
        changed = [name for name in SETTINGS if name in LIVE and _differ(fresh, self._now, name)]
        _log.info("reloaded, changed: {names}", names=", ".join(changed) or "nothing")
        fixed = [
            name for name in SETTINGS if name not in LIVE and _differ(fresh, self._start, name)
        ]
        if fixed:
            _log.warn("these change at the next start only: {names}", names=", ".join(fixed))


def _differ(one: Options, other: Options, name: str) -> bool:
    values = [
        [(key.secret, key.patterns) for key in options[name]]
        if name == "publish-key"
        else options[name]
        for options in (one, other)
    ]
    return bool(values[0] != values[1])


def _wrong(options: Options, name: str, text: str) -> WrongSetting:
    place = (options.places[name] or ["default"])[-1]
    return WrongSetting(f"{at(name, place)}: {text}")


def _own(options: Options, name: str, interface: type[Interface], *arguments: Any) -> Any:
    """
    The user's own object, by dotted name, checked.
    """
    dotted = options[name]
    try:
        found = load(dotted)(*arguments)
        verifyObject(interface, found)
    except Invalid as error:
        reason = " ".join(str(error).split())
        raise _wrong(options, name, f"{dotted}: {reason}") from None
    except ValueError as error:
        raise _wrong(options, name, str(error)) from error
    except Exception as error:
        raise _wrong(options, name, f"{dotted}: {error!r}") from error
    return found


def _broker(options: Options, reactor: Any) -> Any:
    word = options["broker"]
    path = options["history-file"]
    if word in ("http", "memory"):
        return _durable_broker(options, reactor, path) if path else MemoryBroker(reactor)
    if path:
        raise _wrong(options, "history-file", f"the {word} broker has its own history")
    if word in ("redis", "amqp"):
        raise _wrong(options, "broker", f"the {word} broker is not built yet")
    if "." not in word:
        raise _wrong(options, "broker", f"there is no broker {word!r}; take http, or a dotted name")
    return _own(options, "broker", IBroker, reactor, options)


def _durable_broker(options: Options, reactor: Any, path: str) -> DurableBroker:
    path = os.path.abspath(path)  # whoever becomes a daemon changes its folder
    if not os.path.isdir(os.path.dirname(path)):
        raise _wrong(options, "history-file", f"{path}: there is no such folder")

    def open_journal(keep: Keep) -> Journal:
        return Journal(path, keep, options["history-file-size"], reactor.seconds)

    refuse = options["unwritable"] == "refuse"
    return DurableBroker(reactor, path, open_journal, _keep(options), refuse)


def _exporter(options: Options, reactor: Any) -> Any:
    word = options["export"]
    if word is None:
        return None
    if word != "graphite":
        if "." not in word:
            raise _wrong(options, "export", f"there is no exporter {word!r}")
        return _own(options, "export", IExporter, reactor, options)
    for name in ("export-host", "export-port"):
        if not options[name]:
            raise _wrong(options, "export", f"graphite needs {name}")
    try:
        return GraphiteExporter(
            reactor,
            options["export-host"],
            options["export-port"],
            options["export-path"],
            options["export-protocol"],
            options["export-node"] or "",
        )
    except ValueError as error:
        raise _wrong(options, "export-path", str(error)) from None


def _keep(options: Options) -> Keep:
    return Keep(options["history"], options["history-bytes"], options["history-age"])


def _limits(options: Options) -> Limits:
    return Limits(
        readers=options["max-readers"] or max(1, open_files() - SPARE_FILES),
        readers_per_address=options["max-readers-per-address"],
        history_bytes=options["history-memory"],
        replay_bytes=options["replay-bytes"],
        linger=options["linger"],
        heartbeat=options["heartbeat"],
        join_rate=options["join-rate"],
        join_queue=options["join-queue"],
    )


def _http_limits(options: Options) -> HttpLimits:
    return HttpLimits(
        line=options["max-line"],
        headers=options["max-headers"],
        header_bytes=options["max-header-bytes"],
        body=options["max-body"],
        head_seconds=options["head-seconds"],
        body_seconds=options["body-seconds"],
        idle_seconds=options["idle-seconds"],
        trusted_proxies=options["trusted-proxies"] or frozenset(),
    )


def _house(options: Options, reactor: Any, hub: Hub) -> House:
    publishers = list(options["publish-key"])
    if options["http-secret"]:
        publishers.append(Key.of(options["http-secret"]))
    observers = [Key.of(options["stats-key"])] if options["stats-key"] else []
    return House(
        hub,
        reactor,
        ChannelNames(options["channel-pattern"], options["max-reader-channels"]),
        Keys(publishers),
        Keys(observers),
        Patience(options["backlog-bytes"], options["backlog-seconds"], Policy(options["slow"])),
        retry=int(options["retry"] * 1000),
        count_addresses=bool(options["max-readers-per-address"]),
        max_body=options["max-body"],
        max_message=options["max-message"],
        max_batch=options["max-batch"],
        trim=options["trim"],
    )


def _routes(options: Options, house: House) -> Iterator[Route]:
    if not options["route"]:
        for line in DEFAULT:
            yield parse_route(line, house)
    for line, place in zip(options["route"], options.places["route"], strict=True):
        try:
            yield parse_route(line, house)
        except ValueError as error:
            raise WrongSetting(f"{place}: route {line!r}: {error}") from None


def _cors(options: Options) -> Cors:
    try:
        return Cors(options["origins"], options["credentials"])
    except ValueError as error:
        raise _wrong(options, "credentials", str(error)) from None


def _access_log(options: Options) -> LogFile | None:
    path = options["access-log"]
    try:
        return LogFile(path, _owner(options)) if path else None
    except OSError as error:
        raise _wrong(options, "access-log", f"{path}: {error.strerror}") from None


def _log_file(options: Options) -> LogFile | None:
    """
    Where twistd was told to log, if that is for us to do.
    """
    twistd: Any = options.parent
    if twistd is None or options["check"]:
        return None
    path = twistd.get("logfile") or ("-" if twistd.get("nodaemon") else "twistd.log")
    theirs = path == "-" and (options["log-format"] == "text" or not twistd.get("nodaemon"))
    if theirs or twistd.get("syslog") or twistd.get("logger"):
        return None
    try:
        return LogFile(path, _owner(options))
    except OSError as error:
        raise WrongSetting(f"--logfile: {path}: {error.strerror}") from None


def _owner(options: Options) -> Owner:
    """
    Whom log files belong to: whoever twistd was told to become.
    """
    twistd: Any = options.parent or {}
    uid, gid = twistd.get("uid"), twistd.get("gid")
    return -1 if uid is None else uid, -1 if gid is None else gid


def _app(options: Options, hub: Hub) -> Site | None:
    if options["app"] is None:
        return None
    return Site(_own(options, "app", IResource, options, hub))


def _endpoints(
    options: Options, reactor: Any, protocols: Sequence[bytes]
) -> Iterator[tuple[str, IStreamServerEndpoint]]:
    """
    Where to listen, each with its description; by TLS, for which *protocols*.
    """
    strings = list(zip(options["endpoint"], options.places["endpoint"], strict=True))
    if not strings or options.given("port"):
        where = f"tcp:{options['port']}:interface={_interface(options['listen'])}:backlog={BACKLOG}"
        if options["reuse-port"]:
            yield where, SharedPort(reactor, options["port"], _address(options["listen"]), BACKLOG)
        else:
            strings.append((where, (options.places["port"] or ["default"])[-1]))
    if options["use-ssl"]:
        port, address = options["ssl-port"], _address(options["ssl-listen"])
        plain: IStreamServerEndpoint = TCP4ServerEndpoint(reactor, port, BACKLOG, address)
        if ":" in address:
            plain = TCP6ServerEndpoint(reactor, port, BACKLOG, address)
        if options["reuse-port"]:
            plain = SharedPort(reactor, port, address, BACKLOG)
        yield f"TLS port {port} of {address}", TlsEndpoint(plain, _tls(options, protocols), reactor)
    for string, place in strings:
        try:
            yield string, serverFromString(reactor, string)
        except Exception as error:  # whatever the endpoint's own parser raises
            raise WrongSetting(f"{place}: cannot listen on {string}: {error}") from None


def _tls(options: Options, protocols: Sequence[bytes]) -> TlsContexts:
    files = options["ssl-cert"], options["ssl-key"]
    certificates, keys = (len(each) for each in files)
    if certificates != keys:
        text = f"{certificates} ssl-cert and {keys} ssl-key are given; they are pairs"
        raise _wrong(options, "ssl-cert", text)
    try:
        return TlsContexts(list(zip(*files, strict=True)), protocols)
    except ValueError as error:
        raise _wrong(options, "use-ssl", str(error)) from None


def _interface(address: str | None) -> str:
    return str(quoteStringArgument(_address(address)))


def _address(listen: str | None) -> str:
    return "0.0.0.0" if listen is None or listen == "0" else listen
