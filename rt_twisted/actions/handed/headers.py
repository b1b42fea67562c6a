"""
The headers of a response that is handed over: what the client gets of them, and the grant that
they limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from rt_twisted.access.grants import Grant, GrantError, read_grant
from rt_twisted.access.questions import UnusableAnswer, read_claims
from rt_twisted.codecs.forwarding import is_for_daemon
from rt_twisted.model.errors import Header

Headers = Sequence[tuple[str, str]]  # names in lower case

# Of one connection (RFC 9110, 7.6.1), or of a body that is not sent as it was.
_OF_THE_BODY = frozenset(
    "connection keep-alive proxy-connection te trailer transfer-encoding upgrade content-length "
    "content-encoding content-range accept-ranges etag last-modified digest content-md5".split()
)
_OURS = frozenset("date server x-content-type-options".split())
_OF_THE_STREAM = frozenset("content-type cache-control x-accel-buffering expires pragma".split())
_GRANT = frozenset("x-user x-channels x-subscribe x-publish x-expires-in".split())


def header(headers: Headers, name: str) -> str | None:
    """
    Return the last value of header *name* (lower case); None without one.
    """
    return next((value for each, value in reversed(headers) if each == name), None)


def joined(headers: Headers, name: str) -> str | None:
    """
    Return the values of header *name* (lower case), joined by a comma; None without one.
    """
    values = [value for each, value in headers if each == name]
    return ", ".join(values) if values else None


def passed_headers(headers: Headers) -> list[Header]:
    """
    Return those of the application's *headers* that a client gets with a held response.
    """
    named = header(headers, "connection") or ""
    dropped = _OF_THE_BODY | _OURS | _GRANT | {one.strip() for one in named.lower().split(",")}
    kept = [one for one in headers if one[0] not in dropped]
    return [(name.title(), text) for name, text in kept if not is_for_daemon(name.encode())]


def passed_to_stream(headers: Headers) -> list[Header]:
    """
    Return those of the application's *headers* that a client gets with a stream of ours.
    """
    return [one for one in passed_headers(headers) if one[0].lower() not in _OF_THE_STREAM]


def granted_by(headers: Headers, now: float, channels: Sequence[str] = ()) -> Grant:
    """
    Return the grant that a response gives by handing the connection over.

    Args:
        headers: `X-User`, `X-Expires-In`, `X-Channels` and `X-Subscribe` among them.
        now: Unix time.
        channels: that the response names beside those.

    Raises:
        UnusableAnswer: a header cannot be read.
    """
    try:
        grant = read_grant(read_claims(partial(joined, headers), now))
    except GrantError as error:
        raise UnusableAnswer(str(error)) from None
    return Grant(
        grant.subject,
        grant.channels,
        grant.subscribe,
        expires=grant.expires,
        values=grant.values,
        asked=tuple(channels),
    )
