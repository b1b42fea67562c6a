"""
RTP-Info: the numbers of the first packets of a player.
"""

from __future__ import annotations

from rt_twisted.formats.rtp_interleaved import WireTrack
from rt_twisted.media.rtp.numbers import numbers_of
from rt_twisted.media.unit import Kind, Track, Unit
from rt_twisted.model.message import Message, Position
from rt_twisted.rtsp.playing import rtp_info
from tests.live_streams import live

VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
AUDIO = Track(2, Kind.AUDIO, "pcmu", rate=8000, channels=1)
TRACKS = VIDEO, AUDIO
WIRES = [WireTrack(VIDEO, 96, 0, 1), WireTrack(AUDIO, 0, 2, 3)]


def picture(number: int, packets: int, key: bool = False) -> Unit:
    return Unit(1, number * 40_000, number * 40_000, 40_000, key, packets, 0, b"picture")


def sound(number: int, packets: int) -> Unit:
    return Unit(2, number * 20_000, number * 20_000, 20_000, True, packets, 0, b"x" * 1500)


def expected(track: int, packets: int, ticks: int) -> str:
    numbers = numbers_of("cam", track)
    sequence = numbers.sequence + packets & 0xFFFF
    time = numbers.timestamp + ticks & 0xFFFFFFFF
    return f"url=rtsp://h/cam/trackID={track};seq={sequence};rtptime={time}"


def test_the_first_packets_behind_the_last_head() -> None:
    """
    Not those of earlier groups, and not later ones; a malformed message changes nothing.
    """
    begin = (TRACKS, picture(0, 0, True), sound(0, 0), picture(1, 1, True), sound(2, 2))
    retained = [*live((*begin, picture(2, 2), sound(3, 4)))]
    retained.insert(5, Message("cam", b"", Position("e", 99), "unit/k x"))

    assert rtp_info("rtsp://h/cam", "cam", WIRES, retained) == ",".join(
        [expected(1, 1, 3600), expected(2, 2, 320)]
    )


def test_a_track_without_a_frame_behind_the_last_head() -> None:
    """
    The numbers are those of its next frame; a track that has sent nothing has none.
    """
    things = (TRACKS, picture(0, 0, True), sound(0, 0), sound(1, 2), picture(1, 1, True))
    retained = [*live(things)]

    assert rtp_info("rtsp://h/cam", "cam", WIRES, retained) == ",".join(
        [expected(1, 1, 3600), expected(2, 4, 320)]
    )
    assert rtp_info("rtsp://h/cam", "cam", WIRES[1:], retained[:2]) == "url=rtsp://h/cam/trackID=2"
    assert rtp_info("rtsp://h/cam", "cam", WIRES[1:], []) == "url=rtsp://h/cam/trackID=2"
