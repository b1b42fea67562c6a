"""
RTP payload format for Vorbis (RFC 5215).
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame, split, too_large
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track
from rt_twisted.media.vorbis import (
    MAX_HEADERS,
    BlockSizes,
    join_headers,
    parse_identification,
    split_headers,
)

_IDENT = 0x525454  # of the configuration that players are sent
_COMMENT = b"\x03vorbis" + bytes(8) + b"\x01"  # without a vendor and comments


class VorbisDepacketizer:
    """
    Makes Vorbis frames of packets.

    Args:
        track: as the description has it.
        ident: of its configuration; packets of others are ignored.
        blocks: know how long each frame is.
        max_unit: bytes of a frame.
    """

    def __init__(
        self, track: Track, ident: int, blocks: BlockSizes, max_unit: int = MAX_UNIT
    ) -> None:
        self._max_unit = max_unit
        self._track = track
        self._ident = ident
        self._blocks = blocks
        self._fragment: bytearray | None = None

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if len(payload) < 6 or int.from_bytes(payload[:3]) != self._ident:
            return
        part, kind, count = payload[3] >> 6, payload[3] >> 4 & 3, payload[3] & 15
        if kind:
            return  # configurations and comments
        if part:
            self._add_fragment(packet.timestamp, part, payload, found)
            return
        self._fragment = None
        timestamp = packet.timestamp
        position = 4
        for _ in range(count):
            start = position + 2
            position = start + int.from_bytes(payload[position:start])
            if position > len(payload):
                raise RemoteProtocolError("Vorbis: a packet is truncated")
            timestamp += self._add(timestamp, payload[start:position], found)

    def lost(self) -> None:
        self._fragment = None
        self._blocks.forget()

    def _add_fragment(
        self, timestamp: int, part: int, payload: bytes, found: list[MediaFrame]
    ) -> None:
        size = int.from_bytes(payload[4:6])
        data = payload[6 : 6 + size]
        if part == 1:
            self._fragment = bytearray(data)
            return
        if self._fragment is None:
            return
        self._fragment += data
        if len(self._fragment) > self._max_unit:
            self._fragment = None
            raise too_large(self._max_unit)
        if part == 2:
            return
        self._add(timestamp, bytes(self._fragment), found)
        self._fragment = None

    def _add(self, timestamp: int, data: bytes, found: list[MediaFrame]) -> int:
        """
        Add a frame, and return its duration.
        """
        if not data or data[0] & 1:
            return 0  # a header
        duration = self._blocks.duration_of(data)
        found.append(MediaFrame(self._track, timestamp, data, duration=duration))
        return duration


class VorbisPayload:
    """
    The payload format of Vorbis.
    """

    codec = "vorbis"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        try:
            packed = b64decode(media.parameters.get("configuration", ""), validate=True)
        except (binascii.Error, ValueError):
            packed = b""
        ident, headers = parse_packed_headers(packed)
        rate, channels = parse_identification(headers[0])
        track = Track(id, Kind.AUDIO, "vorbis", join_headers(headers), rate, channels)
        blocks = BlockSizes(headers[0], headers[2])
        return VorbisDepacketizer(track, ident, blocks, max_unit)

    def mapping(self, track: Track) -> str:
        return f"vorbis/{track.rate}/{max(1, track.channels)}"

    def parameters(self, track: Track) -> str:
        if len(track.private) > MAX_HEADERS:
            raise RemoteProtocolError("Vorbis: the headers are malformed")
        headers = split_headers(track.private)
        sizes = _varint(len(headers[0])) + _varint(len(headers[1]))
        data = b"".join(headers)
        packed = b"\0\0\0\1" + _IDENT.to_bytes(3) + len(data).to_bytes(2) + b"\x02" + sizes + data
        return f"configuration={b64encode(packed).decode()}"

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        ident = _IDENT.to_bytes(3)
        if count == 1:
            return [ident + b"\1" + len(data).to_bytes(2) + data]
        parts = split(data, count)
        last = len(parts) - 1
        marks = [0x40 if index == 0 else 0xC0 if index == last else 0x80 for index in range(count)]
        return [
            ident + bytes((mark,)) + len(part).to_bytes(2) + part
            for mark, part in zip(marks, parts, strict=True)
        ]


def parse_packed_headers(packed: bytes) -> tuple[int, tuple[bytes, bytes, bytes]]:
    """
    Return the ident and the three headers of the first configuration (3.2.1). A comment header
    that is missing is made.

    Raises:
        RemoteProtocolError: it is missing or malformed.
    """
    error = RemoteProtocolError("Vorbis: the description has no valid configuration")
    if not 10 < len(packed) <= MAX_HEADERS:
        raise error
    ident = int.from_bytes(packed[4:7])
    count = packed[9]
    position = 10
    sizes = []
    for _ in range(min(count, 3)):
        size = 0
        for _ in range(4):
            if position >= len(packed):
                raise error
            byte = packed[position]
            position += 1
            size = size << 7 | byte & 127
            if byte < 128:
                break
        sizes.append(size)
    headers = []
    for size in sizes:
        headers.append(packed[position : position + size])
        position += size
    headers.append(packed[position:])
    found = {header[0]: header for header in headers if header[1:7] == b"vorbis"}
    if 1 not in found or 5 not in found:
        raise error
    return ident, (found[1], found.get(3, _COMMENT), found[5])


def _varint(number: int) -> bytes:
    parts = [number & 127]
    while number > 127:
        number >>= 7
        parts.append(number & 127 | 128)
    return bytes(reversed(parts))
