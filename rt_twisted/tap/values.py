"""
Parsers of setting values: text to a number, size, time, list of names or secret.

Each raises ValueError with the end of the sentence "NAME must be ...".
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field

from rt_twisted.access.keys import Key
from rt_twisted.access.questions import OWN_HEADERS
from rt_twisted.access.secrets import secret
from rt_twisted.codecs.addresses import Networks
from rt_twisted.codecs.amqp_url import AmqpUrl, parse_amqp_url
from rt_twisted.codecs.http_url import HttpUrl
from rt_twisted.codecs.origins import is_origin
from rt_twisted.codecs.sizes import parse_size
from rt_twisted.media.jpeg import MAX_JPEG

DAY = 86400.0  # seconds
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": DAY}
_HEADER = re.compile(r"\*|[!#$%&'+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110, 5.6.2
_TRUTH = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}


def text(value: str) -> str:
    """
    Return *value* as it is.
    """
    return value


def command(value: str) -> tuple[str, ...]:
    """
    Split a command as a shell does, without variables, patterns and pipes.
    """
    try:
        words = tuple(shlex.split(value))
    except ValueError:
        words = ()
    if not words or not words[0]:
        raise ValueError("a command: a program and its arguments, with balanced quotes")
    return words


def number(least: int, most: int) -> Callable[[str], int]:
    """
    Return a parser of whole numbers from *least* to *most*.
    """

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", value) or not least <= int(value) <= most:
            raise ValueError(f"a number from {least} to {most}")
        return int(value)

    return parse


port = number(0, 65535)
count = number(0, 10**9)
at_least_one = number(1, 10**6)


size = parse_size


def unit_size(value: str) -> int:
    """
    Parse the bytes of a frame of a live stream: at most MAX_JPEG, as nodes read no larger one.
    """
    parsed = size(value)
    if not 65536 <= parsed <= MAX_JPEG:
        raise ValueError(f"a size from 64k to {MAX_JPEG >> 20}m")
    return parsed


def seconds(value: str) -> float:
    """
    Parse a time, such as `30`, `30s`, `10m`, `1h` or `1d`.
    """
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", value.lower())
    if found is None:
        raise ValueError("a time such as 30, 30s, 10m, 1h or 1d")
    return float(found[1]) * _SECONDS[found[2]]


def some_seconds(value: str) -> float:
    """
    Parse a time from 0.1 s to a day.
    """
    parsed = seconds(value)
    if not 0.1 <= parsed <= DAY:
        raise ValueError("a time from 0.1 s to 1d")
    return parsed


def from_one_second(value: str) -> float:
    """
    Parse a time from 1 s to a day.
    """
    parsed = seconds(value)
    if not 1 <= parsed <= DAY:
        raise ValueError("a time from 1 s to 1d")
    return parsed


def zero_or_from_two_seconds(value: str) -> float:
    """
    Parse 0, or a time from 2 s to a day.
    """
    parsed = seconds(value)
    if parsed and not 2 <= parsed <= DAY:
        raise ValueError("0, or a time from 2 s to 1d")
    return parsed


def up_to_a_day(value: str) -> float:
    """
    Parse a time from 0 to a day.
    """
    parsed = seconds(value)
    if parsed > DAY:
        raise ValueError("a time of up to 1d")
    return parsed


def switch(value: str) -> bool:
    """
    Parse `1` or `0`, `yes` or `no`; any number but 0 is true, as in cyclone-sse.
    """
    if value.isdigit():
        return int(value) != 0
    try:
        return _TRUTH[value.lower()]
    except KeyError:
        raise ValueError("1 or 0 (or yes or no)") from None


def choice(*words: str) -> Callable[[str], str]:
    """
    Return a parser that accepts one of *words*.
    """

    def parse(value: str) -> str:
        if value not in words:
            raise ValueError(" or ".join(words))
        return value

    return parse


def pattern(value: str) -> str:
    """
    Check a regular expression and return it.
    """
    try:
        re.compile(value)
    except (re.error, OverflowError, RecursionError, FutureWarning) as error:
        raise ValueError(f"a regular expression ({error})") from None
    return value


def origins(*words: str) -> Callable[[str], frozenset[str]]:
    """
    Return a parser of origins and of *words*, separated by blanks or commas.

    An origin that is not written as browsers send it, for example with a slash at
    the end, would never match any request; it is rejected.
    """

    def parse(value: str) -> frozenset[str]:
        found = _split(value)
        if not all(each in words or is_origin(each) for each in found):
            raise ValueError("origins such as https://www.example.org, in lower case, no path")
        return found

    return parse


def header_names(value: str) -> frozenset[str]:
    """
    Parse names of headers, or `*`.
    """
    found = _split(value)
    if not all(map(_HEADER.fullmatch, found)):
        raise ValueError("names of headers, separated by blanks, or *")
    return found


def forwarded_headers(value: str) -> frozenset[str]:
    """
    Parse names of headers of clients that the application gets with a question.
    """
    found = header_names(value)
    if "*" in found or OWN_HEADERS.intersection(map(str.lower, found)):
        raise ValueError("names of headers that questions do not have of their own")
    return found


def networks(value: str) -> Networks:
    """
    Parse addresses and networks.
    """
    try:
        return Networks.of(_split(value))
    except ValueError:
        raise ValueError("addresses or networks such as 10.0.0.5 or 10.0.0.0/8") from None


def _split(value: str) -> frozenset[str]:
    return frozenset(re.split(r"[\s,]+", value.strip()))


def amqp_url(value: str) -> AmqpUrl:
    """
    Parse the URL of an AMQP server, which contains a password.
    """
    return parse_amqp_url(secret(value))


def publish_key(value: str) -> Key:
    """
    Parse `SECRET [PATTERN ...]`.
    """
    if not value.strip():
        raise ValueError("a secret, then patterns of channel names")
    first, *patterns = value.split()
    return Key.of(secret(first), patterns)


@dataclass(frozen=True, slots=True)
class GivenTokenKey:
    """
    The text of a key that verifies tokens.

    Args:
        source: an HMAC secret, or PEM text.
        issuer: whose tokens it verifies; "" for those of no other key.
    """

    source: str = field(repr=False)
    issuer: str


def token_key(value: str) -> GivenTokenKey:
    """
    Parse `KEY [ISSUER]`.
    """
    words = value.split()
    if not 1 <= len(words) <= 2:
        raise ValueError("a secret, file:PATH or env:NAME, then an issuer or nothing")
    return GivenTokenKey(secret(words[0]), words[1] if len(words) == 2 else "")


@dataclass(frozen=True, slots=True)
class GivenGripKey:
    """
    The text of the key of GRIP.

    Args:
        source: a secret, or `base64:` and a coded one.
        issuer: of signatures; "" for the default.
    """

    source: str = field(repr=False)
    issuer: str


def grip_key(value: str) -> GivenGripKey:
    """
    Parse `KEY [ISSUER]`.
    """
    words = value.split()
    if not 1 <= len(words) <= 2:
        raise ValueError("a secret, file:PATH or env:NAME, then an issuer or nothing")
    return GivenGripKey(secret(words[0]), words[1] if len(words) == 2 else "")


def http_url(value: str) -> str:
    """
    Check the URL of an application.
    """
    HttpUrl.parse(value)
    return value


def key_set_url(value: str) -> tuple[str, str]:
    """
    Parse `URL [ISSUER]`.
    """
    words = value.split()
    if not 1 <= len(words) <= 2:
        raise ValueError("a URL, then an issuer or nothing")
    HttpUrl.parse(words[0])
    return words[0], words[1] if len(words) == 2 else ""


def words(value: str) -> tuple[str, ...]:
    """
    Parse words separated by blanks.
    """
    return tuple(value.split())


def cookie_name(value: str) -> str:
    """
    Check the name of a cookie (RFC 6265, 4.1.1).
    """
    if not _HEADER.fullmatch(value) or value == "*":
        raise ValueError("the name of a cookie")
    return value


# Values of these settings are never shown in error texts.
CONFIDENTIAL = (secret, amqp_url, publish_key, token_key, grip_key)
