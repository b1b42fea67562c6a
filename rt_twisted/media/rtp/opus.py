"""
RTP payload format for Opus (RFC 7587).
"""

from __future__ import annotations

from rt_twisted.media.opus import RATE, duration_of, is_stereo, write_head
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track


class OpusDepacketizer:
    """
    Makes Opus frames of packets: one of each.

    Args:
        id: of the track.
        channels: 1 or 2; 0 for those of the first packet.
    """

    def __init__(self, id: int, channels: int) -> None:
        self._id = id
        self._channels = channels
        self._track: Track | None = None

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        data = packet.payload
        duration = duration_of(data)
        if not duration:
            return
        if self._track is None:
            channels = self._channels or (2 if is_stereo(data) else 1)
            self._track = Track(self._id, Kind.AUDIO, "opus", write_head(channels), RATE, channels)
        ticks = duration * RATE // 1_000_000
        found.append(MediaFrame(self._track, packet.timestamp, data, duration=ticks))

    def lost(self) -> None:
        """
        Do nothing: frames are independent.
        """


class OpusPayload:
    """
    The payload format of Opus.
    """

    codec = "opus"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        # The RFC has two channels in every description; some senders say what they mean.
        channels = 1 if media.channels == 1 else 0
        if media.parameters.get("sprop-stereo") == "1":
            channels = 2
        return OpusDepacketizer(id, channels)

    def mapping(self, track: Track) -> str:
        return "opus/48000/2"

    def parameters(self, track: Track) -> str:
        return "sprop-stereo=1" if track.channels == 2 else "sprop-stereo=0"

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        return [data]
