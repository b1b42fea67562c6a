"""
GRIP: the items that an application publishes (https://pushpin.org/docs/protocols/grip/,
"Control Service"), and how they are carried to the processes that hold responses.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.grip import GripResponse, load_object, read_content, read_response
from rt_twisted.codecs.json_size import MAX_VALUES

STREAM, RESPONSE, MESSAGE = "http-stream", "http-response", "ws-message"  # the formats
VALUES_PER_ITEM = 40  # of an item with all formats and ten headers
_FORMATS = (STREAM, RESPONSE, MESSAGE)
_FIELDS = frozenset(("channel", "id", "prev-id", "formats", *_FORMATS))
_FOLLOWED = {
    STREAM: frozenset(("action", "content", "content-bin")),
    RESPONSE: frozenset(("action", "code", "reason", "headers", "body", "body-bin")),
    MESSAGE: frozenset(("action", "content", "content-bin", "type", "code", "reason")),
}


@dataclass(frozen=True, slots=True)
class GripItem:
    """
    What is published to one channel.

    Args:
        channel: its name, unchecked.
        stream: for held streams; None for nothing.
        closes: whether held streams end.
        response: for held responses; None for nothing.
        message: for websockets; None for nothing.
        not_followed: names of what was asked for and is not done.
    """

    channel: str
    stream: bytes | None = field(default=None, repr=False)
    closes: bool = False
    response: GripResponse | None = None
    message: bytes | None = field(default=None, repr=False)
    not_followed: frozenset[str] = frozenset()


def read_items(body: bytes, max_items: int) -> Sequence[GripItem]:
    """
    Read the body of a publish request: `{"items": [...]}`.

    The formats of an item stand in the item itself, or in its field `formats`.

    Args:
        body: of the request.
        max_items: in one request.

    Raises:
        RemoteProtocolError: 400, it is malformed; 413, there are too many items or values.
    """
    most = max(MAX_VALUES, VALUES_PER_ITEM * max_items)
    items = load_object(body, "the body", most=most).get("items")
    if type(items) is not list or not items:
        raise RemoteProtocolError("items is a list of at least one item")
    if len(items) > max_items:
        raise RemoteProtocolError(f"more than {max_items} items in one request", 413)
    return [_read_item(item, f"item {number}") for number, item in enumerate(items, 1)]


def encode_response(response: GripResponse) -> bytes:
    """
    Return *response* as `decode_response` reads it.
    """
    headers = [(name, text.encode("latin-1").decode()) for name, text in response.headers]
    body = b64encode(response.body).decode()
    value = {"code": response.status, "headers": headers, "body-bin": body}
    return json.dumps(value, separators=(",", ":")).encode()


def decode_response(data: bytes) -> GripResponse:
    """
    Return the response that `encode_response` has written.

    Raises:
        RemoteProtocolError: *data* is something else.
    """
    return read_response(load_object(data, "the message"), RESPONSE)


def _read_item(item: Any, place: str) -> GripItem:
    if type(item) is not dict:
        raise RemoteProtocolError(f"{place} is not an object")
    channel = item.get("channel")
    if type(channel) is not str:
        raise RemoteProtocolError(f"{place}: channel is a text")
    formats = item.get("formats", item)
    if type(formats) is not dict:
        raise RemoteProtocolError(f"{place}: formats is an object")
    not_followed = {f"{name[:50]} of an item" for name in item if name not in _FIELDS}
    if formats is not item:
        not_followed |= {f"the format {name[:50]}" for name in formats if name not in _FORMATS}
    found: dict[str, Mapping[str, Any]] = {}
    closes = False
    for name in _FORMATS:
        value = formats.get(name)
        if value is None:
            continue
        if type(value) is not dict:
            raise RemoteProtocolError(f"{place}: {name} is an object")
        not_followed |= {f"{key[:50]} of {name}" for key in value if key not in _FOLLOWED[name]}
        action = value.get("action", "send")
        if action == "send":
            found[name] = value
        elif name == STREAM and action == "close":
            closes = True
        else:
            not_followed.add(f"the action {str(action)[:50]} of {name}")
    if not found and not closes and not not_followed:
        raise RemoteProtocolError(f"{place} has none of {', '.join(_FORMATS)}")
    return GripItem(
        channel,
        _content(found, STREAM, place),
        closes,
        read_response(found[RESPONSE], f"{place}: {RESPONSE}") if RESPONSE in found else None,
        _content(found, MESSAGE, place),
        frozenset(sorted(not_followed)[:10]),
    )


def _content(found: Mapping[str, Mapping[str, Any]], name: str, place: str) -> bytes | None:
    if name not in found:
        return None
    content = read_content(found[name], "content", f"{place}: {name}")
    if content is None:
        raise RemoteProtocolError(f"{place}: {name} has no content")
    return content
