"""
The PROXY protocol, versions 1 and 2 (haproxy.org, proxy-protocol.txt, 2.1 and 2.2): the
client's address, which a proxy sends before the first byte of the client.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

MAX_LINE = 107  # bytes of a version 1 header, with CR LF
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
HEADER_SIZE = len(SIGNATURE) + 4
MAX_LENGTH = 4096  # bytes of a version 2 header after its fixed part: with TLVs some hundred
LOCAL, PROXY = 0, 1  # commands
INET, INET6 = 1, 2  # address families
_PORT = re.compile(rb"0|[1-9][0-9]{0,4}")
Address = IPv4Address | IPv6Address


class NoProxyHeader(Exception):
    """
    The peer sent something else, or a malformed header: the connection must be closed.
    """


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    Address and port of one end of the client's connection to the proxy.
    """

    address: Address
    port: int


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """
    A parsed header, and the bytes after it.

    Args:
        source: the client; None for a health check of the proxy itself (`UNKNOWN`,
            `LOCAL`).
        destination: to which the client connected; None likewise.
        rest: first bytes of the client.
    """

    source: Endpoint | None
    destination: Endpoint | None
    rest: bytes


class ProxyParser:
    """
    Parses one header. `feed` returns it once; then the parser cannot be used again.
    """

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> ProxyHeader | None:
        """
        Parse the next bytes of a connection, however they are split.

        Returns:
            None until the header is complete.

        Raises:
            NoProxyHeader: the header is missing or malformed.
        """
        self._data = data = self._data + data
        if data[: len(SIGNATURE)] == SIGNATURE[: len(data)]:
            return _version_2(data)
        if data[:6] == b"PROXY "[: len(data)]:
            return _version_1(data)
        raise NoProxyHeader("no header")


def _version_1(data: bytes) -> ProxyHeader | None:
    line, end, rest = data.partition(b"\r\n")
    if len(line) > MAX_LINE - (2 if end else 1):  # the CR may have come without the LF
        raise NoProxyHeader("the line is too long")
    if not end:
        return None
    words = line.split(b" ")
    if words[1] == b"UNKNOWN":  # the rest of the line is ignored
        return ProxyHeader(None, None, rest)
    if words[1] not in (b"TCP4", b"TCP6") or len(words) != 6:
        raise NoProxyHeader("malformed line")
    kind = IPv4Address if words[1] == b"TCP4" else IPv6Address
    source, destination = (
        _endpoint(kind, address, port) for address, port in zip(words[2:4], words[4:], strict=True)
    )
    return ProxyHeader(source, destination, rest)


def _endpoint(kind: type[IPv4Address] | type[IPv6Address], address: bytes, port: bytes) -> Endpoint:
    try:
        found = kind(address.decode("ascii"))
    except ValueError:  # UnicodeDecodeError too
        raise NoProxyHeader("malformed address") from None
    if not _PORT.fullmatch(port) or int(port) > 65535 or b"%" in address:
        raise NoProxyHeader("malformed port or zone")
    return Endpoint(found, int(port))


def _version_2(data: bytes) -> ProxyHeader | None:
    if len(data) < HEADER_SIZE:
        return None
    version, command = data[12] >> 4, data[12] & 15
    length = int.from_bytes(data[14:HEADER_SIZE])
    if version != 2 or command not in (LOCAL, PROXY) or length > MAX_LENGTH:
        raise NoProxyHeader("unknown version or command, or too long")
    if len(data) < HEADER_SIZE + length:
        return None
    body, rest = data[HEADER_SIZE : HEADER_SIZE + length], data[HEADER_SIZE + length :]
    family = data[13] >> 4
    if command == LOCAL or family not in (INET, INET6):
        return ProxyHeader(None, None, rest)  # unix and unspecified addresses: the proxy's own
    kind, size = (IPv4Address, 4) if family == INET else (IPv6Address, 16)
    if length < 2 * size + 4:
        raise NoProxyHeader("the addresses are incomplete")
    ports = body[2 * size : 2 * size + 4]
    return ProxyHeader(
        Endpoint(kind(body[:size]), int.from_bytes(ports[:2])),
        Endpoint(kind(body[size : 2 * size]), int.from_bytes(ports[2:])),
        rest,
    )
