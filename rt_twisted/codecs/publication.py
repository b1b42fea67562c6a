"""
What publishers send: forms, multipart, JSON, lines of JSON, plain bodies.

In forms and plain bodies a message is bytes, and stays exactly these bytes. In
JSON it is a string, which becomes UTF-8, or any other value, which is written
again as compact JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes

import multipart

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.sse import GAP

MAX_FIELDS = 1000  # of one form
MAX_EVENT = 200  # characters of an event type
MAX_KEY = 200  # characters of an idempotency key
JSON = "application/json"
LINES = ("application/x-ndjson", "application/ndjson", "application/jsonl")
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
_KNOWN = frozenset(("channel", "event", "idempotency_key", "key", "message"))

Place = tuple[str, int]  # of what is wrong; made into words only if it is
_BODY: Place = ("the body", 0)
_NONE = object()  # not there; null is a message

Fields = dict[str, list[bytes]]


@dataclass(frozen=True, slots=True)
class Submission:
    """
    One message as somebody wants it published.

    Args:
        channels: their names, as sent; empty if the request names none.
        message: None if the request has none.
        event: the event type; None for none.
        idempotency_key: None for none.
        key: the secret that came with it; None for none.
    """

    channels: Sequence[str]
    message: bytes | None
    event: str | None = None
    idempotency_key: str | None = None
    key: bytes | None = None


def parse(
    content_type: str, body: bytes, query: Mapping[str, list[str]], most: int
) -> list[Submission]:
    """
    Read a request to publish.

    Args:
        content_type: the header; "" if there is none.
        body: whole.
        query: fields of the URL; the body's come first.
        most: messages in one request.

    Raises:
        RemoteProtocolError: 400 for what cannot be read, 413 for more than
            *most* messages.
    """
    kind = _kind_of(content_type)
    if kind == JSON or kind in LINES:
        submissions = _parse_json(kind, body, most)
        return [_completed(one, query) for one in submissions] if query else submissions
    if kind == FORM:
        fields = _parse_form(body)
    elif kind == MULTIPART:
        fields = _parse_multipart(content_type, body)
    else:
        fields = {"message": [body]} if body else {}
    for name, values in query.items():
        if name in _KNOWN and name not in fields:
            fields[name] = [value.encode(errors="surrogateescape") for value in values]
    return [_from_fields(fields)]


def may_have_fields(content_type: str) -> bool:
    """
    Whether a body of this type can name a key.
    """
    kind = _kind_of(content_type)
    return kind in (JSON, FORM, MULTIPART) or kind in LINES


def _kind_of(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _parse_json(kind: str, body: bytes, most: int) -> list[Submission]:
    text = _text(body)
    if kind in LINES:
        lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        _check_count(len(lines), most)
        return [_from_json(_load(line, ("line", n)), ("line", n)) for n, line in lines]
    value = _load(text, _BODY)
    if not isinstance(value, list):
        return [_from_json(value, _BODY)]
    _check_count(len(value), most)
    return [_from_json(item, ("item", n)) for n, item in enumerate(value, 1)]


def parse_object(value: Any) -> Submission:
    """
    Read one message from JSON that is parsed already.

    Raises:
        RemoteProtocolError: 400, it is none.
    """
    return _from_json(value, ("message", 0))


def _at(place: Place) -> str:
    word, number = place
    return f"{word} {number}" if number else word


def _completed(submission: Submission, query: Mapping[str, list[str]]) -> Submission:
    """
    With the channels and the key of the URL, if it has none of its own.
    """
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
        check_key(_utf8(idempotency_key[-1], "idempotency_key")) if idempotency_key else None,
        key[-1] if key else None,
    )


def _from_json(value: Any, place: Place) -> Submission:
    if type(value) is not dict:
        raise RemoteProtocolError(f"{_at(place)} is not a JSON object")
    if not value.keys() <= _KNOWN:
        unknown = min(value.keys() - _KNOWN)
        raise RemoteProtocolError(f"{_at(place)} has an unknown field {unknown[:100]!r}")
    channel = value.get("channel", ())
    channels = (channel,) if type(channel) is str else channel
    if type(channels) is list and any(type(name) is not str for name in channels):
        channels = None
    if type(channels) not in (tuple, list):
        raise RemoteProtocolError(f"{_at(place)}: channel is a string, or an array of strings")
    try:
        for name in channels:
            name.encode()
        message = value.get("message", _NONE)
        if type(message) is str:
            data: bytes | None = message.encode()
        elif message is _NONE:
            data = None
        else:
            data = _encode(message).encode()
        if len(value) == 2 and "channel" in value and data is not None:  # nearly always
            return Submission(channels, data)
        event = _string(value, "event", place)
        idempotency_key = _string(value, "idempotency_key", place)
        key = _string(value, "key", place)
        return Submission(
            channels,
            data,
            check_event(event) if event else None,
            check_key(idempotency_key) if idempotency_key else None,
            key.encode() if key else None,
        )
    except UnicodeEncodeError:
        raise RemoteProtocolError(f"{_at(place)} has half a surrogate pair") from None
    except ValueError:
        raise RemoteProtocolError(f"{_at(place)} has a number that is too large") from None


def _string(value: dict[str, Any], name: str, place: Place) -> str | None:
    text = value.get(name)
    if text is not None and type(text) is not str:
        raise RemoteProtocolError(f"{_at(place)}: {name} is a string")
    if text:
        text.encode()
    return text


def check_event(event: str) -> str | None:
    """
    *event* if it may be an event type; None for the empty one.

    Raises:
        RemoteProtocolError: it would not fit on a line, or is ours.
    """
    if len(event) > MAX_EVENT or any(character in event for character in "\r\n\0"):
        raise RemoteProtocolError(f"an event type is one line of up to {MAX_EVENT} characters")
    if event == GAP:
        raise RemoteProtocolError(f"the event type {GAP!r} is the server's own")
    return event or None


def check_key(key: str) -> str | None:
    """
    *key* if it may be an idempotency key; None for the empty one.

    Raises:
        RemoteProtocolError: it is too long.
    """
    if len(key) > MAX_KEY:
        raise RemoteProtocolError(f"an idempotency key has up to {MAX_KEY} characters")
    return key or None


def _parse_form(body: bytes) -> Fields:
    """
    Cut a form apart (WHATWG URL, 5.1), bytes as they are.
    """
    pairs = body.split(b"&", MAX_FIELDS + 1)
    if len(pairs) > MAX_FIELDS:
        raise RemoteProtocolError("too many fields")
    fields: Fields = {}
    for pair in pairs:
        raw_name, _, value = pair.partition(b"=")
        name = _unquote(raw_name)
        if name.isascii():
            fields.setdefault(name.decode(), []).append(_unquote(value))
    return fields


def _unquote(text: bytes) -> bytes:
    if b"+" in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if b"%" in text else text


def _parse_multipart(content_type: str, body: bytes) -> Fields:
    """
    Cut a multipart body apart (RFC 7578).
    """
    _, options = multipart.parse_options_header(content_type)
    fields: Fields = {}
    values: list[bytes] | None = None
    try:
        parser = multipart.PushMultipartParser(
            options.get("boundary", ""), max_segment_count=MAX_FIELDS
        )
        for event in (*parser.parse(body), *parser.parse(b"")):
            if isinstance(event, multipart.MultipartSegment):
                values = fields.setdefault(event.name, [])
                values.append(b"")
            elif event is not None and values is not None:
                values[-1] += event
    except (multipart.MultipartError, ValueError) as error:
        raise RemoteProtocolError(f"malformed multipart body: {error}") from None
    return fields


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)  # NaN and Infinity are not JSON (RFC 8259, 6)


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode  # made once: dear to make


def _load(text: str, place: Place) -> Any:
    try:
        return _decode(text)
    except (ValueError, RecursionError):
        raise RemoteProtocolError(f"{_at(place)} is not JSON") from None


def _text(body: bytes) -> str:
    return _utf8(body, "the body")


def _utf8(value: bytes, place: str) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{place} is not UTF-8") from None


def _check_count(count: int, most: int) -> None:
    if count > most:
        raise RemoteProtocolError(f"more than {most} messages in one request", 413)
    if not count:
        raise RemoteProtocolError("no message")
