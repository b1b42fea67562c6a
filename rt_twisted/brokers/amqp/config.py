"""
Where RabbitMQ is, and what is declared there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from urllib.parse import unquote, urlsplit

from rt_twisted.brokers.client_tls import NO_FILES, ClientTls

PORT = 5672
TLS_PORT = 5671


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


def read_url(url: str) -> AmqpServer:
    """
    Read `amqp://user:password@host:port/vhost`, or `amqps://`, as RabbitMQ has
    it: the vhost is percent-encoded, and `/` where there is none. There may be
    several hosts with commas between them.

    Raises:
        ValueError: the rest of the sentence "the URL must be ...".
    """
    wrong = "a URL such as amqp://user:password@host:5672,host2/vhost"
    try:
        parts = urlsplit(url)
        login, _, place = parts.netloc.rpartition("@")
        tls = parts.scheme == "amqps"
        (host, port), *others = read_hosts(place, TLS_PORT if tls else PORT)
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme not in ("amqp", "amqps") or parts.query or parts.fragment:
        raise ValueError(wrong)
    user, _, password = login.partition(":")
    default = AmqpServer()
    return AmqpServer(
        host=host,
        port=port,
        vhost=unquote(parts.path[1:]) or "/",
        user=unquote(user) or default.user,
        password=unquote(password) or default.password,
        tls=tls,
        others=tuple(others),
    )


def read_hosts(text: str, port: int) -> list[tuple[str, int]]:
    """
    Read `HOST[:PORT]`, or several with commas between them; an IPv6 address has
    brackets, or stands without a port.

    Args:
        text: the hosts.
        port: of those that name none.

    Raises:
        ValueError: one of them is not HOST or HOST:PORT; the rest of the sentence
            "the hosts must be ...".
    """
    found = []
    for each in text.split(","):
        each = each.strip()
        try:
            parts = urlsplit(
                f"//[{each}]" if each.count(":") > 1 and each[0] != "[" else f"//{each}"
            )
            host, given = parts.hostname, parts.port
        except ValueError:
            host, given = None, None
        if not host or given == 0 or parts.path or parts.query or parts.username is not None:
            raise ValueError(f"hosts such as 10.0.0.6 or 10.0.0.6:{PORT},10.0.0.7")
        found.append((host, given or port))
    return found
