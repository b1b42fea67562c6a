"""
The address of a client behind trusted proxies, from `Forwarded` (RFC 7239),
`X-Forwarded-For` or `X-Real-IP`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

UNIX = "unix"  # stands for the peers of unix sockets, which have no address
PREFIX = 64  # bits of an IPv6 address: a site gets at least so large a network (RFC 6177)

# RFC 7239, 4: pairs of a token and a token or quoted string. Values without quotes may have
# colons and brackets here, as several proxies send them.
_PAIR = re.compile(r'\s*([\w!#$%&\'*+.^`|~-]+)=("(?:[^"\\]|\\.)*"|[^\s",;]*)\s*', re.ASCII)
_QUOTED = re.compile(r"\\(.)", re.DOTALL)
_WITH_PORT = re.compile(r"([0-9.]+):[\w.-]+|\[([^\]]*)\](?::[\w.-]+)?")


class AddressHeader(StrEnum):
    """
    The header in which trusted proxies give the client's address, in lower case.
    """

    X_FORWARDED_FOR = "x-forwarded-for"
    FORWARDED = "forwarded"
    X_REAL_IP = "x-real-ip"


@dataclass(frozen=True, slots=True)
class Networks:
    """
    A set of addresses and networks.

    Args:
        addresses: in canonical form; `unix` for the peers of unix sockets.
        networks: of more than one address.
    """

    addresses: frozenset[str] = frozenset()
    networks: Sequence[IPv4Network | IPv6Network] = field(default=())

    @classmethod
    def of(cls, words: Iterable[str]) -> Self:
        """
        Parse *words*: `10.0.0.5`, `10.0.0.0/8`, `2001:db8::/32`, `unix`.

        Raises:
            ValueError: a word is none of these, or a network has bits set after its prefix.
        """
        addresses, networks = set(), []
        for word in words:
            if word == UNIX:
                addresses.add(word)
            elif "/" in word:
                networks.append(ip_network(word))
            else:
                addresses.add(canonical(word))
        return cls(frozenset(addresses), tuple(networks))

    def __len__(self) -> int:
        return len(self.addresses) + len(self.networks)

    def __contains__(self, address: str) -> bool:
        if (address or UNIX) in self.addresses:
            return True
        return bool(self.networks) and _in_one(self.networks, address)


@lru_cache(4096)
def _in_one(networks: Sequence[IPv4Network | IPv6Network], address: str) -> bool:
    try:
        known = ip_address(address)
    except ValueError:
        return False
    return any(known in network for network in networks)


def canonical(text: str) -> str:
    """
    Return the shortest form of an address, without zone; IPv4 mapped into IPv6 as IPv4.

    Raises:
        ValueError: *text* is not an address.
    """
    address = ip_address(text)
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        if address.scope_id is not None:
            return str(IPv6Address(int(address)))
    return str(address)


def limit_key(address: str) -> str:
    """
    Return what limits per address count: an IPv4 address, or the /64 network of an IPv6 one.

    Args:
        address: in canonical form.
    """
    if ":" not in address:
        return address
    try:
        return str(ip_network((int(ip_address(address)) >> 128 - PREFIX << 128 - PREFIX, PREFIX)))
    except ValueError:
        return address


def client_address(peer: str, header: str, kind: AddressHeader, trusted: Networks) -> str:
    """
    Return the address of the client behind the trusted proxies.

    Each proxy appends the address from which it received the request. Addresses that
    the client itself sent stand before the first that a trusted proxy has appended.

    Args:
        peer: of the connection, canonical; "" for a unix socket.
        header: the value of the header of this *kind*; "" without one.
        kind: which header.
        trusted: the proxies.

    Returns:
        a canonical address; "" for a unix socket.
    """
    address = peer
    if not trusted or peer not in trusted:
        return address
    for hop in reversed(list(_hops(header, kind))):
        if hop is None:
            break
        address = hop
        if hop not in trusted:
            break
    return address


def last_scheme(header: str) -> str:
    """
    Return the last scheme in `X-Forwarded-Proto`, which the nearest proxy wrote.

    Returns:
        http, https, or "" for anything else.
    """
    named = header.rpartition(",")[2].strip(" \t").lower()
    return named if named in ("http", "https") else ""


def forwarded_scheme(header: str) -> str:
    """
    Return the scheme in the last element of `Forwarded` (RFC 7239, 5.4).

    Returns:
        http, https, or "" for anything else.
    """
    at, named = 0, ""
    while at < len(header):
        pair = _PAIR.match(header, at)
        if pair is not None:
            at = pair.end()
            if pair[1].lower() == "proto":
                named = pair[2].strip('"')
        separator = header[at : at + 1]
        if separator == ",":
            named = ""
        elif separator not in (";", ""):
            return ""
        at += 1
    return last_scheme(named)


def _hops(header: str, kind: AddressHeader) -> Iterator[str | None]:
    """
    Yield the addresses in *header*, the client's first; None for each unknown one.
    """
    if kind is AddressHeader.FORWARDED:
        yield from _forwarded(header)
        return
    hops = header.split(",")
    # X-Real-IP is not a list. Of several headers the nearest proxy has set the last.
    for hop in hops[-1:] if kind is AddressHeader.X_REAL_IP else hops:
        yield _node(hop.strip().strip('"'))


def _forwarded(header: str) -> Iterator[str | None]:
    """
    Yield the `for` of each element of `Forwarded` (RFC 7239, 5.2).
    """
    at, node = 0, ""
    while at < len(header):
        pair = _PAIR.match(header, at)
        if pair is not None:
            at = pair.end()
            if pair[1].lower() == "for":
                value = pair[2]
                node = _QUOTED.sub(r"\1", value[1:-1]) if value[:1] == '"' else value
        separator = header[at : at + 1]
        if separator == ",":
            yield _node(node)
            node = ""
        elif separator not in (";", ""):
            # Malformed: the rest may be the client's own text, so the address is unknown.
            yield None
            return
        at += 1
    yield _node(node)


def _node(text: str) -> str | None:
    """
    Parse a node, which may have a port and brackets (RFC 7239, 6).

    Returns:
        its address; None for `unknown`, `_hidden`, and malformed text.
    """
    found = _WITH_PORT.fullmatch(text)
    try:
        return canonical((found[1] or found[2] or "") if found is not None else text)
    except ValueError:
        return None
