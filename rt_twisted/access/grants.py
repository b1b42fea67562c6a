"""
Grants: who a client is, which channels it may subscribe to and publish to, and until when.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from rt_twisted.codecs.wildcards import Selector, Wildcard
from rt_twisted.model.errors import HttpError

MAX_NAMES = 1000  # of the channels, and of the patterns, of one grant
MAX_NAME = 200  # characters of a name, a pattern, or a text such as `sub`
MAX_INFO = 2048  # bytes of `info` as JSON
SIZE, NAME_SIZE, PATTERN_SIZE = 600, 60, 160  # bytes of a grant, of each name and pattern in it
LATEST = 253402300799.0  # the last second of the year 9999, in Unix time


class GrantError(Exception):
    """
    Claims that are not those of a grant. The text is the end of "the token is not valid: ...".
    """


@dataclass(slots=True, unsafe_hash=True)
class Grant:
    """
    What a client may do. An absent claim grants nothing.

    Args:
        subject: who the client is; "" if the grant does not say.
        channels: that it may subscribe to; subscribed if the client names none.
        subscribe: patterns of further channels that it may subscribe to.
        publish: patterns of channels that it may publish to.
        not_before: Unix time from which on the grant is valid.
        expires: Unix time until which the grant is valid; infinity for no end.
        token_id: the `jti` of a token; "" without one.
        info: JSON about the client, for others; "" without it.
        values: what `${grant[NAME]}` inserts: the claims that are text or whole numbers.
        issued: Unix time at which the token was made; None if it does not say.
        verified_by: names the key, or the key set, that has verified the token; "" for none.
        asked: channels, and patterns as text, about which the application was asked, and to
            which it grants to subscribe.
        asked_publish: the same, to publish to.
    """

    subject: Final[str] = ""
    channels: Final[tuple[str, ...]] = ()
    subscribe: Final[tuple[Wildcard, ...]] = ()
    publish: Final[tuple[Wildcard, ...]] = ()
    not_before: Final[float] = 0.0
    expires: Final[float] = math.inf
    token_id: Final[str] = ""
    info: Final[str] = ""
    values: Final[Mapping[str, str]] = field(default_factory=dict, repr=False)
    issued: Final[float | None] = None
    verified_by: Final[str] = field(default="", repr=False)
    asked: Final[tuple[str, ...]] = ()
    asked_publish: Final[tuple[str, ...]] = ()

    def covers(self, selector: Selector) -> bool:
        """
        Return whether the client may subscribe to the channel or pattern *selector*.

        A pattern is covered by one that matches it as text: its stars are then matched by
        stars, which match whatever they stand for.
        """
        name = str(selector)
        if name in self.asked or (isinstance(selector, str) and name in self.channels):
            return True
        return any(pattern.matches(name) for pattern in self.subscribe)

    def check_subscribe(self, selector: Selector) -> None:
        """
        Check that the client may subscribe to *selector*.

        Raises:
            HttpError: 403, it may not.
        """
        if not self.covers(selector):
            raise HttpError(403, f"the grant does not cover channel {str(selector)[:100]!r}")

    def permits(self, channel: str) -> bool:
        """
        Return whether the client may publish to *channel*.
        """
        if channel in self.asked_publish:
            return True
        return any(pattern.matches(channel) for pattern in self.publish)

    def check(self, channel: str) -> None:
        """
        Check that the client may publish to *channel*.

        Raises:
            HttpError: 403, it may not.
        """
        if not self.permits(channel):
            raise HttpError(403, f"the grant does not permit publishing to {channel[:100]!r}")

    def value(self, name: str) -> str:
        """
        Return what `${grant[NAME]}` inserts.

        Raises:
            HttpError: 403, the grant has no such text.
        """
        found = self.values.get(name)
        if not found:
            raise HttpError(403, f"the grant has no {name[:100]!r}")
        return found

    @property
    def size(self) -> int:
        """
        Return about how many bytes the grant takes.
        """
        patterns = [each.source for each in (*self.subscribe, *self.publish)]
        names = [*self.channels, *self.asked, *self.asked_publish, *self.values.values()]
        texts = sum(map(len, patterns)) + sum(map(len, names)) + len(self.info)
        return SIZE + PATTERN_SIZE * len(patterns) + NAME_SIZE * len(names) + texts

    def is_valid_at(self, now: float, leeway: float) -> bool:
        """
        Return whether the grant has begun and has not ended at *now*, Unix time, within
        *leeway* seconds.
        """
        return self.not_before - leeway <= now < self.expires + leeway


# The grant where none is required: every channel may be subscribed to.
ANYONE = Grant(subscribe=(Wildcard.of("*"),))
ANY_PUBLISHER = Grant(publish=(Wildcard.of("*"),))  # the same, for publishing


def read_grant(claims: Mapping[str, Any], verified_by: str = "") -> Grant:
    """
    Read the claims of a token, or those with which the application answers.

    Unknown claims are ignored. `sub` and `jti` may be whole numbers, as some libraries write
    them.

    Args:
        claims: by name.
        verified_by: see `Grant`.

    Raises:
        GrantError: a claim has another type, or is too large.
    """
    return Grant(
        subject=_text(claims, "sub"),
        channels=tuple(_names(claims, "channels")),
        subscribe=tuple(map(Wildcard.of, _names(claims, "subscribe"))),
        publish=tuple(map(Wildcard.of, _names(claims, "publish"))),
        not_before=_time(claims, "nbf", 0.0),
        expires=_time(claims, "exp", math.inf),
        token_id=_text(claims, "jti"),
        issued=_time(claims, "iat", 0.0) if claims.get("iat") is not None else None,
        info=_info(claims),
        values={name: text for name, value in claims.items() if (text := _insertable(value))},
        verified_by=verified_by,
    )


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if value is None:
        return ""
    text = _insertable(value)
    if text is None:
        raise GrantError(f"{name} is not a text of up to {MAX_NAME} characters")
    return text


def _insertable(value: object) -> str | None:
    """
    Return *value* as text, if it is a text or a whole number, and not too long.
    """
    if type(value) is int:
        return str(value) if abs(value) < 10**MAX_NAME else None
    return value if type(value) is str and len(value) <= MAX_NAME else None


def _names(claims: Mapping[str, Any], name: str) -> list[str]:
    value = claims.get(name)
    if value is None:
        return []
    names = [value] if type(value) is str else value
    if type(names) is not list or len(names) > MAX_NAMES:
        raise GrantError(f"{name} is not a list of up to {MAX_NAMES} texts")
    for each in names:
        if type(each) is not str or not 0 < len(each) <= MAX_NAME:
            raise GrantError(f"{name} has an entry that is not 1 to {MAX_NAME} characters")
    return names


def _time(claims: Mapping[str, Any], name: str, absent: float) -> float:
    value = claims.get(name)
    if value is None:
        return absent
    # Neither true nor text: a library that writes those would be misread by others.
    if type(value) not in (int, float) or not 0 <= value <= LATEST:
        raise GrantError(f"{name} is not a time in seconds since 1970")
    return float(value)


def _info(claims: Mapping[str, Any]) -> str:
    if claims.get("info") is None:
        return ""
    try:
        text = json.dumps(claims["info"], ensure_ascii=False, separators=(",", ":"))
    except RecursionError:
        raise GrantError("info is nested too deeply") from None
    if len(text.encode(errors="replace")) > MAX_INFO:
        raise GrantError(f"info is larger than {MAX_INFO} bytes")
    return text
