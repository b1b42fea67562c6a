"""
GRIP: how an application asks to have its response held, in headers or JSON
(https://pushpin.org/docs/protocols/grip/).

Only what a hold needs is read. Links, filters and meta data are not followed: their names are
collected, for the log.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.json_size import MAX_VALUES, check_json_size

INSTRUCT = "application/grip-instruct"
PREFIX = "grip-"  # of the names of all headers of GRIP
HOLD_SECONDS = 55.0  # without Grip-Timeout, and between two keep-alives without a timeout
MAX_SECONDS = 86400.0
MAX_CHANNELS = 1000  # in one instruction; the settings may allow fewer
MAX_HEADERS = 100  # of a response in JSON
MAX_KEEP_ALIVE = 1024  # bytes
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}")  # RFC 9110, 5.6.2
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_DIGITS = re.compile(r"[0-9]{1,9}")
_STATUS = re.compile(r"([2-5][0-9]{2})(?: .*)?")
_ESCAPE = re.compile(r"\\(?:x([0-9A-Fa-f]{2})|(.?))", re.DOTALL)
_ESCAPES = {"n": "\n", "r": "\r"}
_NOT_FOLLOWED = ("grip-link", "grip-set-meta", "grip-expose-headers")
_BAD_TIMEOUT = f"a timeout is a whole number of seconds, up to {MAX_SECONDS:g}"

Headers = tuple[tuple[str, str], ...]


class HoldMode(Enum):
    """
    What a held response becomes; the values are those of `Grip-Hold`.
    """

    STREAM = "stream"  # what is published follows the body
    RESPONSE = "response"  # the first response that is published is sent instead


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """
    Data that keeps an idle stream open.

    Args:
        content: what is sent; not empty.
        seconds: between two of them.
    """

    content: bytes
    seconds: float = HOLD_SECONDS


@dataclass(frozen=True, slots=True)
class GripHold:
    """
    How a response is held.

    Args:
        mode: stream or response.
        channels: names, unchecked and in order; empty if the application names none.
        seconds: after which a response is sent as it is; streams have no end.
        keep_alive: of a stream; None for none.
        status: that the client gets; None for that of the response.
        not_followed: names of what was asked for and is not done.
    """

    mode: HoldMode
    channels: tuple[str, ...] = ()
    seconds: float = HOLD_SECONDS
    keep_alive: KeepAlive | None = None
    status: int | None = None
    not_followed: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class GripResponse:
    """
    A whole HTTP response in JSON.

    Args:
        status: 200 to 599.
        headers: names as they were written.
        body: of any length, which the caller bounds.
    """

    status: int = 200
    headers: Headers = ()
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class GripInstruction:
    """
    The body of type INSTRUCT.

    Args:
        hold: None if the response is sent as it is.
        response: in which the body is.
    """

    hold: GripHold | None
    response: GripResponse


def read_hold(headers: Iterable[tuple[str, str]]) -> GripHold | None:
    """
    Read the headers of a response.

    Args:
        headers: names in lower case; values with bytes as in Latin-1.

    Returns:
        None if the application does not ask for a hold.

    Raises:
        RemoteProtocolError: 502, a header of GRIP is malformed.
    """
    found: dict[str, list[str]] = {}
    for name, value in headers:
        if name.startswith(PREFIX):
            found.setdefault(name, []).append(value)
    if "grip-hold" not in found:
        return None
    mode = _mode(found["grip-hold"][-1])
    not_followed = {_title(name) for name in _NOT_FOLLOWED if name in found}
    channels = []
    for value in found.get("grip-channel", ()):
        for part in value.split(","):
            name, parameters = _parameters(part)
            if name:
                channels.append(_utf8(name))
            not_followed |= {f"{one} of Grip-Channel" for one in parameters}
    timeout = found.get("grip-timeout")
    status = found.get("grip-status")
    return GripHold(
        mode,
        _distinct(channels),
        _seconds(timeout[-1]) if timeout else HOLD_SECONDS,
        _keep_alive(found["grip-keep-alive"][-1]) if "grip-keep-alive" in found else None,
        _status(status[-1]) if status else None,
        frozenset(not_followed),
    )


def read_instruction(body: bytes) -> GripInstruction:
    """
    Read a body of type INSTRUCT.

    Raises:
        RemoteProtocolError: 502, it is malformed.
    """
    value = load_object(body, "the instruction", 502)
    hold = _object(value, "hold", "the instruction")
    response = _object(value, "response", "the instruction")
    return GripInstruction(
        None if hold is None else _hold(hold),
        GripResponse() if response is None else read_response(response, "response", 502),
    )


def read_response(value: Mapping[str, Any], place: str, status: int = 400) -> GripResponse:
    """
    Read a response in JSON: `code`, `headers` as an object or as pairs, and `body` or
    `body-bin`.

    Args:
        value: the object.
        place: its name in error texts.
        status: of the errors.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    code = value.get("code", 200)
    if type(code) is not int or not 200 <= code <= 599:
        raise RemoteProtocolError(f"{place}: code is a status of 200 to 599", status)
    given = value.get("headers") or ()
    pairs = list(given.items()) if isinstance(given, Mapping) else given
    if not isinstance(pairs, list | tuple) or len(pairs) > MAX_HEADERS:
        raise RemoteProtocolError(f"{place}: there are up to {MAX_HEADERS} headers", status)
    headers: list[tuple[str, str]] = []
    for pair in pairs:
        if not _is_header(pair):
            raise RemoteProtocolError(f"{place}: a header is a name and a text", status)
        name, text = pair
        headers.append((name, text.encode().decode("latin-1")))
    body = read_content(value, "body", place, status)
    return GripResponse(code, tuple(headers), b"" if body is None else body)


def read_content(
    value: Mapping[str, Any], name: str, place: str, status: int = 400
) -> bytes | None:
    """
    Return the text *name* of *value*, or what `NAME-bin` has in base64; None for neither.

    Raises:
        RemoteProtocolError: it has another type, or cannot be decoded.
    """
    coded = value.get(f"{name}-bin")
    text = value.get(name)
    try:
        if type(coded) is str:
            return b64decode(coded, validate=True)
        if type(text) is str and coded is None:
            return text.encode()
    except (Base64Error, ValueError):  # UnicodeEncodeError is one
        pass
    if coded is None and text is None:
        return None
    raise RemoteProtocolError(f"{place}: {name} is a text, {name}-bin is base64", status)


def load_object(
    body: bytes, place: str, status: int = 400, most: int = MAX_VALUES
) -> dict[str, Any]:
    """
    Return the JSON object in *body*.

    Args:
        body: the JSON text.
        place: what it is, for errors.
        status: of errors; with 400, that of too many values is 413.
        most: values that it may have.

    Raises:
        RemoteProtocolError: it has none, or too many values.
    """
    check_json_size(body, most, 413 if status == 400 else status)
    try:
        value = json.loads(body.decode())
    except (ValueError, RecursionError):
        value = None
    if type(value) is not dict:
        raise RemoteProtocolError(f"{place} is not a JSON object", status)
    return value


def _hold(value: Mapping[str, Any]) -> GripHold:
    channels: list[str] = []
    not_followed = {f"{name} of hold" for name in ("meta",) if value.get(name)}
    given = value.get("channels") or []
    if type(given) is not list or len(given) > MAX_CHANNELS:
        raise RemoteProtocolError(f"hold: channels is a list of up to {MAX_CHANNELS}", 502)
    for one in given:
        name = one.get("name") if type(one) is dict else one
        if type(name) is not str:
            raise RemoteProtocolError("hold: a channel has a name", 502)
        channels.append(name)
        if type(one) is dict:
            not_followed |= {f"{key} of a channel" for key in one if key != "name" and one[key]}
    timeout = value.get("timeout")
    keep_alive = _object(value, "keep-alive", "hold")
    return GripHold(
        _mode(value.get("mode", HoldMode.RESPONSE.value)),
        _distinct(channels),
        HOLD_SECONDS if timeout is None else _seconds(timeout),
        None if keep_alive is None else _keep_alive_object(keep_alive),
        None,
        frozenset(sorted(not_followed)[:10]),
    )


def _keep_alive_object(value: Mapping[str, Any]) -> KeepAlive:
    content = read_content(value, "content", "keep-alive", 502)
    if not content or len(content) > MAX_KEEP_ALIVE:
        raise RemoteProtocolError(f"keep-alive: content has 1 to {MAX_KEEP_ALIVE} bytes", 502)
    seconds = value.get("timeout")
    return KeepAlive(content, HOLD_SECONDS if seconds is None else max(1.0, _seconds(seconds)))


def _keep_alive(text: str) -> KeepAlive:
    content, parameters = _parameters(text)
    coding = parameters.get("format", "raw")
    try:
        if coding == "raw":
            data = content.encode("latin-1")
        elif coding == "cstring":
            data = _ESCAPE.sub(_unescape, content).encode("latin-1")
        elif coding == "base64":
            data = b64decode(content, validate=True)
        else:
            raise RemoteProtocolError(f"Grip-Keep-Alive has no format {coding[:100]!r}", 502)
    except ValueError:  # of base64, and of an escape
        raise RemoteProtocolError("Grip-Keep-Alive cannot be decoded", 502) from None
    if not data or len(data) > MAX_KEEP_ALIVE:
        raise RemoteProtocolError(f"Grip-Keep-Alive has 1 to {MAX_KEEP_ALIVE} bytes", 502)
    seconds = parameters.get("timeout")
    return KeepAlive(data, HOLD_SECONDS if seconds is None else max(1.0, _seconds(seconds)))


def _unescape(found: re.Match[str]) -> str:
    if found[1]:
        return chr(int(found[1], 16))
    if not found[2]:
        raise ValueError("a backslash at the end")
    # Python's gripcontrol writes three backslashes for one: the third has no meaning.
    return _ESCAPES.get(found[2], found[2])


def _parameters(text: str) -> tuple[str, dict[str, str]]:
    """
    Return the text before the first semicolon, and the parameters behind it.
    """
    first, *others = text.split(";")
    parameters = {}
    for other in others:
        name, _, value = other.partition("=")
        if name.strip():
            parameters[name.strip().lower()] = value.strip().strip('"')
    return first.strip(" \t"), parameters


def _mode(text: object) -> HoldMode:
    try:
        return HoldMode(text)
    except ValueError:
        raise RemoteProtocolError("Grip-Hold is stream or response", 502) from None


def _seconds(value: object) -> float:
    if type(value) is str and _DIGITS.fullmatch(value.strip()):
        value = int(value.strip())
    if type(value) is not int or not 0 <= value <= MAX_SECONDS:
        raise RemoteProtocolError(_BAD_TIMEOUT, 502)
    return float(value)


def _status(text: str) -> int:
    found = _STATUS.fullmatch(text)
    if found is None:
        raise RemoteProtocolError("Grip-Status is a status of 200 to 599", 502)
    return int(found[1])


def _object(value: Mapping[str, Any], name: str, place: str) -> Mapping[str, Any] | None:
    found = value.get(name)
    if found is not None and type(found) is not dict:
        raise RemoteProtocolError(f"{place}: {name} is an object", 502)
    return found


def _is_header(pair: object) -> bool:
    if not isinstance(pair, list | tuple) or len(pair) != 2:
        return False
    name, text = pair
    if type(name) is not str or type(text) is not str or _TOKEN.fullmatch(name) is None:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return _CONTROL.search(text) is None


def _utf8(text: str) -> str:
    return text.encode("latin-1", "replace").decode(errors="replace")


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(names))
    if len(found) > MAX_CHANNELS:
        raise RemoteProtocolError(f"more than {MAX_CHANNELS} channels", 502)
    return found


def _title(name: str) -> str:
    return name.title()
