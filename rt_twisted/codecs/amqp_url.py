"""
AMQP URLs: addresses of a RabbitMQ cluster, virtual host and credentials.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, unquote, urlsplit

PORT = 5672
TLS_PORT = 5671

Hosts = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class AmqpUrl:
    """
    Where to connect and how to log in.

    Args:
        hosts: host and port of each member of the cluster, in the order to try them.
        vhost: the virtual host.
        user: of the login.
        password: of the user.
        tls: whether the connection is encrypted.
    """

    hosts: Hosts
    vhost: str
    user: str
    password: str
    tls: bool


def parse_amqp_url(url: str) -> AmqpUrl:
    """
    Parse `amqp://user:password@host:port/vhost` or `amqps://...`, as RabbitMQ defines it.

    The vhost is percent-encoded; without one it is `/`. Several hosts are separated by commas.

    Raises:
        ValueError: the end of the sentence "the URL must be ...".
    """
    wrong = "a URL such as amqp://user:password@host:5672,host2/vhost"
    try:
        parts = split_hosts_url(url)
        login, _, hosts = parts.netloc.rpartition("@")
        tls = parts.scheme == "amqps"
        addresses = parse_hosts(hosts, TLS_PORT if tls else PORT)
    except ValueError:
        raise ValueError(wrong) from None
    if parts.scheme not in ("amqp", "amqps") or parts.query or parts.fragment:
        raise ValueError(wrong)
    user, _, password = login.partition(":")
    return AmqpUrl(
        hosts=addresses,
        vhost=unquote(parts.path[1:]) or "/",
        user=unquote(user) or "guest",
        password=unquote(password) or "guest",
        tls=tls,
    )


def split_hosts_url(url: str) -> SplitResult:
    """
    Split a URL whose place names one host, or several separated by commas.

    `urlsplit` of newer Pythons refuses an IPv6 address behind another host.

    Raises:
        ValueError: the URL is malformed.
    """
    scheme, mark, rest = url.partition("://")
    end = min([rest.find(each) for each in "/?#" if each in rest], default=len(rest))
    if not mark or "," not in rest[:end]:
        return urlsplit(url)
    return urlsplit(f"{scheme}://host{rest[end:]}")._replace(netloc=rest[:end])


def parse_hosts(text: str, port: int) -> Hosts:
    """
    Parse `HOST[:PORT]`, or several separated by commas.

    An IPv6 address has brackets, or no port.

    Args:
        text: the hosts.
        port: of hosts without one.

    Raises:
        ValueError: the end of the sentence "the hosts must be ...".
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
    return tuple(found)
