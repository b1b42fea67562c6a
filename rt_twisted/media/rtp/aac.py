"""
RTP payload format for AAC: MPEG4-GENERIC (RFC 3640).
"""

from __future__ import annotations

from collections.abc import Mapping

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.aac import parse_config
from rt_twisted.media.bits import BitReader
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split, too_large
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

MAX_CONFIG = 256  # bytes of an AudioSpecificConfig
MAX_FRAMES = 256  # access units of one packet

_MODES = {"aac-hbr": (13, 3, 3), "aac-lbr": (6, 2, 2)}
_SIZE_BITS = 13  # of packets that we write


class AacDepacketizer:
    """
    Makes AAC frames of packets, which have several frames, or a fragment of one.

    Args:
        track: as the description has it.
        bits: of the size, the index and the index delta in the header of an access unit.
        samples: of a frame.
        max_unit: bytes of a frame.
    """

    def __init__(
        self, track: Track, bits: tuple[int, int, int], samples: int, max_unit: int = MAX_UNIT
    ) -> None:
        self._max_unit = max_unit
        self._track = track
        self._size_bits, self._index_bits, self._delta_bits = bits
        self._samples = samples
        self._fragment: bytearray | None = None
        self._whole = 0  # bytes of the frame that is in fragments
        self._timestamp = 0  # of it

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        sizes, start = self._headers(packet.payload)
        payload = packet.payload
        if self._fragment is not None and packet.timestamp != self._timestamp:
            self._fragment = None
        left = len(payload) - start
        if len(sizes) == 1 and sizes[0] > left:
            self._add_fragment(packet, payload[start:], sizes[0], found)
            return
        if self._fragment is not None:
            self._add_fragment(packet, payload[start:], self._whole, found)
            return
        for index, size in enumerate(sizes):
            end = start + size
            if end > len(payload):
                raise RemoteProtocolError("AAC: an access unit is truncated")
            if size:
                found.append(
                    self._frame(packet.timestamp + index * self._samples, payload[start:end])
                )
            start = end

    def lost(self) -> None:
        self._fragment = None

    def _add_fragment(
        self, packet: RtpPacket, part: bytes, size: int, found: list[MediaFrame]
    ) -> None:
        if size > self._max_unit:
            raise too_large(self._max_unit)
        if self._fragment is None:
            self._fragment, self._whole = bytearray(), size
            self._timestamp = packet.timestamp
        self._fragment += part
        if len(self._fragment) < self._whole and not packet.marker:
            return
        data, self._fragment = bytes(self._fragment), None
        if len(data) == self._whole:
            found.append(self._frame(packet.timestamp, data))

    def _frame(self, timestamp: int, data: bytes) -> MediaFrame:
        return MediaFrame(self._track, timestamp, data, duration=self._samples)

    def _headers(self, payload: bytes) -> tuple[list[int], int]:
        """
        Return the sizes of the access units of a packet, and where their data begin.
        """
        bits = int.from_bytes(payload[:2])
        start = 2 + (bits + 7) // 8
        if start > len(payload):
            raise RemoteProtocolError("AAC: the headers of a packet are truncated")
        reader = BitReader(payload[2:start])
        sizes: list[int] = []
        index_bits = self._index_bits
        while 0 < self._size_bits + index_bits <= bits and len(sizes) < MAX_FRAMES:
            sizes.append(reader.bits(self._size_bits))
            reader.bits(index_bits)
            bits -= self._size_bits + index_bits
            index_bits = self._delta_bits
        return sizes, start


class AacPayload:
    """
    The payload format of AAC.
    """

    codec = "aac"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        parameters = media.parameters
        config = hex_bytes(parameters.get("config", ""), "AAC")
        mode = _MODES.get(parameters.get("mode", "").lower(), _MODES["aac-hbr"])
        bits = (
            _bits(parameters, "sizelength", mode[0]),
            _bits(parameters, "indexlength", mode[1]),
            _bits(parameters, "indexdeltalength", mode[2]),
        )
        track, samples = aac_track(id, config, media)
        return AacDepacketizer(track, bits, samples, max_unit)

    def mapping(self, track: Track) -> str:
        return f"MPEG4-GENERIC/{track.rate}/{max(1, track.channels)}"

    def parameters(self, track: Track) -> str:
        return (
            "profile-level-id=1;mode=AAC-hbr;sizelength=13;indexlength=3;indexdeltalength=3;"
            f"config={track.private.hex().upper()}"
        )

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        if len(data) >= 1 << _SIZE_BITS:
            return []
        head = b"\0\x10" + (len(data) << 3).to_bytes(2)
        return [head + part for part in split(data, count)]


def aac_track(id: int, config: bytes, media: MediaDescription) -> tuple[Track, int]:
    """
    Return the track of an AudioSpecificConfig, and the samples of a frame in ticks of the RTP
    clock.

    Raises:
        RemoteProtocolError: the configuration is malformed.
    """
    found = parse_config(config)
    rate = found.rate or media.rate
    channels = found.channels or media.channels
    clock = media.rate or rate
    if not rate or not clock:
        raise RemoteProtocolError("AAC: the sample rate is missing")
    samples = found.samples * clock // rate
    return Track(id, Kind.AUDIO, "aac", config, rate, channels), samples


def hex_bytes(text: str, name: str) -> bytes:
    """
    Return the bytes of a hexadecimal parameter.

    Raises:
        RemoteProtocolError: it is missing, malformed or too long.
    """
    try:
        found = bytes.fromhex(text)
    except ValueError:
        found = b""
    if not 0 < len(found) <= MAX_CONFIG:
        raise RemoteProtocolError(f"{name}: the description has no valid config")
    return found


def _bits(parameters: Mapping[str, str], name: str, default: int) -> int:
    text = parameters.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 3 else default
