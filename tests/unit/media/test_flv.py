"""
The bodies of FLV tags, and the tracks and frames that they make.
"""

from __future__ import annotations

import contextlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import av1, flv, h264, opus, vp9
from rt_twisted.media.elementary import write_annexb
from rt_twisted.media.flv import AGGREGATE, AUDIO, VIDEO, FlvTag, parse_audio, parse_video
from rt_twisted.media.flv_reader import FlvReader
from rt_twisted.media.h264 import write_avcc
from rt_twisted.media.keyframe_interval import KeyframeInterval
from rt_twisted.media.rtp.access_units import split_nals
from rt_twisted.media.sample_clock import SampleClock
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit

SPS = bytes.fromhex("6742c00bd9024fe2223ff00c400c31000003000100000300320f142a48")  # 130x98
AVCC = write_avcc(SPS, b"\x68\xcb\x8c\xb2")
STEREO = bytes.fromhex("1190")  # AAC, 48 kHz
OPUS_HEAD = opus.write_head(2)
NAL = b"\0\0\0\x03\x65ab"
MP3 = bytes.fromhex("fffb9464")  # MPEG-1, layer 3, 128 kbit/s, 48 kHz, joint stereo

VIDEO_TAGS = [
    ("avc configuration", b"\x17\0\0\0\0rec", FlvTag("h264", True, True, 0, b"rec")),
    ("avc keyframe", b"\x17\1\0\0\x50nal", FlvTag("h264", False, True, 80, b"nal")),
    ("avc picture", b"\x27\1\xff\xff\xb0nal", FlvTag("h264", False, False, -80, b"nal")),
    ("avc end", b"\x17\2\0\0\0", None),
    ("information", b"\x57\0", None),
    ("nothing", b"", None),
    ("hevc by number", b"\x1c\1\0\0\x01nal", FlvTag("h265", False, True, 1, b"nal")),
    ("hevc configuration", b"\x90hvc1rec", FlvTag("h265", True, True, 0, b"rec")),
    ("hevc keyframe", b"\x91hvc1\0\0\x02nal", FlvTag("h265", False, True, 2, b"nal")),
    ("hevc without times", b"\xa3hvc1nal", FlvTag("h265", False, False, 0, b"nal")),
    ("hevc end", b"\xa2hvc1", None),
    ("metadata", b"\x94hvc1color", None),
    ("command", b"\xd0\0", None),
    ("av1", b"\x91av01obu", FlvTag("av1", False, True, 0, b"obu")),
    ("vp9", b"\xa1vp09f", FlvTag("vp9", False, False, 0, b"f")),
    ("vp8", b"\x91vp08f", FlvTag("vp8", False, True, 0, b"f")),
    ("avc by name", b"\x91avc1\0\0\0n", FlvTag("h264", False, True, 0, b"n")),
    ("modified", b"\x97\x02abc\x01av01obu", FlvTag("av1", False, True, 0, b"obu")),
    ("modified at length", b"\x97\xff\0\x02abc\x01av01o", FlvTag("av1", False, True, 0, b"o")),
    ("one of several", b"\x96\x01av01\0obu", FlvTag("av1", False, True, 0, b"obu")),
    ("another one", b"\x96\x01av01\1obu", None),
    ("several", b"\x96\x11av01\1\0\0\1x\0\0\0\2ab", FlvTag("av1", False, True, 0, b"ab")),
    ("several codecs", b"\x96\x21vp09\0\0\0\1xav01\1\0\0\1y", FlvTag("vp9", False, True, 0, b"x")),
]  # fmt: skip
AUDIO_TAGS = [
    ("aac configuration", b"\xaf\0\x11\x90", FlvTag("aac", True, True, 0, b"\x11\x90")),
    ("aac", b"\xaf\1abc", FlvTag("aac", False, True, 0, b"abc")),
    ("mp3", b"\x2fabc", FlvTag("mp3", False, True, 0, b"abc")),
    ("nothing", b"\xaf", None),
    ("opus configuration", b"\x90Opushead", FlvTag("opus", True, True, 0, b"head")),
    ("opus", b"\x91Opusabc", FlvTag("opus", False, True, 0, b"abc")),
    ("channels", b"\x94Opus\1\2", None),
    ("aac by name", b"\x91mp4aabc", FlvTag("aac", False, True, 0, b"abc")),
]


@pytest.mark.parametrize(
    ("body", "tag"), [r[1:] for r in VIDEO_TAGS], ids=[r[0] for r in VIDEO_TAGS]
)
def test_video_tags(body: bytes, tag: FlvTag | None) -> None:
    """
    The old header and that of enhanced RTMP are read.
    """
    assert parse_video(body) == tag


@pytest.mark.parametrize(
    ("body", "tag"), [r[1:] for r in AUDIO_TAGS], ids=[r[0] for r in AUDIO_TAGS]
)
def test_audio_tags(body: bytes, tag: FlvTag | None) -> None:
    """
    The old header and that of enhanced RTMP are read.
    """
    assert parse_audio(body) == tag


@pytest.mark.parametrize(
    ("type", "body", "reason"),
    [
        (VIDEO, b"\x12\0\0", "Sorenson H.263 cannot be shown: encode video as H264"),
        (VIDEO, b"\x91vvc1x", "the codec 'vvc1' cannot be shown"),
        (VIDEO, b"\x91Opusx", "the codec 'Opus' cannot be shown"),
        (VIDEO, b"\x17\1\0", "truncated"),
        (VIDEO, b"\x97\x02", "truncated"),
        (VIDEO, b"\x91hvc1\0", "truncated"),
        (AUDIO, b"\xb6x", "Speex cannot be shown: encode audio as AAC"),
        (AUDIO, b"\x91fLaCx", "the codec 'fLaC' cannot be shown"),
        (AUDIO, b"\xaf\0\x16\x80", "AAC"),
        (AUDIO, b"\x90Opushead", "Opus"),
        (VIDEO, b"\x17\0\0\0\0rec", "H264"),
        (AGGREGATE, b"\x09\0\0\x05\0\0\0\0\0\0\0abc", "truncated"),
    ],
)
def test_what_cannot_be_shown_is_refused(type: int, body: bytes, reason: str) -> None:
    """
    The sentence says what to encode instead.
    """
    with pytest.raises(RemoteProtocolError, match=reason):
        FlvReader().feed(type, 0, body)


def feed(reader: FlvReader, *tags: tuple[int, int, bytes]) -> list[Part]:
    found: list[Part] = []
    for type, time, body in tags:
        found += reader.feed(type, time, body)
    return found


def units(parts: list[Part], kind: Kind) -> list[Unit]:
    id = 1 if kind is Kind.VIDEO else 2
    return [part for part in parts if isinstance(part, Unit) and part.track == id]


def tracks(parts: list[Part]) -> list[tuple[Track, ...]]:
    return [part for part in parts if isinstance(part, tuple)]


AVC = (VIDEO, 0, b"\x17\0\0\0\0" + AVCC)
AAC = (AUDIO, 0, b"\xaf\0" + STEREO)
H264_TRACK = Track(1, Kind.VIDEO, "h264", AVCC, size=(130, 98))
AAC_TRACK = Track(2, Kind.AUDIO, "aac", STEREO, 48000, 2)


def picture(time: int, key: bool = False, composition: int = 0) -> tuple[int, int, bytes]:
    return VIDEO, time, (b"\x17\1" if key else b"\x27\1") + composition.to_bytes(3) + NAL


def sound(time: int) -> tuple[int, int, bytes]:
    return AUDIO, time, b"\xaf\1a%d" % time


def test_h264_and_aac() -> None:
    """
    The stream begins when both tracks have sent a frame.
    """
    reader = FlvReader()
    assert feed(reader, AVC, AAC, picture(0, True, 40)) == []

    found = feed(reader, sound(0), picture(40))

    assert found == [
        (H264_TRACK, AAC_TRACK),
        Unit(1, 40_000, 0, 0, True, 0, 0, NAL),
        Unit(2, 0, 0, 21_333, True, 0, 0, b"a0"),
        Unit(1, 40_000, 40_000, 40_000, False, 0, 0, NAL),
    ]
    assert not reader.take_silent()


def test_frames_are_bounded() -> None:
    """
    A frame may be as large as the setting `max-unit` says.
    """
    feed(FlvReader(len(NAL)), AVC, AAC, picture(0, True, 40))

    with pytest.raises(RemoteProtocolError, match=f"larger than {len(NAL) - 1} bytes"):
        feed(FlvReader(len(NAL) - 1), AVC, AAC, picture(0, True, 40))


def test_a_silent_track_is_left_out() -> None:
    """
    After a second the stream begins without it; if it comes after all, it is added.
    """
    reader = FlvReader()
    reader.expect({Kind.VIDEO, Kind.AUDIO})
    early = feed(reader, AVC, AAC, *(picture(40 * n, n == 0) for n in range(25)))
    assert early == []

    found = feed(reader, picture(1000))
    assert found[0] == (H264_TRACK,)
    assert len(found) == 27
    assert reader.take_silent() == {Kind.AUDIO}
    assert not reader.take_silent()

    assert feed(reader, sound(2000))[0] == (H264_TRACK, AAC_TRACK)


def test_metadata_say_that_there_is_one_track() -> None:
    """
    Nothing is waited for then.
    """
    reader = FlvReader()
    reader.expect({Kind.VIDEO})

    assert feed(reader, AVC, picture(0, True))[0] == (H264_TRACK,)


def test_parameter_sets_change() -> None:
    """
    Another configuration is another track; a repeated one is not.
    """
    reader = FlvReader()
    reader.expect({Kind.VIDEO})
    changed = write_avcc(SPS, b"\x68\xcb\x8c\xb3")
    found = feed(reader, AVC, picture(0, True), AVC, picture(40, True))
    assert tracks(found) == [(H264_TRACK,)]

    found = feed(reader, (VIDEO, 80, b"\x17\0\0\0\0" + changed), picture(80, True))
    [(track,)] = tracks(found)
    assert track.private == changed


@pytest.mark.parametrize("first", [0xFFFFFF, 2**31, 2**32 - 40])
def test_large_timestamps(first: int) -> None:
    """
    Times may be above 0xFFFFFF from the start, and the clock may wrap.
    """
    reader = FlvReader()
    reader.expect({Kind.VIDEO})

    found = feed(reader, AVC, *(picture((first + 40 * n) % 2**32, n == 0) for n in range(3)))

    assert [unit.dts for unit in units(found, Kind.VIDEO)] == [
        1000 * (first + 40 * n) for n in range(3)
    ]


def test_lengths_of_other_sizes() -> None:
    """
    Two bytes of length become four.
    """
    reader = FlvReader()
    reader.expect({Kind.VIDEO})
    record = AVCC[:4] + b"\xfd" + AVCC[5:]

    found = feed(
        reader, (VIDEO, 0, b"\x17\0\0\0\0" + record), (VIDEO, 0, b"\x17\1\0\0\0\0\x03\x65ab")
    )

    assert units(found, Kind.VIDEO)[0].data == NAL


def test_vp9_and_opus() -> None:
    """
    The size of VP9 is in its keyframes.
    """
    keyframe = bytes.fromhex("824983420013f00ef000")
    header = vp9.parse_keyframe(keyframe)
    assert header is not None

    found = feed(
        FlvReader(),
        (VIDEO, 0, b"\x90vp09" + bytes(12)),
        (AUDIO, 0, b"\x90Opus" + OPUS_HEAD),
        (VIDEO, 0, b"\x91vp09" + keyframe),
        (AUDIO, 5, b"\x91Opus\xfcabc"),
    )

    assert tracks(found) == [
        (
            Track(
                1,
                Kind.VIDEO,
                "vp9",
                vp9.write_features(0, vp9.level_of(header.size), 8),
                size=header.size,
            ),
            Track(2, Kind.AUDIO, "opus", OPUS_HEAD, 48000, 2),
        )
    ]
    assert units(found, Kind.AUDIO)[0].duration == 20_000


def test_mp3() -> None:
    """
    The first frame says what MP3 is.
    """
    reader = FlvReader()
    reader.expect({Kind.AUDIO})

    found = feed(reader, (AUDIO, 0, b"\x2f" + MP3 + bytes(380)), (AUDIO, 24, b"\x2f" + MP3))

    assert tracks(found) == [(Track(2, Kind.AUDIO, "mp3", b"", 48000, 2),)]
    assert [unit.pts for unit in units(found, Kind.AUDIO)] == [0, 24_000]


@pytest.mark.parametrize(
    "record",
    [
        "81000c000a0b0200000521e83e2017c002",  # SVT-AV1
        "812000000a0d200000043d07c4daf92021a004",  # libaom
    ],
)
def test_av1(record: str) -> None:
    """
    The size is in the configuration. The temporal delimiter of a frame is left out.
    """
    configuration = bytes.fromhex(record)
    reader = FlvReader()
    reader.expect({Kind.VIDEO})

    found = feed(
        reader,
        (VIDEO, 0, b"\x90av01" + configuration),
        (VIDEO, 0, b"\x91av01\x12\0obus"),
    )

    assert found == [
        (Track(1, Kind.VIDEO, "av1", configuration, size=(322, 242)),),
        Unit(1, 0, 0, 0, True, 0, 0, b"obus"),
    ]


def test_aggregates() -> None:
    """
    The tags of an aggregate keep their distance from the first.
    """
    first = b"\x09\0\0\x05\0\0\x64\0\0\0\0" + b"\x17\2abc" + b"\0\0\0\x10"
    second = b"\x08\0\0\x02\0\0\x78\0\0\0\0" + b"\xaf\1" + b"\0\0\0\x0d"

    assert flv.split_aggregate(1000, first + second) == [
        (9, 1000, b"\x17\2abc"),
        (8, 1020, b"\xaf\1"),
    ]


def test_tags_of_an_aggregate_are_bounded() -> None:
    """
    A message of 4 MiB could have 200,000 tags, for which the daemon would stand still.
    """
    tag = b"\x08\0\0\0" + bytes(7) + (11).to_bytes(4)

    assert len(flv.split_aggregate(0, tag * flv.MAX_TAGS)) == flv.MAX_TAGS
    with pytest.raises(RemoteProtocolError, match="has over 1024 tags"):
        flv.split_aggregate(0, tag * (flv.MAX_TAGS + 1))


def test_nal_units_of_a_frame_are_bounded() -> None:
    """
    A NAL unit may be empty, so a frame of 4 MiB could have as many as it has bytes of lengths.
    """
    bound = h264.MAX_NAL_UNITS

    assert h264.lengthened(bytes(bound), 1) == bytes(4 * bound)
    with pytest.raises(RemoteProtocolError, match="has over 16384 NAL units"):
        h264.lengthened(bytes(bound + 1), 1)
    frame = (b"\0\0\0\1\x65") * (bound + 1)
    assert split_nals(frame) == [b"\x65"] * bound
    assert write_annexb(frame) == frame[: 5 * bound]


def test_times_of_audio_are_exact() -> None:
    """
    Milliseconds are rounded; frames get times without holes. A jump begins anew.
    """
    clock = SampleClock(44100)
    times = [n * 1024 * 1000 // 44100 * 1000 for n in range(500)]

    placed = [clock.place(time, 1024) for time in times]

    assert all(
        start + duration == following for (start, duration), (following, _) in pairwise(placed)
    )
    assert all(abs(start - time) <= 1000 for (start, _), time in zip(placed, times, strict=True))
    assert clock.place(99_000_000, 1024)[0] == 99_000_000


def test_long_keyframe_intervals() -> None:
    """
    An interval of more than four seconds is found once.
    """
    interval = KeyframeInterval()
    interval.is_long([(H264_TRACK, AAC_TRACK)])
    found = [
        interval.is_long([Unit(1, t, t, 0, key, 0, 0, NAL)])
        for t, key in ((0, True), (3_999_999, False), (4_000_001, False), (5_000_000, False))
    ]

    assert found == [False, False, True, False]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([AUDIO, VIDEO, AGGREGATE]),
            st.integers(0, 2**32 - 1),
            st.one_of(
                st.binary(max_size=60),
                st.sampled_from(
                    [AVC[2], AAC[2], b"\x90Opus" + OPUS_HEAD, b"\x90hvc1", b"\x90av01"]
                ),
                st.builds(
                    lambda head, rest: head + rest,
                    st.sampled_from([b"\x17\0\0\0\0", b"\x17\1\0\0\0", b"\xaf\0", b"\x90av01"]),
                    st.binary(max_size=40),
                ),
            ),
        ),
        max_size=10,
    )
)
def test_no_tag_raises_another_error(tags: list[tuple[int, int, bytes]]) -> None:
    """
    Only the codecs' error is raised.
    """
    reader = FlvReader()
    with contextlib.suppress(RemoteProtocolError):
        feed(reader, *tags)


@given(st.binary(max_size=60))
def test_sizes_of_av1_raise_nothing(data: bytes) -> None:
    """
    What is not a sequence header has no size.
    """
    width, height = av1.size_of(data)

    assert width >= 0
    assert height >= 0
