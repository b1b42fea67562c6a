"""
A bound for the time that parsing a JSON text takes, in which nothing else is done.
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError

MAX_VALUES = 50_000  # take 5 to 10 ms; a text of 1 MB can have 500,000, which take 100
SMALL = 1 << 16  # characters that cannot have many more values
_STRUCTURE = b",:[{"


def check_json_size(
    text: str | bytes,
    most: int = MAX_VALUES,
    status: int = 400,
    reason: str = "the JSON has too many values",
) -> None:
    """
    Check that a JSON text does not take too long to parse.

    Args:
        text: need not be valid; bytes are UTF-8.
        most: see `has_too_many_values`.
        status: of the error.
        reason: of the error.

    Raises:
        RemoteProtocolError: it has too many values.
    """
    if len(text) > SMALL and has_too_many_values(text, most):
        raise RemoteProtocolError(reason, status)


def has_too_many_values(text: str | bytes, most: int = MAX_VALUES) -> bool:
    """
    Return whether a JSON text has more values and names of members than may be parsed at once.

    Args:
        text: need not be valid; bytes are UTF-8.
        most: values and names.
    """
    if len(text) <= SMALL:
        return False
    data = text if isinstance(text, bytes) else text.encode(errors="replace")
    if _count(data) <= most:
        return False
    # Those characters may be in strings: keep what is outside of them.
    data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    if data.count(b'"') > 2 * most:
        return True
    return _count(b"".join(data.split(b'"')[::2])) > most


def _count(data: bytes) -> int:
    # Faster than to count each of them, if there are many.
    return len(data) - len(data.translate(None, _STRUCTURE))
