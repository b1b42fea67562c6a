"""
URLs of HTTP servers that the daemon sends requests to (RFC 3986; nginx' form for unix sockets).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_URL = re.compile(
    r"(?P<scheme>https?)://"
    r"(?:unix:(?P<socket>/[^:?#\s]+)(?::(?=/|$))?"
    r"|(?P<host>[A-Za-z0-9._~-]+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?)"
    r"(?P<target>(?:/[!-~]*)?)"
)
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class HttpUrl:
    """
    The URL of a request.

    Args:
        scheme: `http` or `https`.
        host: a name or an address, without brackets; "" for a unix socket.
        port: of the server; 0 for a unix socket.
        socket: path of a unix socket; "" for TCP.
        target: path and query; begins with a slash.
    """

    scheme: str
    host: str
    port: int
    socket: str
    target: str

    @classmethod
    def parse(cls, text: str) -> HttpUrl:
        """
        Parse `http://HOST:PORT/PATH`, `https://...`, or `http://unix:/SOCKET:/PATH`.

        Raises:
            ValueError: the end of a sentence "... must be".
        """
        found = _URL.fullmatch(text)
        if found is None or "#" in found["target"]:
            raise ValueError("a URL such as http://127.0.0.1:8000/may or http://unix:/run/a.sock:/")
        scheme, socket = found["scheme"], found["socket"] or ""
        if socket:
            if scheme == "https":
                raise ValueError("http:// for a unix socket")
            return cls(scheme, "", 0, socket, found["target"] or "/")
        port = int(found["port"] or _PORTS[scheme])
        if not 0 < port < 65536:
            raise ValueError("a URL with a port from 1 to 65535")
        return cls(scheme, found["host"].strip("[]"), port, "", found["target"] or "/")

    @property
    def origin(self) -> tuple[str, str, int, str]:
        """
        Return what requests that may share a connection have in common.
        """
        return self.scheme, self.host, self.port, self.socket

    @property
    def authority(self) -> str:
        """
        Return the value of the header `Host`.
        """
        if self.socket:
            return "localhost"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        place = f"unix:{self.socket}:" if self.socket else self.authority
        return f"{self.scheme}://{place}{self.target}"
