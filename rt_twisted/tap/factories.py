"""
What the settings describe, part by part.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from zope.interface import Interface

from rt_twisted.access.authorizer import Authorizers
from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.access.key_sets import KeySets
from rt_twisted.access.keys import Key, Keys
from rt_twisted.access.publish_rate import PublishRate
from rt_twisted.access.revocations import Revocations
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext, SharedState
from rt_twisted.brokers import BROKERS, EMBEDDED
from rt_twisted.brokers.interfaces import IBroker
from rt_twisted.codecs.route_lines import is_for_responses
from rt_twisted.http.cors import Cors
from rt_twisted.http.interfaces import IConnectionHandoff
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.registry import FurtherHub, HubRegistry
from rt_twisted.metrics import EXPORTERS
from rt_twisted.metrics.interfaces import IExporter
from rt_twisted.metrics.snapshot import Snapshot, StatsQuery
from rt_twisted.model.load_object import check_interface, find_object, load_object
from rt_twisted.model.settings import ConfigError, read_retention
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.tap.access_factories import make_gate, make_grip_key
from rt_twisted.tap.limits import (
    read_backlog_limits,
    read_hub_limits,
    read_socketio_limits,
    read_upstream_limits,
    read_websocket_limits,
    read_wsgi_limits,
)
from rt_twisted.tap.options import Options
from rt_twisted.tap.setting_errors import setting_error
from rt_twisted.tap.setting_values import SettingError, located
from rt_twisted.workers.sidecars import SidecarCommand

if TYPE_CHECKING:
    from twisted.web.server import Site

_HANDOVER = "rt_twisted.actions.handed.offers.HandOverOffers"

Ask = Callable[[StatsQuery], Deferred[Snapshot]]


def _build(
    options: Options,
    name: str,
    find: Callable[[str], Any],
    interface: type[Interface],
    *arguments: Any,
) -> Any:
    """
    Build the object that the setting *name* names, and check its interface.

    Args:
        options: every setting.
        name: of the setting.
        find: returns the factory by the setting's value; raises ValueError.
        interface: what the object must provide.
        arguments: of the factory.
    """
    word = options[name]
    try:
        found = find(word)(*arguments)
        check_interface(interface, found, word)
    except ConfigError as error:
        raise setting_error(options, error.name, str(error)) from None
    except ValueError as error:
        raise setting_error(options, name, str(error)) from error
    except Exception as error:
        raise setting_error(options, name, f"{word}: {error!r}") from error
    return found


def make_broker(options: Options, reactor: Any) -> Any:
    """
    Build the broker.

    Raises:
        SettingError: with file and line, as in all functions of this module.
    """
    word = options["broker"]
    if options["history-file"] and word not in EMBEDDED:
        raise setting_error(options, "history-file", f"the {word} broker has its own history")
    return _build(
        options, "broker", partial(find_object, "broker", BROKERS), IBroker, reactor, options
    )


def make_further_hub(
    services: Any, options: Options, reactor: Any, server: str, password: str
) -> FurtherHub:
    """
    Build the hub of another redis, at *server*, for routes that name one.

    Args:
        services: the parent of its broker, once that is started.
        options: the settings.
        reactor: the reactor.
        server: its address.
        password: as in a setting; "" for `redis-password`.

    Raises:
        ValueError: one sentence, without secrets.
    """
    try:
        given = secret(password)
    except ValueError as error:
        raise ValueError(f"its password must be {error}") from None
    try:
        broker = load_object(BROKERS["redis"])(reactor, options, server, given)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    hub = Hub(broker, reactor, read_retention(options), read_hub_limits(options))
    return FurtherHub(hub, partial(services.addService, broker))


def make_sidecars(options: Options) -> list[SidecarCommand]:
    """
    Return the commands of the sidecars.
    """
    twistd = options.twistd or {}
    if options["helper"] and twistd.get("chroot"):
        raise setting_error(options, "helper", "helpers cannot be started in a --chroot")
    commands = []
    for words, place in zip(options["helper"], options.places["helper"], strict=True):
        try:
            commands.append(SidecarCommand.find(words, options.folder))
        except ValueError as error:
            raise SettingError(f"{located('helper', place)}: {error}") from None
    return commands


def make_exporter(options: Options, reactor: Any) -> Any:
    """
    Build the exporter of metrics; None without one.
    """
    if options["export"] is None:
        return None
    return _build(
        options, "export", partial(find_object, "exporter", EXPORTERS), IExporter, reactor, options
    )


def make_context(
    options: Mapping[str, Any],
    reactor: Any,
    hubs: HubRegistry,
    ask: Ask | None,
    handoff: IConnectionHandoff | None,
    shared: SharedState,
    inbound: InboundMemory,
    audit: Callable[[str, dict[str, Any]], object] | None = None,
) -> ActionContext:
    """
    Build the context of actions.

    Args:
        options: the settings.
        reactor: the reactor.
        hubs: all channels.
        ask: returns the metrics of all workers; None without workers.
        handoff: hands connections to other workers; None without workers.
        shared: what actions share; it outlives reloads.
        inbound: bounds incomplete input; never replaced, as connections outlive a reload.
        audit: writes administrative acts; None without an audit log.
    """
    publish_keys = list(options["publish-key"])
    if options["http-secret"]:
        publish_keys.append(Key.of(options["http-secret"]))
    metrics, spread = hubs.main.metrics, hubs.main.admission.spread_retry
    make_authorizers = partial(Authorizers, reactor, metrics.count_question, spread)
    stats_keys = [Key.of(options["stats-key"])] if options["stats-key"] else []
    return ActionContext(
        hubs.main,
        reactor,
        metrics,
        names=ChannelNames(
            options["channel-pattern"],
            options["max-reader-channels"],
            hubs.main.capabilities.check_channel,
        ),
        publish_keys=Keys(publish_keys),
        stats_keys=Keys(stats_keys),
        backlog_limits=read_backlog_limits(options),
        retry=int(options["retry"] * 1000),
        count_addresses=bool(options["max-readers-per-address"]),
        poll_seconds=options["poll-seconds"],
        poll_bytes=options["poll-bytes"],
        max_body=options["max-body"],
        max_message=options["max-message"],
        max_unit=options["max-unit"],
        max_batch=options["max-batch"],
        trim=options["trim"],
        websockets=read_websocket_limits(options),
        socketio=read_socketio_limits(options),
        wsgi=read_wsgi_limits(options),
        worker=getattr(getattr(options, "inherited", None), "number", 1),
        workers=options["workers"],
        shared=shared,
        inbound=inbound,
        upstream=read_upstream_limits(options),
        hubs=hubs.for_server,
        ask=ask,
        handoff=handoff,
        audit=audit,
        admin_keys=Keys([Key.of(options["admin-key"])] if options["admin-key"] else []),
        publish_rate=_publish_rate(options, shared),
        grip=make_grip_key(options),
        handover=make_handover(options, shared),
        gate=make_gate(
            options,
            shared.get(Authorizers, make_authorizers),
            shared.get(KeySets, partial(KeySets, reactor)),
            shared.get(Revocations, Revocations),
            metrics.count_token,
        ),
    )


def _publish_rate(options: Mapping[str, Any], shared: SharedState) -> PublishRate:
    rate = shared.get(PublishRate, PublishRate)
    rate.rate = float(options["publish-rate"])
    return rate


def make_handover(options: Mapping[str, Any], shared: SharedState) -> Any:
    """
    Return what decides about responses of applications; None if no setting permits them to hand
    their connection over.
    """
    if options["grip-key"] is None and not any(map(is_for_responses, options["route"] or ())):
        return None
    found = load_object(_HANDOVER)
    return shared.get(found, found)


def make_cors(options: Options) -> Cors:
    """
    Build the rules for pages of other origins.
    """
    try:
        return Cors(
            options["origins"],
            options["credentials"],
            options["allowed-headers"] or frozenset(),
            options["exposed-headers"] or frozenset(),
        )
    except ValueError as error:
        raise setting_error(options, "credentials", str(error)) from None


def make_app(options: Options, hub: Hub) -> Site | None:
    """
    Build the twisted.web site for paths without a route; None without one.
    """
    if options["app"] is None:
        return None
    # Not at module level: most daemons do without twisted.web.
    from twisted.web.resource import IResource

    from rt_twisted.http.site import make_site

    return make_site(_build(options, "app", load_object, IResource, options, hub))
