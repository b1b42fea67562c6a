"""
What RTP needs of a JPEG picture: its tables, its size and its scan (ITU-T T.81, annex B).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.media.jpeg_tables import HUFFMAN

_DQT = 0xDB
_SOF0 = 0xC0
_DHT = 0xC4
_DRI = 0xDD
_SOS = 0xDA


@dataclass(frozen=True, slots=True)
class BaselineScan:
    """
    A picture of the kind that RTP can carry.

    Args:
        type: 0 for 4:2:2, 1 for 4:2:0.
        size: width and height in pixels.
        interval: of restarts, in MCUs; 0 for none.
        tables: quantization tables, 64 bytes each, in the order of the components.
        data: the entropy-coded data.
    """

    type: int
    size: tuple[int, int]
    interval: int
    tables: tuple[bytes, ...]
    data: bytes


def read_scan(picture: bytes) -> BaselineScan | None:
    """
    Return the parts of a picture; None if it is not baseline 4:2:2 or 4:2:0 with one scan.

    RTP implies the Huffman tables of the standard: pictures with others are left out, too.
    """
    position = 2
    tables: dict[int, bytes] = {}
    frame = b""
    interval = 0
    while position + 4 <= len(picture) and picture[position] == 0xFF:
        code = picture[position + 1]
        if code == 0xFF:
            position += 1
            continue
        size = int.from_bytes(picture[position + 2 : position + 4])
        segment = picture[position + 4 : position + 2 + size]
        position += 2 + max(2, size)
        if code == _DQT:
            _read_tables(segment, tables)
        elif code == _SOF0:
            frame = segment
        elif code == _DHT:
            if not _are_standard(segment):
                return None
        elif code == _DRI:
            interval = int.from_bytes(segment[:2])
        elif code == _SOS:
            end = picture.rfind(b"\xff\xd9")
            data = picture[position : end if end >= position else len(picture)]
            return _described(frame, tables, interval, data)
        elif 0xC0 < code < 0xD0:
            return None  # not baseline
    return None


def _read_tables(segment: bytes, tables: dict[int, bytes]) -> None:
    for start in range(0, len(segment) - 64, 65):
        tables[segment[start]] = segment[start + 1 : start + 65]


def _are_standard(segment: bytes) -> bool:
    position = 0
    while position + 17 <= len(segment):
        kind = segment[position]
        end = position + 17 + sum(segment[position + 1 : position + 17])
        if segment[position + 1 : end] != HUFFMAN.get(kind):
            return False
        position = end
    return True


def _described(
    frame: bytes, tables: dict[int, bytes], interval: int, data: bytes
) -> BaselineScan | None:
    if len(frame) < 15 or frame[0] != 8 or frame[5] != 3 or not data:
        return None
    sampling = frame[7], frame[10], frame[13]
    kinds = {(0x21, 0x11, 0x11): 0, (0x22, 0x11, 0x11): 1}
    wanted = dict.fromkeys((frame[8], frame[11], frame[14]))
    if sampling not in kinds or not wanted.keys() <= tables.keys():
        return None
    height, width = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5])
    found = tuple([tables[number] for number in wanted])
    return BaselineScan(kinds[sampling], (width, height), interval, found, data)
