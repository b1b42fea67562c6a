"""
Small WebM documents, byte by byte.
"""

from __future__ import annotations

from rt_twisted.media.ebml import element, unsigned_element
from rt_twisted.media.matroska import CLUSTER, EBML, INFO, SEGMENT, SIMPLE_BLOCK, TIMESTAMP, TRACKS

DOCUMENT = element(EBML, element(0x4282, b"webm"))
VIDEO = element(
    0xAE,
    unsigned_element(0xD7, 1)
    + unsigned_element(0x83, 1)
    + element(0x86, b"V_VP8")
    + element(0xE0, unsigned_element(0xB0, 64) + unsigned_element(0xBA, 48)),
)
AUDIO = element(
    0xAE,
    unsigned_element(0xD7, 2)
    + unsigned_element(0x83, 2)
    + element(0x86, b"A_VORBIS")
    + element(0xE1, element(0xB5, b"\x47\x3b\x80\x00")),
)


def unknown(id: int, *sizes: bytes) -> bytes:
    """
    Return the start of an element of unknown size, eight bytes long or as *sizes* says.
    """
    return id.to_bytes((id.bit_length() + 7) // 8) + (sizes[0] if sizes else b"\x01" + b"\xff" * 7)


def start(*entries: bytes, scale: int = 1_000_000) -> bytes:
    """
    Return a document up to its first cluster.
    """
    info = element(INFO, unsigned_element(0x2AD7B1, scale))
    tracks = element(TRACKS, b"".join(entries or (VIDEO, AUDIO)))
    return DOCUMENT + unknown(SEGMENT) + info + tracks


def block(track: int, relative: int, data: bytes, flags: int = 0x80) -> bytes:
    """
    Return the payload of a block.
    """
    return bytes((0x80 | track,)) + relative.to_bytes(2, signed=True) + bytes((flags,)) + data


def simple(track: int, relative: int, data: bytes, flags: int = 0x80) -> bytes:
    """
    Return a SimpleBlock.
    """
    return element(SIMPLE_BLOCK, block(track, relative, data, flags))


def cluster(time: int, *contents: bytes) -> bytes:
    """
    Return a cluster of known size.
    """
    return element(CLUSTER, unsigned_element(TIMESTAMP, time) + b"".join(contents))


def open_cluster(time: int, *contents: bytes, size: bytes = b"\x01" + b"\xff" * 7) -> bytes:
    """
    Return a cluster of unknown size.
    """
    return unknown(CLUSTER, size) + unsigned_element(TIMESTAMP, time) + b"".join(contents)
