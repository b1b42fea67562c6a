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
    read_stream_retention,
    read_topology,
    read_url,
)
from rt_twisted.brokers.amqp.connector import AmqpTarget
from rt_twisted.brokers.amqp.specification import load_specification
from rt_twisted.brokers.amqp.stream import StreamBroker
from rt_twisted.brokers.client_tls import ClientTls, ClientTlsEndpoint, WrongFile
from rt_twisted.codecs.amqp_url import AmqpUrl
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
    has_type = not stream or settings.given("amqp-exchange-type")
    type = ExchangeType(settings["amqp-exchange-type"]) if has_type else ExchangeType.TOPIC
    topology = read_topology(settings, type)
    path = settings["amqp-spec"]
    try:
        spec = load_specification(os.path.join(settings.folder, path) if path else "")
    except ValueError as error:
        raise ConfigError("amqp-spec", str(error)) from None
    target = AmqpTarget(_endpoints(reactor, server), server, topology, spec)
    if not stream:
        return AmqpBroker(reactor, target)
    if type is ExchangeType.DIRECT:
        reason = "a direct exchange has no binding for all channels; amqp-stream needs topic"
        raise ConfigError("amqp-exchange-type", reason)
    retention = read_stream_retention(settings)
    return StreamBroker(reactor, target, stream, retention)


def _server(settings: GivenSettings) -> AmqpServer:
    url: AmqpUrl | None = settings["amqp-url"]
    if url is None:
        url = read_url(settings)
    else:
        for name in ("host", "port", "vhost", "username", "password", "tls"):
            if settings.given(f"amqp-{name}"):
                raise ConfigError(f"amqp-{name}", "amqp-url has this value already")
    paths = {
        role: os.path.abspath(os.path.join(settings.folder, settings[name]))
        for role, name in _FILES.items()
        if settings[name]
    }
    if paths and not url.tls:
        raise ConfigError(_FILES[next(iter(paths))], "certificates need amqp-tls or amqps://")
    if "key" in paths and "cert" not in paths:
        raise ConfigError("amqp-client-key", "amqp-client-cert is not set")
    return AmqpServer(url, ClientTls(**paths), settings["amqp-heartbeat"])


def _endpoints(reactor: Any, server: AmqpServer) -> list[IStreamClientEndpoint]:
    if not server.url.tls:
        return [
            HostnameEndpoint(reactor, host, port, timeout=CONNECT_TIMEOUT)
            for host, port in server.url.hosts
        ]
    try:
        server.files.check()
    except WrongFile as error:
        raise ConfigError(_FILES[error.role], str(error)) from None
    return [
        ClientTlsEndpoint(reactor, host, port, server.files, CONNECT_TIMEOUT)
        for host, port in server.url.hosts
    ]
