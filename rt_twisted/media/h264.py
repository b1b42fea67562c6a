"""
H.264: parameter sets, and how many frames are reordered (ITU-T H.264; ISO/IEC 14496-15).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader

MAX_PARAMETER_SET = 4096  # bytes
MAX_REORDER = 16  # frames (A.3.1)
MAX_NAL_UNITS = 16_384  # of a frame: a NAL unit may have a byte, and costs a microsecond

_WITH_CHROMA = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_BASELINE = 66
_EXTENDED_ASPECT = 255
_IDR = 5
_SPS = 7
_PPS = 8


@dataclass(frozen=True, slots=True)
class H264Parameters:
    """
    What a sequence parameter set says.

    Args:
        size: width and height of the cropped picture.
        reorder: by how many frames decoding order and presentation order differ at most.
    """

    size: tuple[int, int]
    reorder: int


def parse_avcc(record: bytes) -> tuple[int, list[bytes]]:
    """
    Return the bytes of a NAL unit's length, and the sequence parameter sets, of an
    AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1).

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if len(record) < 7 or record[0] != 1:
        raise RemoteProtocolError("H264: the decoder configuration is malformed")
    position = 6
    sets: list[bytes] = []
    for _ in range(record[5] & 31):
        size = int.from_bytes(record[position : position + 2])
        position += 2
        if position + size > len(record):
            raise RemoteProtocolError("H264: the decoder configuration is truncated")
        sets.append(record[position : position + size])
        position += size
    return (record[4] & 3) + 1, sets


def parse_avcc_sets(record: bytes) -> tuple[list[bytes], list[bytes]]:
    """
    Return the sequence and the picture parameter sets of an AVCDecoderConfigurationRecord.

    Raises:
        RemoteProtocolError: it is malformed.
    """
    _, sequence = parse_avcc(record)
    position = 6 + sum([len(nal) + 2 for nal in sequence])
    picture: list[bytes] = []
    for _ in range(record[position] if position < len(record) else 0):
        start = position + 3
        end = start + int.from_bytes(record[position + 1 : start])
        if end > len(record):
            raise RemoteProtocolError("H264: the decoder configuration is truncated")
        picture.append(record[start:end])
        position = end - 1
    return sequence, picture


def write_avcc(sps: bytes, pps: bytes) -> bytes:
    """
    Return the AVCDecoderConfigurationRecord of one sequence and one picture parameter set.
    """
    return write_avcc_sets([sps], [pps])


def write_avcc_sets(sequence: Sequence[bytes], picture: Sequence[bytes]) -> bytes:
    """
    Return the AVCDecoderConfigurationRecord of parameter sets.

    Args:
        sequence: 1 to 31 of them; the first one has the profile.
        picture: at most 255.
    """
    parts = [b"\x01" + sequence[0][1:4] + b"\xff" + bytes((0xE0 | len(sequence[:31]),))]
    parts += [len(nal).to_bytes(2) + nal for nal in sequence[:31]]
    parts.append(bytes((len(picture[:255]),)))
    parts += [len(nal).to_bytes(2) + nal for nal in picture[:255]]
    return b"".join(parts)


def unescaped(nal: bytes) -> bytes:
    """
    Return a NAL unit without its emulation prevention bytes (H.264, 7.4.1).
    """
    return nal.replace(b"\0\0\x03", b"\0\0")


def split_annexb(data: bytes) -> Iterator[bytes]:
    """
    Yield the NAL units between the start codes of *data* (H.264, annex B).
    """
    for part in data.split(b"\0\0\x01")[1:]:
        nal = part.rstrip(b"\0")
        if nal:
            yield nal


@dataclass(frozen=True, slots=True)
class H264Frame:
    """
    A frame with start codes, as MP4 and Matroska store it.

    Args:
        key: whether it is an IDR picture.
        record: the AVCDecoderConfigurationRecord; b"" if the frame has no parameter sets.
        data: the other NAL units, each behind its length of four bytes.
    """

    key: bool
    record: bytes
    data: bytes


def convert_annexb(frame: bytes) -> H264Frame:
    """
    Convert a frame with start codes.
    """
    sps = pps = b""
    key = False
    parts: list[bytes] = []
    for nal in split_annexb(frame):
        kind = nal[0] & 31
        if kind == _SPS and 4 <= len(nal) <= MAX_PARAMETER_SET:
            sps = nal
        elif kind == _PPS and len(nal) <= MAX_PARAMETER_SET:
            pps = nal
        else:
            key = key or kind == _IDR
            parts.append(len(nal).to_bytes(4) + nal)
    record = write_avcc(sps, pps) if sps and pps else b""
    return H264Frame(key, record, b"".join(parts))


def lengthened(data: bytes, size: int) -> bytes:
    """
    Return a frame whose NAL units have lengths of *size* bytes with lengths of four.

    Raises:
        RemoteProtocolError: a NAL unit is truncated, or there are over MAX_NAL_UNITS.
    """
    parts: list[bytes] = []
    position = 0
    while position < len(data):
        if len(parts) == MAX_NAL_UNITS:
            raise RemoteProtocolError(f"a frame has over {MAX_NAL_UNITS} NAL units")
        start = position + size
        end = start + int.from_bytes(data[position:start])
        if end > len(data):
            raise RemoteProtocolError("a NAL unit is truncated")
        parts.append((end - start).to_bytes(4) + data[start:end])
        position = end
    return b"".join(parts)


def parse_sps(sps: bytes) -> H264Parameters:
    """
    Parse a sequence parameter set with its NAL header (H.264, 7.3.2.1.1 and E.1.1).

    Raises:
        RemoteProtocolError: it is malformed.
    """
    if not 4 <= len(sps) <= MAX_PARAMETER_SET:
        raise RemoteProtocolError("H264: a sequence parameter set is truncated or too large")
    profile = sps[1]
    reader = BitReader(unescaped(sps[4:]))
    reader.ue()
    chroma = 1
    if profile in _WITH_CHROMA:
        chroma = reader.ue()
        if chroma == 3:
            reader.bits(1)
        reader.ue()
        reader.ue()
        reader.bits(1)
        if reader.flag():
            for index in range(8 if chroma != 3 else 12):
                if reader.flag():
                    _skip_scaling_list(reader, 16 if index < 6 else 64)
    reader.ue()
    order_type = reader.ue()
    if order_type == 0:
        reader.ue()
    elif order_type == 1:
        reader.bits(1)
        reader.se()
        reader.se()
        for _ in range(min(reader.ue(), 255)):
            reader.se()
    references = reader.ue()
    reader.bits(1)
    width = (reader.ue() + 1) * 16
    map_units = reader.ue() + 1
    fields = 1 if reader.flag() else 2
    if fields == 2:
        reader.bits(1)
    reader.bits(1)
    height = map_units * 16 * fields
    if reader.flag():
        across = 1 if chroma in (0, 3) else 2
        down = (2 if chroma == 1 else 1) * fields
        left, right, top, bottom = (reader.ue() for _ in range(4))
        width -= (left + right) * across
        height -= (top + bottom) * down
    if not (0 < width <= 65535 and 0 < height <= 65535):
        raise RemoteProtocolError("H264: the size of the picture is invalid")
    # Without the restriction the encoder may reorder as far as it has references.
    reorder = 0 if order_type == 2 or profile == _BASELINE else references
    if reader.flag():
        stated = _stated_reorder(reader)
        reorder = reorder if stated is None else stated
    return H264Parameters((width, height), min(reorder, MAX_REORDER))


def _skip_scaling_list(reader: BitReader, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + reader.se()) % 256
        last = following or last


def _stated_reorder(reader: BitReader) -> int | None:
    """
    Return max_num_reorder_frames of the video usability information, None without it.
    """
    if reader.flag() and reader.bits(8) == _EXTENDED_ASPECT:
        reader.bits(32)
    if reader.flag():
        reader.bits(1)
    if reader.flag():
        reader.bits(4)
        if reader.flag():
            reader.bits(24)
    if reader.flag():
        reader.ue()
        reader.ue()
    if reader.flag():
        reader.bits(65)
    buffering = [_skip_hypothetical_decoder(reader) for _ in range(2)]
    if any(buffering):
        reader.bits(1)
    reader.bits(1)
    if not reader.flag():
        return None
    reader.bits(1)
    for _ in range(4):
        reader.ue()
    return reader.ue()


def _skip_hypothetical_decoder(reader: BitReader) -> bool:
    if not reader.flag():
        return False
    count = reader.ue()
    if count > 31:
        raise RemoteProtocolError("H264: a sequence parameter set is malformed")
    reader.bits(8)
    for _ in range(count + 1):
        reader.ue()
        reader.ue()
        reader.bits(1)
    reader.bits(20)
    return True
