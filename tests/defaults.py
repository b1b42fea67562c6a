"""
Limits, hubs, servers and contexts as the default settings describe them, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

from rt_twisted.access.channel_names import ChannelNames
from rt_twisted.actions.context import (
    ActionContext,
    SharedState,
    SocketIOLimits,
    UpstreamLimits,
    WebSocketLimits,
)
from rt_twisted.brokers.amqp.config import (
    AmqpServer,
    ExchangeType,
    Topology,
    read_topology,
    read_url,
)
from rt_twisted.brokers.client_tls import NO_FILES
from rt_twisted.codecs.wildcards import Selector
from rt_twisted.http.context import HttpContext
from rt_twisted.http.cors import Cors
from rt_twisted.http.interfaces import ResponseLog
from rt_twisted.http.request import HttpLimits
from rt_twisted.http.server import HttpServer
from rt_twisted.http.stream_handle import FindRoute
from rt_twisted.hub.hub import Hub
from rt_twisted.hub.limits import BacklogLimits, HubLimits, SlowConsumerPolicy
from rt_twisted.hub.registry import FurtherHub, HubRegistry
from rt_twisted.model.retention import Retention
from rt_twisted.model.settings import read_retention
from rt_twisted.net.inbound_memory import InboundMemory
from rt_twisted.tap import limits as reading
from rt_twisted.tap.factories import make_context as make_action_context
from rt_twisted.tap.setting_values import default_values

# The defaults, but no bounds that depend on the file descriptors of the machine.
SETTINGS = {**default_values(), "max-readers": 1, "max-idle-connections": 1}


def make_retention(
    count: int | None = None,
    bytes: int | None = None,
    age: float | None = None,
    live_bytes: int | None = None,
    live_seconds: float | None = None,
) -> Retention:
    """
    Return the default retention, with some of its values changed.
    """
    given = {
        "count": count,
        "bytes": bytes,
        "age": age,
        "live_bytes": live_bytes,
        "live_seconds": live_seconds,
    }
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(read_retention(SETTINGS), **changed)


def make_hub_limits(**changed: Any) -> HubLimits:
    """
    Return the default limits of a hub for any number of subscribers, with some changed.
    """
    return replace(reading.read_hub_limits(SETTINGS), **{"subscribers": 0, **changed})


def make_backlog_limits(
    bytes: int | None = None, seconds: float | None = None, policy: SlowConsumerPolicy | None = None
) -> BacklogLimits:
    """
    Return the default limits of a backlog, with some changed.
    """
    given = {"bytes": bytes, "seconds": seconds, "policy": policy}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(reading.read_backlog_limits(SETTINGS), **changed)


def make_http_limits(**changed: Any) -> HttpLimits:
    """
    Return the default limits of requests for any number of idle connections, with some changed.
    """
    return replace(reading.read_http_limits(SETTINGS), **{"idle_connections": 0, **changed})


def make_websocket_limits(**changed: Any) -> WebSocketLimits:
    """
    Return the default limits of websockets, with some changed.
    """
    return replace(reading.read_websocket_limits(SETTINGS), **changed)


def make_socketio_limits(**changed: Any) -> SocketIOLimits:
    """
    Return the default limits of Socket.IO, with some changed.
    """
    return replace(reading.read_socketio_limits(SETTINGS), **changed)


def make_upstream_limits(**changed: Any) -> UpstreamLimits:
    """
    Return the default limits of applications behind the daemon, with some changed.
    """
    return replace(reading.read_upstream_limits(SETTINGS), **changed)


def make_cors(
    origins: Collection[str] | None = None,
    credentials: bool = False,
    allowed: Collection[str] | None = None,
    exposed: Collection[str] | None = None,
) -> Cors:
    """
    Return the default CORS rules, with some changed.
    """
    return Cors(
        frozenset(SETTINGS["origins"] if origins is None else origins),
        credentials,
        frozenset(SETTINGS["allowed-headers"] if allowed is None else allowed),
        frozenset(SETTINGS["exposed-headers"] or () if exposed is None else exposed),
    )


def make_channel_names(
    pattern: str = SETTINGS["channel-pattern"],
    max_channels: int = SETTINGS["max-reader-channels"],
    check_broker: Callable[[Selector], None] | None = None,
) -> ChannelNames:
    """
    Return the default rules for channel names, with some changed.
    """
    return ChannelNames(pattern, max_channels, check_broker)


def make_hub(
    broker: Any, clock: Any, retention: Retention | None = None, limits: HubLimits | None = None
) -> Hub:
    """
    Return a hub with the default retention and limits, unless others are given.
    """
    return Hub(broker, clock, retention or make_retention(), limits or make_hub_limits())


def make_server(
    clock: Any,
    find: FindRoute,
    limits: HttpLimits | None = None,
    cors: Cors | None = None,
    site: Any = None,
    access_log: ResponseLog | None = None,
    inbound: InboundMemory | None = None,
) -> HttpServer:
    """
    Return an HTTP server with the default limits and CORS rules, unless others are given.
    """
    return HttpServer(
        HttpContext(
            clock,
            find,
            limits or make_http_limits(),
            cors or make_cors(),
            site,
            access_log,
            inbound or InboundMemory(clock, 0),
        )
    )


def make_context(hub: Hub, reactor: Any = None, **changed: Any) -> ActionContext:
    """
    Return the context that actions get by default, with some of its values changed.
    """

    def no_further_hub(server: str, password: str) -> FurtherHub:
        raise ValueError(f"no hub for {server}")

    default = make_action_context(
        SETTINGS,
        reactor,
        HubRegistry(hub, no_further_hub),
        ask=None,
        handoff=None,
        shared=SharedState(),
        inbound=InboundMemory(None, 0),
    )
    return replace(default, **{"hubs": None, "names": make_channel_names(), **changed})


def make_amqp_server(heartbeat: int | None = None, **changed: Any) -> AmqpServer:
    """
    Return the default address of RabbitMQ and the login, with some of the URL's values changed.
    """
    url = replace(read_url(SETTINGS), **changed)
    return AmqpServer(url, NO_FILES, SETTINGS["amqp-heartbeat"] if heartbeat is None else heartbeat)


def make_topology(**changed: Any) -> Topology:
    """
    Return the default declarations in RabbitMQ, with some of their values changed.
    """
    default = read_topology(SETTINGS, ExchangeType(SETTINGS["amqp-exchange-type"]))
    return replace(default, **changed)


def redis_broker_settings() -> dict[str, Any]:
    """
    Return the default arguments of a `RedisBroker`.
    """
    return {
        "retention": make_retention(),
        "prefix": SETTINGS["redis-prefix"],
        "plain": SETTINGS["redis-plain"],
        "plain_prefix": SETTINGS["redis-plain-prefix"] or "",
        "plain_out": SETTINGS["redis-plain-out"],
        "wait": SETTINGS["redis-wait"],
        "timeout": SETTINGS["redis-timeout"],
    }
