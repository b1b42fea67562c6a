"""
RTP payload format for JPEG (RFC 2435).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg_scan import BaselineScan, read_scan
from rt_twisted.media.jpeg_tables import HUFFMAN_SEGMENTS, quantization_tables
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split, too_large
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

_HEAD = 8  # bytes of the main header
_RESTARTS = 64  # types from here on have a restart header
_IN_BAND = 128  # values of Q from here on have tables in the packets
_ALL_TABLES = 255
_END = b"\xff\xd9"
_LARGEST = 2040  # pixels of a side that the header can say


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """
    What the first packet of a picture says.

    Args:
        type: 0 for 4:2:2, 1 for 4:2:0; with _RESTARTS added if there are restart intervals.
        size: width and height in pixels.
        interval: of restarts, in MCUs; 0 for none.
        tables: quantization tables, 64 bytes each, in zig-zag order.
    """

    type: int
    size: tuple[int, int]
    interval: int
    tables: tuple[bytes, ...]


class JpegDepacketizer:
    """
    Makes pictures of packets.

    Args:
        id: of the track.
        size: of the description, for pictures that are too large for the header.
        max_unit: bytes of a picture's scan.
    """

    def __init__(self, id: int, size: tuple[int, int], max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self._id = id
        self._size = size
        self._timestamp: int | None = None
        self._header: JpegHeader | None = None
        self._scan = bytearray()
        self._tables: dict[int, tuple[bytes, ...]] = {}  # by Q
        self._track: Track | None = None

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if len(payload) < _HEAD:
            return
        offset = int.from_bytes(payload[1:4])
        if packet.timestamp != self._timestamp:
            self._finish(found)  # it has no marker
        if packet.timestamp != self._timestamp or not offset:
            self._begin(packet.timestamp)
        start = _HEAD
        kind, q = payload[4], payload[5]
        interval = 0
        if kind >= _RESTARTS and kind < 128:
            interval = int.from_bytes(payload[8:10])
            start += 4
        if not offset:
            tables, start = self._read_tables(payload, start, q)
            size = payload[6] * 8 or self._size[0], payload[7] * 8 or self._size[1]
            if kind & 63 > 1 or kind > 127 or not all(size) or not tables:
                raise RemoteProtocolError("JPEG: pictures of this type are not supported")
            self._header = JpegHeader(kind, size, interval, tables)
        if offset != len(self._scan) or self._header is None:
            self._header = None  # a part is missing
            return
        self._scan += payload[start:]
        if len(self._scan) > self._max_unit:
            self._begin(None)
            raise too_large(self._max_unit)
        if packet.marker:
            self._finish(found)

    def lost(self) -> None:
        self._header = None

    def _finish(self, found: list[MediaFrame]) -> None:
        header, timestamp = self._header, self._timestamp
        if header is not None and timestamp is not None and self._scan:
            data = picture(header, bytes(self._scan))
            found.append(MediaFrame(self._described(header.size), timestamp, data))
        self._begin(None)

    def _begin(self, timestamp: int | None) -> None:
        self._timestamp = timestamp
        self._header = None
        self._scan.clear()

    def _read_tables(self, payload: bytes, start: int, q: int) -> tuple[tuple[bytes, ...], int]:
        """
        Return the quantization tables of the first packet, and where the scan begins.
        """
        if q < _IN_BAND:
            return quantization_tables(q), start
        precision, length = payload[start + 1 : start + 2], payload[start + 2 : start + 4]
        size = int.from_bytes(length)
        start += 4
        data = payload[start : start + size]
        if len(length) < 2 or len(data) < size or precision != b"\0":
            raise RemoteProtocolError("JPEG: the quantization tables are malformed")
        if not size:
            return self._tables.get(q, ()), start
        tables = tuple([data[at : at + 64] for at in range(0, size - 63, 64)][:2])
        if q != _ALL_TABLES:
            self._tables[q] = tables
        return tables, start + size

    def _described(self, size: tuple[int, int]) -> Track:
        if self._track is None or self._track.size != size:
            self._track = Track(self._id, Kind.VIDEO, "jpeg", size=size)
        return self._track


class JpegPayload:
    """
    The payload format of Motion JPEG.
    """

    codec = "jpeg"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return JpegDepacketizer(id, media.size, max_unit)

    def mapping(self, track: Track) -> str:
        return "JPEG/90000"

    def parameters(self, track: Track) -> str:
        return ""

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        scan = read_scan(data)
        if scan is None or max(scan.size) > _LARGEST or len(scan.tables) > 2:
            return []
        return _payloads(scan, count)


def _payloads(scan: BaselineScan, count: int) -> list[bytes]:
    kind = scan.type + (_RESTARTS if scan.interval else 0)
    sides = bytes([-(-side // 8) for side in scan.size])
    tables = b"".join((scan.tables * 2)[:2])  # ffmpeg needs two
    restart = scan.interval.to_bytes(2) + b"\xff\xff" if scan.interval else b""
    found = []
    offset = 0
    for part in split(scan.data, count):
        head = b"\0" + offset.to_bytes(3) + bytes((kind, _ALL_TABLES)) + sides + restart
        if not offset:
            head += b"\0\0" + len(tables).to_bytes(2) + tables
        found.append(head + part)
        offset += len(part)
    return found


def picture(header: JpegHeader, scan: bytes) -> bytes:
    """
    Return a JPEG picture of a scan (RFC 2435, appendix B).
    """
    second = 1 if len(header.tables) > 1 else 0
    tables = [
        b"\xff\xdb\0\x43" + bytes((index,)) + table for index, table in enumerate(header.tables)
    ]
    sampling = 0x22 if header.type & 63 else 0x21
    width, height = header.size
    frame = (
        b"\xff\xc0\0\x11\x08"
        + height.to_bytes(2)
        + width.to_bytes(2)
        + bytes((3, 1, sampling, 0, 2, 0x11, second, 3, 0x11, second))
    )
    restarts = b"\xff\xdd\0\4" + header.interval.to_bytes(2) if header.interval else b""
    start = b"\xff\xda\0\x0c\3\1\0\2\x11\3\x11\0\x3f\0"
    end = b"" if scan.endswith(_END) else _END
    parts = (b"\xff\xd8", *tables, restarts, frame, HUFFMAN_SEGMENTS, start, scan, end)
    return b"".join(parts)
