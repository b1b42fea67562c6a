"""
Pictures of NAL units: found among packets (H.264, H.265), and spread over packets.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.h264 import MAX_NAL_UNITS
from rt_twisted.media.rtp.payload_format import split, too_large
from rt_twisted.media.unit import MAX_UNIT

MAX_NALS = 512  # of a picture
PROBATION = 2  # pictures whose marker was on their last packet, before markers are trusted
PACKET = 1400  # bytes of data for which there is a packet, see `Timeline`

FIRST = 0x80  # flags of a fragment
LAST = 0x40

_START_CODE = b"\0\0\x01"


@dataclass(frozen=True, slots=True)
class AccessUnit:
    """
    The NAL units of one picture, none of them empty.
    """

    timestamp: int
    nals: tuple[bytes, ...]


class AccessUnitBuffer:
    """
    Collects NAL units until their picture is complete.

    A picture ends when the timestamp changes, or with the marker of its last packet. The
    marker is trusted once it has been on the last packet of PROBATION pictures and on no
    other one. A picture with a gap, or beyond a bound, is dropped.

    Args:
        max_unit: bytes of a picture.

    Attributes:
        dropped: how many pictures were dropped, or begin behind a gap.
    """

    __slots__ = (
        "_damaged", "_ended", "_fragment", "_marked", "_max_unit", "_nals", "_proved", "_size",
        "_timestamp", "dropped",
    )  # fmt: skip

    def __init__(self, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self._timestamp: int | None = None
        self._nals: list[bytes] = []
        self._size = 0
        self._fragment: bytearray | None = None  # a NAL unit without its end
        self._damaged = False  # the picture in progress misses something
        self._marked = 0  # packets of this picture with the marker; the last one counts as 1
        self._ended: int | None = None  # timestamp of the picture that a marker ended
        self._proved = 0  # pictures; negative: markers are wrong for good
        self.dropped = 0

    def begin(self, timestamp: int) -> AccessUnit | None:
        """
        Begin a packet with *timestamp*. Return the picture before it, if that ends now.
        """
        if timestamp == self._timestamp:
            if self._marked:
                self._proved = -1 << 30  # the packet before this one was not the last
            return None
        if timestamp == self._ended:
            self._proved = -1 << 30
            self._damaged = True  # its other part was returned already
        found = None
        if self._timestamp is not None:
            if self._marked == 1:
                self._proved += 1
            found = self._finish()
        self._timestamp = timestamp
        return found

    def add(self, nal: bytes) -> None:
        """
        Add a whole NAL unit; with start codes within it, those between them (some cameras).

        Raises:
            RemoteProtocolError: the picture is beyond a bound, and is dropped.
        """
        if self._fragment is not None:
            self._abandon()
        parts = nal.split(_START_CODE) if _START_CODE in nal else (nal,)
        for part in parts:
            part = part.rstrip(b"\0") if len(parts) > 1 else part
            if part:
                self._append(part)

    def add_aggregate(self, units: bytes, header: int, codec: str) -> None:
        """
        Add the NAL units of an aggregation packet (RFC 6184, 5.7.1; RFC 7798, 4.4.2).

        Args:
            units: each behind its length of two bytes. Those that are shorter than *header* are
                left out, and so is a length that is truncated.
            header: bytes of a NAL unit's header.
            codec: for the error.

        Raises:
            RemoteProtocolError: a NAL unit is truncated, or see `add`.
        """
        position = 0
        while position + 2 <= len(units):
            start = position + 2
            position = start + int.from_bytes(units[position:start])
            if position > len(units):
                raise RemoteProtocolError(f"{codec}: an aggregation packet is truncated")
            if position - start >= header:
                self.add(units[start:position])

    def add_fragment(self, flags: int, head: bytes, payload: bytes) -> None:
        """
        Add a fragment of a NAL unit (RFC 6184, 5.8; RFC 7798, 4.4.3). Without the first one the
        picture is dropped.

        Args:
            flags: of the fragmentation header: FIRST and LAST.
            head: the header of the NAL unit; counts in the first fragment only.
            payload: what follows the fragmentation header.

        Raises:
            RemoteProtocolError: see `add`.
        """
        if flags & FIRST:
            if self._fragment is not None:
                self._abandon()
            self._fragment = bytearray(head + payload)
            payload = b""
            if not flags & LAST:
                return
        fragment = self._fragment
        if fragment is None:
            self._damaged = True
            return
        fragment += payload
        if self._size + len(fragment) > self._max_unit:
            self._abandon()
            raise too_large(self._max_unit)
        if flags & LAST:
            self._fragment = None
            self.add(bytes(fragment))

    def end(self, marker: bool) -> AccessUnit | None:
        """
        End a packet. Return its picture, if the marker says that it is complete.
        """
        if not marker:
            return None
        self._marked += 1
        if self._proved < PROBATION:
            return None
        self._ended = self._timestamp
        found = self._finish()
        self._timestamp = None
        return found

    def lost(self) -> None:
        """
        Take note that packets are missing.
        """
        self._fragment = None
        if self._timestamp is not None and not (self._marked and self._proved >= 0):
            self._damaged = True
        self.dropped += 1

    def _append(self, nal: bytes) -> None:
        self._nals.append(nal)
        self._size += len(nal) + 4
        if len(self._nals) > MAX_NALS or self._size > self._max_unit:
            self._nals.clear()
            self._damaged = True
            size, self._size = self._size, 0
            if size > self._max_unit:
                raise too_large(self._max_unit)
            raise RemoteProtocolError(f"a picture has more than {MAX_NALS} NAL units")

    def _abandon(self) -> None:
        self._fragment = None
        self._damaged = True

    def _finish(self) -> AccessUnit | None:
        assert self._timestamp is not None
        if self._fragment is not None:
            self._abandon()
        nals, self._nals, self._size = self._nals, [], 0
        damaged, self._damaged = self._damaged, False
        self._marked = 0
        if damaged:
            self.dropped += 1
            return None
        return AccessUnit(self._timestamp, tuple(nals)) if nals else None


def split_nals(frame: bytes) -> list[bytes]:
    """
    Return the NAL units of a frame with lengths of four bytes; a truncated one is left out, and
    so are those behind MAX_NAL_UNITS.
    """
    found: list[bytes] = []
    position = 0
    for _ in range(MAX_NAL_UNITS):
        if position + 4 > len(frame):
            break
        start = position + 4
        position = start + int.from_bytes(frame[position:start])
        if position <= len(frame) and position > start:
            found.append(frame[start:position])
    return found


@dataclass(frozen=True, slots=True)
class PacketPlan:
    """
    What a number of packets carries.

    Args:
        nals: one to be sent alone or in fragments, or several to be aggregated.
        count: of packets; 1 for several NAL units.
    """

    nals: tuple[bytes, ...]
    count: int


def plan_packets(nals: Sequence[bytes]) -> list[PacketPlan]:
    """
    Spread the NAL units of a picture over as many packets as its unit counts: one for each
    PACKET bytes of NAL units with their lengths of four bytes, or part of them.

    So each node gives its packets the same numbers. A packet may have up to three times PACKET
    bytes, which is no harm by TCP.
    """
    plans: list[PacketPlan] = []
    offset = 0
    for nal in nals:
        end = offset + len(nal) + 4
        count = -(-end // PACKET) - -(-offset // PACKET)
        offset = end
        if count:
            plans.append(PacketPlan((nal,), count))
            continue
        # It has no packet of its own, and the first of all NAL units has one.
        last = plans[-1]
        if last.count == 1:
            plans[-1] = PacketPlan((*last.nals, nal), 1)
        else:
            plans[-1:] = PacketPlan(last.nals, last.count - 1), PacketPlan((nal,), 1)
    return plans


def fragments(payload: bytes, count: int) -> list[tuple[bytes, bool, bool]]:
    """
    Return *payload* in fragments, each with whether it is the first and the last one.
    """
    parts = split(payload, count)
    return [(part, index == 0, index == len(parts) - 1) for index, part in enumerate(parts)]
