"""
Where RabbitMQ is, and what is declared there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

PORT = 5672
TLS_PORT = 5671


class Exchange(Enum):
    """
    The types of exchanges, by AMQP's names.
    """

    DIRECT = "direct"
    TOPIC = "topic"
    FANOUT = "fanout"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True)
class Server:
    """
    Where to log in.

    Args:
        host: name or address.
        port: of AMQP.
        vhost: the virtual host.
        user: who logs in.
        password: of the user.
        tls: whether the connection is encrypted, and the server's name checked.
        ca: file with the certificates (PEM) that may vouch for it; "" for the system's.
        heartbeat: seconds; 0 for none.
    """

    host: str = "127.0.0.1"
    port: int = PORT
    vhost: str = "/"
    user: str = "guest"
    password: str = "guest"
    tls: bool = False
    ca: str = ""
    heartbeat: int = 10

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}{'' if self.vhost == '/' else '/' + self.vhost}"


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
    type: Exchange = Exchange.DIRECT
    durable: bool = False
    passive: bool = False
    pattern: str = ""
    number: int = 1
    persistent: bool = False
    prefetch: int = 1000


@dataclass(frozen=True, slots=True)
class Retention:
    """
    What the stream keeps.

    Args:
        age: seconds; 0 for any.
        bytes: about; 0 for any.
    """

    age: float = 86400.0
    bytes: int = 1 << 30


def read_url(url: str) -> Server:
    """
    Read `amqp://user:password@host:port/vhost`, or `amqps://`, as RabbitMQ has
    it: the vhost is percent-encoded, and `/` where there is none.

    Raises:
        ValueError: the rest of the sentence "the URL must be ...".
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("a URL such as amqp://user:password@host:5672/vhost") from None
    if parts.scheme not in ("amqp", "amqps") or not parts.hostname or parts.query:
        raise ValueError("a URL such as amqp://user:password@host:5672/vhost")
    tls = parts.scheme == "amqps"
    default = Server()
    return Server(
        host=parts.hostname,
        port=port or (TLS_PORT if tls else PORT),
        vhost=unquote(parts.path[1:]) or "/",
        user=unquote(parts.username) if parts.username else default.user,
        password=unquote(parts.password) if parts.password else default.password,
        tls=tls,
    )
