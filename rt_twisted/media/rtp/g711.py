"""
RTP payload format for G711 (RFC 3551, 4.5.14).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track


class G711Depacketizer:
    """
    Makes frames of packets: one of each, with as many samples as it has bytes.

    Args:
        track: as the description has it.
    """

    def __init__(self, track: Track) -> None:
        self._track = track

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        data = packet.payload
        if not data:
            return
        samples = len(data) // max(1, self._track.channels)
        found.append(MediaFrame(self._track, packet.timestamp, data, duration=samples))

    def lost(self) -> None:
        """
        Do nothing: frames are independent.
        """


@dataclass(frozen=True, slots=True)
class G711Payload:
    """
    The payload format of G711.

    Args:
        codec: `pcmu` or `pcma`.
    """

    codec: str

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        return G711Depacketizer(
            Track(id, Kind.AUDIO, self.codec, rate=media.rate, channels=media.channels)
        )

    def mapping(self, track: Track) -> str:
        return f"{self.codec.upper()}/{track.rate}/{max(1, track.channels)}"

    def parameters(self, track: Track) -> str:
        return ""

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        return [data]
