"""
Forms: all fields, with names and values as bytes (WHATWG URL, 5.1; RFC 7578).
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.codecs.query import FORM, MAX_FIELDS, media_type
from rt_twisted.model.load_object import load_part

MULTIPART = "multipart/form-data"

# `in` takes 0.04 us with a number, and 0.26 with bytes: CPython tries a number first, and raises
# and clears an exception.
_PLUS, _PERCENT = b"+%"

FormFields = list[tuple[bytes, bytes]]


def parse_form(content_type: str, body: bytes) -> FormFields:
    """
    Parse the fields of a form.

    Args:
        content_type: the header; "" if there is none.
        body: whole.

    Returns:
        names and values, in order; empty for other content types.

    Raises:
        RemoteProtocolError: 400, the form is malformed or has more than
            MAX_FIELDS fields.
    """
    kind = media_type(content_type)
    if kind == FORM:
        return _parse_urlencoded(body)
    return _parse_multipart(content_type, body) if kind == MULTIPART else []


def _parse_urlencoded(body: bytes) -> FormFields:
    pairs = body.split(b"&", MAX_FIELDS + 1)
    if len(pairs) > MAX_FIELDS:
        raise RemoteProtocolError("too many fields")
    escaped = _PERCENT in body or _PLUS in body
    fields: FormFields = []
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        if escaped:
            name, value = _unquote(name), _unquote(value)
        if pair:
            fields.append((name, value))
    return fields


def _unquote(text: bytes) -> bytes:
    if _PLUS in text:
        text = text.replace(b"+", b" ")
    return unquote_to_bytes(text) if _PERCENT in text else text


def _parse_multipart(content_type: str, body: bytes) -> FormFields:
    multipart = load_part("multipart")  # few publishers send such forms
    fields: FormFields = []
    name = b""
    pieces: list[bytes] = []
    try:
        _, options = multipart.parse_options_header(content_type)
        parser = multipart.PushMultipartParser(
            options.get("boundary", ""), max_segment_count=MAX_FIELDS
        )
        for event in (*parser.parse(body), *parser.parse(b"")):
            if isinstance(event, multipart.MultipartSegment):
                name, pieces = event.name.encode(), []
            elif event is not None:
                pieces.append(event)
            else:  # the end of a segment
                fields.append((name, b"".join(pieces)))
    except (multipart.MultipartError, ValueError) as error:
        raise RemoteProtocolError(f"malformed multipart body: {error}") from None
    return fields
