"""
RTP payload format for MPEG audio (RFC 2250, 3.5).
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.mpeg_audio import HEADER, MPEG, FrameHeader, parse_header
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

_RATE = 90000
_LAYER3 = 3


class MpegAudioDepacketizer:
    """
    Makes frames of packets, which have whole frames or a part of one.

    Args:
        id: of the track.
        rate: ticks per second of the RTP clock.
    """

    def __init__(self, id: int, rate: int) -> None:
        self._id = id
        self._rate = rate
        self._track: Track | None = None
        self._fragment: bytearray | None = None
        self._timestamp = 0  # of the fragment

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if len(payload) < 5:
            return
        offset, data = int.from_bytes(payload[2:4]), payload[4:]
        if offset:
            fragment = self._fragment
            if fragment is None or len(fragment) != offset:
                self._fragment = None
                return
            data = bytes(fragment + data)
            timestamp = self._timestamp
        else:
            timestamp = packet.timestamp
        self._fragment = None
        padded = data + bytes(HEADER)
        position = 0
        ticks = 0
        while position + 4 <= len(data):
            header = parse_header(padded, position)
            if header is None or header.codec != MPEG:
                raise RemoteProtocolError("MPEG audio: a packet does not begin with a frame")
            end = position + header.size
            if end > len(data):
                self._fragment, self._timestamp = bytearray(data[position:]), timestamp + ticks
                break
            duration = header.samples * self._rate // header.rate
            track = self._described(header)
            found.append(
                MediaFrame(track, timestamp + ticks, data[position:end], duration=duration)
            )
            ticks += duration
            position = end

    def lost(self) -> None:
        self._fragment = None

    def _described(self, header: FrameHeader) -> Track:
        codec = "mp3" if header.layer == _LAYER3 else f"mp{header.layer}"
        track = Track(self._id, Kind.AUDIO, codec, rate=header.rate, channels=header.channels)
        if track != self._track:
            self._track = track
        assert self._track is not None
        return self._track


class MpegAudioPayload:
    """
    The payload format of MP3 and other MPEG audio.
    """

    codec = "mp3"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return MpegAudioDepacketizer(id, media.rate)

    def mapping(self, track: Track) -> str:
        return f"MPA/{_RATE}"

    def parameters(self, track: Track) -> str:
        return ""

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        if len(data) >= 1 << 16:
            return []  # an offset has two bytes
        found = []
        offset = 0
        for part in split(data, count):
            found.append(b"\0\0" + offset.to_bytes(2) + part)
            offset += len(part)
        return found
