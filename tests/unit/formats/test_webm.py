"""
Live WebM for subscribers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.formats import build_format
from rt_twisted.formats.live import STEP
from rt_twisted.formats.webm import WebM
from rt_twisted.media.arrival import MAX_CHANNELS, ArrivalTimes
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Message, Position
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.live_streams import live, messages, replay
from tests.unit.media.webm_bytes import cluster, simple

FILES = Path(__file__).parents[1] / "media" / "files"
VP8_OPUS = (FILES / "vp8_opus.webm").read_bytes()
PARTS = MatroskaReader().feed(VP8_OPUS)
UNITS = [part for part in PARTS if isinstance(part, Unit)]
TRACKS = next(part for part in PARTS if isinstance(part, tuple))
KEYFRAME = next(unit.data for unit in UNITS if unit.track == 1 and unit.key)
DELTA = next(unit.data for unit in UNITS if unit.track == 1 and not unit.key)
FIRST = Head("r", 0.5, TRACKS, UNITS[1].pts)


def units_of(stream: bytes) -> list[Unit]:
    return [part for part in MatroskaReader().feed(stream) if isinstance(part, Unit)]


def content(units: Iterable[Unit]) -> list[tuple[int, int, bool, bytes]]:
    return [(unit.track, unit.pts, unit.key, unit.data) for unit in units]


def test_the_contract_of_formats() -> None:
    """
    The format is pure and compares by value; damaged messages give nothing.
    """
    formats = [WebM(), WebM(shift=5), WebM(new_headers=True), WebM("", "A_OPUS")]
    data = (KEYFRAME, b"", b"\xff", VP8_OPUS, cluster(0, simple(1, 0, b"x")), b"\x1a\x45\xdf\xa3")
    FormatContract(formats, [replace(format) for format in formats], data).check()
    verifyObject(ISyncFormat, WebM())
    assert build_format("webm", shift=0) is build_format("webm", shift=0)


def test_a_subscriber_from_the_start() -> None:
    """
    A stream is the publisher's own tracks, and each frame in a cluster of 25 bytes more.
    """
    found = live(PARTS)
    stream = started(WebM(), replay(found))
    tracks = next(part for part in MatroskaReader().feed(stream) if isinstance(part, tuple))

    assert tracks == TRACKS
    assert content(units_of(stream)) == content(UNITS[1:])
    unit = messages([UNITS[5]])[0]
    assert len(WebM().encode(unit)) == len(unit.data) + 25


@pytest.mark.parametrize("first", range(0, 70, 7))
def test_a_subscriber_that_joins_late(first: int) -> None:
    """
    What precedes the first head is left out, so that the first picture is a keyframe.
    """
    found = live(PARTS)[first:]
    stream = started(WebM(), replay(found))
    videos = [unit for unit in units_of(stream) if unit.track == 1]

    assert not videos or videos[0].key
    assert bool(videos) == any(WebM().is_resync_point(message) for message in found)


def test_nothing_to_begin_with() -> None:
    """
    Without a head there is nothing to send.
    """
    assert started(WebM(), replay([])) == b""
    assert started(WebM(), replay(messages(UNITS[2:5]))) == b""


def test_heads_and_ends_write_nothing() -> None:
    """
    A subscriber that has begun is not sent a repeated head.
    """
    for message in messages([FIRST, replace(FIRST, again=True), End("r")]):
        assert WebM().encode(message) == b""


def test_a_change_of_tracks() -> None:
    """
    A stream must begin again, unless its reader takes a new header.
    """
    again, changed, unit = messages([replace(FIRST, again=True), FIRST, UNITS[0]])
    script = WebM(new_headers=True)

    assert [WebM().must_restart(one) for one in (again, changed, unit)] == [False, True, False]
    assert not script.must_restart(changed)
    assert script.encode(again) == b""
    assert script.encode(changed).startswith(b"\x1a\x45\xdf\xa3")
    assert started(script, replay([changed, unit])).count(b"\x1a\x45\xdf\xa3") == 1


def test_a_skip_leaves_no_hole() -> None:
    """
    The frame after a skip follows the last one that was sent; equal skips share frames.
    """
    found = live(PARTS)
    heads = [index for index, message in enumerate(found) if WebM().is_resync_point(message)]
    last, first = found[heads[1] - 2], found[heads[2]]
    format = WebM().resumed(last, first)
    before = units_of(started(WebM(), replay(found[: heads[1] - 1])))[-1]
    moved = MatroskaReader().feed(
        started(WebM(), replay(found[:2])) + format.encode(found[heads[2] + 1])
    )[-1]

    assert isinstance(moved, Unit)
    assert moved.pts == before.pts + STEP
    assert format == WebM().resumed(last, first)
    assert hash(format) == hash(WebM().resumed(last, first))
    assert format.resumed(None, first) == format


def test_a_second_skip_adds_to_the_first() -> None:
    """
    The shift is that of the timeline that the subscriber has seen.
    """
    early, late = messages([replace(FIRST, time=10_000_000), replace(FIRST, time=50_000_000)])
    last, final = messages([replace(UNITS[0], pts=1_000_000), replace(UNITS[0], pts=12_000_000)])
    once = WebM().resumed(last, early)
    twice = once.resumed(final, late)

    assert once.shift == 1_000_000 + STEP - 10_000_000
    assert twice.shift == 12_000_000 + once.shift + STEP - 50_000_000


def test_times_before_the_start_and_far_away() -> None:
    """
    Times are clipped to what a cluster can hold.
    """
    for pts, expected in ((-5_000_000, 0), (2**53, (2**53 + 500) // 1000)):
        (message,) = messages([replace(UNITS[0], pts=pts, dts=pts)])
        frame = WebM().encode(message)
        assert frame[10:16] == expected.to_bytes(6)


def test_tracks_with_large_numbers() -> None:
    """
    Track numbers from 127 on need two bytes.
    """
    track = replace(TRACKS[0], id=300, extra=b"")
    unit = replace(UNITS[1], track=300)
    (found,) = units_of(started(WebM(), replay(messages([Head("r", 0.0, (track,)), unit]))))

    assert content([found]) == content([unit])


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        (TRACKS, 'video/webm; codecs="vp8,opus"'),
        (TRACKS[1:], 'audio/webm; codecs="opus"'),
        ((Track(1, Kind.VIDEO, "av1"),), 'video/webm; codecs="av01.0.05M.08"'),
    ],
)
def test_the_content_type(tracks: tuple[Track, ...], expected: str) -> None:
    """
    The exact codec strings are those that pages need for `isTypeSupported`.
    """
    assert WebM().content_type_of(Head("r", 0.0, tracks)) == expected


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        ("h264", "WebM cannot carry h264; the route word mp4 can"),
        ("h265", "WebM cannot carry h265; the route word mp4 can"),
        ("aac", "WebM cannot carry aac; the route word mp4 can"),
        ("jpeg", "WebM cannot carry jpeg; the route word mjpeg can"),
        ("S_\r\nTEXT", "WebM cannot carry one of the codecs"),
    ],
)
def test_codecs_that_webm_cannot_carry(codec: str, reason: str) -> None:
    """
    One sentence names the route word that would work, and nothing that a peer wrote.
    """
    with pytest.raises(HttpError) as error:
        WebM().content_type_of(Head("r", 0.0, (Track(1, Kind.VIDEO, codec),)))
    assert (error.value.status, str(error.value)) == (415, reason)


def test_bare_frames() -> None:
    """
    A header is made of the keyframe; flags, size and track number are true.
    """
    found = messages([DELTA, KEYFRAME, DELTA, DELTA])
    stream = started(WebM(), replay(found))
    tracks, *units = MatroskaReader().feed(stream)

    assert isinstance(tracks, tuple)
    (track,) = tracks
    assert (track.codec, track.size, track.id) == ("vp8", (64, 48), 1)
    assert [(unit.key, unit.data) for unit in units if isinstance(unit, Unit)] == [
        (True, KEYFRAME),
        (False, DELTA),
        (False, DELTA),
    ]
    assert [WebM().is_resync_point(one) for one in found] == [False, True, False, False]


def test_bare_frames_with_their_track_in_front() -> None:
    """
    Track 1 is video and 2 is audio; frames of other tracks are left out.
    """
    format = WebM(audio_codec="A_OPUS", track_prefix=True)
    found = messages(
        [b"\x02\xfcaudio", b"\x01" + KEYFRAME, b"\x02\xfcmore", b"\x05x", b"\x01", b""]
    )
    tracks, *units = MatroskaReader().feed(started(format, replay(found)))

    assert isinstance(tracks, tuple)
    assert [track.codec for track in tracks] == ["vp8", "opus"]
    assert [(unit.track, unit.key, unit.data) for unit in units if isinstance(unit, Unit)] == [
        (1, True, KEYFRAME),
        (2, True, b"\xfcmore"),
    ]


def test_bare_audio() -> None:
    """
    Without a video codec each frame is one of audio, and a subscriber begins anywhere.
    """
    format = WebM("", "A_OPUS")
    found = messages([b"\xfcone", b"\xfctwo"])
    tracks, *units = MatroskaReader().feed(started(format, replay(found)))

    assert isinstance(tracks, tuple)
    assert [(track.codec, track.rate, track.channels) for track in tracks] == [("opus", 48000, 2)]
    assert len(units) == 2
    assert format.is_resync_point(found[1])


def test_bare_frames_of_h264() -> None:
    """
    Frames with start codes get lengths, and their parameter sets go to the header.
    """
    described, first, *_ = MatroskaReader().feed((FILES / "h264_aac.mkv").read_bytes())
    assert isinstance(described, tuple)
    assert isinstance(first, Unit)
    record = described[0].private
    size = int.from_bytes(record[6:8])
    sps, rest = record[8 : 8 + size], record[9 + size :]
    pps, data = rest[2 : 2 + int.from_bytes(rest[:2])], first.data
    bare = b"\0\0\0\x01" + sps + b"\0\0\x01" + pps
    while data:
        size = int.from_bytes(data[:4])
        bare += b"\0\0\x01" + data[4 : 4 + size]
        data = data[4 + size :]
    tracks, unit = MatroskaReader().feed(started(WebM("V_MPEG4/ISO/AVC"), replay(messages([bare]))))

    assert isinstance(tracks, tuple)
    assert isinstance(unit, Unit)
    (track,) = tracks
    assert (track.codec, track.size, track.private[:7]) == ("h264", (64, 48), record[:7])
    assert (unit.key, unit.data) == (True, first.data)


def test_bare_frames_of_av1() -> None:
    """
    The header has the configuration record and the size of the sequence header.
    """
    described, *parts = MatroskaReader().feed((FILES / "av1.mkv").read_bytes())
    assert isinstance(described, tuple)
    units = [unit for unit in parts if isinstance(unit, Unit) and unit.track == described[0].id]
    found = messages([b"\x12\0" + unit.data for unit in units])  # temporal delimiters
    (tracks, *bare) = MatroskaReader().feed(started(WebM("V_AV1"), replay(found)))

    assert isinstance(tracks, tuple)
    assert tracks[0].size == described[0].size
    assert tracks[0].private == described[0].private
    assert [(one.key, one.data) for one in bare if isinstance(one, Unit)] == [
        (unit.key, unit.data) for unit in units
    ]


def adts(frame: bytes) -> bytes:
    """
    Return a frame of 22.05 kHz mono behind its header.
    """
    size = len(frame) + 7
    return (
        bytes((0xFF, 0xF1, 0x5C, 0x40 | size >> 11, size >> 3 & 255, (size & 7) << 5 | 31, 0xFC))
        + frame
    )


def test_bare_frames_of_aac() -> None:
    """
    Frames lose their ADTS headers, which describe the track; without them it is 44.1 kHz.
    """
    for found, expected in (
        ([adts(b"one!"), adts(b"two!")], (22050, 1, b"\x13\x88")),
        ([b"one!", b"two!"], (44100, 2, b"\x12\x10")),
    ):
        stream = started(WebM("", "A_AAC"), replay(messages(found)))
        tracks, *units = MatroskaReader().feed(stream)
        assert isinstance(tracks, tuple)
        (track,) = tracks
        assert (track.rate, track.channels, track.private) == expected
        assert [unit.data for unit in units if isinstance(unit, Unit)] == [b"one!", b"two!"]


def test_aac_beside_video() -> None:
    """
    The header is made of the keyframe, before any audio.
    """
    format = WebM(audio_codec="A_AAC", track_prefix=True)
    found = messages([b"\x01" + KEYFRAME, b"\x02" + adts(b"sound")])
    tracks, *units = MatroskaReader().feed(started(format, replay(found)))

    assert isinstance(tracks, tuple)
    assert [track.codec for track in tracks] == ["vp8", "aac"]
    assert [unit.data for unit in units if isinstance(unit, Unit)] == [KEYFRAME, b"sound"]


@pytest.mark.parametrize("codec", ["V_AV1", "V_MPEG4/ISO/AVC", "V_VP9"])
@given(data=st.binary(max_size=60))
def test_any_bare_frame_is_read(codec: str, data: bytes) -> None:
    """
    What is no frame of the codec is left out, or sent as it is.
    """
    [message] = messages([data])

    WebM(codec).is_resync_point(message)
    WebM(codec).encode(message)


def test_messages_that_are_webm() -> None:
    """
    A whole document has its own tracks; a cluster gets a header by its keyframe. A cluster
    that begins with another picture cannot be begun at.
    """
    whole, part, middle, cut = messages(
        [
            VP8_OPUS,
            cluster(9, simple(1, 0, KEYFRAME), simple(1, 40, DELTA, 0)),
            cluster(9, simple(1, 0, DELTA, 0), simple(1, 40, KEYFRAME)),
            cluster(9, simple(1, 0, KEYFRAME), simple(1, 40, DELTA, 0))[:-3],
        ]
    )
    assert content(units_of(started(WebM(), replay([whole])))) == content(UNITS)
    stream = started(WebM(), replay([middle, part, middle, cut]))
    (tracks, *units) = MatroskaReader().feed(stream)

    assert isinstance(tracks, tuple)
    assert [track.size for track in tracks] == [(64, 48)]
    assert [(one.pts, one.key) for one in units if isinstance(one, Unit)] == [
        (9000, True), (49_000, False), (9000, False), (49_000, True), (9000, True),
    ]  # fmt: skip
    assert not WebM().is_resync_point(middle)
    assert WebM().is_resync_point(whole)


def test_a_skip_among_bare_frames() -> None:
    """
    Bare frames have times by their arrival, and skips move them likewise.
    """
    now = 100.0
    times = ArrivalTimes(lambda: now)
    format = WebM(time_of=times)
    last, first = messages([DELTA, KEYFRAME])
    format.encode(last)
    now = 109.0
    moved = format.resumed(last, first)

    assert moved.shift == STEP - 9_000_000
    now = 200.0
    assert format.encode(first) == WebM(time_of=lambda message: 109_000_000).encode(first)


def test_messages_that_arrive_at_once() -> None:
    """
    Their times differ by what WebM can tell apart, also if the clock is set back.
    """
    now = 100.0
    times = ArrivalTimes(lambda: now)
    one, two, three = messages([KEYFRAME, DELTA, KEYFRAME])

    assert [times(one), times(two), times(one)] == [100_000_000, 100_001_000, 100_000_000]
    now = 5.0
    assert times(three) == 100_002_000


def test_the_last_times_are_bounded() -> None:
    """
    Old channels are forgotten.
    """
    times = ArrivalTimes(lambda: 1.0)
    for number in range(2 * MAX_CHANNELS):
        times(Message(f"c{number}", b"x", Position("e", 1)))

    assert times(Message("c0", b"x", Position("e", 2))) == 1_000_000
    assert times(Message(f"c{2 * MAX_CHANNELS - 1}", b"x", Position("e", 2))) == 1_001_000


@pytest.mark.parametrize(
    ("video", "audio", "reason"),
    [
        ("V_THEORA", "", "video_codec=V_THEORA is not one of V_VP8, V_VP9, V_AV1, V_MPEG4/ISO/AVC"),
        ("V_VP8", "A_FLAC", "audio_codec=A_FLAC is not one of A_OPUS, A_AAC"),
        ("", "", "video_codec and audio_codec are both empty"),
    ],
)
def test_codecs_of_bare_frames_that_are_not_known(video: str, audio: str, reason: str) -> None:
    """
    A wrong route line is found at start.
    """
    with pytest.raises(ValueError, match=reason):
        WebM(video, audio)


@given(st.binary(max_size=60), st.sampled_from(["unit/k 1 0 0 0 0 0", "unit/head 0", None]))
def test_no_message_raises_an_error(data: bytes, event: str | None) -> None:
    """
    Whatever is published, a subscriber is sent whole clusters or nothing.
    """
    for format in (WebM(), WebM("V_VP9"), WebM("V_MPEG4/ISO/AVC", "A_OPUS", True)):
        for body in (data, b"\x1a\x45\xdf\xa3" + data, b"\x1f\x43\xb6\x75" + data):
            message = Message("cam", body, Position("e", 1), event)
            format.encode(message)
            format.is_resync_point(message)
            format.must_restart(message)
            format.resumed(message, message)
            started(format, replay([message]))
