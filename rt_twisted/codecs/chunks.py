"""
The chunked transfer coding (RFC 9112, 7.1).
"""

from __future__ import annotations

LAST_CHUNK = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    """
    Encode *data* as one chunk; b"" for b"", as an empty chunk would end the body.
    """
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
