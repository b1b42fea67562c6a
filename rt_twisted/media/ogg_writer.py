"""
Writes Ogg (RFC 3533) with one track: header pages, and one page or more for each packet.
"""

from __future__ import annotations

import struct
import zlib

from rt_twisted.media import opus, vorbis
from rt_twisted.media.unit import Track

_HEADER = struct.Struct("<4sBBqIIIB")
_CONTINUED, _FIRST = 1, 2
_SEGMENTS = 255  # of a page, each up to 255 bytes
_NO_GRANULE = -1
_VENDOR = b"rt_twisted"
_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))  # each byte mirrored


def write_packet(
    serial: int, number: int, granule: int, packet: bytes, first: bool = False
) -> bytes:
    """
    Return the pages of one packet.

    Args:
        serial: of the track.
        number: of the first page.
        granule: samples of the track up to the end of the packet.
        packet: any length.
        first: whether it is the first page of the track.
    """
    pages: list[bytes] = []
    lacing = b"\xff" * (len(packet) // 255) + bytes((len(packet) % 255,))
    flags = _FIRST if first else 0
    for start in range(0, len(lacing), _SEGMENTS):
        segments = lacing[start : start + _SEGMENTS]
        data = packet[255 * start : 255 * start + sum(segments)]
        ends = start + _SEGMENTS >= len(lacing)
        position = granule if ends else _NO_GRANULE
        head = _HEADER.pack(b"OggS", 0, flags, position, serial, number % 2**32, 0, len(segments))
        pages.append(_with_checksum(head + segments + data))
        number += 1
        flags = _CONTINUED
    return b"".join(pages)


def write_headers(track: Track, serial: int) -> bytes:
    """
    Return the header pages of an Opus or Vorbis track (RFC 7845, 5; Vorbis I, A.2): two, or
    more if the codebooks of Vorbis are large.

    Raises:
        RemoteProtocolError: what describes the track is malformed.
    """
    if track.codec == "opus":
        comments = b"OpusTags" + len(_VENDOR).to_bytes(4, "little") + _VENDOR + bytes(4)
        head = track.private or opus.write_head(track.channels or 2)
        packets = [head, comments]
    else:
        packets = [*vorbis.split_headers(track.private)]
    pages = []
    for number, packet in enumerate(packets):
        pages.append(write_packet(serial, number, 0, packet, not number))
    return b"".join(pages)


def _with_checksum(page: bytes) -> bytes:
    # zlib's polynomial with mirrored bits, without its inversions.
    value = zlib.crc32(page.translate(_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + value.to_bytes(4).translate(_BITS) + page[26:]
