"""
The uwsgi protocol: requests as packets of variables. Responses are HTTP.

https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct

MAX_PACKET = 65535  # bytes of all variables

_HEAD = Struct("<BHB")
_SIZE = Struct("<H")


def encode_packet(
    variables: Iterable[tuple[bytes, bytes]], modifier1: int = 0, modifier2: int = 0
) -> bytes:
    """
    Return the packet of a request; its body follows as it is.

    Args:
        variables: as of CGI, such as (b"PATH_INFO", b"/").
        modifier1: the kind of request; 0 for WSGI.
        modifier2: its meaning depends on *modifier1*.

    Raises:
        ValueError: the variables are too large.
    """
    parts = [b""]
    size = 0
    for name, value in variables:
        size += len(name) + len(value) + 4
        if size > MAX_PACKET:
            raise ValueError(f"the variables are larger than {MAX_PACKET} bytes")
        parts += (_SIZE.pack(len(name)), name, _SIZE.pack(len(value)), value)
    parts[0] = _HEAD.pack(modifier1, size, modifier2)
    return b"".join(parts)
