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
MAX_OBUS = 1024  # of a temporal unit

DELIMITER = 2  # types of OBUs
_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME = 1, 3, 6
_HAS_SIZE = 2  # in the first byte of an OBU
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
        for obu in split_obus(obus):
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
class Obu:
    """
    One open bitstream unit (OBU), of which AV1 consists.

    Args:
        kind: its type.
        payload: what follows its header and size.
        whole: with its header, and its size if it has one.
    """

    kind: int
    payload: bytes
    whole: bytes

    @property
    def bare(self) -> bytes:
        """
        Return the OBU without its size, as RTP carries it.
        """
        head = self.whole[0]
        return bytes((head & ~_HAS_SIZE,)) + self.whole[1 : _head_size(head)] + self.payload


def read_unit(data: bytes) -> Av1Frame:
    """
    Read a temporal unit in the low-overhead format; each OBU but the last has its size.

    Raises:
        RemoteProtocolError: an OBU or the sequence header is malformed.
    """
    obus = [obu for obu in split_obus(data) if obu.kind != DELIMITER]
    sequence = next((obu for obu in obus if obu.kind == _SEQUENCE_HEADER), None)
    frame = next((obu for obu in obus if obu.kind in _FRAME_TYPES), None)
    stored = b"".join([obu.whole for obu in obus])
    if sequence is None:
        return Av1Frame(False, stored, (0, 0), b"")
    size, record, is_still = _parse_sequence(sequence)
    key = frame is not None and (is_still or _is_key(frame.payload))
    return Av1Frame(key, stored, size, record)


def split_obus(data: bytes) -> Iterator[Obu]:
    """
    Yield the OBUs of a temporal unit; each but the last must have its size.

    Raises:
        RemoteProtocolError: one is malformed, or there are more than MAX_OBUS.
    """
    position = 0
    count = 0
    while position < len(data):
        count += 1
        if count > MAX_OBUS:
            raise RemoteProtocolError(f"AV1: a temporal unit has more than {MAX_OBUS} OBUs")
        start = position
        header = data[position]
        if header & 0x80:
            raise RemoteProtocolError("AV1: the header of an OBU is malformed")
        position += _head_size(header)
        if header & _HAS_SIZE:
            size, position = read_leb128(data, position)
        else:
            size = len(data) - position
        if size < 0 or position + size > len(data):
            raise RemoteProtocolError("AV1: an OBU is truncated")
        end = position + size
        yield Obu(header >> 3 & 15, data[position:end], data[start:end])
        position = end


def with_size(obu: bytes) -> bytes:
    """
    Return an OBU with its size.

    Raises:
        RemoteProtocolError: its header is malformed.
    """
    head = obu[0]
    start = _head_size(head)
    if head & 0x80 or len(obu) < start:
        raise RemoteProtocolError("AV1: the header of an OBU is malformed")
    if head & _HAS_SIZE:
        return obu
    size = write_leb128(len(obu) - start)
    return bytes((head | _HAS_SIZE,)) + obu[1:start] + size + obu[start:]


def _head_size(head: int) -> int:
    return 2 if head & 4 else 1  # with an extension byte


def write_leb128(number: int) -> bytes:
    """
    Return a number of seven bits in each byte, the lowest first (4.10.5).
    """
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)


def read_leb128(data: bytes, position: int) -> tuple[int, int]:
    """
    Return the number at *position*, and where it ends.

    Raises:
        RemoteProtocolError: it is truncated or longer than eight bytes.
    """
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


def _parse_sequence(obu: Obu) -> tuple[tuple[int, int], bytes, bool]:
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
