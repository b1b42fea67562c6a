"""
AV1: keyframes, their size, and the configuration record of containers (AV1 specification,
5.3 to 5.9; AV1 in ISO-BMFF, 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader

CONFIGURATION = 4  # bytes of a configuration record before its OBUs

_SEQUENCE_HEADER, _DELIMITER, _FRAME_HEADER, _FRAME = 1, 2, 3, 6  # types of OBUs
_WHOLE_DELIMITER = b"\x12\0"  # an OBU without a payload
_FRAME_TYPES = frozenset((_FRAME_HEADER, _FRAME))
_SRGB = (1, 13, 0)  # primaries, transfer and matrix of pictures that are not subsampled
_MAX_SEQUENCE_HEADER = 512  # bytes: 32 operating points are far below


def without_delimiter(frame: bytes) -> bytes:
    """
    Return *frame* without the temporal delimiter at its start, as MP4 and Matroska store it.
    """
    return frame.removeprefix(_WHOLE_DELIMITER)


def size_of(obus: bytes) -> tuple[int, int]:
    """
    Return the size in the first sequence header of *obus*; (0, 0) if there is none.
    """
    try:
        for obu in _split(obus):
            if obu.kind == _SEQUENCE_HEADER:
                return _read_sequence_start(BitReader(obu.payload[:_MAX_SEQUENCE_HEADER])).size
    except RemoteProtocolError:
        pass
    return 0, 0


@dataclass(frozen=True, slots=True)
class Av1Frame:
    """
    A temporal unit as containers store it.

    Args:
        key: whether it can be decoded without those before it: it has a sequence header and
            begins with a keyframe.
        data: without temporal delimiters.
        size: width and height, by the sequence header; (0, 0) without one.
        record: the AV1CodecConfigurationRecord; b"" without a sequence header.
    """

    key: bool
    data: bytes
    size: tuple[int, int]
    record: bytes


@dataclass(frozen=True, slots=True)
class _SequenceStart:
    profile: int
    is_still: bool
    level: int
    tier: int
    size: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Obu:
    kind: int
    payload: bytes
    whole: bytes


def read_unit(data: bytes) -> Av1Frame:
    """
    Read a temporal unit in the low-overhead format; each OBU but the last has its size.

    Raises:
        RemoteProtocolError: an OBU or the sequence header is malformed.
    """
    obus = [obu for obu in _split(data) if obu.kind != _DELIMITER]
    sequence = next((obu for obu in obus if obu.kind == _SEQUENCE_HEADER), None)
    frame = next((obu for obu in obus if obu.kind in _FRAME_TYPES), None)
    stored = b"".join([obu.whole for obu in obus])
    if sequence is None:
        return Av1Frame(False, stored, (0, 0), b"")
    size, record, is_still = _parse_sequence(sequence)
    key = frame is not None and (is_still or _is_key(frame.payload))
    return Av1Frame(key, stored, size, record)


def _split(data: bytes) -> Iterator[_Obu]:
    position = 0
    while position < len(data):
        start = position
        header = data[position]
        if header & 0x80:
            raise RemoteProtocolError("AV1: the header of an OBU is malformed")
        position += 2 if header & 4 else 1  # with an extension byte
        if header & 2:
            size, position = _leb128(data, position)
        else:
            size = len(data) - position
        if size < 0 or position + size > len(data):
            raise RemoteProtocolError("AV1: an OBU is truncated")
        end = position + size
        yield _Obu(header >> 3 & 15, data[position:end], data[start:end])
        position = end


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << 7 * index
        if not byte & 0x80:
            return value, position
    raise RemoteProtocolError("AV1: the size of an OBU is malformed")


def _is_key(frame: bytes) -> bool:
    # show_existing_frame, then two bits of the type: 0 is a keyframe.
    return bool(frame) and not frame[0] & 0xE0


def _parse_sequence(obu: _Obu) -> tuple[tuple[int, int], bytes, bool]:
    """
    Return the size, the configuration record, and whether the stream is a still picture.
    """
    reader = BitReader(obu.payload[:_MAX_SEQUENCE_HEADER])
    start = _read_sequence_start(reader)
    if not start.is_still and reader.flag():
        reader.bits(7)  # lengths of frame ids
    reader.bits(3)
    if not start.is_still:
        _skip_tools(reader)
    reader.bits(3)
    colors = _colors(reader, start.profile)
    levels = start.profile << 5 | start.level
    record = bytes((0x81, levels, start.tier << 7 | colors, 0)) + obu.whole
    return start.size, record, start.is_still


def _read_sequence_start(reader: BitReader) -> _SequenceStart:
    profile = reader.bits(3)
    reader.flag()
    is_still = reader.flag()  # the reduced header of a still picture
    level, tier = (reader.bits(5), 0) if is_still else _operating_points(reader)
    width_bits, height_bits = reader.bits(4) + 1, reader.bits(4) + 1
    size = reader.bits(width_bits) + 1, reader.bits(height_bits) + 1
    return _SequenceStart(profile, is_still, level, tier, size)


def _operating_points(reader: BitReader) -> tuple[int, int]:
    """
    Return level and tier of the first operating point.
    """
    delay_bits = 0
    if reader.flag():  # timing
        reader.bits(64)
        if reader.flag():
            reader.ue()
        if reader.flag():  # decoder model
            delay_bits = reader.bits(5) + 1
            reader.bits(42)
    has_display_delay = reader.flag()
    first: tuple[int, int] | None = None
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)
        level = reader.bits(5)
        tier = reader.bits(1) if level > 7 else 0
        first = first or (level, tier)
        if delay_bits and reader.flag():
            reader.bits(2 * delay_bits + 1)
        if has_display_delay and reader.flag():
            reader.bits(4)
    assert first is not None
    return first


def _skip_tools(reader: BitReader) -> None:
    reader.bits(4)
    has_order_hint = reader.flag()
    if has_order_hint:
        reader.bits(2)
    # Screen content tools: chosen by each frame, or forced on or off.
    tools = 1 if reader.flag() else reader.bits(1)
    if tools and not reader.flag():
        reader.bits(1)
    if has_order_hint:
        reader.bits(3)


def _colors(reader: BitReader, profile: int) -> int:
    """
    Return the third byte of the configuration record, without the tier.
    """
    high = reader.bits(1)
    twelve = reader.bits(1) if profile == 2 and high else 0
    mono = 0 if profile == 1 else reader.bits(1)
    described = (2, 2, 2)
    if reader.flag():
        described = reader.bits(8), reader.bits(8), reader.bits(8)
    position = 0
    if mono:
        reader.bits(1)
        across = down = 1
    elif described == _SRGB:
        across = down = 0
    else:
        reader.bits(1)
        across, down = (1, 1) if profile == 0 else (0, 0)
        if profile == 2:
            across, down = 1, 0
            if twelve:
                across = reader.bits(1)
                down = reader.bits(1) if across else 0
        if across and down:
            position = reader.bits(2)
    return high << 6 | twelve << 5 | mono << 4 | across << 3 | down << 2 | position
