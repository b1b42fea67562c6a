"""
`twistd realtime`: reads the settings, builds, wires.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

from twisted.application.service import IService, MultiService
from twisted.internet.endpoints import quoteStringArgument, serverFromString
from twisted.internet.interfaces import IStreamServerEndpoint
from twisted.python import usage
from twisted.web.resource import IResource
from twisted.web.server import Site
from zope.interface import Interface
from zope.interface.exceptions import Invalid
from zope.interface.verify import verifyObject

from rt_twisted.access import ChannelNames, Key, Keys
from rt_twisted.brokers.memory import MemoryBroker
from rt_twisted.daemon import Daemon, Exporting, open_files
from rt_twisted.exporters.graphite import GraphiteExporter
from rt_twisted.front.access_log import AccessLog
from rt_twisted.front.cors import Cors
from rt_twisted.front.head import HttpLimits
from rt_twisted.front.http import Front
from rt_twisted.history import Keep
from rt_twisted.house import House
from rt_twisted.hub import Hub, Limits
from rt_twisted.interfaces import IBroker, IExporter
from rt_twisted.routes import DEFAULT, Route, Routes, load, parse_route
from rt_twisted.settings import SETTINGS, Given, WrongSetting, at, read_file, read_value
from rt_twisted.subscriber import Patience, Policy

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

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given: dict[str, list[Given]] = {}
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
                self[name] = [read_value(name, given) for given in found]
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
    services: Any = MultiService()  # twisted.application has no annotations
    broker = _broker(options, reactor)
    if IService.providedBy(broker):
        services.addService(broker)
    keep = Keep(options["history"], options["history-bytes"], options["history-age"])
    hub = Hub(broker, reactor, keep, _limits(options))
    house = _house(options, reactor, hub)
    front = Front(
        reactor,
        Routes(_routes(options, house)),
        _http_limits(options),
        _cors(options),
        _app(options, hub),
        _access_log(options),
    )
    exporter = _exporter(options, reactor)
    if exporter is not None:
        if IService.providedBy(exporter):
            services.addService(exporter)
        services.addService(Exporting(exporter, hub, reactor, options["export-interval"]))
    endpoints = list(_endpoints(options, reactor))
    services.addService(Daemon(reactor, hub, front, endpoints, options))
    return services  # type: ignore[no-any-return]  # as above


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
    if word in ("http", "memory"):
        return MemoryBroker(reactor)
    if word in ("redis", "amqp"):
        raise _wrong(options, "broker", f"the {word} broker is not built yet")
    if "." not in word:
        raise _wrong(options, "broker", f"there is no broker {word!r}; take http, or a dotted name")
    return _own(options, "broker", IBroker, reactor, options)


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
        )
    except ValueError as error:
        raise _wrong(options, "export-path", str(error)) from None


def _limits(options: Options) -> Limits:
    return Limits(
        readers=options["max-readers"] or max(1, open_files() - SPARE_FILES),
        readers_per_address=options["max-readers-per-address"],
        history_bytes=options["history-memory"],
        linger=options["linger"],
        heartbeat=options["heartbeat"],
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


def _access_log(options: Options) -> AccessLog | None:
    path = options["access-log"]
    try:
        return AccessLog(path) if path else None
    except OSError as error:
        raise _wrong(options, "access-log", f"{path}: {error.strerror}") from None


def _app(options: Options, hub: Hub) -> Site | None:
    if options["app"] is None:
        return None
    return Site(_own(options, "app", IResource, options, hub))


def _endpoints(options: Options, reactor: Any) -> Iterator[tuple[str, IStreamServerEndpoint]]:
    """
    Where to listen, each with its description.
    """
    strings = list(zip(options["endpoint"], options.places["endpoint"], strict=True))
    if not strings or options.given("port"):
        where = f"tcp:{options['port']}:interface={_interface(options['listen'])}:backlog={BACKLOG}"
        strings.append((where, (options.places["port"] or ["default"])[-1]))
    if options["use-ssl"]:
        where = (
            f"ssl:{options['ssl-port']}:interface={_interface(options['ssl-listen'])}"
            f":privateKey={quoteStringArgument(options['ssl-key'])}"
            f":certKey={quoteStringArgument(options['ssl-cert'])}:backlog={BACKLOG}"
        )
        strings.append((where, options.places["use-ssl"][-1]))
    for string, place in strings:
        try:
            yield string, serverFromString(reactor, string)
        except Exception as error:  # whatever the endpoint's own parser raises
            raise WrongSetting(f"{place}: cannot listen on {string}: {error}") from None


def _interface(address: str | None) -> str:
    return str(quoteStringArgument("0.0.0.0" if address in (None, "0") else address))
