"""
Fields of query strings, of forms and JSON bodies with the same fields, and of cookies
(WHATWG URL, 5.1; RFC 6265, 4.2.1).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any
from urllib.parse import unquote_plus

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.json_size import check_json_size

MAX_FIELDS = 1000  # of a query, a form or a JSON object
MAX_VALUES = 10_000  # of one field
FORM = "application/x-www-form-urlencoded"
BRACKETED = re.compile(r"channels?\[[0-9]{0,9}\]")  # lists of PHP and Rails
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

_JSON = re.compile(r"(?:application|text)/json|application/[^\s;]+\+json")

_unquote = partial(unquote_plus, errors="surrogateescape")  # a message may be any bytes


def parse_query(text: str) -> dict[str, list[str]]:
    """
    Parse a query string (WHATWG URL, 5.1). Fast if nothing is escaped.
    """
    escaped = "%" in text or "+" in text
    read: Callable[[str], str] = _unquote if escaped else str
    fields: dict[str, list[str]] = {}
    for pair in text.split("&"):
        name, _, value = pair.partition("=")
        if pair:
            fields.setdefault(read(name), []).append(read(value))
    return fields


def parse_cookies(text: str) -> dict[str, str]:
    """
    Parse a `Cookie` header (RFC 6265, 4.2.1). Malformed parts are skipped.
    """
    pairs = (part.partition("=") for part in text.split(";"))
    return {name.strip(): value.strip().strip('"') for name, equals, value in pairs if equals}


def cookie_values(text: str, name: str) -> list[str]:
    """
    Return the different values of the cookies *name* in a `Cookie` header, in order.
    """
    pairs = (part.partition("=") for part in text.split(";"))
    values = [value.strip().strip('"') for each, _, value in pairs if each.strip() == name]
    return list(dict.fromkeys(filter(None, values)))


@lru_cache(maxsize=64)  # most clients send one of few
def media_type(content_type: str) -> str:
    """
    Return the media type of a `Content-Type` in lower case, without parameters.
    """
    return content_type.partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """
    Return whether a media type is JSON (RFC 8259; RFC 6839, 3.1).
    """
    return bool(_JSON.fullmatch(kind))


def parse_fields(content_type: str, body: bytes) -> dict[str, list[str]]:
    """
    Parse a body with the fields of a query, for lists that are too long for a URL.

    Args:
        content_type: of a form, or of JSON: an object whose values are strings, numbers,
            booleans, or arrays of these. Fields with null are left out.
        body: whole; an empty one has no fields, whatever its type.

    Raises:
        RemoteProtocolError: 415, another type; 400, the body is malformed or has too
            many fields.
    """
    if not body:
        return {}
    kind = media_type(content_type)
    if not is_json(kind) and kind != FORM:
        raise RemoteProtocolError(f"the body is a form ({FORM}) or JSON", 415)
    try:
        text = body.removeprefix(BYTE_ORDER_MARK).decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError("the body is not UTF-8") from None
    if kind == FORM:
        if text.count("&") >= MAX_FIELDS:
            raise RemoteProtocolError("too many fields")
        return parse_query(text)
    check_json_size(text, status=413)
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError("the body is not JSON") from None
    if type(value) is not dict or len(value) > MAX_FIELDS:
        raise RemoteProtocolError(f"the body is a JSON object of up to {MAX_FIELDS} fields")
    return {name: _texts(name, given) for name, given in value.items() if given is not None}


def _texts(name: str, given: Any) -> list[str]:
    values = given if type(given) is list else [given]
    if len(values) > MAX_VALUES or any(type(one) not in (str, int, float, bool) for one in values):
        raise RemoteProtocolError(f"{name[:100]!r} is a string, a number, or an array of these")
    try:
        return [one if type(one) is str else json.dumps(one) for one in values]
    except ValueError:  # an integer with more digits than Python converts to text
        raise RemoteProtocolError(f"{name[:100]!r} is too large") from None
