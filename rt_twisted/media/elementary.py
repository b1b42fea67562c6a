"""
Elementary streams: the frames of one track as decoders without a container read them.
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.aac import parse_config
from rt_twisted.media.h264 import MAX_NAL_UNITS
from rt_twisted.media.unit import Track

_START_CODE = b"\0\0\0\1"
_MAX_ADTS = 2**13 - 1  # bytes of a frame with its header


def write_parameter_sets(track: Track) -> bytes:
    """
    Return the parameter sets of an H264 or H265 track, each behind a start code (annex B).

    Raises:
        RemoteProtocolError: its decoder configuration is truncated.
    """
    record = track.private
    found = []
    position = 6
    if track.codec == "h264":  # ISO/IEC 14496-15, 5.3.3.1: SPS, then PPS
        groups, mask = 2, 31
        position = 5
    else:  # 8.3.3.1: groups, each with a type
        groups, mask = (record[22] if len(record) > 22 else 0), 0
        position = 23
    for _ in range(groups):
        if mask:
            count = record[position] & mask if position < len(record) else 0
            position, mask = position + 1, 255
        else:
            count = int.from_bytes(record[position + 1 : position + 3])
            position += 3
        for _ in range(count):
            size = int.from_bytes(record[position : position + 2])
            position += 2 + size
            if not size or position > len(record):
                raise RemoteProtocolError(f"{track.codec}: the configuration is truncated")
            found.append(_START_CODE + record[position - size : position])
    return b"".join(found)


def write_annexb(frame: bytes) -> bytes:
    """
    Return a frame with a start code in place of each length of four bytes; a NAL unit that
    is truncated is left out, and so are those behind MAX_NAL_UNITS.
    """
    parts: list[bytes] = []
    position = 0
    while position + 4 <= len(frame) and len(parts) < 2 * MAX_NAL_UNITS:
        size = int.from_bytes(frame[position : position + 4])
        position += 4 + size
        if position > len(frame):
            break
        parts += (_START_CODE, frame[position - size : position])
    return b"".join(parts)


def check_adts(config: bytes) -> None:
    """
    Check that frames with this AudioSpecificConfig can have ADTS headers.

    Raises:
        RemoteProtocolError: it is malformed, or its sample rate has no index.
    """
    parse_config(config)
    if len(config) < 2 or (config[0] & 7) << 1 | config[1] >> 7 > 12:
        raise RemoteProtocolError("AAC: ADTS cannot carry the sample rate")


def write_adts(config: bytes, frame: bytes) -> bytes:
    """
    Return an AAC frame behind an ADTS header (ISO/IEC 14496-3, 1.A.2.2); b"" if it is too large.

    Args:
        config: the AudioSpecificConfig, which `check_adts` accepts.
        frame: the frame.
    """
    size = len(frame) + 7
    if size > _MAX_ADTS:
        return b""
    kind = config[0] >> 3
    profile = (kind if 1 <= kind <= 4 else 2) - 1  # HE-AAC is announced as its core
    rate = (config[0] & 7) << 1 | config[1] >> 7
    channels = config[1] >> 3 & 7
    header = 0xFFF1 << 40 | profile << 38 | rate << 34 | channels << 30 | size << 13 | 0x7FF << 2
    return header.to_bytes(7) + frame
