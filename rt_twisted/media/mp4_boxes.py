"""
Boxes of ISO base media files (ISO/IEC 14496-12, 4.2).
"""

from __future__ import annotations

from struct import Struct

from rt_twisted.codecs.errors import RemoteProtocolError

_HEADER = Struct(">I4s")  # size and type


def box(kind: bytes, *contents: bytes) -> bytes:
    """
    Encode a box.

    Args:
        kind: four characters.
        contents: joined; together under 4 GiB.
    """
    payload = b"".join(contents)
    return (8 + len(payload)).to_bytes(4) + kind + payload


def full_box(kind: bytes, version: int, flags: int, *contents: bytes) -> bytes:
    """
    Encode a box that begins with a version and flags.
    """
    return box(kind, version.to_bytes(1) + flags.to_bytes(3), *contents)


def boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """
    Return type and payload of each box in the payload of a container box.

    Raises:
        RemoteProtocolError: a box is truncated or malformed.
    """
    found: list[tuple[bytes, bytes]] = []
    position = 0
    while position < len(data):
        header = read_header(data, position)
        if header is None or position + header[1] > len(data):
            raise RemoteProtocolError("MP4: a box is truncated")
        kind, size, start = header
        found.append((kind, data[position + start : position + size]))
        position += size
    return found


def read_header(data: bytes | bytearray, position: int) -> tuple[bytes, int, int] | None:
    """
    Return the type of the box at *position*, its size, and the size of its header; None if
    the header is incomplete.

    Raises:
        RemoteProtocolError: the size is smaller than the header, or means "to the end of
            the file", which live streams do not have.
    """
    if position + 8 > len(data):
        return None
    size, kind = _HEADER.unpack_from(data, position)
    start = 8
    if size == 1:
        start = 16
        if position + start > len(data):
            return None
        size = int.from_bytes(data[position + 8 : position + start])
    if size < start:
        raise RemoteProtocolError("MP4: the size of a box is invalid")
    return kind, size, start
