"""
Live streams as RTP packets for players.
"""

from __future__ import annotations

from base64 import b64decode
from dataclasses import replace

from rt_twisted.formats.rtp_interleaved import RtpInterleaved, WireTrack, payload_for
from rt_twisted.media.h264 import write_avcc
from rt_twisted.media.rtp.packet import parse_packet, parse_reports
from rt_twisted.media.unit import Kind, Track, Unit
from tests.live_streams import live, messages, replay

RECORD = write_avcc(b64decode("Z0LADdoFB+wEQAAAAwBAAAAMo8UKqA=="), b64decode("aM4PyA=="))
VIDEO = Track(1, Kind.VIDEO, "h264", RECORD, size=(320, 240))
AUDIO = Track(2, Kind.AUDIO, "aac", bytes.fromhex("1188"), 48000, 1)
PLAYER = RtpInterleaved("cam", (WireTrack(VIDEO, 96, 4, 5), WireTrack(AUDIO, 97, 0, 1)))


def picture(number: int, packets: int, size: int = 5, key: bool = False) -> Unit:
    data = b"\x65\x88" + b"x" * (size - 6)
    time = 40_000 * number
    return Unit(1, time, time, 40_000, key, packets, 0, (size - 4).to_bytes(4) + data)


def packets(data: bytes) -> list[tuple[int, bytes]]:
    """
    Return the packets with their channels.
    """
    found = []
    while data:
        size = int.from_bytes(data[2:4])
        found.append((data[1], data[4 : 4 + size]))
        data = data[4 + size :]
    return found


def test_the_numbers_of_packets_follow_from_the_units() -> None:
    """
    They go on without a gap, by the sizes of the units.
    """
    stream = messages([picture(0, 0, 3000, key=True), picture(1, 3, 100), picture(2, 4, 100)])

    found = [packets(PLAYER.encode(message)) for message in stream]

    parsed = [[parse_packet(packet) for _, packet in each] for each in found]
    numbers = [packet.sequence for each in parsed for packet in each]
    assert numbers == [numbers[0] + index & 0xFFFF for index in range(5)]
    assert [packet.marker for packet in parsed[0]] == [False, False, True]
    assert {channel for each in found for channel, _ in each} == {4}
    times = [each[0].timestamp for each in parsed]
    assert [times[1] - times[0], times[2] - times[1]] == [3600, 3600]


def test_a_stream_begins_with_a_report_of_each_track() -> None:
    """
    Both have the same time. Equal players share their packets, others have other numbers.
    """
    head, unit = live([(VIDEO, AUDIO), picture(25, 0, key=True)])

    begun = PLAYER.start(replay([unit, head, unit]))
    assert list(begun) == [head, unit]
    reports = [(channel, parse_reports(data)) for channel, data in packets(PLAYER.encode(head))]
    assert [channel for channel, _ in reports] == [5, 1]
    assert {report.time for _, [report] in reports} == {1_000_000}
    assert replace(PLAYER) == PLAYER
    other = replace(PLAYER, channel="door")
    assert other.encode(unit) != PLAYER.encode(unit)


def test_tracks_that_are_not_set_up_are_left_out() -> None:
    """
    Audio alone ends when its track changes, and not when another one does.
    """
    audio = RtpInterleaved("cam", PLAYER.tracks[1:])
    [head, unit] = live([(VIDEO, AUDIO), picture(0, 0, key=True)])
    [larger, _] = live([(replace(VIDEO, size=(9, 9)), AUDIO), picture(0, 0, key=True)])

    assert audio.encode(unit) == b""
    assert audio.is_resync_point(head)
    assert not audio.must_restart(larger)
    assert PLAYER.must_restart(larger)


def test_the_end_of_a_stream() -> None:
    """
    Players are notified by a BYE of each track.
    """
    assert [(channel, data[9]) for channel, data in packets(PLAYER.end(0))] == [(5, 203), (1, 203)]


def test_tracks_that_rtsp_cannot_carry() -> None:
    """
    Other codecs, and those without what decoders need.
    """
    assert payload_for(VIDEO) is not None
    assert payload_for(replace(VIDEO, private=b"")) is None
    assert payload_for(replace(VIDEO, codec="theora")) is None
