"""
RTP payload format for AAC: MP4A-LATM (RFC 6416), with the configuration in the description.
"""

from __future__ import annotations

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader
from rt_twisted.media.rtp.aac import AacPayload, aac_track, hex_bytes
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, too_large
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Track

_MUX_BITS = 15  # of a StreamMuxConfig before the AudioSpecificConfig
_EXPLICIT_RATE = 15
_EXTENDED_TYPES = (5, 29)


class LatmDepacketizer:
    """
    Makes AAC frames of packets, which have a whole audioMuxElement or a part of one.

    Args:
        track: as the description has it.
        samples: of a frame.
        count: frames of an audioMuxElement.
        max_unit: bytes of an audioMuxElement.
    """

    def __init__(self, track: Track, samples: int, count: int, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self._track = track
        self._samples = samples
        self._count = count
        self._element = bytearray()
        self._timestamp: int | None = None
        self._whole = True

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        if packet.timestamp != self._timestamp:
            self._finish(found)  # it has no marker
            self._timestamp = packet.timestamp
            self._whole = True
        self._element += packet.payload
        if len(self._element) > self._max_unit:
            self.lost()
            raise too_large(self._max_unit)
        if packet.marker:
            self._finish(found)

    def lost(self) -> None:
        self._whole = False  # what is left of the element has the same timestamp
        self._element.clear()

    def _finish(self, found: list[MediaFrame]) -> None:
        """
        Append the frames of the element in progress, which ends, to *found*.
        """
        timestamp, self._timestamp = self._timestamp, None
        element = bytes(self._element) if self._whole else b""
        self._element.clear()
        if timestamp is None:
            return
        position = 0
        for index in range(self._count):
            size = 0
            while position < len(element) and element[position] == 0xFF:
                size += 0xFF
                position += 1
            if position >= len(element):
                break
            start = position + 1
            position = start + size + element[position]
            if position > len(element):
                raise RemoteProtocolError("AAC: an access unit is truncated")
            if position > start:
                at = timestamp + index * self._samples
                data = element[start:position]
                found.append(MediaFrame(self._track, at, data, duration=self._samples))


class LatmPayload:
    """
    The payload format of AAC in LATM; players are sent the other one.
    """

    codec = "aac"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        if media.parameters.get("cpresent", "1") != "0":
            raise RemoteProtocolError("AAC: LATM with its configuration in band is not supported")
        config, count = parse_mux_config(hex_bytes(media.parameters.get("config", ""), "AAC"))
        track, samples = aac_track(id, config, media)
        return LatmDepacketizer(track, samples, count, max_unit)

    def mapping(self, track: Track) -> str:
        return AacPayload().mapping(track)

    def parameters(self, track: Track) -> str:
        return AacPayload().parameters(track)

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        return AacPayload().packetize(track, data, count)


def parse_mux_config(config: bytes) -> tuple[bytes, int]:
    """
    Return the AudioSpecificConfig of a StreamMuxConfig, and the frames of an audioMuxElement
    (ISO/IEC 14496-3, 1.7.3).

    Raises:
        RemoteProtocolError: it is malformed, or has several programs or layers.
    """
    reader = BitReader(config)
    if reader.bits(1) or not reader.bits(1):
        raise RemoteProtocolError("AAC: the StreamMuxConfig is of another version")
    count = reader.bits(6) + 1
    if reader.bits(7):
        raise RemoteProtocolError("AAC: the StreamMuxConfig has several programs or layers")
    size = 0

    def read(bits: int) -> int:
        nonlocal size
        size += bits
        return reader.bits(bits)

    kind = read(5)
    if read(4) == _EXPLICIT_RATE:
        read(24)
    read(4)
    if kind in _EXTENDED_TYPES:
        if read(4) == _EXPLICIT_RATE:
            read(24)
        read(5)
    size += 3  # of a GASpecificConfig
    length = -(-size // 8)
    value = int.from_bytes(config + b"\0") >> 8 * len(config) + 8 - _MUX_BITS - size
    value &= (1 << size) - 1
    return (value << 8 * length - size).to_bytes(length), count
