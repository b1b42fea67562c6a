"""
Builds an AMQP broker from the settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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

CONNECT_TIMEOUT = 10.0  # seconds, for each host
_FILES = {"ca": "amqp-ca", "cert": "amqp-client-cert", "key": "amqp-client-key"}


class AmqpConfigError(Exception):
    """
    Raised for a setting that cannot be used.

    Args:
        name: the setting's.
        reason: one sentence.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def build_broker(
    reactor: Any, settings: Mapping[str, Any], given: Callable[[str], bool], folder: str
) -> AmqpBroker | StreamBroker:
    """
    Build the broker that the `amqp-` settings describe.

    Args:
        reactor: the reactor.
        settings: all settings by name.
        given: tells whether a setting was given at all.
        folder: relative paths are relative to it.

    Raises:
        AmqpConfigError: which setting is wrong, and why.
    """
    server = _server(settings, given, folder)
    stream = settings["amqp-stream"] or ""
    topology = _topology(settings, stream and not given("amqp-exchange-type"))
    path = settings["amqp-spec"]
    try:
        spec = load_specification(os.path.join(folder, path) if path else "")
    except ValueError as error:
        raise AmqpConfigError("amqp-spec", str(error)) from None
    endpoints = _endpoints(reactor, server)
    if not stream:
        return AmqpBroker(reactor, endpoints, server, topology, spec)
    if topology.type is ExchangeType.DIRECT:
        reason = "a direct exchange has no binding for all channels; amqp-stream needs topic"
        raise AmqpConfigError("amqp-exchange-type", reason)
    retention = StreamRetention(settings["amqp-stream-age"], settings["amqp-stream-bytes"])
    return StreamBroker(reactor, endpoints, server, topology, spec, stream, retention)


def _server(settings: Mapping[str, Any], given: Callable[[str], bool], folder: str) -> AmqpServer:
    names = ("host", "port", "vhost", "username", "password", "tls")
    url: AmqpUrl | None = settings["amqp-url"]
    if url is not None:
        for name in names:
            if given(f"amqp-{name}"):
                raise AmqpConfigError(f"amqp-{name}", "amqp-url has this value already")
    else:
        try:
            hosts = parse_hosts(settings["amqp-host"], settings["amqp-port"])
        except ValueError as error:
            raise AmqpConfigError("amqp-host", f"must be {error}") from None
        url = AmqpUrl(hosts, *[settings[f"amqp-{name}"] for name in names[2:]])
    paths = {
        role: os.path.abspath(os.path.join(folder, settings[name]))
        for role, name in _FILES.items()
        if settings[name]
    }
    if paths and not url.tls:
        raise AmqpConfigError(_FILES[next(iter(paths))], "certificates need amqp-tls or amqps://")
    if "key" in paths and "cert" not in paths:
        raise AmqpConfigError("amqp-client-key", "amqp-client-cert is not set")
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


def _topology(settings: Mapping[str, Any], free: object) -> Topology:
    type = ExchangeType.TOPIC if free else ExchangeType(settings["amqp-exchange-type"])
    pattern = settings["amqp-pattern"] or ""
    if pattern and type is not ExchangeType.TOPIC:
        raise AmqpConfigError("amqp-pattern", "only a topic exchange has patterns")
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
        raise AmqpConfigError(_FILES[error.role], str(error)) from None
    return [
        ClientTlsEndpoint(reactor, host, port, server.files, CONNECT_TIMEOUT)
        for host, port in server.addresses
    ]
