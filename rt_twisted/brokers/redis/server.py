"""
The address of redis and how to connect: URLs, TLS, Sentinel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint

from rt_twisted.brokers.client_tls import NO_FILES, ClientTls, ClientTlsEndpoint
from rt_twisted.codecs.amqp_url import split_hosts_url

PORT = 6379
SENTINEL_PORT = 26379

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisServer:
    """
    The address of one redis, and the login.

    Args:
        addresses: host and port; with *master* those of the sentinels, tried in order.
        path: of a Unix socket instead; "" for TCP.
        master: its name in Sentinel; "" for no sentinels.
        username: "" for redis' default user.
        password: "" for none.
        db: number of the database.
        tls: whether the connection is TLS; the server's name is verified.
        files: certificates for TLS.
    """

    addresses: tuple[Address, ...]
    path: str = ""
    master: str = ""
    username: str = ""
    password: str = field(default="", repr=False)
    db: int = 0
    tls: bool = False
    files: ClientTls = NO_FILES

    @classmethod
    def parse(
        cls, text: str, username: str = "", password: str = "", files: ClientTls = NO_FILES
    ) -> RedisServer:
        """
        Parse the address of a redis.

        Args:
            text: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for
                TLS, `unix://[user:password@]/path[?db=N]` or
                `unix:/path[?db=N]`, `/path`, `sentinel://host[:port][,host...]/master[/db]` (`sentinels://`:
                the master by TLS), or `HOST[:PORT]`. A bare path is taken literally.
            username: used if *text* has none.
            password: used if *text* has none.
            files: see `RedisServer`.

        Raises:
            ValueError: one sentence, without secrets.
        """
        if text.startswith("/"):
            return cls((), text, username=username, password=password, files=files)
        is_url = "://" in text or text.startswith("unix:/")
        url = split_hosts_url(text if is_url else f"redis://{text}")
        if url.scheme not in ("redis", "rediss", "unix", "sentinel", "sentinels"):
            raise ValueError(f"a URL of redis does not begin with {url.scheme}://")
        if url.fragment:
            raise ValueError("a # in a URL of redis must be written %23")
        if url.scheme != "unix" and "@" in url.path:
            raise ValueError("a / in a user or password in a URL of redis must be written %2F")
        login, _, place = url.netloc.rpartition("@")
        user, _, secret = login.partition(":")
        common: dict[str, Any] = {
            "username": unquote(user) or username,
            "password": unquote(secret) or password,
            "tls": url.scheme in ("rediss", "sentinels"),
            "files": files,
        }
        if url.scheme == "unix":
            if place or not url.path.startswith("/"):
                raise ValueError(
                    "the path of a Unix socket must begin with a slash: unix:///run/..."
                )
            return cls((), unquote(url.path), db=_database(url, ""), **common)
        segments = url.path.strip("/").split("/")
        if url.scheme.startswith("sentinel"):
            master = unquote(segments[0])
            if not master or len(segments) > 2:
                raise ValueError(
                    "the sentinels must be followed by the master's name: sentinel://h/NAME"
                )
            found = tuple(_address(each, SENTINEL_PORT) for each in place.split(","))
            return cls(found, "", master, db=_database(url, "".join(segments[1:])), **common)
        if len(segments) > 1:
            raise ValueError("host and port may be followed by the number of the database only")
        return cls((_address(place, PORT),), db=_database(url, segments[0]), **common)

    def __str__(self) -> str:
        hosts = ",".join(_format_address(host, port) for host, port in self.addresses)
        return f"{hosts or self.path}{'/' if self.master else ''}{self.master}"

    def endpoint(self, reactor: Any, address: Address | None, seconds: float) -> Any:
        """
        Return an endpoint to connect by.

        Args:
            reactor: the reactor.
            address: the master's; None for the first of *addresses*.
            seconds: time limit for connecting.
        """
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=seconds)
        host, port = address or self.addresses[0]
        if self.tls:
            return ClientTlsEndpoint(reactor, host, port, self.files, seconds)
        return HostnameEndpoint(reactor, host, port, timeout=seconds)


def _database(url: SplitResult, segment: str) -> int:
    """
    Return the database number from the path or the query, where nothing else is allowed.
    """
    query = parse_qs(url.query, keep_blank_values=True)
    number = "".join(query.pop("db", [segment])) or "0"
    if query:
        raise ValueError(f"a URL of redis has no parameter {next(iter(query))!r}")
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise ValueError(f"a database of redis must be a number, not {number!r}")
    return int(number)


def _address(text: str, port: int) -> Address:
    try:
        parts = urlsplit(f"//{text}")
        host, given = parts.hostname, parts.port
    except ValueError:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT") from None
    if not host or given == 0:
        raise ValueError(f"{text!r} is not HOST or HOST:PORT")
    return host, given or port


def _format_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """
    The state that a server reports of itself.

    Args:
        run: id of this redis process.
        safe: whether it has all of its data after a restart (an append-only
            file, and it has not taken over from another server).
        evicts: whether it may evict any key when memory is short.
    """

    run: str
    safe: bool
    evicts: bool
