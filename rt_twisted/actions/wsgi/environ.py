"""
The environment of a request, as WSGI applications get it (PEP 3333).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any
from urllib.parse import unquote_to_bytes

from twisted.logger import Logger

from rt_twisted.codecs.authority import split_authority
from rt_twisted.http.interfaces import IExchange
from rt_twisted.model.errors import Header, HttpError

_UNDERSCORE = ord("_")  # `in` with bytes is slow, see `codecs.forms`
_PLAIN = {b"content-type": "CONTENT_TYPE"}
# Describe how the body was sent; an application gets it decoded, and CONTENT_LENGTH.
_LEFT_OUT = frozenset((b"content-length", b"transfer-encoding"))


class ErrorLog:
    """
    `wsgi.errors`: writes lines of the application to the daemon's log.
    """

    _log = Logger(namespace="wsgi")

    def write(self, text: str) -> int:
        """
        Write *text*, usually a line.
        """
        if text.strip():
            self._log.error("{text}", text=text.rstrip())
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """
        Write *lines* as one.
        """
        self.write("".join(lines))

    def flush(self) -> None:
        """
        Do nothing: nothing is buffered.
        """


def split_path(target: bytes, depth: int) -> tuple[str, str]:
    """
    Return SCRIPT_NAME and PATH_INFO, percent-decoded.

    Args:
        target: of the request, as received.
        depth: path segments that belong to SCRIPT_NAME.

    Raises:
        HttpError: 404, an escaped slash counted in the match of the route.
    """
    segments = target.partition(b"?")[0][1:].split(b"/")
    if len(segments) < depth:
        raise HttpError(404, "nothing here")
    script, rest = segments[:depth], segments[depth:]
    return _join(script), _join(rest)


def _join(segments: list[bytes]) -> str:
    return "".join("/" + unquote_to_bytes(each).decode("latin-1") for each in segments)


def make_environ(
    exchange: IExchange,
    depth: int,
    body: IO[bytes],
    length: int,
    multiprocess: bool,
    own: Sequence[Header] = (),
) -> dict[str, Any]:
    """
    Return the environment of a request.

    The client is the one that trusted proxies name. Headers with an underscore in their name
    are left out: WSGI cannot tell them from those with a hyphen, which a proxy may vouch for.

    Args:
        exchange: the request.
        depth: path segments that belong to SCRIPT_NAME.
        body: at its start.
        length: of the body.
        multiprocess: whether other processes run the application too.
        own: further headers, which are the daemon's.
    """
    script_name, path_info = split_path(exchange.target, depth)
    name, port = _server(exchange)
    environ: dict[str, Any] = {
        "REQUEST_METHOD": exchange.method,
        "SCRIPT_NAME": script_name,
        "PATH_INFO": path_info,
        "QUERY_STRING": exchange.query_string,
        "REQUEST_URI": exchange.target.decode("latin-1"),
        "CONTENT_TYPE": "",
        "CONTENT_LENGTH": str(length) if length or exchange.header("content-length") else "",
        "REMOTE_ADDR": exchange.address,
        "REMOTE_PORT": str(exchange.client_port),
        "SERVER_NAME": name,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/2" if exchange.version == "2" else f"HTTP/{exchange.version}",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": exchange.scheme,
        "wsgi.input": body,
        "wsgi.input_terminated": True,
        "wsgi.errors": ErrorLog(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
    }
    if exchange.scheme == "https":
        environ["HTTPS"] = "on"
    _add_headers(environ, exchange)
    for header, value in own:
        environ["HTTP_" + header.upper().replace("-", "_")] = value
    return environ


def _add_headers(environ: dict[str, Any], exchange: IExchange) -> None:
    for raw_name, raw_value in exchange.raw_headers:
        lower = raw_name.lower()
        if _UNDERSCORE in lower or lower in _LEFT_OUT or lower.startswith(b"grip-"):
            continue
        value = raw_value.decode("latin-1")
        name = _PLAIN.get(lower) or "HTTP_" + lower.decode("latin-1").upper().replace("-", "_")
        before = environ.get(name)
        if not before:
            environ[name] = value
        elif lower == b"cookie":
            environ[name] = f"{before}; {value}"  # HTTP/2 sends each apart (RFC 9113, 8.2.3)
        else:
            environ[name] = f"{before},{value}"


def _server(exchange: IExchange) -> tuple[str, str]:
    """
    Return SERVER_NAME and SERVER_PORT: the name is that of the Host header, and so is the port
    behind a unix socket.
    """
    name, port = split_authority(exchange.header("host") or "")
    address, own = exchange.here
    if own:
        port = str(own)
    default = "443" if exchange.scheme == "https" else "80"
    return name.strip("[]") or address or "localhost", port or default
