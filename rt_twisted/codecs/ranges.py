"""
The headers `Range` and `Content-Range` (RFC 9110, 14.1 to 14.5), within limits.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise

MAX_RANGES = 16  # ranges of one request; RFC 9110, 17.15, advises a limit

_SPEC = re.compile(r"(\d{0,18})-(\d{0,18})", re.ASCII)
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(?:\*|\d{1,18})", re.ASCII)


def parse_ranges(text: str, size: int) -> list[range] | None:
    """
    Parse a `Range` header.

    Args:
        text: the header's value.
        size: of the whole representation, in bytes.

    Returns:
        the satisfiable ranges, in the client's order, none of them empty. An empty list
        if none can be satisfied (416). None if the header has to be ignored (200): it is
        malformed, has another unit, has more than MAX_RANGES ranges, or they overlap.
    """
    unit, equals, rest = text.partition("=")
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    specs = [spec for each in rest.split(",") if (spec := each.strip(" \t"))]
    if not 0 < len(specs) <= MAX_RANGES:
        return None
    found: list[range] = []
    for spec in specs:
        match = _SPEC.fullmatch(spec)
        if match is None or spec == "-":
            return None
        first, last = match.groups()
        if not first:
            start, stop = max(0, size - int(last)), size
        else:
            start, stop = int(first), size
            if last:
                if int(last) < start:
                    return None
                stop = min(size, int(last) + 1)
        if start < stop:
            found.append(range(start, stop))
    return None if _overlap(found) else found


def byteranges(
    ranges: Sequence[range], size: int, content_type: str, boundary: str
) -> list[bytes | range]:
    """
    Build a body with several ranges (RFC 9110, 14.6): the text between them, and in place
    of its bytes each range itself.

    Args:
        ranges: two or more.
        size: of the whole, in bytes.
        content_type: of the whole.
        boundary: a string that the whole does not contain.
    """
    parts: list[bytes | range] = []
    before = ""
    for each in ranges:
        head = (
            f"{before}--{boundary}\r\n"
            f"Content-Type: {content_type}\r\n"
            f"Content-Range: {content_range(each, size)}\r\n\r\n"
        )
        parts += [head.encode("latin-1"), each]
        before = "\r\n"
    parts.append(f"\r\n--{boundary}--\r\n".encode("latin-1"))
    return parts


def content_range(part: range | None, size: int) -> str:
    """
    Return the value of `Content-Range` (RFC 9110, 14.4).

    Args:
        part: None if no range can be satisfied.
        size: of the whole representation, in bytes.
    """
    return f"bytes */{size}" if part is None else f"bytes {part.start}-{part.stop - 1}/{size}"


def _overlap(ranges: Sequence[range]) -> bool:
    ordered = sorted(ranges, key=lambda each: each.start)
    return any(a.stop > b.start for a, b in pairwise(ordered))


def content_range_start(value: str) -> int | None:
    """
    Return the first byte of a Content-Range (RFC 9110, 14.4), as clients send it in partial PUTs.

    Args:
        value: of the header, such as `bytes 261-7731/*`.

    Returns:
        None if it is malformed.
    """
    found = _CONTENT_RANGE.fullmatch(value.strip())
    return int(found[1]) if found is not None else None
