"""
AV1: open bitstream units and the size in a sequence header (AV1 Bitstream & Decoding Process
Specification, 5.3 and 5.5; AV1 Codec ISO Media File Format Binding, 2.3).
"""

from __future__ import annotations

from collections.abc import Iterator

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader

CONFIGURATION = 4  # bytes of an AV1CodecConfigurationRecord before its OBUs
MAX_HEADER = 1024  # bytes of a sequence header that are read

_SEQUENCE_HEADER = 1
_TEMPORAL_DELIMITER = b"\x12\x00"  # an OBU without a payload, which MP4 leaves out
_MAX_LEVEL_WITHOUT_TIER = 7


def without_delimiter(frame: bytes) -> bytes:
    """
    Return *frame* without the temporal delimiter at its start, as MP4 and Matroska store it.
    """
    return frame.removeprefix(_TEMPORAL_DELIMITER)


def size_of(obus: bytes) -> tuple[int, int]:
    """
    Return the size in the first sequence header of *obus*; (0, 0) if there is none.
    """
    try:
        for kind, payload in _split(obus):
            if kind == _SEQUENCE_HEADER:
                return _read_size(BitReader(payload[:MAX_HEADER]))
    except RemoteProtocolError:
        pass
    return 0, 0


def _split(obus: bytes) -> Iterator[tuple[int, bytes]]:
    """
    Yield type and payload of each OBU.
    """
    position = 0
    while position < len(obus):
        header = obus[position]
        position += 2 if header & 4 else 1
        size = len(obus) - position
        if header & 2:
            size, position = _leb128(obus, position)
        yield header >> 3 & 15, obus[position : position + size]
        position += size


def _leb128(data: bytes, position: int) -> tuple[int, int]:
    """
    Return the number at *position*, and where it ends (4.10.5).
    """
    value = 0
    for index in range(8):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 127) << 7 * index
        if byte < 128:
            return value, position
    raise RemoteProtocolError("AV1: the size of an OBU is malformed")


def _read_size(reader: BitReader) -> tuple[int, int]:
    """
    Read a sequence header up to the size of its frames (5.5.1).
    """
    reader.bits(4)
    if reader.flag():  # a header for a still picture
        reader.bits(5)
    else:
        delay = _read_timing(reader) if reader.flag() else 0
        _skip_operating_points(reader, delay)
    width_bits, height_bits = reader.bits(4) + 1, reader.bits(4) + 1
    return reader.bits(width_bits) + 1, reader.bits(height_bits) + 1


def _read_timing(reader: BitReader) -> int:
    """
    Read the timing information, and return the bits of a buffer's delay; 0 for no decoder model.
    """
    reader.bits(64)
    if reader.flag():
        reader.ue()
    if not reader.flag():
        return 0
    delay = reader.bits(5) + 1
    reader.bits(42)
    return delay


def _skip_operating_points(reader: BitReader, delay: int) -> None:
    has_display_delay = reader.flag()
    for _ in range(reader.bits(5) + 1):
        reader.bits(12)
        if reader.bits(5) > _MAX_LEVEL_WITHOUT_TIER:
            reader.bits(1)
        if delay and reader.flag():
            reader.bits(2 * delay + 1)
        if has_display_delay and reader.flag():
            reader.bits(4)
