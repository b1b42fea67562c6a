"""
Read the head of a request, and check what llhttp does not check of it
(RFC 9112, 3.2, 6.1 and 7.1; RFC 9110, 5.3 and 10.1.1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from rt_twisted.codecs.addresses import AddressHeader, Networks
from rt_twisted.http.head import Field
from rt_twisted.model.errors import HttpError

MAX_KNOWN_HOST = 260  # bytes of a Host header up to which a few are remembered as correct

_AUTHORITY = re.compile(  # RFC 3986, 3.2.2 and 3.2.3; no userinfo (RFC 9110, 4.2.4)
    rb"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?:[\w.~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})*)"
    rb"(?::(?P<port>[0-9]{0,5}))?"
)
_HASH = ord("#")  # `in` with bytes is slow, see `codecs.forms`
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """
    Limits of the HTTP server for each request and connection.

    Args:
        line: bytes of the request target.
        headers: their number.
        header_bytes: of all header names and values together.
        body: bytes of a body for twisted.web.
        head_seconds: for the request line and the headers, from the first byte.
        body_seconds: for a body that is read whole; between two pieces of one
            that is a stream.
        idle_seconds: between two requests.
        idle_connections: number of those on which no request is being answered; 0 for
            any number.
        trusted_proxies: addresses of proxies whose *address_header* is used.
        address_header: names the client's address.
    """

    line: int
    headers: int
    header_bytes: int
    body: int
    head_seconds: float
    body_seconds: float
    idle_seconds: float
    idle_connections: int
    trusted_proxies: Networks
    address_header: AddressHeader


class RequestHead:
    """
    The target and the headers of one request.

    Args:
        target: as received, not longer than `HttpLimits.line`.
        fields: names and values as received.
        limits: of the server.

    Raises:
        HttpError: 431, there are too many headers; 400, one must not be repeated.

    Attributes:
        target: the path and the query, once `check` has returned.
        headers: by lower-case name; several values of one name are joined.
        raw_headers: without blanks around their values.
    """

    __slots__ = ("headers", "raw_headers", "target")

    def __init__(self, target: bytes, fields: Sequence[Field], limits: HttpLimits) -> None:
        if len(fields) > limits.headers:  # before the work that grows with them
            raise headers_too_large(limits)
        self.target = target
        self.headers: dict[str, bytes] = {}
        self.raw_headers: list[Field] = []
        headers, raw_headers, size = self.headers, self.raw_headers, 0
        for name, value in fields:
            size += len(name) + len(value)
            value = value.rstrip(b" \t")  # llhttp removes the blanks in front only
            raw_headers.append((name, value))
            key = name.lower().decode("latin-1")
            known = headers.get(key)
            if known is None:
                headers[key] = value
            elif key == "host":
                raise HttpError(400, "more than one Host header")
            else:
                headers[key] = known + (b"; " if key == "cookie" else b", ") + value
        if size > limits.header_bytes:
            raise headers_too_large(limits)

    def check(self, method: str, version: str) -> int | None:
        """
        Check a head that is complete, and make its target a path.

        Args:
            method: upper case.
            version: as in `HTTP/1.1`.

        Returns:
            the length of the body; None for chunks.

        Raises:
            HttpError: 400, 417, 501 or 505.
        """
        if version not in ("1.1", "1.0"):
            raise HttpError(505, "only HTTP/1.1 and HTTP/1.0 are supported")
        headers = self.headers
        host = headers.get("host")
        if host is None:
            if version == "1.1":
                raise HttpError(400, "the Host header is missing")
        elif not is_authority(host):
            raise HttpError(400, "malformed Host header")
        expect = headers.get("expect")
        if expect is not None and expect.lower() != b"100-continue":
            raise HttpError(417, "the only Expect that is supported is 100-continue")
        if self.target[:1] != b"/":
            self._to_path(method)
        if _HASH in self.target:
            raise HttpError(400, "a request target must not have a fragment")
        coding = headers.get("transfer-encoding")
        if coding is None:
            return int(headers.get("content-length", b"0"))
        if version == "1.0":
            raise HttpError(400, "HTTP/1.0 has no Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise HttpError(501, "the only Transfer-Encoding that is supported is chunked")
        return None

    def _to_path(self, method: str) -> None:
        absolute = _ABSOLUTE.match(self.target)
        if absolute is not None:
            path = self.target[absolute.end() :]
            self.target = path if path[:1] == b"/" else b"/" + path
            authority = absolute[1]
            if authority[:1] in (b"", b":") or not is_authority(authority):
                raise HttpError(400, "malformed host in the request target")
            # It replaces the Host header (RFC 9112, 3.2.2).
            self.headers["host"] = authority
            others = [each for each in self.raw_headers if each[0].lower() != b"host"]
            self.raw_headers = [(b"Host", authority), *others]
        elif self.target != b"*" or method != "OPTIONS":
            raise HttpError(400, "malformed request target")


def is_authority(text: bytes) -> bool:
    """
    Return whether *text* can be a Host header (RFC 9110, 7.2).

    That is a host, which may be empty, and perhaps a port.
    """
    return _is_known(text) if len(text) <= MAX_KNOWN_HOST else _is_authority(text)


@lru_cache(maxsize=64)
def _is_known(text: bytes) -> bool:
    return _is_authority(text)


def _is_authority(text: bytes) -> bool:
    match = _AUTHORITY.fullmatch(text)
    if match is None:
        return False
    six, port = match.groups()
    if port and int(port) > 65535:
        return False
    if six is None:
        return True
    try:
        ip_address(six.decode())
    except ValueError:
        return False
    return b":" in six


def target_too_long(limits: HttpLimits) -> HttpError:
    """
    Return the error for a request target that is too long.
    """
    return HttpError(414, f"the request target is longer than {limits.line} bytes")


def headers_too_large(limits: HttpLimits) -> HttpError:
    """
    Return the error for too many headers, or too long ones.
    """
    return HttpError(
        431, f"more than {limits.headers} headers, or {limits.header_bytes} bytes of headers"
    )
