"""
RTP payload format for H.264 (RFC 6184).
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader
from rt_twisted.media.h264 import (
    MAX_PARAMETER_SET,
    H264Parameters,
    parse_avcc_sets,
    parse_sps,
    unescaped,
    write_avcc_sets,
)
from rt_twisted.media.rtp.access_units import (
    FIRST,
    LAST,
    AccessUnit,
    AccessUnitBuffer,
    fragments,
    plan_packets,
    split_nals,
)
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

_IDR = 5
_SPS = 7
_PPS = 8
_LEFT_OUT = frozenset((9, 10, 11, 12))  # delimiters, ends and filler
_SLICES = frozenset((1, 2, 5))
_STAP_A = 24
_FU_A = 28
_MAX_SETS = 32  # parameter sets of a kind (7.4.2.1 permits 32 SPS)


class H264Depacketizer:
    """
    Makes H264 frames of packets.

    Parameter sets are kept by their ids, from the description and from the stream. A changed
    set counts from the next IDR picture on.

    Args:
        id: of the track.
        sets: parameter sets of the description.
        max_unit: bytes of a frame.
    """

    def __init__(self, id: int, sets: tuple[bytes, ...] = (), max_unit: int = MAX_UNIT) -> None:
        self._id = id
        self._buffer = AccessUnitBuffer(max_unit)
        self._sequence_sets: dict[int, bytes] = {}
        self._picture_sets: dict[int, bytes] = {}
        self._changed = False
        self._broken = True  # up to the next IDR picture
        self._track: Track | None = None
        self._parameters = H264Parameters((0, 0), 0)
        for nal in sets:
            self._store(nal)

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if not payload:
            return
        buffer = self._buffer
        self._take(buffer.begin(packet.timestamp), found)
        kind = payload[0] & 31
        if kind < _STAP_A:
            buffer.add(payload)
        elif kind == _FU_A and len(payload) > 2:
            head = bytes((payload[0] & 0xE0 | payload[1] & 31,))
            buffer.add_fragment(payload[1], head, payload[2:])
        elif kind == _STAP_A:
            buffer.add_aggregate(payload[1:], 1, "H264")
        else:
            raise RemoteProtocolError(f"H264: packets of type {kind} are not supported")
        self._take(buffer.end(packet.marker), found)

    def lost(self) -> None:
        self._buffer.lost()

    def _take(self, unit: AccessUnit | None, found: list[MediaFrame]) -> None:
        if self._buffer.dropped:
            self._buffer.dropped = 0
            self._broken = True
        if unit is None:
            return
        parts: list[bytes] = []
        key = False
        first_slice = True
        for nal in unit.nals:
            kind = nal[0] & 31
            if kind in (_SPS, _PPS):
                self._store(nal)
                continue
            if kind in _LEFT_OUT:
                continue
            if kind in _SLICES:
                if first_slice and not (len(nal) > 1 and nal[1] & 0x80):
                    self._broken = True  # first_mb_in_slice is not 0: the first slice is lost
                    return
                first_slice = False
                key = key or kind == _IDR
            parts.append(len(nal).to_bytes(4) + nal)
        if first_slice or not parts:
            return  # there is no picture
        if key:
            self._broken = False
            if self._changed:
                self._describe()
        if self._broken or self._track is None:
            return
        reorder = self._parameters.reorder
        found.append(MediaFrame(self._track, unit.timestamp, b"".join(parts), key, reorder=reorder))

    def _store(self, nal: bytes) -> None:
        is_sequence = nal[0] & 31 == _SPS
        if not is_sequence and nal[0] & 31 != _PPS:
            return
        start = 4 if is_sequence else 1
        if not start < len(nal) <= MAX_PARAMETER_SET:
            return
        sets = self._sequence_sets if is_sequence else self._picture_sets
        try:
            id = BitReader(unescaped(nal[start : start + 8])).ue()
            if is_sequence:
                parse_sps(nal)
        except RemoteProtocolError:
            return
        if sets.get(id) != nal and (id in sets or len(sets) < _MAX_SETS):
            sets[id] = nal
            self._changed = True

    def _describe(self) -> None:
        sequence = [self._sequence_sets[id] for id in sorted(self._sequence_sets)]
        picture = [self._picture_sets[id] for id in sorted(self._picture_sets)]
        if not (sequence and picture):
            return
        self._changed = False
        self._parameters = parse_sps(sequence[0])
        record = write_avcc_sets(sequence, picture)
        self._track = Track(self._id, Kind.VIDEO, "h264", record, size=self._parameters.size)


class H264Payload:
    """
    The payload format of H264.
    """

    codec = "h264"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        if media.parameters.get("packetization-mode", "0") == "2":
            raise RemoteProtocolError("H264: interleaved packets (mode 2) are not supported")
        sets = tuple(decode_sets(media.parameters, "sprop-parameter-sets"))
        return H264Depacketizer(id, sets, max_unit)

    def mapping(self, track: Track) -> str:
        return "H264/90000"

    def parameters(self, track: Track) -> str:
        sequence, picture = parse_avcc_sets(track.private)
        sets = ",".join([b64encode(nal).decode() for nal in (*sequence, *picture)])
        profile = track.private[1:4].hex().upper()
        return f"packetization-mode=1; sprop-parameter-sets={sets}; profile-level-id={profile}"

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        return [*_packets(split_nals(data))]


def decode_sets(parameters: Mapping[str, str], name: str) -> Iterator[bytes]:
    """
    Yield the NAL units of a parameter of `a=fmtp`; malformed ones are left out.
    """
    for text in parameters.get(name, "").split(","):
        try:
            nal = b64decode(text.strip() + "=" * (-len(text.strip()) % 4), validate=True)
        except (binascii.Error, ValueError):
            continue
        if nal:
            yield nal.removeprefix(b"\0\0\0\1")


def _packets(nals: list[bytes]) -> Iterator[bytes]:
    for plan in plan_packets(nals):
        if len(plan.nals) > 1:
            head = max(nal[0] & 0x60 for nal in plan.nals) | _STAP_A
            parts = [len(nal).to_bytes(2) + nal for nal in plan.nals]
            yield bytes((head,)) + b"".join(parts)
            continue
        [nal] = plan.nals
        if plan.count == 1 or len(nal) < 2:
            yield nal
            continue
        indicator = nal[0] & 0xE0 | _FU_A
        for part, is_first, is_last in fragments(nal[1:], plan.count):
            flags = nal[0] & 31 | (FIRST if is_first else 0) | (LAST if is_last else 0)
            yield bytes((indicator, flags)) + part
