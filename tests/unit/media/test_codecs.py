"""
What codecs write about themselves, and the codec strings made of it.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import aac, h264, h265, opus, vp8, vp9
from rt_twisted.media.adts import strip_adts
from rt_twisted.media.bits import BitReader
from rt_twisted.media.codec_strings import codec_string
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.reorder import DecodingTimes
from rt_twisted.media.unit import Kind, Track, Unit

FILES = Path(__file__).parent / "files"


def parts(name: str) -> tuple[Track, list[Unit]]:
    tracks, *units = MatroskaReader().feed((FILES / name).read_bytes())
    assert isinstance(tracks, tuple)
    video = [unit for unit in units if isinstance(unit, Unit) and unit.track == tracks[0].id]
    return tracks[0], video


def test_bits_and_exp_golomb_codes() -> None:
    """
    The codes of H.264, table 9-2.
    """
    reader = BitReader(b"\xa6\x42\x98\xe2\x04\x8a")  # 1 010 011 00100 00101 00110 00111 ...
    assert [reader.ue() for _ in range(9)] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    signed = BitReader(b"\xa6\x42\x98\xe2")
    assert [signed.se() for _ in range(6)] == [0, 1, -1, 2, -2, 3]
    with pytest.raises(RemoteProtocolError):
        BitReader(b"\x01").bits(9)
    with pytest.raises(RemoteProtocolError):
        BitReader(bytes(9)).ue()


def test_parameter_sets_of_h264() -> None:
    """
    x264 with two B-frames says that it reorders by two.
    """
    track, _ = parts("h264_aac.mkv")
    length, (sps,) = h264.parse_avcc(track.private)

    assert length == 4
    assert h264.parse_sps(sps) == h264.H264Parameters((64, 48), 2)


@pytest.mark.parametrize(
    ("sps", "size", "reorder"),
    [
        ("6742c00bd9024fe2223ff00c400c31000003000100000300320f142a48", (130, 98), 0),
        ("674d400bf2049fc4447fe018801862000003000200000300641e285224", (130, 98), 1),
        (
            "67640015acd94248f3c47fe00c800c6200000300020000030064c04003d08000f425261807c50a6580",
            (132, 100),
            2,
        ),
        ("67f4000b919b2849fc7477fe0108010620000003002000000641e28532c0", (131, 99), 2),
    ],
)
def test_parameter_sets_of_x264(sps: str, size: tuple[int, int], reorder: int) -> None:
    """
    Baseline and main profile; interlaced with rate control; 4:4:4.
    """
    assert h264.parse_sps(bytes.fromhex(sps)) == h264.H264Parameters(size, reorder)


def test_frames_with_start_codes() -> None:
    """
    Parameter sets go to the configuration, the rest gets lengths.
    """
    track, _ = parts("h264_aac.mkv")
    (sps,) = h264.parse_avcc(track.private)[1]
    pps = b"\x68\xeb\xe3\xc4"
    frame = b"".join(b"\0\0\0\x01" + nal for nal in (b"\x09\xf0", sps, pps, b"\x65abc"))

    converted = h264.convert_annexb(frame)

    assert converted.key
    assert converted.record == h264.write_avcc(sps, pps)
    assert h264.parse_avcc(converted.record) == (4, [sps])
    assert converted.data == b"\0\0\0\x02\x09\xf0\0\0\0\x04\x65abc"
    assert h264.convert_annexb(b"\0\0\x01\x41x") == h264.H264Frame(False, b"", b"\0\0\0\x02Ax")
    assert h264.convert_annexb(b"garbage") == h264.H264Frame(False, b"", b"")


def test_parameter_sets_of_h265() -> None:
    """
    x265 with two B-frames and a pyramid reorders by two.
    """
    track, _ = parts("h265.mkv")
    length, (sps,) = h265.parse_hvcc(track.private)

    assert length == 4
    assert h265.parse_sps(sps) == h265.H265Parameters((64, 48), 2)


def test_keyframes_of_vp8() -> None:
    """
    The flag and the size are in the frame.
    """
    _, units = parts("vp8_opus.webm")

    assert [vp8.is_keyframe(unit.data) for unit in units] == [unit.key for unit in units]
    assert vp8.size_of(units[0].data) == (64, 48)
    assert not vp8.is_keyframe(b"")
    assert not vp8.is_keyframe(bytes(10))


def test_keyframes_of_vp9() -> None:
    """
    Profile, depth and size are in the frame.
    """
    _, units = parts("vp9_vorbis.webm")

    assert [vp9.parse_keyframe(unit.data) is not None for unit in units] == [
        unit.key for unit in units
    ]
    assert vp9.parse_keyframe(units[0].data) == vp9.Vp9Keyframe(1, 8, (64, 48))
    assert vp9.parse_keyframe(b"") is None


@pytest.mark.parametrize(
    ("packet", "duration"),
    [
        (b"", 0),
        (b"\x00", 10_000),
        (b"\x18x", 60_000),
        (b"\x68x", 20_000),
        (b"\x80x", 2_500),
        (b"\xf8x", 20_000),
        (b"\xf9x", 40_000),
        (b"\xfb\x03x", 60_000),
        (b"\xfb", 0),
        (b"\xfb\x3f", 0),
    ],
)
def test_durations_of_opus(packet: bytes, duration: int) -> None:
    """
    The first bytes of a packet say how long it is; over 120 ms it is malformed.
    """
    assert opus.duration_of(packet) == duration


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("1190", aac.AacConfig(2, 48000, 2, 1024)),
        ("1208", aac.AacConfig(2, 44100, 1, 1024)),
        ("1194", aac.AacConfig(2, 48000, 2, 960)),
        ("2b098800", aac.AacConfig(5, 24000, 1, 1024)),
        ("eb098800", aac.AacConfig(29, 24000, 1, 1024)),
        ("178009c408", aac.AacConfig(2, 5000, 1, 1024)),
    ],
)
def test_configurations_of_aac(config: str, expected: aac.AacConfig) -> None:
    """
    Low complexity, HE-AAC and HE-AAC v2; a rate of its own.
    """
    assert aac.parse_config(bytes.fromhex(config)) == expected


@pytest.mark.parametrize(
    ("track", "string"),
    [
        (Track(1, Kind.VIDEO, "vp8"), "vp8"),
        (Track(1, Kind.VIDEO, "vp9", size=(640, 480)), "vp09.00.30.08"),
        (Track(1, Kind.VIDEO, "vp9", vp9.write_features(2, 41, 10)), "vp09.02.41.10"),
        (Track(1, Kind.VIDEO, "av1", b"\x81\x08\x0c\x00"), "av01.0.08M.08"),
        (Track(1, Kind.VIDEO, "av1", b"\x81\x4d\xe0\x00"), "av01.2.13H.12"),
        (Track(1, Kind.VIDEO, "av1"), "av01.0.05M.08"),
        (Track(1, Kind.VIDEO, "h264", b"\x01\x64\x00\x1f"), "avc1.64001F"),
        (Track(1, Kind.VIDEO, "h264"), ""),
        (
            Track(1, Kind.VIDEO, "h265", bytes.fromhex("01216000000090000000000078")),
            "hvc1.1.6.H120.90",
        ),
        (Track(1, Kind.VIDEO, "jpeg"), ""),
        (Track(2, Kind.AUDIO, "opus"), "opus"),
        (Track(2, Kind.AUDIO, "aac", b"\x11\x90"), "mp4a.40.2"),
        (Track(2, Kind.AUDIO, "aac", b""), "mp4a.40.2"),
        (Track(2, Kind.AUDIO, "A_FLAC"), ""),
    ],
)
def test_codec_strings(track: Track, string: str) -> None:
    """
    The strings are what browsers accept in `isTypeSupported`.
    """
    assert codec_string(track) == string


def test_decoding_times() -> None:
    """
    They increase, are never after the presentation, and lag by the depth of reordering.
    """
    times = DecodingTimes(2)
    presented = [0, 120, 40, 80, 240, 160, 200]

    assert [times.next(1000 * pts, 40_000) for pts in presented] == [
        -80_000, -40_000, 0, 40_000, 80_000, 120_000, 160_000,
    ]  # fmt: skip
    assert DecodingTimes(0).next(7, 0) == 7


def test_decoding_times_after_a_jump() -> None:
    """
    A jump of an hour begins another timeline, forward and back.
    """
    times = DecodingTimes(1)
    hour = 3_600_000_000
    assert [times.next(pts, 10_000) for pts in (0, 10_000)] == [-10_000, 0]
    assert [times.next(hour + pts, 10_000) for pts in (0, 10_000)] == [hour - 10_000, hour]
    assert [times.next(pts, 10_000) for pts in (0, 10_000)] == [-10_000, 0]


@given(st.lists(st.integers(0, 10**7), min_size=1, max_size=50), st.integers(0, 16))
def test_decoding_times_always_increase(presented: list[int], depth: int) -> None:
    """
    Whatever a hostile stream presents, decoders and players get increasing times.
    """
    times = DecodingTimes(depth)
    found = [times.next(pts, 0) for pts in presented]

    if depth:
        assert found == sorted(set(found))


@given(st.binary(max_size=120))
def test_no_header_raises_another_error(data: bytes) -> None:
    """
    Only the codecs' error is raised.
    """
    for parse in (
        h264.parse_sps,
        h264.parse_avcc,
        lambda data: h264.parse_sps(b"\x67\x64\x00" + data),
        lambda data: h264.lengthened(data, 2),
        h264.convert_annexb,
        h265.parse_sps,
        h265.parse_hvcc,
        vp9.parse_keyframe,
        vp8.is_keyframe,
        opus.duration_of,
        aac.parse_config,
        lambda data: codec_string(Track(1, Kind.VIDEO, "h265", data)),
        lambda data: codec_string(Track(1, Kind.VIDEO, "vp9", data)),
    ):
        with contextlib.suppress(RemoteProtocolError):
            parse(data)


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda data: b"\xff\xf1" + data))
def test_any_bytes_may_have_an_adts_header(data: bytes) -> None:
    """
    What is no whole frame is left as it is; a frame loses its header only.
    """
    frame = strip_adts(data)

    assert frame is None or data.endswith(frame.data)
    assert frame is None or aac.parse_config(frame.described[0]).rate == frame.described[1]
