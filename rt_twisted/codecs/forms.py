"""
Forms for WSGI and CGI style applications: all fields, with names and values as bytes
(WHATWG URL, 5.1; RFC 7578).
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

import multipart

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_FIELDS = 1000  # of one form

Form = dict[bytes, list[bytes]]


def parse_fields(content_type: str, body: bytes) -> Form:
    """
    Parse the fields of a form.

    Args:
        content_type: the header; "" if there is none.
        body: whole.

    Returns:
        the values of each field, in order; empty for other content types.

    Raises:
        RemoteProtocolError: 400, the form is malformed or has more than
            MAX_FIELDS fields.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/x-www-form-urlencoded":
        return _parse_urlencoded(body)
    if kind == "multipart/form-data":
        return _parse_multipart(content_type, body)
    return {}


def _parse_urlencoded(body: bytes) -> Form:
    pairs = body.split(b"&", MAX_FIELDS + 1)
    if len(pairs) > MAX_FIELDS:
        raise RemoteProtocolError(f"a form has up to {MAX_FIELDS} fields")
    fields: Form = {}
    for pair in pairs:
        name, equals, value = pair.replace(b"+", b" ").partition(b"=")
        if name or equals:
            fields.setdefault(unquote_to_bytes(name), []).append(unquote_to_bytes(value))
    return fields


def _parse_multipart(content_type: str, body: bytes) -> Form:
    fields: Form = {}
    pieces: list[bytes] = []
    values: list[bytes] | None = None
    try:
        _, options = multipart.parse_options_header(content_type)
        parser = multipart.PushMultipartParser(
            options.get("boundary", ""), max_segment_count=MAX_FIELDS
        )
        for event in (*parser.parse(body), *parser.parse(b"")):
            if isinstance(event, multipart.MultipartSegment):
                values = fields.setdefault(event.name.encode(), [])
            elif event is not None:
                pieces.append(event)
            elif values is not None:
                values.append(b"".join(pieces))
                pieces = []
    except (multipart.MultipartError, ValueError) as error:
        raise RemoteProtocolError(f"malformed form: {error}") from None
    return fields
