"""
Values for the address of RabbitMQ and for what is declared there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rt_twisted.brokers.client_tls import NO_FILES, ClientTls
from rt_twisted.codecs.amqp_url import PORT


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
    The address of RabbitMQ and the login.

    Args:
        host: name or address.
        port: the AMQP port.
        vhost: the virtual host.
        user: the user's name.
        password: the user's password.
        tls: whether the connection is encrypted, and the server's name verified.
        files: certificates for TLS.
        heartbeat: seconds; 0 for none.
        others: host and port of further members of the cluster.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    vhost: str = "/"
    user: str = "guest"
    password: str = "guest"
    tls: bool = False
    files: ClientTls = NO_FILES
    heartbeat: int = 10
    others: tuple[tuple[str, int], ...] = ()

    @property
    def addresses(self) -> tuple[tuple[str, int], ...]:
        """
        Host and port of each cluster member, in the order in which they are tried.
        """
        return ((self.host, self.port), *self.others)

    def name(self, number: int) -> str:
        """
        Return the address *number* (from 0) and the virtual host, for the log.
        """
        host, port = self.addresses[number]
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}{'' if self.vhost == '/' else '/' + self.vhost}"

    def __str__(self) -> str:
        return self.name(0)


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

    exchange: str = "sse-cyclone-server"
    type: ExchangeType = ExchangeType.DIRECT
    durable: bool = False
    passive: bool = False
    pattern: str = ""
    number: int = 1
    persistent: bool = False
    prefetch: int = 1000


@dataclass(frozen=True, slots=True)
class StreamRetention:
    """
    The retention of the stream.

    Args:
        age: seconds; 0 for no limit.
        bytes: approximate size; 0 for no limit.
    """

    age: float = 86400.0
    bytes: int = 1 << 30
