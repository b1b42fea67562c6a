"""
Where redis is and how to get there: URLs, TLS, Sentinel.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from twisted.internet.endpoints import HostnameEndpoint, UNIXClientEndpoint

from rt_twisted.brokers.client_tls import NO_FILES, ClientTls, TlsEndpoint

PORT = 6379
SENTINEL_PORT = 26379

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class RedisServer:
    """
    One redis, and what it is told at the door.

    Args:
        addresses: host and port; with *master* of the sentinels, tried in order.
        path: of a unix socket instead.
        master: the name that sentinels know it by; "" for no sentinels.
        username: "" for redis' default user.
        password: "" for none.
        db: number of the database.
        tls: whether the connection is TLS; the server's name is verified.
        files: for TLS.
    """

    addresses: tuple[Address, ...] = (("127.0.0.1", PORT),)
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
        Read where a redis is.

        Args:
            text: `redis://[[user]:password@]host[:port][/db]`, `rediss://` for
                TLS, `unix://[user:password@]/path[?db=N]`,
                `sentinel://host[:port][,host...]/master[/db]` (`sentinels://`:
                the master by TLS), or `HOST[:PORT]`.
            username: unless the text has one.
            password: unless the text has one.
            files: see `Server`.

        Raises:
            ValueError: one sentence, without secrets.
        """
        url = urlsplit(text if "://" in text else f"redis://{text}")
        if url.scheme not in ("redis", "rediss", "unix", "sentinel", "sentinels"):
            raise ValueError(f"a URL of redis does not begin with {url.scheme}://")
        if url.fragment:
            raise ValueError("a # in a URL of redis has to be written %23")
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
                raise ValueError("the path of a unix socket begins with a slash: unix:///run/...")
            return cls((), unquote(url.path), db=_database(url, ""), **common)
        segments = url.path.strip("/").split("/")
        if url.scheme.startswith("sentinel"):
            master = unquote(segments[0])
            if not master or len(segments) > 2:
                raise ValueError("behind the sentinels comes the master's name: sentinel://h/NAME")
            found = tuple(_address(each, SENTINEL_PORT) for each in place.split(","))
            return cls(found, "", master, db=_database(url, "".join(segments[1:])), **common)
        if len(segments) > 1:
            raise ValueError("behind host and port comes the number of the database alone")
        return cls((_address(place, PORT),), db=_database(url, segments[0]), **common)

    def __str__(self) -> str:
        hosts = ",".join(_written(host, port) for host, port in self.addresses)
        return f"{hosts or self.path}{'/' if self.master else ''}{self.master}"

    def endpoint(self, reactor: Any, address: Address | None, seconds: float) -> Any:
        """
        How to get there.

        Args:
            reactor: the reactor.
            address: where the master is now; None for the first of *addresses*.
            seconds: that connecting may take.
        """
        if self.path:
            return UNIXClientEndpoint(reactor, self.path, timeout=seconds)
        host, port = address or self.addresses[0]
        if self.tls:
            return TlsEndpoint(reactor, host, port, self.files, seconds)
        return HostnameEndpoint(reactor, host, port, timeout=seconds)


def _database(url: SplitResult, segment: str) -> int:
    """
    The number in the path or in the query; nothing else may stand there.
    """
    query = parse_qs(url.query, keep_blank_values=True)
    number = "".join(query.pop("db", [segment])) or "0"
    if query:
        raise ValueError(f"a URL of redis has no {next(iter(query))!r}")
    if not (number.isascii() and number.isdigit() and len(number) < 6):
        raise ValueError(f"a database of redis is a number, not {number!r}")
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


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
