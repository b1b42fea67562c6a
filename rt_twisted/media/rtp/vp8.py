"""
RTP payload format for VP8 (RFC 7741).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.frame_buffer import EndedFrame, FrameBuffer
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track
from rt_twisted.media.vp8 import is_keyframe, size_of


class Vp8Depacketizer:
    """
    Makes VP8 frames of packets.

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
            raise RemoteProtocolError("VP8: a payload descriptor is truncated")
        is_first = bool(payload[0] & 0x10) and not payload[0] & 7
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
        key = is_keyframe(data)
        if key:
            self._broken = False
            size = size_of(data)
            if self._track is None or self._track.size != size:
                self._track = Track(self._id, Kind.VIDEO, "vp8", size=size)
        if self._broken or self._track is None:
            return
        found.append(MediaFrame(self._track, frame.timestamp, data, key))


class Vp8Payload:
    """
    The payload format of VP8.
    """

    codec = "vp8"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return Vp8Depacketizer(id, max_unit)

    def mapping(self, track: Track) -> str:
        return "VP8/90000"

    def parameters(self, track: Track) -> str:
        return ""

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        parts = split(data, count)
        return [(b"\x10" if index == 0 else b"\0") + part for index, part in enumerate(parts)]


def _descriptor_size(payload: bytes) -> int:
    """
    Return the bytes of a payload descriptor (4.2).
    """
    if not payload[0] & 0x80:
        return 1
    extension = payload[1] if len(payload) > 1 else 0
    size = 2
    if extension & 0x80:
        size += 2 if len(payload) > size and payload[size] & 0x80 else 1
    if extension & 0x40:
        size += 1
    if extension & 0x30:
        size += 1
    return size
