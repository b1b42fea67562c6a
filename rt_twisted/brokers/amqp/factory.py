"""
Builds an AMQP broker from the settings.
"""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint

from rt_twisted.brokers.amqp.broker import AmqpBroker
from rt_twisted.brokers.amqp.config import (
    AmqpServer,
    ExchangeType,
    StreamRetention,
    Topology,
)
from rt_twisted.brokers.amqp.specification import load_specification
from rt_twisted.brokers.amqp.stream import StreamBroker
from rt_twisted.brokers.client_tls import ClientTls, ClientTlsEndpoint, WrongFile
from rt_twisted.codecs.amqp_url import AmqpUrl, parse_hosts
from rt_twisted.model.settings import ConfigError, GivenSettings

CONNECT_TIMEOUT = 10.0  # seconds, for each host
_FILES = {"ca": "amqp-ca", "cert": "amqp-client-cert", "key": "amqp-client-key"}


def build_broker(reactor: Any, settings: GivenSettings) -> AmqpBroker | StreamBroker:
    """
    Build the broker that the `amqp-` settings describe.

    Raises:
        ConfigError: which setting is wrong, and why.
    """
    server = _server(settings)
    stream = settings["amqp-stream"] or ""
    topology = _topology(settings, stream and not settings.given("amqp-exchange-type"))
    path = settings["amqp-spec"]
    try:
        spec = load_specification(os.path.join(settings.folder, path) if path else "")
    except ValueError as error:
        raise ConfigError("amqp-spec", str(error)) from None
    endpoints = _endpoints(reactor, server)
    if not stream:
        return AmqpBroker(reactor, endpoints, server, topology, spec)
    if topology.type is ExchangeType.DIRECT:
        reason = "a direct exchange has no binding for all channels; amqp-stream needs topic"
        raise ConfigError("amqp-exchange-type", reason)
    retention = StreamRetention(settings["amqp-stream-age"], settings["amqp-stream-bytes"])
    return StreamBroker(reactor, endpoints, server, topology, spec, stream, retention)


def _server(settings: GivenSettings) -> AmqpServer:
    names = ("host", "port", "vhost", "username", "password", "tls")
    url: AmqpUrl | None = settings["amqp-url"]
    if url is not None:
        for name in names:
            if settings.given(f"amqp-{name}"):
                raise ConfigError(f"amqp-{name}", "amqp-url has this value already")
    else:
        try:
            hosts = parse_hosts(settings["amqp-host"], settings["amqp-port"])
        except ValueError as error:
            raise ConfigError("amqp-host", f"must be {error}") from None
        url = AmqpUrl(hosts, *[settings[f"amqp-{name}"] for name in names[2:]])
    paths = {
        role: os.path.abspath(os.path.join(settings.folder, settings[name]))
        for role, name in _FILES.items()
        if settings[name]
    }
    if paths and not url.tls:
        raise ConfigError(_FILES[next(iter(paths))], "certificates need amqp-tls or amqps://")
    if "key" in paths and "cert" not in paths:
        raise ConfigError("amqp-client-key", "amqp-client-cert is not set")
    (host, port), *others = url.hosts
    return AmqpServer(
        host,
        port,
        url.vhost,
        url.user,
        url.password,
        url.tls,
        ClientTls(**paths),
        settings["amqp-heartbeat"],
        tuple(others),
    )


def _topology(settings: GivenSettings, free: object) -> Topology:
    type = ExchangeType.TOPIC if free else ExchangeType(settings["amqp-exchange-type"])
    pattern = settings["amqp-pattern"] or ""
    if pattern and type is not ExchangeType.TOPIC:
        raise ConfigError("amqp-pattern", "only a topic exchange has patterns")
    return Topology(
        settings["amqp-exchange-name"],
        type,
        settings["amqp-durable"],
        settings["amqp-passive"],
        pattern,
        settings["amqp-channel"],
        settings["amqp-persistent"],
        settings["amqp-prefetch"],
    )


def _endpoints(reactor: Any, server: AmqpServer) -> list[IStreamClientEndpoint]:
    if not server.tls:
        return [
            HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
            for host, port in server.addresses
        ]
    try:
        server.files.check()
    except WrongFile as error:
        raise ConfigError(_FILES[error.role], str(error)) from None
    return [
        ClientTlsEndpoint(reactor, host, port, server.files, CONNECT_TIMEOUT)
        for host, port in server.addresses
    ]
