"""
From settings to a broker.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, optionsForClientTLS, trustRootFromCertificates

from rt_twisted.brokers.amqp.broker import AmqpBroker
from rt_twisted.brokers.amqp.config import Exchange, Retention, Server, Topology
from rt_twisted.brokers.amqp.specification import load_specification
from rt_twisted.brokers.amqp.stream import StreamBroker

_END = b"-----END CERTIFICATE-----"


class Wrong(Exception):
    """
    A setting that cannot be.

    Args:
        name: which.
        reason: one sentence.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(reason)
        self.name = name


def build_broker(
    reactor: Any, settings: Mapping[str, Any], given: Callable[[str], bool], folder: str
) -> AmqpBroker | StreamBroker:
    """
    The broker that the `amqp-` settings describe.

    Args:
        reactor: the reactor.
        settings: every setting by its name.
        given: whether a setting is set, by its name.
        folder: where relative paths begin.

    Raises:
        Wrong: which setting, and why.
    """
    server = _server(settings, given)
    if server.ca:
        server = replace(server, ca=os.path.join(folder, server.ca))
    stream = settings["amqp-stream"] or ""
    topology = _topology(settings, stream and not given("amqp-exchange-type"))
    path = settings["amqp-spec"]
    try:
        spec = load_specification(os.path.join(folder, path) if path else "")
    except ValueError as error:
        raise Wrong("amqp-spec", str(error)) from None
    endpoint = _endpoint(reactor, server)
    if not stream:
        return AmqpBroker(reactor, endpoint, server, topology, spec)
    if topology.type is Exchange.DIRECT:
        reason = "a direct exchange has no binding for everything; with amqp-stream take topic"
        raise Wrong("amqp-exchange-type", reason)
    retention = Retention(settings["amqp-stream-age"], settings["amqp-stream-bytes"])
    return StreamBroker(reactor, endpoint, server, topology, spec, stream, retention)


def _server(settings: Mapping[str, Any], given: Callable[[str], bool]) -> Server:
    names = ("host", "port", "vhost", "username", "password", "tls")
    server: Server | None = settings["amqp-url"]
    if server is not None:
        for name in names:
            if given(f"amqp-{name}"):
                raise Wrong(f"amqp-{name}", "this is said by amqp-url already")
    else:
        server = Server(*[settings[f"amqp-{name}"] for name in names])
    return replace(server, ca=settings["amqp-ca"] or "", heartbeat=settings["amqp-heartbeat"])


def _topology(settings: Mapping[str, Any], free: object) -> Topology:
    type = Exchange.TOPIC if free else Exchange(settings["amqp-exchange-type"])
    pattern = settings["amqp-pattern"] or ""
    if pattern and type is not Exchange.TOPIC:
        raise Wrong("amqp-pattern", "only a topic exchange knows patterns")
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


def _endpoint(reactor: Any, server: Server) -> IStreamClientEndpoint:
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, server.host, server.port)
    if not server.tls:
        if server.ca:
            raise Wrong("amqp-ca", "this is of use with amqp-tls or amqps:// only")
        return endpoint
    try:
        root = trustRootFromCertificates(_certificates(server.ca)) if server.ca else None
        options = optionsForClientTLS(server.host, trustRoot=root)
    except OSError as error:
        raise Wrong("amqp-ca", f"{server.ca}: {error.strerror}") from None
    except Exception as error:
        raise Wrong("amqp-ca", f"{server.ca or server.host}: {error}") from None
    return wrapClientTLS(options, endpoint)


def _certificates(path: str) -> list[Any]:
    with open(path, "rb") as file:
        pieces = file.read().split(_END)[:-1]
    if not pieces:
        raise ValueError("no certificate in it")
    return [Certificate.loadPEM(piece + _END) for piece in pieces]
