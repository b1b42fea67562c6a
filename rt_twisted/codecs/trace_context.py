"""
The headers of W3C Trace Context, by which requests are found again in other programs' logs.
"""

from __future__ import annotations

import re

from rt_twisted.model.errors import Header

TRACE = ("traceparent", "tracestate")  # headers
MAX_STATE = 512  # characters of tracestate that are passed on (Trace Context, 3.3.1.5)

# Versions after 00 may append fields (Trace Context, 4.3).
_PARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
_MAX_PARENT = 200  # characters of a header that are looked at


def read_traceparent(header: str | None) -> str:
    """
    Return the value of the header `traceparent`; "" if it is missing or malformed.

    Of later versions of the standard, the fields of version 00 are returned.
    """
    if header is None or len(header) > _MAX_PARENT or not _is_plain(header):
        return ""
    found = _PARENT.match(header)
    if found is None:
        return ""
    rest = header[found.end() :]
    if rest and (header.startswith("00") or not rest.startswith("-")):
        return ""
    return found[0]


def trace_headers(parent: str | None, state: str | None) -> tuple[Header, ...]:
    """
    Return the headers of a request that belongs to the same trace.

    They are passed on unchanged, as by a program that records no spans.

    Args:
        parent: the header `traceparent` of the client; None for none.
        state: its header `tracestate`; None for none.
    """
    if not read_traceparent(parent) or parent is None:
        return ()
    headers: tuple[Header, ...] = (("traceparent", parent),)
    if state and len(state) <= MAX_STATE and _is_plain(state):
        headers += (("tracestate", state),)
    return headers


def _is_plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
