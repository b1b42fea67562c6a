"""
RTP packets and RTCP sender reports (RFC 3550).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from rt_twisted.codecs.errors import RemoteProtocolError

HEADER = 12  # bytes
NTP_EPOCH = 2_208_988_800  # seconds from 1900 to 1970

_SENDER_REPORT = 200
_BYE = 203
_REPORT_HEAD = struct.Struct("!BBHI")
_REPORT = struct.Struct("!BBHIIIIII")
_HEADER = struct.Struct("!BBHII")


@dataclass(slots=True, unsafe_hash=True)
class RtpPacket:
    """
    An RTP packet without padding, header extension and contributing sources.

    Args:
        payload_type: 0 to 127.
        marker: its meaning depends on the payload.
        sequence: 0 to 65535.
        timestamp: 0 to 2^32 - 1.
        source: the synchronization source (SSRC).
        payload: may be empty.
    """

    payload_type: Final[int]
    marker: Final[bool]
    sequence: Final[int]
    timestamp: Final[int]
    source: Final[int]
    payload: Final[bytes]


@dataclass(frozen=True, slots=True)
class SenderReport:
    """
    The times of a sender report.

    Args:
        source: the synchronization source (SSRC).
        time: the sender's clock in microseconds since 1970; 0 if it has none.
        timestamp: the RTP timestamp at that time.
    """

    source: int
    time: int
    timestamp: int


def parse_packet(data: bytes) -> RtpPacket:
    """
    Parse an RTP packet (RFC 3550, 5.1 and 5.3.1).

    Raises:
        RemoteProtocolError: it is truncated, or not of version 2.
    """
    if len(data) < HEADER or data[0] >> 6 != 2:
        raise RemoteProtocolError("RTP: a packet is truncated or not of version 2")
    first, second, sequence, timestamp, source = _HEADER.unpack_from(data)
    start, end = HEADER, len(data)
    if first & 0x3F:
        start += 4 * (first & 15)
        if first & 0x10:
            if start + 4 > end:
                raise RemoteProtocolError("RTP: a header extension is truncated")
            start += 4 + 4 * int.from_bytes(data[start + 2 : start + 4])
        if first & 0x20:
            if not 0 < data[-1] <= end - start:
                raise RemoteProtocolError("RTP: the padding of a packet is malformed")
            end -= data[-1]
        if start > end:
            raise RemoteProtocolError("RTP: a packet is truncated")
    return RtpPacket(second & 127, second > 127, sequence, timestamp, source, data[start:end])


def write_packet(
    payload_type: int, marker: bool, sequence: int, timestamp: int, source: int, payload: bytes
) -> bytes:
    """
    Return an RTP packet; numbers that are too large wrap.
    """
    second = payload_type | (128 if marker else 0)
    head = _HEADER.pack(128, second, sequence & 0xFFFF, timestamp & 0xFFFFFFFF, source)
    return head + payload


def parse_reports(data: bytes) -> list[SenderReport]:
    """
    Return the sender reports of a compound RTCP packet (RFC 3550, 6.4.1).

    Other reports are skipped, and what is malformed ends the search.
    """
    found = []
    position = 0
    while position + 8 <= len(data):
        first, kind, length, source = _REPORT_HEAD.unpack_from(data, position)
        if first >> 6 != 2:
            break
        if kind == _SENDER_REPORT and position + _REPORT.size <= len(data) and length >= 6:
            _, _, _, _, seconds, fraction, timestamp, _, _ = _REPORT.unpack_from(data, position)
            time = 0
            if seconds or fraction:
                time = (seconds - NTP_EPOCH) * 1_000_000 + (fraction * 1_000_000 >> 32)
            found.append(SenderReport(source, time, timestamp))
        position += 4 * (length + 1)
    return found


def write_report(source: int, time: int, timestamp: int, packets: int, size: int) -> bytes:
    """
    Return a sender report.

    Args:
        source: the synchronization source (SSRC).
        time: microseconds since 1970.
        timestamp: the RTP timestamp at that time; wraps.
        packets: that were sent; wraps.
        size: bytes of payload that were sent; wraps.
    """
    seconds, rest = divmod(time, 1_000_000)
    fraction = (rest << 32) // 1_000_000
    return _REPORT.pack(
        128,
        _SENDER_REPORT,
        6,
        source,
        (seconds + NTP_EPOCH) & 0xFFFFFFFF,
        fraction,
        timestamp & 0xFFFFFFFF,
        packets & 0xFFFFFFFF,
        size & 0xFFFFFFFF,
    )


def write_bye(source: int) -> bytes:
    """
    Return the end of a source, behind the empty report that must precede it (RFC 3550, 6.1).
    """
    report = _REPORT_HEAD.pack(128, _BYE - 2, 1, source)
    return report + _REPORT_HEAD.pack(129, _BYE, 1, source)
