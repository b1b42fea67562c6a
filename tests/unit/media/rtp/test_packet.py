"""
RTP packets and sender reports.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.packet import (
    RtpPacket,
    SenderReport,
    parse_packet,
    parse_reports,
    write_bye,
    write_packet,
    write_report,
)

PACKET = write_packet(96, True, 7, 90, 5, b"payload")
FIELDS = PACKET[1:12]


@pytest.mark.parametrize(
    "data",
    [
        PACKET,
        b"\x81" + FIELDS + b"csrc" + b"payload",
        b"\x90" + FIELDS + b"\xbe\xde\0\1" + b"ext." + b"payload",
        b"\xa0" + FIELDS + b"payload" + b"\0\0\0\0\5",
        b"\xb2" + FIELDS + b"csrccsrc" + b"\xbe\xde\0\0" + b"payload" + b"\1",
    ],
)
def test_padding_extension_and_sources_are_stripped(data: bytes) -> None:
    """
    The payload is what is left.
    """
    assert parse_packet(data) == RtpPacket(96, True, 7, 90, 5, b"payload")


def test_a_packet_of_padding_alone() -> None:
    """
    The packet has no payload, and counts as received.
    """
    assert parse_packet(b"\xa0" + FIELDS + b"\0\0\0\4").payload == b""


@pytest.mark.parametrize(
    "data",
    [
        b"",
        PACKET[:11],
        b"\x40" + FIELDS,
        b"\x8f" + FIELDS + b"csrc",
        b"\x90" + FIELDS + b"\0",
        b"\x90" + FIELDS + b"\0\0\xff\xff",
        b"\xa0" + FIELDS + b"\0",
        b"\xa0" + FIELDS + b"abc\xff",
    ],
)
def test_malformed_packets(data: bytes) -> None:
    """
    The parser raises its own error.
    """
    with pytest.raises(RemoteProtocolError):
        parse_packet(data)


@given(st.binary(max_size=60))
def test_no_packet_raises_anything_else(data: bytes) -> None:
    """
    Whatever the bytes are.
    """
    parse_reports(data)
    with suppress(RemoteProtocolError):
        assert len(parse_packet(data).payload) <= len(data)


def test_the_times_of_a_report() -> None:
    """
    Microseconds since 1970, exact in both directions.
    """
    report = write_report(5, 1_700_000_000_123_456, 90, 2, 3)

    assert len(report) == 28
    [found] = parse_reports(report)
    assert (found.source, found.timestamp) == (5, 90)
    assert abs(found.time - 1_700_000_000_123_456) <= 1


def test_other_reports_are_skipped() -> None:
    """
    Receiver reports, empty ones among them, and what follows in a compound packet.
    """
    empty = b"\x80\xc9\0\1\0\0\0\7"
    description = b"\x81\xca\0\2\0\0\0\7\1\1x\0"
    report = write_report(5, 0, 90, 0, 0)

    found = parse_reports(empty + description + report + write_bye(5) + b"\x80")

    assert [each.source for each in found] == [5]
    assert parse_reports(empty) == []
    assert parse_reports(report[:20]) == []
    assert parse_reports(b"\x80\xc8\0\6" + b"\0\0\0\5" + bytes(20)) == [SenderReport(5, 0, 0)]
