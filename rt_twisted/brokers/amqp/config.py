"""
The address of RabbitMQ and what is declared there: values, and how the settings give them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rt_twisted.brokers.client_tls import ClientTls
from rt_twisted.codecs.amqp_url import AmqpUrl, parse_hosts
from rt_twisted.model.settings import ConfigError, SettingValues


class ExchangeType(Enum):
    """
    Exchange types, by AMQP's names.
    """

    DIRECT = "direct"
    TOPIC = "topic"
    FANOUT = "fanout"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class AmqpServer:
    """
    The addresses of RabbitMQ and the login.

    Args:
        url: hosts, virtual host, login, and whether the connection is encrypted.
        files: certificates for TLS.
        heartbeat: seconds; 0 for none.
    """

    url: AmqpUrl
    files: ClientTls
    heartbeat: int

    def name(self, number: int) -> str:
        """
        Return the address *number* (from 0) and the virtual host, for the log.
        """
        host, port = self.url.hosts[number]
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}{'' if self.url.vhost == '/' else '/' + self.url.vhost}"


@dataclass(frozen=True, slots=True)
class Topology:
    """
    The declarations in RabbitMQ, and the properties of published messages.

    Args:
        exchange: the exchange's name.
        type: the exchange's type.
        durable: whether the exchange survives a restart of the server.
        passive: whether the exchange must exist already, however it was declared.
        pattern: the one key bound for all channels, of a topic exchange; "" to
            bind each subscribed channel.
        number: the AMQP channel.
        persistent: whether messages survive a restart of the server.
        prefetch: messages that the server may send before they are acknowledged.
    """

    exchange: str
    type: ExchangeType
    durable: bool
    passive: bool
    pattern: str
    number: int
    persistent: bool
    prefetch: int


@dataclass(frozen=True, slots=True)
class StreamRetention:
    """
    The retention of the stream.

    Args:
        age: seconds; 0 for no limit.
        bytes: approximate size; 0 for no limit.
    """

    age: float
    bytes: int


def read_url(settings: SettingValues) -> AmqpUrl:
    """
    Return the hosts and the login that the settings give without `amqp-url`.

    Raises:
        ConfigError: the hosts are wrong.
    """
    try:
        hosts = parse_hosts(settings["amqp-host"] or "", settings["amqp-port"])
    except ValueError as error:
        raise ConfigError("amqp-host", f"must be {error}") from None
    names = ("vhost", "username", "password", "tls")
    return AmqpUrl(hosts, *[settings[f"amqp-{name}"] for name in names])


def read_topology(settings: SettingValues, type: ExchangeType) -> Topology:
    """
    Return what the settings describe, with an exchange of *type*.

    Raises:
        ConfigError: this type has no patterns.
    """
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


def read_stream_retention(settings: SettingValues) -> StreamRetention:
    """
    Return the retention of the stream.
    """
    return StreamRetention(settings["amqp-stream-age"], settings["amqp-stream-bytes"])
