"""
RTP payload format for VP9 (RFC 9628).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.frame_buffer import EndedFrame, FrameBuffer
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track
from rt_twisted.media.vp9 import level_of, parse_keyframe, write_features

_ID = 0x80
_INTER = 0x40
_LAYERS = 0x20
_FLEXIBLE = 0x10
_BEGINS = 0x08
_ENDS = 0x04
_STRUCTURE = 0x02


class Vp9Depacketizer:
    """
    Makes VP9 frames of packets. Spatial layers of one picture are one frame.

    Args:
        id: of the track.
        max_unit: bytes of a frame.
    """

    def __init__(self, id: int, max_unit: int = MAX_UNIT) -> None:
        self._id = id
        self._buffer = FrameBuffer(max_unit)
        self._broken = True  # up to the next keyframe
        self._track: Track | None = None

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if not payload:
            return
        self._take(self._buffer.begin(packet.timestamp), found)
        start = _descriptor_size(payload)
        if start >= len(payload):
            raise RemoteProtocolError("VP9: a payload descriptor is truncated")
        is_first = bool(payload[0] & _BEGINS)
        self._take(self._buffer.add(packet, payload[start:], is_first), found)

    def lost(self) -> None:
        self._buffer.lost()
        self._broken = True

    def _take(self, frame: EndedFrame | None, found: list[MediaFrame]) -> None:
        if frame is None:
            return
        data = frame.data
        if data is None:
            self._broken = True
            return
        header = parse_keyframe(data)
        if header is not None:
            self._broken = False
            features = write_features(header.profile, level_of(header.size), header.depth)
            track = Track(self._id, Kind.VIDEO, "vp9", features, size=header.size)
            if track != self._track:
                self._track = track
        if self._broken or self._track is None:
            return
        found.append(MediaFrame(self._track, frame.timestamp, data, header is not None))


class Vp9Payload:
    """
    The payload format of VP9.
    """

    codec = "vp9"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return Vp9Depacketizer(id, max_unit)

    def mapping(self, track: Track) -> str:
        return "VP9/90000"

    def parameters(self, track: Track) -> str:
        return ""

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        inter = 0 if parse_keyframe(data) is not None else _INTER
        parts = split(data, count)
        last = len(parts) - 1
        return [
            bytes((inter | (_BEGINS if index == 0 else 0) | (_ENDS if index == last else 0),))
            + part
            for index, part in enumerate(parts)
        ]


def _descriptor_size(payload: bytes) -> int:
    """
    Return the bytes of a payload descriptor (4.2); more than there are if it is truncated.
    """
    flags = payload[0]
    size = len(payload)
    position = 1
    if flags & _ID:
        position += 2 if position < size and payload[position] & 0x80 else 1
    if flags & _LAYERS:
        position += 1 if flags & _FLEXIBLE else 2
    if flags & _INTER and flags & _FLEXIBLE:
        for _ in range(3):
            position += 1
            if position > size or not payload[position - 1] & 1:
                break
    if flags & _STRUCTURE:
        if position >= size:
            return size
        head = payload[position]
        position += 1
        if head & 0x10:
            position += 4 * ((head >> 5) + 1)
        if head & 0x08:
            if position >= size:
                return size
            count = payload[position]
            position += 1
            for _ in range(count):
                if position >= size:
                    return size
                position += 1 + (payload[position] >> 2 & 3)
    return position
