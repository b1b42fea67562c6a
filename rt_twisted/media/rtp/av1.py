"""
RTP payload format for AV1 (AOMedia, "RTP Payload Format For AV1", version 1.0).
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.av1 import (
    CONFIGURATION,
    DELIMITER,
    read_leb128,
    read_unit,
    split_obus,
    with_size,
    write_leb128,
)
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split_sizes, too_large
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

# Of the aggregation header (4.4).
_CONTINUES = 0x80  # the first element is not the start of its OBU
_GOES_ON = 0x40  # the last element is not the end of its OBU
_COUNT = 4  # bits behind the number of elements; 0 elements: each has its length
_BEGINS = 0x08  # a coded video sequence begins
_MAX_COUNT = 3

_LEFT_OUT = frozenset((DELIMITER, 8, 15))  # also tile lists and padding (5)


class Av1Depacketizer:
    """
    Makes temporal units of packets.

    Args:
        id: of the track.
        max_unit: bytes of a temporal unit.
    """

    def __init__(self, id: int, max_unit: int = MAX_UNIT) -> None:
        self._id = id
        self._max_unit = max_unit
        self._unit = bytearray()  # OBUs with their sizes
        self._fragment: bytearray | None = None  # an OBU without its end
        self._timestamp: int | None = None
        self._damaged = False  # the unit in progress misses something
        self._broken = True  # up to the next keyframe
        self._track: Track | None = None

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        if packet.timestamp != self._timestamp:
            self._finish(found)  # it has no marker
            self._timestamp = packet.timestamp
        if packet.payload:
            self._add_elements(packet.payload)
        if packet.marker:
            self._finish(found)

    def lost(self) -> None:
        self._fragment = None
        self._damaged = self._timestamp is not None
        self._broken = True

    def _add_elements(self, payload: bytes) -> None:
        head = payload[0]
        elements = _elements(payload)
        for index, element in enumerate(elements):
            if index or not head & _CONTINUES:
                self._damaged = self._damaged or self._fragment is not None
                self._fragment = bytearray(element)
            elif self._fragment is not None:
                self._fragment += element
            else:
                self._damaged = True
            if self._fragment is None:
                continue
            if len(self._unit) + len(self._fragment) > self._max_unit:
                raise self._overflow()
            if index < len(elements) - 1 or not head & _GOES_ON:
                self._add(bytes(self._fragment))
                self._fragment = None

    def _add(self, obu: bytes) -> None:
        if not obu or obu[0] >> 3 & 15 in _LEFT_OUT:
            return
        self._unit += with_size(obu)
        if len(self._unit) > self._max_unit:
            raise self._overflow()

    def _overflow(self) -> RemoteProtocolError:
        self._unit.clear()
        self._fragment = None
        self._damaged = True
        return too_large(self._max_unit)

    def _finish(self, found: list[MediaFrame]) -> None:
        """
        Append the temporal unit in progress, which ends, to *found*.
        """
        timestamp, self._timestamp = self._timestamp, None
        damaged, self._damaged = self._damaged or self._fragment is not None, False
        data = bytes(self._unit)
        self._unit.clear()
        self._fragment = None
        if damaged:
            self._broken = True
        if damaged or not data or timestamp is None:
            return
        unit = read_unit(data)
        if unit.key:
            self._broken = False
            track = Track(self._id, Kind.VIDEO, "av1", unit.record, size=unit.size)
            if track != self._track:
                self._track = track
        if self._broken or self._track is None:
            return
        found.append(MediaFrame(self._track, timestamp, unit.data, unit.key))


class Av1Payload:
    """
    The payload format of AV1.
    """

    codec = "av1"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return Av1Depacketizer(id, max_unit)

    def mapping(self, track: Track) -> str:
        return "AV1/90000"

    def parameters(self, track: Track) -> str:
        record = track.private
        if len(record) < CONFIGURATION:
            return ""
        return f"profile={record[1] >> 5};level-idx={record[1] & 31};tier={record[2] >> 7}"

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        try:
            obus = [obu.bare for obu in split_obus(data) if obu.kind not in _LEFT_OUT]
            begins = read_unit(data).key
        except RemoteProtocolError:
            return []
        packets = _packets(obus, count)
        if begins:
            packets[0] = bytes((packets[0][0] | _BEGINS,)) + packets[0][1:]
        return packets


def _elements(payload: bytes) -> list[bytes]:
    """
    Return the OBU elements of a packet (4.3 and 4.4).

    Raises:
        RemoteProtocolError: one is truncated.
    """
    count = payload[0] >> _COUNT & _MAX_COUNT
    found: list[bytes] = []
    position = 1
    while position < len(payload):
        if len(found) + 1 == count:
            size = len(payload) - position
        else:
            size, position = read_leb128(payload, position)
        end = position + size
        if end > len(payload):
            raise RemoteProtocolError("AV1: an element of a packet is truncated")
        found.append(payload[position:end])
        position = end
    return found


def _packets(obus: Sequence[bytes], count: int) -> list[bytes]:
    """
    Return *obus* in at most *count* packets of about the same size.
    """
    sizes = split_sizes(sum(map(len, obus)), count)
    found: list[bytes] = []
    parts: list[bytes] = []
    continues = False
    for obu in obus:
        start = 0
        while start < len(obu):
            room = sizes[len(found)] - sum(map(len, parts))
            part = obu[start : start + room]
            parts.append(part)
            start += len(part)
            if len(part) == room:
                found.append(_packet(parts, continues, start < len(obu)))
                parts, continues = [], start < len(obu)
    return found


def _packet(parts: Sequence[bytes], continues: bool, goes_on: bool) -> bytes:
    count = len(parts) if len(parts) <= _MAX_COUNT else 0
    head = (_CONTINUES if continues else 0) | (_GOES_ON if goes_on else 0) | count << _COUNT
    pieces = [bytes((head,))]
    for index, part in enumerate(parts, 1):
        pieces += [part] if index == count else [write_leb128(len(part)), part]
    return b"".join(pieces)
