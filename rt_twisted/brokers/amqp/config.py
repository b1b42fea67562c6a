"""
Where RabbitMQ is, and what is declared there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from rt_twisted.brokers.client_tls import NO_FILES, ClientTls
from rt_twisted.codecs.amqp_url import PORT


class ExchangeOptions(Enum):
    """
    The types of exchanges, by AMQP's names.
    """

    DIRECT = "direct"
    TOPIC = "topic"
    FANOUT = "fanout"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class AmqpServer:
    """
    Where to log in.

    Args:
        host: name or address.
        port: of AMQP.
        vhost: the virtual host.
        user: who logs in.
        password: of the user.
        tls: whether the connection is encrypted, and the server's name checked.
        files: for TLS.
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
        Host and port of each, in the order in which they are tried.
        """
        return ((self.host, self.port), *self.others)

    def name(self, number: int) -> str:
        """
        The address *number* (from 0) and the virtual host, for the log.
        """
        host, port = self.addresses[number]
        host = f"[{host}]" if ":" in host else host
        return f"{host}:{port}{'' if self.vhost == '/' else '/' + self.vhost}"

    def __str__(self) -> str:
        return self.name(0)


@dataclass(frozen=True, slots=True)
class Topology:
    """
    What is declared, and how messages travel.

    Args:
        exchange: its name.
        type: its type.
        durable: whether it outlives a restart of the server.
        passive: whether it has to be there already, however it was declared.
        pattern: the one key bound for all channels, of a topic exchange; "" to
            bind each channel that is wanted.
        number: the AMQP channel.
        persistent: whether messages are to outlive a restart of the server.
        prefetch: messages on their way to us at once.
    """

    exchange: str = "sse-cyclone-server"
    type: ExchangeOptions = ExchangeOptions.DIRECT
    durable: bool = False
    passive: bool = False
    pattern: str = ""
    number: int = 1
    persistent: bool = False
    prefetch: int = 1000


@dataclass(frozen=True, slots=True)
class StreamRetention:
    """
    What the stream keeps.

    Args:
        age: seconds; 0 for any.
        bytes: about; 0 for any.
    """

    age: float = 86400.0
    bytes: int = 1 << 30
