"""
RTP payload format for H.265 (RFC 7798).
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader
from rt_twisted.media.h264 import MAX_PARAMETER_SET, unescaped
from rt_twisted.media.h265 import (
    H265Parameters,
    parse_hvcc_sets,
    parse_sps,
    write_hvcc,
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
from rt_twisted.media.rtp.h264 import decode_sets
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Kind, Track

_VPS = 32
_SPS = 33
_PPS = 34
_SETS = (_VPS, _SPS, _PPS)
_LEFT_OUT = frozenset((35, 36, 37, 38))  # delimiters, ends and filler
_SLICES = 32  # types below are slices
_KEYS = range(16, 24)  # IRAP pictures
_AGGREGATE = 48
_FRAGMENT = 49
_MAX_SETS = 16  # parameter sets of a kind
_SPROP = ("sprop-vps", "sprop-sps", "sprop-pps")


class H265Depacketizer:
    """
    Makes H265 frames of packets; see `H264Depacketizer`.

    Args:
        id: of the track.
        sets: parameter sets of the description.
        max_unit: bytes of a frame.
    """

    def __init__(self, id: int, sets: tuple[bytes, ...] = (), max_unit: int = MAX_UNIT) -> None:
        self._id = id
        self._buffer = AccessUnitBuffer(max_unit)
        self._sets: dict[int, dict[int, bytes]] = {kind: {} for kind in _SETS}
        self._changed = False
        self._broken = True  # up to the next keyframe
        self._track: Track | None = None
        self._parameters = H265Parameters((0, 0), 0)
        for nal in sets:
            self._store(nal)

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        payload = packet.payload
        if len(payload) < 2:
            return
        buffer = self._buffer
        self._take(buffer.begin(packet.timestamp), found)
        kind = payload[0] >> 1 & 63
        if kind < _AGGREGATE:
            buffer.add(payload)
        elif kind == _FRAGMENT and len(payload) > 3:
            head = bytes((payload[0] & 0x81 | (payload[2] & 63) << 1, payload[1]))
            buffer.add_fragment(payload[2], head, payload[3:])
        elif kind == _AGGREGATE:
            buffer.add_aggregate(payload[2:], 2, "H265")
        else:
            raise RemoteProtocolError(f"H265: packets of type {kind} are not supported")
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
            kind = nal[0] >> 1 & 63
            if kind in _SETS:
                self._store(nal)
                continue
            if kind in _LEFT_OUT:
                continue
            if kind < _SLICES:
                if first_slice and not (len(nal) > 2 and nal[2] & 0x80):
                    self._broken = True  # first_slice_segment_in_pic_flag is not set
                    return
                first_slice = False
                key = key or kind in _KEYS
            parts.append(len(nal).to_bytes(4) + nal)
        if first_slice or not parts:
            return  # there is no picture
        if key:
            self._broken = False
            if self._changed:
                self._describe()
        if self._broken or self._track is None:
            return
        data = b"".join(parts)
        reorder = self._parameters.reorder
        found.append(MediaFrame(self._track, unit.timestamp, data, key, reorder=reorder))

    def _store(self, nal: bytes) -> None:
        kind = nal[0] >> 1 & 63
        sets = self._sets.get(kind)
        if sets is None or not 4 <= len(nal) <= MAX_PARAMETER_SET:
            return
        try:
            if kind == _VPS:
                id = nal[2] >> 4
            elif kind == _PPS:
                id = BitReader(unescaped(nal[2:10])).ue()
            else:
                id = parse_sps(nal).id
        except RemoteProtocolError:
            return
        if sets.get(id) != nal and (id in sets or len(sets) < _MAX_SETS):
            sets[id] = nal
            self._changed = True

    def _describe(self) -> None:
        sets = [[found[id] for id in sorted(found)] for found in self._sets.values()]
        if not all(sets):
            return
        self._changed = False
        self._parameters = parse_sps(sets[1][0])
        record = write_hvcc(*sets)
        self._track = Track(self._id, Kind.VIDEO, "h265", record, size=self._parameters.size)


class H265Payload:
    """
    The payload format of H265.
    """

    codec = "h265"

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        if media.parameters.get("sprop-max-don-diff", "0") != "0":
            raise RemoteProtocolError("H265: interleaved packets are not supported")
        sets = [nal for name in _SPROP for nal in decode_sets(media.parameters, name)]
        return H265Depacketizer(id, tuple(sets), max_unit)

    def mapping(self, track: Track) -> str:
        return "H265/90000"

    def parameters(self, track: Track) -> str:
        groups = parse_hvcc_sets(track.private)
        if not all(groups):
            raise RemoteProtocolError("H265: the decoder configuration lacks parameter sets")
        texts = [",".join([b64encode(nal).decode() for nal in group]) for group in groups]
        return "; ".join([f"{name}={text}" for name, text in zip(_SPROP, texts, strict=True)])

    def packetize(self, track: Track, data: bytes, count: int) -> list[bytes]:
        return [*_packets(split_nals(data))]


def _packets(nals: list[bytes]) -> Iterator[bytes]:
    for plan in plan_packets(nals):
        if len(plan.nals) > 1:
            parts = [len(nal).to_bytes(2) + nal for nal in plan.nals]
            yield bytes((_AGGREGATE << 1, 1)) + b"".join(parts)
            continue
        [nal] = plan.nals
        if plan.count == 1 or len(nal) < 3:
            yield nal
            continue
        head = bytes((nal[0] & 0x81 | _FRAGMENT << 1, nal[1]))
        kind = nal[0] >> 1 & 63
        for part, is_first, is_last in fragments(nal[2:], plan.count):
            flags = kind | (FIRST if is_first else 0) | (LAST if is_last else 0)
            yield head + bytes((flags,)) + part
