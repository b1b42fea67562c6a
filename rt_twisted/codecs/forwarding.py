"""
Requests and responses as a reverse proxy passes them on (RFC 9110, 7.6; RFC 7239).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

Field = tuple[bytes, bytes]  # name and value

# For one connection only (RFC 9110, 7.6.1), and what is written anew.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection te transfer-encoding upgrade content-length".split()
)
_REQUEST_ONLY = frozenset(
    b"expect host http2-settings proxy proxy-authorization x-real-ip forwarded trailer".split()
)
_REWRITTEN = HOP_BY_HOP | _REQUEST_ONLY | {b"cookie"}
_USUAL = frozenset((b"keep-alive", b"close"))  # of Connection: they name no other header
_HIDDEN = b"grip-", b"x-accel-redirect"  # response headers for the daemon, not for clients
_OF_PROXIES = b"grip-", b"x-forwarded-"  # request headers that clients cannot set
_WRITTEN = frozenset(
    b"x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-prefix".split()
)

# Applications decode these differently than the routes do: a path could pass a check by one
# of them, and be another path for the application.
_UNSAFE = re.compile(rb"\\|%(?:2e|5c|00)|(?:/|%2f)\.\.?(?:[/;]|%2f|%3b|$)", re.IGNORECASE)
_UNDERSCORE = ord("_")  # `in` with bytes is slow, see `codecs.forms`
_SLASH = re.compile(rb"%2f", re.IGNORECASE)


@dataclass(slots=True, unsafe_hash=True)
class ForwardedClient:
    """
    The client of a request, for the headers that name it.

    Args:
        peer: address of the other end of the connection; "" for a unix socket.
        address: of the client, behind trusted proxies; "" if it is not known.
        scheme: http or https.
        host: that the client requested.
        trusted: the peer is a trusted proxy, whose headers are passed on.
        prefix: of the path, that the application does not see.
    """

    peer: Final[str]
    address: Final[str]
    scheme: Final[str]
    host: Final[bytes]
    trusted: Final[bool]
    prefix: Final[str] = ""


def check_target(target: bytes, encoded_slash: bool = False) -> None:
    """
    Check that an application finds the path in *target* that a route has found in it.

    Args:
        target: path and query, as received.
        encoded_slash: accept %2f.

    Raises:
        ValueError: the path has dot segments, a backslash, or one of them or a slash encoded.
    """
    path = target.partition(b"?")[0]
    if b"." not in path and b"%" not in path and b"\\" not in path:
        return
    if _UNSAFE.search(path) or (not encoded_slash and _SLASH.search(path)):
        raise ValueError("the path has dot segments, a backslash, or an encoded slash or dot")


def strip_prefix(target: bytes, prefix: str) -> bytes:
    """
    Return *target* without *prefix*, which need not be encoded as it is there.

    Args:
        target: path and query, as received.
        prefix: begins with a slash, and does not end with one.

    Returns:
        begins with a slash; *target* itself if it does not begin with whole segments of *prefix*.
    """
    path, question, query = target.partition(b"?")
    segments = path.split(b"/")
    count = prefix.count("/") + 1
    head = unquote_to_bytes(b"/".join(segments[:count]))
    if head != prefix.encode():
        return target
    return b"/" + b"/".join(segments[count:]) + question + query


def is_for_daemon(name: bytes) -> bool:
    """
    Return whether the response header *name* (lower case) is for the daemon, and is never sent to
    a client.
    """
    return name.startswith(_HIDDEN)


def named_by_connection(value: bytes | None) -> Collection[bytes]:
    """
    Return the header names, in lower case, that a Connection header names.
    """
    if value is None or value.lower() in _USUAL:
        return ()
    return {name.strip() for name in value.lower().split(b",")}


def request_fields(
    raw: Iterable[Field], connection: bytes | None, client: ForwardedClient
) -> list[Field]:
    """
    Return the headers of a request as they are passed on, without Host and those of the body.

    Headers with an underscore in their names are dropped: CGI would make `X_User` of `X-User`.
    So are `Grip-` headers, which only the daemon sends.

    Args:
        raw: the headers as received.
        connection: the value of the header Connection; None without one.
        client: that has sent them.
    """
    dropped = named_by_connection(connection)
    kept: list[Field] = []
    cookies: list[bytes] = []
    forwarded: dict[bytes, list[bytes]] = {}
    for field in raw:
        lower = field[0].lower()
        if lower in dropped or _UNDERSCORE in lower:
            continue
        if lower in _REWRITTEN:
            if lower == b"cookie":
                cookies.append(field[1])  # HTTP/2 splits them (RFC 9113, 8.2.3)
            elif lower == b"forwarded":
                forwarded.setdefault(lower, []).append(field[1])
        elif not lower.startswith(_OF_PROXIES):
            kept.append(field)
        elif lower in _WRITTEN:
            forwarded.setdefault(lower, []).append(field[1])
        elif client.trusted and not lower.startswith(b"grip-"):
            kept.append(field)
    if cookies:
        kept.append((b"Cookie", b"; ".join(cookies)))
    if client.trusted:
        joined = {name: b", ".join(all) for name, all in forwarded.items()}
        kept += _client_fields(client, joined)
    elif client.prefix:
        kept += _client_fields(client, {})
    else:
        kept += _usual_fields(client.peer, client.scheme, client.host)
    return kept


@lru_cache(1000)
def _usual_fields(peer: str, scheme: str, host: bytes) -> Sequence[Field]:
    """
    Return the headers that name a client without trusted proxies.
    """
    return tuple(_client_fields(ForwardedClient(peer, peer, scheme, host, False), {}))


def _client_fields(client: ForwardedClient, given: dict[bytes, bytes]) -> Iterator[Field]:
    """
    Yield the headers that name *client*.

    Args:
        given: those of a trusted proxy, by name in lower case.
    """
    peer = client.peer.encode()
    hops = [hop for hop in (given.get(b"x-forwarded-for", b""), peer) if hop]
    if hops:
        yield b"X-Forwarded-For", b", ".join(hops)
    if client.address:
        yield b"X-Real-IP", client.address.encode()
    yield b"X-Forwarded-Proto", client.scheme.encode()
    host = given.get(b"x-forwarded-host") or client.host
    if host:
        yield b"X-Forwarded-Host", host
    prefix = given.get(b"x-forwarded-prefix", b"") + client.prefix.encode()
    if prefix:
        yield b"X-Forwarded-Prefix", prefix
    forwarded = given.get(b"forwarded")
    if forwarded:
        node = b'"[%s]"' % peer if b":" in peer else peer or b"unknown"
        yield b"Forwarded", forwarded + b", for=" + node


def response_fields(fields: Sequence[Field], hidden: Collection[bytes] = ()) -> list[Field]:
    """
    Return the headers of a response as they are passed on, without those that frame its body.

    Args:
        fields: as received.
        hidden: names in lower case of headers that are not for clients, beside those that never
            are.
    """
    kept: list[Field] = []
    named: set[bytes] = set()
    for name, value in fields:
        lower = name.lower()
        if lower in HOP_BY_HOP:
            if lower == b"connection":
                named.update(named_by_connection(value))
        elif lower not in hidden and not lower.startswith(_HIDDEN):
            kept.append((name, value))
    return [field for field in kept if field[0].lower() not in named] if named else kept
