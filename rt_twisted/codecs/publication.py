"""
Bodies of publish requests: forms (WHATWG URL, 5.1), multipart (RFC 7578), JSON (RFC 8259),
lines of JSON, and plain bodies.

Messages in forms and plain bodies are bytes, and are published unchanged. In JSON a string
is published as UTF-8, and any other value as it is written: numbers keep all their digits,
objects the order of their members.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NoReturn

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.forms import MULTIPART, parse_form
from rt_twisted.codecs.json_size import MAX_VALUES, check_json_size
from rt_twisted.codecs.query import BRACKETED, BYTE_ORDER_MARK, FORM, is_json, media_type
from rt_twisted.model.message import EXPIRE, GAP, POSITION, UNIT

MAX_EVENT = 200  # characters of an event type
MAX_KEY = 200  # characters of an idempotency key
TOO_MANY_VALUES = (
    "the JSON has too many values: publish it as text/plain, with channel= in the query"
)
VALUES_PER_MESSAGE = 12  # of a batch whose messages have all fields
JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
_BLANK = re.compile(r"[ \t\n\r]*")
_KNOWN = frozenset(("channel", "event", "idempotency_key", "key", "message"))
_FIELDS = {name.encode(): name for name in _KNOWN}

Location = tuple[str, int]  # of an error: a name and a number, joined only if there is an error
_BODY: Location = ("the body", 0)
_NONE = object()  # no message; null is one

Fields = dict[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class VerbatimJson:
    """
    A JSON value other than a string, as it is written.
    """

    data: bytes


@dataclass(slots=True, unsafe_hash=True)
class Submission:
    """
    One message of a publish request.

    Args:
        channels: names, unchecked; empty if the request names none.
        message: None if the request has none.
        event: the event type; None for none.
        idempotency_key: None for none.
        key: the publish key in the body or query; None for none.
    """

    channels: Final[Sequence[str]]
    message: Final[bytes | None]
    event: Final[str | None] = None
    idempotency_key: Final[str | None] = None
    key: Final[bytes | None] = None


def parse(
    content_type: str, body: bytes | None, query: Mapping[str, list[str]], max_messages: int
) -> list[Submission]:
    """
    Parse a publish request.

    Args:
        content_type: the header; "" if there is none.
        body: whole; None if the request has no body. An empty body is an empty message.
        query: fields of the URL, for those that the body does not have.
        max_messages: in one request.

    Raises:
        RemoteProtocolError: 400, the request is malformed; 413, it has more than
            *max_messages* messages.
    """
    kind = media_type(content_type)
    if kind == FORM:
        fields = _form_fields(content_type, (body or b"").removeprefix(BYTE_ORDER_MARK))
    elif is_json(kind) or kind in LINES:
        submissions = _parse_json(kind, body or b"", max_messages)
        return [_with_query_defaults(one, query) for one in submissions] if query else submissions
    elif kind == MULTIPART:
        fields = _form_fields(content_type, body or b"")
    else:
        is_there = body or (body is not None and "message" not in query)
        fields = {"message": [body or b""]} if is_there else {}
    if query:
        for name, values in _unbracketed(query).items():
            if name in _KNOWN and name not in fields:
                fields[name] = [value.encode(errors="surrogateescape") for value in values]
    return [_from_fields(fields)]


def _unbracketed(query: Mapping[str, list[str]]) -> Mapping[str, list[str]]:
    """
    Return *query* with the channels of `channel[]` and the like in `channel`.
    """
    bracketed = [name for name in query if name[-1:] == "]" and BRACKETED.fullmatch(name)]
    if not bracketed:
        return query
    channels = [channel for name in ("channel", *bracketed) for channel in query.get(name, ())]
    return {**query, "channel": channels}


def may_have_fields(content_type: str) -> bool:
    """
    Return whether a body of this type can contain a publish key.
    """
    kind = media_type(content_type)
    return kind in (FORM, MULTIPART) or kind in LINES or is_json(kind)


def _parse_json(kind: str, body: bytes, max_messages: int) -> list[Submission]:
    text = _text(body.removeprefix(BYTE_ORDER_MARK))
    most = max(MAX_VALUES, VALUES_PER_MESSAGE * max_messages)
    check_json_size(text, most, 413, TOO_MANY_VALUES)
    if kind in LINES:
        lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        _check_count(len(lines), max_messages)
        return [_from_json(_load_object(line, ("line", n)), ("line", n)) for n, line in lines]
    value = _load_object(text, _BODY)
    if not isinstance(value, list):
        return [_from_json(value, _BODY)]
    _check_count(len(value), max_messages)
    if any(map(_has_non_string, value)):
        for item, message in zip(value, _message_texts(text), strict=True):
            if _has_non_string(item):
                item["message"] = VerbatimJson(message.encode())
    return [_from_json(item, ("item", n)) for n, item in enumerate(value, 1)]


def parse_object(value: Any) -> Submission:
    """
    Convert parsed JSON to a message.

    Args:
        value: from `load_json`: its message is a string or `VerbatimJson`.

    Raises:
        RemoteProtocolError: 400, *value* is not a valid message.
        TypeError: *value* is not from `load_json`.
    """
    return _from_json(value, ("message", 0))


def _at(location: Location) -> str:
    word, number = location
    return f"{word} {number}" if number else word


def _with_query_defaults(submission: Submission, query: Mapping[str, list[str]]) -> Submission:
    """
    Fill in the channels and the key from the URL if *submission* has none.
    """
    query = _unbracketed(query)
    key = submission.key
    if key is None and "key" in query:
        key = query["key"][-1].encode(errors="surrogateescape")
    return replace(submission, channels=submission.channels or query.get("channel", ()), key=key)


def _from_fields(fields: Fields) -> Submission:
    channels = [_utf8(value, "channel") for value in fields.get("channel", ())]
    message = fields.get("message")
    key = fields.get("key")
    event = fields.get("event")
    idempotency_key = fields.get("idempotency_key")
    return Submission(
        channels,
        message[-1] if message else None,
        check_event(_utf8(event[-1], "event")) if event else None,
        check_idempotency_key(_utf8(idempotency_key[-1], "idempotency_key"))
        if idempotency_key
        else None,
        key[-1] if key else None,
    )


def _from_json(value: Any, location: Location) -> Submission:
    if type(value) is not dict:
        raise RemoteProtocolError(f"{_at(location)} is not a JSON object")
    if not value.keys() <= _KNOWN:
        unknown = min(value.keys() - _KNOWN)
        raise RemoteProtocolError(f"{_at(location)} has an unknown field {unknown[:100]!r}")
    channel = value.get("channel", ())
    channels = (channel,) if type(channel) is str else channel
    if type(channels) is list and any(type(name) is not str for name in channels):
        channels = None
    if type(channels) not in (tuple, list):
        raise RemoteProtocolError(f"{_at(location)}: channel is a string, or an array of strings")
    try:
        for name in channels:
            name.encode()
        message = value.get("message", _NONE)
        data: bytes | None = None
        if type(message) is str:
            data = message.encode()
        elif type(message) is VerbatimJson:
            data = message.data
        elif message is not _NONE:
            raise TypeError("a message that is not verbatim")
        if len(value) == 2 and "channel" in value and data is not None:  # the usual case
            return Submission(channels, data)
        event = _string(value, "event", location)
        idempotency_key = _string(value, "idempotency_key", location)
        key = _string(value, "key", location)
        return Submission(
            channels,
            data,
            check_event(event) if event else None,
            check_idempotency_key(idempotency_key) if idempotency_key else None,
            key.encode() if key else None,
        )
    except UnicodeEncodeError:
        raise RemoteProtocolError(f"{_at(location)} has half a surrogate pair") from None


def _string(value: dict[str, Any], name: str, location: Location) -> str | None:
    text = value.get(name)
    if text is not None and type(text) is not str:
        raise RemoteProtocolError(f"{_at(location)}: {name} is a string")
    if text:
        text.encode()
    return text


# Subscribers could not distinguish a publisher's event from the server's. These types are
# refused for all transports, as a publisher does not know how a message will be received.
SERVER_EVENTS = frozenset((EXPIRE, GAP, POSITION))


def check_event(event: str) -> str | None:
    """
    Return *event*, or None if it is empty.

    Raises:
        RemoteProtocolError: it is too long, has line ends or NUL, is in SERVER_EVENTS, or
            begins with UNIT.
    """
    if len(event) > MAX_EVENT or any(character in event for character in "\r\n\0"):
        raise RemoteProtocolError(f"an event type is one line of up to {MAX_EVENT} characters")
    if event in SERVER_EVENTS or event.startswith(UNIT):
        raise RemoteProtocolError(f"the event type {event!r} is the server's own")
    return event or None


def check_idempotency_key(key: str) -> str | None:
    """
    Return the idempotency key *key*, or None if it is empty.

    Raises:
        RemoteProtocolError: it is longer than MAX_KEY.
    """
    if len(key) > MAX_KEY:
        raise RemoteProtocolError(f"an idempotency key has up to {MAX_KEY} characters")
    return key or None


def _form_fields(content_type: str, body: bytes) -> Fields:
    """
    Parse a form; fields with other names than those of a message are ignored.
    """
    fields: Fields = {}
    for name, value in parse_form(content_type, body):
        known = _FIELDS.get(name)
        if known is None and name[-1:] == b"]" and BRACKETED.fullmatch(name.decode("latin-1")):
            known = "channel"
        if known is not None:
            fields.setdefault(known, []).append(value)
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON (RFC 8259, 6)


def _integer(digits: str) -> int:
    return int(digits[:40])  # converting very long integers takes quadratic time


_decoder = json.JSONDecoder(parse_constant=_refuse_constant, parse_int=_integer)  # slow to create
_decode, _decode_at = _decoder.decode, _decoder.raw_decode


def load_json(text: str) -> Any:
    """
    Parse JSON (RFC 8259), keeping a `message` that is not a string verbatim.

    Integers are cut to 40 digits, except in a message.

    Returns:
        the value. If it is an object, its `message` is a string or `VerbatimJson`.

    Raises:
        ValueError: *text* is not JSON; NaN and Infinity are not.
        RecursionError: *text* is nested too deeply.
    """
    value: Any = None
    end = -1
    if text[:1] == "{":  # most often, and without blanks around it
        value, end = _decode_at(text, 0)
    if end != len(text):
        value = _decode(text)
    if _has_non_string(value):
        [message] = _message_texts(text)
        value["message"] = VerbatimJson(message.encode())
    return value


def _load_object(text: str, location: Location) -> Any:
    try:
        return load_json(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"{_at(location)} is not JSON") from None


def _has_non_string(value: Any) -> bool:
    """
    Return whether *value* is an object whose message is not a string.
    """
    return type(value) is dict and type(value.get("message", "")) is not str


def _message_texts(text: str) -> list[str]:
    """
    Return the text of `message` in an object, or in each item of an array.

    Of several members of that name the last one counts. "" stands for no message.

    Args:
        text: valid JSON.
    """
    start = _skip_blanks(text, 0)
    if text[start] == "{":
        return [_message_text_in(text, start)[0]]
    messages: list[str] = []
    while text[start] != "]":
        start = _skip_blanks(text, start + 1)  # after the bracket or a comma
        if text[start] == "{":
            message, start = _message_text_in(text, start)
        else:
            message, (_, start) = "", _decode_at(text, start)
        messages.append(message)
        start = _skip_blanks(text, start)
    return messages


def _message_text_in(text: str, start: int) -> tuple[str, int]:
    """
    Return the text of the last `message` of the object at *start*, and the object's end.
    """
    message = ""
    start = _skip_blanks(text, start + 1)
    while text[start] != "}":
        if text[start] == ",":
            start = _skip_blanks(text, start + 1)
        name, start = _decode_at(text, start)
        start = _skip_blanks(text, _skip_blanks(text, start) + 1)  # the colon
        _, end = _decode_at(text, start)
        if name == "message":
            message = text[start:end]
        start = _skip_blanks(text, end)
    return message, start + 1


def _skip_blanks(text: str, start: int) -> int:
    found = _BLANK.match(text, start)
    return found.end() if found else start


def _text(body: bytes) -> str:
    return _utf8(body, "the body")


def _utf8(value: bytes, location: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{location} is not UTF-8") from None


def _check_count(count: int, max_messages: int) -> None:
    if count > max_messages:
        raise RemoteProtocolError(f"more than {max_messages} messages in one request", 413)
    if not count:
        raise RemoteProtocolError("no message")
