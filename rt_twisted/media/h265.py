"""
H.265: the decoder configuration, the size of the picture, and how many frames are reordered
(ITU-T H.265; ISO/IEC 14496-15, 8.3.3.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader
from rt_twisted.media.h264 import MAX_PARAMETER_SET, MAX_REORDER, unescaped

_VPS = 32
_SPS = 33
_PPS = 34
_HEAD = 23  # bytes before the parameter sets


@dataclass(frozen=True, slots=True)
class H265Parameters:
    """
    What a sequence parameter set says.

    Args:
        size: width and height of the cropped picture.
        reorder: by how many frames decoding order and presentation order differ at most.
        id: of the set.
        chroma: 1 for 4:2:0; 0 to 3.
        depth: bits of luma and chroma samples beyond 8.
    """

    size: tuple[int, int]
    reorder: int
    id: int = 0
    chroma: int = 1
    depth: tuple[int, int] = (0, 0)


def parse_hvcc(record: bytes) -> tuple[int, list[bytes]]:
    """
    Return the bytes of a NAL unit's length, and the sequence parameter sets, of an
    HEVCDecoderConfigurationRecord.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    return (record[21] & 3) + 1 if len(record) > 21 else 4, parse_hvcc_sets(record)[1]


def parse_hvcc_sets(record: bytes) -> tuple[list[bytes], list[bytes], list[bytes]]:
    """
    Return the video, sequence and picture parameter sets of an HEVCDecoderConfigurationRecord.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if len(record) < _HEAD:
        raise RemoteProtocolError("H265: the decoder configuration is truncated")
    position = _HEAD
    sets: dict[int, list[bytes]] = {_VPS: [], _SPS: [], _PPS: []}
    for _ in range(record[22]):
        kind = record[position] & 63 if position < len(record) else 0
        count = int.from_bytes(record[position + 1 : position + 3])
        position += 3
        for _ in range(count):
            size = int.from_bytes(record[position : position + 2])
            position += 2
            if position + size > len(record):
                raise RemoteProtocolError("H265: the decoder configuration is truncated")
            if kind in sets:
                sets[kind].append(record[position : position + size])
            position += size
    return sets[_VPS], sets[_SPS], sets[_PPS]


def write_hvcc(
    video: Sequence[bytes], sequence: Sequence[bytes], picture: Sequence[bytes]
) -> bytes:
    """
    Return the HEVCDecoderConfigurationRecord of parameter sets.

    Raises:
        RemoteProtocolError: the first sequence parameter set is malformed.
    """
    parameters = parse_sps(sequence[0])
    plain = unescaped(sequence[0][2:])
    layers = (plain[0] >> 1 & 7) + 1
    head = (
        b"\x01"
        + plain[1:13]  # profile, compatibility, constraints and level
        + b"\xf0\0\xfc"
        + bytes((0xFC | parameters.chroma & 3,))
        + bytes([0xF8 | bits & 7 for bits in parameters.depth])
        + bytes((0, 0, layers << 3 | (plain[0] & 1) << 2 | 3, 3))
    )
    groups = ((_VPS, video), (_SPS, sequence), (_PPS, picture))
    parts = [head]
    for kind, sets in groups:
        parts.append(bytes((0x80 | kind,)) + len(sets).to_bytes(2))
        parts += [len(nal).to_bytes(2) + nal for nal in sets]
    return b"".join(parts)


def parse_sps(sps: bytes) -> H265Parameters:
    """
    Parse a sequence parameter set with its NAL header (H.265, 7.3.2.2.1).

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if not 3 <= len(sps) <= MAX_PARAMETER_SET:
        raise RemoteProtocolError("H265: a sequence parameter set is truncated or too large")
    reader = BitReader(unescaped(sps[2:]))
    reader.bits(4)
    layers = reader.bits(3)
    reader.bits(1)
    _skip_profile(reader, layers)
    id = reader.ue()
    chroma = reader.ue()
    if chroma == 3:
        reader.bits(1)
    width, height = reader.ue(), reader.ue()
    if reader.flag():
        across = 2 if chroma in (1, 2) else 1
        down = 2 if chroma == 1 else 1
        left, right, top, bottom = (reader.ue() for _ in range(4))
        width -= (left + right) * across
        height -= (top + bottom) * down
    if not (0 < width <= 65535 and 0 < height <= 65535):
        raise RemoteProtocolError("H265: the size of the picture is invalid")
    depth = reader.ue(), reader.ue()
    reader.ue()
    reorder = 0
    for _ in range(layers + 1 if reader.flag() else 1):
        reader.ue()
        reorder = max(reorder, reader.ue())
        reader.ue()
    return H265Parameters((width, height), min(reorder, MAX_REORDER), id, chroma, depth)


def _skip_profile(reader: BitReader, layers: int) -> None:
    reader.bits(96)
    present = [(reader.flag(), reader.flag()) for _ in range(layers)]
    if layers:
        reader.bits(2 * (8 - layers))
    for profile, level in present:
        reader.bits(88 * profile + 8 * level)
