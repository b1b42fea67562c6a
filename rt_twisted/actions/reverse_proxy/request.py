"""
Requests to an application, written anew from the parts of a client's request.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rt_twisted.actions.reverse_proxy.address import UpstreamAddress
from rt_twisted.codecs.authority import split_authority
from rt_twisted.codecs.forwarding import (
    Field,
    ForwardedClient,
    request_fields,
    strip_prefix,
)
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.codecs.uwsgi import encode_packet
from rt_twisted.http.upgrade import wants_websocket
from rt_twisted.model.errors import HttpError

_BODILESS = frozenset(("GET", "HEAD", "OPTIONS"))
_REPEATABLE = frozenset(("GET", "HEAD"))
_PORTS = {"http": b"80", "https": b"443"}


@dataclass(slots=True, unsafe_hash=True)
class ProxiedRequest:
    """
    A request as an application gets it.

    Args:
        method: of the request.
        url: whose server gets it.
        head: encoded, and a body that is empty.
        body_follows: a body follows.
        upgrade: the request asks for a websocket.
        keep: the connection may be used again.
        repeatable: it may be sent twice.
    """

    method: Final[str]
    url: Final[HttpUrl]
    head: Final[bytes]
    body_follows: Final[bool]
    upgrade: Final[bool]
    keep: Final[bool]
    repeatable: Final[bool]

    def encode(self) -> bytes:
        return self.head


def client_of(exchange: Any, prefix: str) -> ForwardedClient:
    """
    Return the client of *exchange* as headers name it.

    Args:
        exchange: the request.
        prefix: that is removed from the path.
    """
    host = (exchange.header("host") or "").encode("latin-1")
    peer, proxied = exchange.peer, exchange.proxied
    address = exchange.address if proxied else peer
    return ForwardedClient(peer, address, exchange.scheme, host, proxied, prefix)


def http_request(
    exchange: Any, url: HttpUrl, host: str = "", strip: str = "", own: Sequence[Field] = ()
) -> ProxiedRequest:
    """
    Return the request for an HTTP server.

    Args:
        exchange: the client's request.
        url: of the server.
        host: for the header Host; "" for the client's.
        strip: prefix that is removed from the path.
        own: further headers, which are the daemon's.
    """
    method, target = exchange.method, exchange.target
    if strip:
        target = strip_prefix(target, strip)
    client = client_of(exchange, strip if target is not exchange.target else "")
    upgrade = exchange.framed and wants_websocket(exchange)
    chunked = exchange.length is None
    name = host.encode() or client.host or url.authority.encode()
    lines = [b"%s %s HTTP/1.1\r\nHost: %s\r\n" % (method.encode(), target, name)]
    fields = request_fields(exchange.raw_headers, _connection(exchange), client)
    lines += [b"%s: %s\r\n" % field for field in (*fields, *own)]
    if upgrade:
        lines.append(b"Connection: Upgrade\r\nUpgrade: websocket\r\n")
    if chunked:
        lines.append(b"Transfer-Encoding: chunked\r\n")
    elif exchange.length or method not in _BODILESS:
        lines.append(b"Content-Length: %d\r\n" % exchange.length)
    lines.append(b"\r\n")
    bodiless = exchange.length == 0
    repeatable = bodiless and method in _REPEATABLE and not upgrade
    return ProxiedRequest(method, url, b"".join(lines), not bodiless, upgrade, True, repeatable)


def uwsgi_request(
    exchange: Any,
    address: UpstreamAddress,
    url: HttpUrl,
    host: str = "",
    strip: str = "",
    own: Sequence[Field] = (),
) -> ProxiedRequest:
    """
    Return the request for a server of the uwsgi protocol.

    Args:
        exchange: the client's request.
        address: has the modifiers.
        url: of the server.
        host: for the variable HTTP_HOST; "" for the client's.
        strip: prefix of the path, which becomes SCRIPT_NAME.
        own: further headers, which are the daemon's.

    Raises:
        HttpError: 411, the length of the body is not known; 431, the head is too large.
    """
    if exchange.length is None:
        raise HttpError(411, "the application needs a Content-Length")
    upgrade = exchange.framed and wants_websocket(exchange)
    try:
        packet = encode_packet(
            _variables(exchange, host, strip, upgrade, own), address.modifier1, address.modifier2
        )
    except ValueError:
        raise HttpError(431, "the headers are too large for the application") from None
    return ProxiedRequest(exchange.method, url, packet, exchange.length > 0, upgrade, False, False)


def _connection(exchange: Any) -> bytes | None:
    value = exchange.header("connection")
    return None if value is None else value.encode("latin-1")


def _variables(
    exchange: Any, host: str, strip: str, upgrade: bool, own: Sequence[Field]
) -> Iterator[Field]:
    path = exchange.path
    script = ""
    if strip and (path == strip or path.startswith(f"{strip}/")):
        script, path = strip, path[len(strip) :] or "/"
    client = client_of(exchange, script)
    name = host.encode() or client.host
    server, port = split_authority(name.decode("latin-1"))
    yield b"REQUEST_METHOD", exchange.method.encode()
    yield b"REQUEST_URI", exchange.target
    yield b"PATH_INFO", path.encode()
    yield b"SCRIPT_NAME", script.encode()
    yield b"QUERY_STRING", exchange.query_string.encode("latin-1")
    yield b"SERVER_PROTOCOL", b"HTTP/1.1" if exchange.version != "1.0" else b"HTTP/1.0"
    yield b"SERVER_NAME", server.encode("latin-1")
    yield b"SERVER_PORT", port.encode() or _PORTS[client.scheme]
    yield b"REMOTE_ADDR", client.address.encode()
    yield b"REQUEST_SCHEME", client.scheme.encode()
    yield b"UWSGI_SCHEME", client.scheme.encode()
    if client.scheme == "https":
        yield b"HTTPS", b"on"
    yield b"CONTENT_LENGTH", b"%d" % exchange.length if exchange.length else b""
    yield b"CONTENT_TYPE", (exchange.header("content-type") or "").encode("latin-1")
    if name:
        yield b"HTTP_HOST", name
    if upgrade:
        yield b"HTTP_CONNECTION", b"Upgrade"
        yield b"HTTP_UPGRADE", b"websocket"
    joined: dict[bytes, bytes] = {}
    fields = request_fields(exchange.raw_headers, _connection(exchange), client)
    for key, value in (*fields, *own):
        key = key.upper().replace(b"-", b"_")
        joined[key] = joined[key] + b", " + value if key in joined else value
    joined.pop(b"CONTENT_TYPE", None)
    for key, value in joined.items():
        yield b"HTTP_" + key, value
