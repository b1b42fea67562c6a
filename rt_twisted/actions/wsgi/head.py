"""
The head of a response, as WSGI applications give it (PEP 3333).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from twisted.web.http import datetimeToString

from rt_twisted.codecs.forwarding import is_for_daemon
from rt_twisted.http.head import Field, ResponseHead

_STATUS = re.compile(r"([2-5]\d\d)(?: ([^\x00-\x08\x0a-\x1f\x7f]*))?")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_LENGTH = re.compile(r"\d{1,18}")
# An application must not set the first ones (RFC 9110, 7.6.1); the last two are the daemon's own.
_LEFT_OUT = frozenset(
    "connection keep-alive proxy-authenticate proxy-connection te trailer transfer-encoding "
    "upgrade date server".split()
)


@dataclass(frozen=True, slots=True)
class ApplicationHead:
    """
    Status and headers of the response of an application.

    Args:
        status: 200 to 599.
        reason: the phrase behind it.
        fields: the headers in order, without those that belong to the connection.
        length: Content-Length; None if there is none.
    """

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    length: int | None

    def encode(self, hidden: Collection[bytes] = ()) -> ResponseHead:
        """
        Return the head as it is sent, with Server, Date and `nosniff`.

        Args:
            hidden: names in lower case of headers that are not sent, beside those that never
                are.
        """
        fields: list[Field] = [(b"Server", b"rt_twisted"), (b"Date", datetimeToString())]
        for name, value in self.fields:
            lower = name.lower().encode()
            if lower not in hidden and not is_for_daemon(lower):
                fields.append((name.encode(), value.encode("latin-1")))
        if all(name.lower() != "x-content-type-options" for name, _ in self.fields):
            fields.append((b"X-Content-Type-Options", b"nosniff"))
        return ResponseHead(self.status, fields, self.reason.encode("latin-1"))


def read_head(status: Any, headers: Any) -> ApplicationHead:
    """
    Check what an application passes to `start_response`.

    Raises:
        TypeError: a part is not text.
        ValueError: the status or a header is malformed.
    """
    if not isinstance(status, str):
        raise TypeError(f"the status must be str, not {type(status).__name__}")
    found = _STATUS.fullmatch(status)
    if found is None or not _is_latin(status):
        raise ValueError(f"malformed status {status!r}: it must be like '200 OK'")
    fields = []
    length = None
    for name, value in _pairs(headers):
        lower = name.lower()
        if lower == "content-length":
            if not _LENGTH.fullmatch(value.strip()) or length is not None:
                raise ValueError(f"malformed Content-Length {value!r}, or a second one")
            length = int(value)
        elif lower not in _LEFT_OUT:
            fields.append((name, value))
    return ApplicationHead(int(found[1]), found[2] or "", tuple(fields), length)


def _pairs(headers: Any) -> Iterable[tuple[str, str]]:
    for header in headers:
        name, value = header
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(f"names and values of headers must be str, unlike {header!r}")
        if not _NAME.fullmatch(name):
            raise ValueError(f"malformed name of a header: {name!r}")
        if _CONTROL.search(value) or not _is_latin(value):
            raise ValueError(f"the header {name} has control characters, or some beyond Latin-1")
        yield name, value


def _is_latin(text: str) -> bool:
    return not text or max(text) <= "\xff"
