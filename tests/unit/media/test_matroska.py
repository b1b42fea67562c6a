"""
Live WebM and Matroska, of real programs and byte by byte.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.codec_strings import codec_string
from rt_twisted.media.ebml import element, unsigned_element
from rt_twisted.media.matroska import CLUSTER, EBML, TRACKS, MatroskaReader
from rt_twisted.media.matroska_tracks import read_tracks, write_track
from rt_twisted.media.unit import MAX_TRACKS, MAX_UNIT, MAX_UNITS, Kind, Track, Unit
from tests.unit.media.webm_bytes import (
    AUDIO,
    DOCUMENT,
    VIDEO,
    block,
    cluster,
    open_cluster,
    simple,
    start,
    unknown,
)

FILES = Path(__file__).parent / "files"
NAMES = sorted(path.name for path in FILES.iterdir())


def units(data: bytes) -> list[Unit]:
    return [part for part in MatroskaReader().feed(data) if isinstance(part, Unit)]


def tracks(data: bytes) -> tuple[Track, ...]:
    (found,) = [part for part in MatroskaReader().feed(data) if isinstance(part, tuple)]
    return found


@pytest.mark.parametrize(
    ("name", "codecs", "counts", "keys"),
    [
        ("vp8_opus.webm", ["vp8", "opus"], [12, 61], 3),  # ffmpeg
        ("laced.webm", ["vp8", "opus"], [12, 61], 3),  # mkvmerge: frames in laces
        ("gst.webm", ["vp8"], [10], 2),  # GStreamer: unknown sizes, NUL-padded strings
        ("vp9_vorbis.webm", ["vp09.01.10.08", "vorbis"], [5, 25], 1),
        ("av1.mkv", ["av01.1.00M.08"], [5], 1),
        ("h264_aac.mkv", ["avc1.64000A", "mp4a.40.2"], [12, 58], 2),
        ("h265.mkv", ["hvc1.1.6.L30.90"], [8], 2),
        ("mp3.mkv", ["mp3"], [18], 18),
        # MediaRecorder of Chromium: clusters of unknown size, block groups with the alpha
        # channel in additions; H264 with start codes, and no parameter sets in the header
        ("mediarecorder.webm", ["vp8", "opus"], [13, 21], 3),
        ("mediarecorder.mkv", ["opus", "avc1.42C00A"], [21, 13], 3),
    ],
)
def test_files_of_real_programs(name: str, codecs: list[str], counts: list[int], keys: int) -> None:
    """
    Tracks, number of frames and keyframes are those that ffprobe reports.
    """
    data = (FILES / name).read_bytes()
    found = tracks(data)
    frames = units(data)

    assert [codec_string(track) for track in found] == codecs
    assert [sum(unit.track == track.id for unit in frames) for track in found] == counts
    [video, *_] = [track for track in found if track.kind is Kind.VIDEO] or found
    assert sum(unit.key for unit in frames if unit.track == video.id) == keys
    for track in found:
        assert (track.size == (64, 48)) == (track.kind is Kind.VIDEO)
        assert (track.rate == 48000) == (track.kind is Kind.AUDIO)
        times = [unit.dts for unit in frames if unit.track == track.id]
        assert times == sorted(set(times))
    assert all(unit.dts <= unit.pts for unit in frames)
    assert sum(not unit.duration for unit in frames) <= 1  # Vorbis begins without one


def test_h264_of_a_recorder_is_stored_as_elsewhere() -> None:
    """
    Start codes become lengths; parameter sets are in the track, and new ones are new tracks.
    """
    data = (FILES / "mediarecorder.mkv").read_bytes()
    frames = [unit for unit in units(data) if unit.track == 2]
    assert all(int.from_bytes(unit.data[:4]) <= len(unit.data) - 4 for unit in frames)
    assert all(unit.data[4] & 31 != 7 for unit in frames)

    (described,) = [part for part in MatroskaReader().feed(data) if isinstance(part, tuple)]
    level = bytes.fromhex("6742c00a")
    changed = data[::-1].replace(level[::-1], bytes.fromhex("6742c00b")[::-1], 1)[::-1]
    first, second = [part for part in MatroskaReader().feed(changed) if isinstance(part, tuple)]
    assert first == described
    assert [codec_string(track) for track in second] == ["opus", "avc1.42C00B"]


def test_h264_without_parameter_sets_does_not_wait_for_ever() -> None:
    """
    The tracks are passed on as they are; frames with lengths stay as they are.
    """
    codec, avc = element(0x86, b"V_VP8"), element(0x86, b"V_MPEG4/ISO/AVC")
    entry = element(0xAE, VIDEO[2:].replace(codec, avc))
    frames = b"".join(simple(1, index, b"\0\0\0\x03\x65ab") for index in range(101))
    data = start(entry) + open_cluster(0)
    found = MatroskaReader().feed(data + frames)
    assert [type(part) for part in found] == [tuple] + [Unit] * 101


@pytest.mark.parametrize("name", ["h264_aac.mkv", "h265.mkv"])
def test_decoding_times_of_reordered_frames(name: str) -> None:
    """
    Matroska has presentation times alone; decoding times lag by two frames here.
    """
    frames = [unit for unit in units((FILES / name).read_bytes()) if unit.track == 1]
    presented = sorted(unit.pts for unit in frames)

    assert [unit.dts for unit in frames[2:]] == presented[:-2]
    assert [unit.dts - presented[0] for unit in frames[:2]] == [-200_000, -100_000]


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    """
    A stream that arrives in single bytes gives the same frames.
    """
    data = (FILES / name).read_bytes()
    reader = MatroskaReader()

    assert [
        part for index in range(len(data)) for part in reader.feed(data[index : index + 1])
    ] == MatroskaReader().feed(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_document_in_the_same_stream(name: str) -> None:
    """
    A recorder that begins again sends another EBML header; the tracks are the same.
    """
    data = (FILES / name).read_bytes()
    once = MatroskaReader().feed(data)

    assert MatroskaReader().feed(data + data) == once + once


def test_frames_of_blocks() -> None:
    """
    Times may be before their cluster's; flags and references tell keyframes; durations
    come from the block or the frame before.
    """
    group = element(0xA0, element(0xA1, block(1, 40, b"c", 0)) + unsigned_element(0x9B, 33))
    later = element(0xA0, element(0xA1, block(1, 80, b"d", 0)) + element(0xFB, b"\xd8"))
    data = start() + open_cluster(
        1000, simple(2, -20, b"a"), simple(1, 0, b"b", 0), group, later, simple(7, 0, b"x")
    )

    assert units(data) == [
        Unit(2, 980_000, 980_000, 0, True, 0, 0, b"a"),
        Unit(1, 1_000_000, 1_000_000, 0, False, 0, 0, b"b"),
        Unit(1, 1_040_000, 1_040_000, 33_000, True, 0, 0, b"c"),
        Unit(1, 1_080_000, 1_080_000, 40_000, False, 0, 0, b"d"),
    ]


@pytest.mark.parametrize("size", [b"\xff", b"\x01" + b"\xff" * 7])
def test_a_cluster_without_end(size: bytes) -> None:
    """
    One cluster for hours is read frame by frame, whatever the length of its unknown size.
    """
    reader = MatroskaReader()
    reader.feed(start() + open_cluster(5, size=size))
    for index in range(100):
        (unit,) = reader.feed(simple(1, index, b"x"))
        assert isinstance(unit, Unit)
        assert unit.pts == 1000 * (5 + index)
    (other,) = reader.feed(open_cluster(9, simple(1, 0, b"y")))
    assert isinstance(other, Unit)
    assert other.pts == 9000


@pytest.mark.parametrize(
    ("lacing", "lace"),
    [
        (0x02, b"\x02" + b"\x02" + b"\xff\x01" + b"aa" + b"b" * 256 + b"c"),
        (0x06, b"\x02" + b"\x82" + b"\x60\xfd" + b"aa" + b"b" * 256 + b"c"),
    ],
)
def test_frames_in_a_lace(lacing: int, lace: bytes) -> None:
    """
    Xiph and EBML lacing give sizes in their own ways.
    """
    track = element(
        0xAE,
        unsigned_element(0xD7, 2)
        + unsigned_element(0x83, 2)
        + element(0x86, b"A_VORBIS")
        + unsigned_element(0x23E383, 20_500_000),
    )
    data = start(track) + cluster(1, simple(2, 0, lace, 0x80 | lacing))

    assert [(unit.pts, unit.data) for unit in units(data)] == [
        (1000, b"aa"),
        (21_500, b"b" * 256),
        (42_000, b"c"),
    ]


def test_frames_of_one_size_in_a_lace() -> None:
    """
    Fixed lacing divides the block; of video only the first frame can be a keyframe.
    """
    data = start() + cluster(0, simple(1, 0, b"\x01aabb", 0x84))

    assert [(unit.key, unit.data) for unit in units(data)] == [(True, b"aa"), (False, b"bb")]


def test_many_frames_at_once() -> None:
    """
    One read, whose laces may have frames without bytes, completes a bounded number of frames.
    """
    reader = MatroskaReader()
    lace = simple(1, 0, b"\xff", 0x84)
    assert len(reader.feed(start() + open_cluster(0) + lace)) == 257  # with the tracks
    assert len(reader.feed(lace * (MAX_UNITS // 256))) == MAX_UNITS // 256 * 256

    with pytest.raises(RemoteProtocolError, match=f"over {MAX_UNITS} frames arrive at once"):
        reader.feed(lace * (MAX_UNITS // 256 + 1))


def test_the_timestamp_scale() -> None:
    """
    Times are rounded from their own ticks, not added up.
    """
    data = start(scale=22_675) + b"".join(
        open_cluster(index, simple(1, 0, b"x")) for index in (0, 1, 3)
    )

    assert [unit.pts for unit in units(data)] == [0, 23, 68]


def test_the_profile_of_vp9_is_in_its_first_keyframe() -> None:
    """
    WebM does not say it; the tracks wait for the keyframe, but not for ever.
    """
    data = (FILES / "vp9_vorbis.webm").read_bytes()
    (described,) = [part for part in MatroskaReader().feed(data) if isinstance(part, tuple)]
    assert codec_string(described[0]) == "vp09.01.10.08"

    entry = element(0xAE, VIDEO[2:].replace(b"V_VP8", b"V_VP9"))
    reader = MatroskaReader()
    assert reader.feed(start(entry, AUDIO) + open_cluster(0)) == []
    silent = [part for index in range(101) for part in reader.feed(simple(2, index, b"x"))]
    assert [type(part) for part in silent] == [tuple] + [Unit] * 101
    assert reader.feed(start(entry)) == []
    assert len(reader.feed(start(entry))) == 1


def test_a_track_with_stripped_headers() -> None:
    """
    Bytes that mkvmerge removed from the start of each frame are put back, and subscribers
    are not told to do so.
    """
    stripping = element(
        0x6D80,
        element(
            0x6240,
            element(0x5034, unsigned_element(0x4254, 3) + element(0x4255, b"\x00\x00")),
        ),
    )
    entry = element(0xAE, VIDEO[2:] + stripping)
    data = start(entry) + cluster(0, simple(1, 0, b"x"))

    assert units(data)[0].data == b"\x00\x00x"
    assert b"\x6d\x80" not in tracks(data)[0].extra


def test_short_lengths_of_nal_units() -> None:
    """
    Frames with lengths of two bytes get lengths of four.
    """
    name = "h264_aac.mkv"
    data = (FILES / name).read_bytes()
    record = tracks(data)[0].private
    short = record[:4] + bytes((record[4] & 0xFC | 1,)) + record[5:]
    entry = element(
        0xAE,
        unsigned_element(0xD7, 1)
        + unsigned_element(0x83, 1)
        + element(0x86, b"V_MPEG4/ISO/AVC")
        + element(0x63A2, short),
    )
    data = start(entry) + cluster(0, simple(1, 0, b"\x00\x02ab\x00\x01c"))

    assert units(data)[0].data == b"\x00\x00\x00\x02ab\x00\x00\x00\x01c"


def test_a_track_made_of_its_fields() -> None:
    """
    A track that came in another way gets an entry that reads back the same.
    """
    given = (
        Track(1, Kind.VIDEO, "vp8", size=(640, 360)),
        Track(200, Kind.AUDIO, "opus", b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0", 48000, 2),
    )
    data = DOCUMENT + unknown(0x18538067) + element(TRACKS, b"".join(map(write_track, given)))
    for before, after in zip(given, tracks(data), strict=True):
        assert (before.id, before.kind, before.codec) == (after.id, after.kind, after.codec)
        assert (before.private, before.rate) == (after.private, after.rate)
        assert (before.channels, before.size) == (after.channels, after.size)
        assert write_track(after) == write_track(before)


MANY = [
    element(0xAE, unsigned_element(0xD7, id) + unsigned_element(0x83, 2))
    for id in range(1, MAX_TRACKS + 2)
]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (cluster(0), "does not begin with an EBML header"),
        (element(EBML, element(0x4282, b"other")), "neither WebM nor Matroska"),
        (element(EBML, b""), "neither WebM nor Matroska"),
        (DOCUMENT + unknown(0x18538067) + cluster(0, simple(1, 0, b"x")), "before the tracks"),
        (start() + element(CLUSTER, simple(1, 0, b"x")), "a cluster without a timestamp"),
        (start() + cluster(0, element(0xA3, b"\x81\0\0")), "a block is truncated"),
        (start() + cluster(0, element(0xA3, b"")), "a block is truncated"),
        (start() + cluster(0, simple(1, 0, b"", 0x02)), "a laced block is empty"),
        (start() + cluster(0, simple(1, 0, b"\x01abc", 0x04)), "frames of different sizes"),
        (start() + cluster(0, simple(1, 0, b"\x01\xff", 0x02)), "laced block is truncated"),
        (start() + cluster(0, simple(1, 0, b"\x01\x05abc", 0x02)), "laced block is truncated"),
        (start() + cluster(0, simple(1, 0, b"\x01\x40", 0x06)), "laced block is truncated"),
        (start() + cluster(0, simple(1, 0, b"\x01\xff", 0x06)), "a frame of unknown size"),
        (start() + cluster(0, simple(1, 0, b"\x02\x81\x80", 0x06)), "a frame of negative size"),
        (start() + cluster(2**63, simple(1, 0, b"x")), "a timestamp is out of range"),
        (start(scale=0), "the timestamp scale is invalid"),
        (start(scale=10**9 + 1), "the timestamp scale is invalid"),
        (start(element(0xAE, unsigned_element(0x83, 17))), "no video or audio track"),
        (start(element(0xAE, unsigned_element(0x83, 1))), "a track has the number 0"),
        (start(VIDEO, VIDEO), "two tracks have the same number"),
        (start(*MANY), "more than 8 tracks"),
        (start(element(0xAE, VIDEO[2:] + element(0x6D80, element(0x6240, b"")))), "encrypted"),
        (
            start(element(0xAE, VIDEO[2:] + element(0x86, b"V_MPEG4/ISO/AVC") + b"\x63\xa2\x80"))
            + start(
                element(0xAE, VIDEO[2:] + element(0x86, b"V_MPEG4/ISO/AVC") + b"\x63\xa2\x81x")
            ),
            "decoder configuration is malformed",
        ),
        (
            start(element(0xAE, AUDIO[2:] + element(0xE1, element(0xB5, b"\x7f\x80\0\0")))),
            "the sample rate",
        ),
        (start() + cluster(0, simple(1, 0, bytes(MAX_UNIT + 1))), f"larger than {MAX_UNIT} bytes"),
        (start() + cluster(0, simple(1, 0, bytes(MAX_UNIT + 2000))), "is larger than"),
    ],
)
def test_malformed_streams(data: bytes, reason: str) -> None:
    """
    Each bound and each rule has its own sentence.
    """
    with pytest.raises(RemoteProtocolError, match=reason):
        MatroskaReader().feed(data)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 14000), st.binary(min_size=1, max_size=4)), max_size=6),
    st.integers(1, 5000),
)
def test_damaged_files_raise_the_codecs_error(
    name: str, changes: list[tuple[int, bytes]], size: int
) -> None:
    """
    Whatever is damaged, only the codecs' error is raised.
    """
    data = bytearray((FILES / name).read_bytes())
    for place, replacement in changes:
        place %= len(data)
        data[place : place + len(replacement)] = replacement
    reader = MatroskaReader()
    with contextlib.suppress(RemoteProtocolError):
        for index in range(0, len(data), size):
            reader.feed(bytes(data[index : index + size]))


@given(st.binary(max_size=100))
def test_any_tracks_raise_the_codecs_error(data: bytes) -> None:
    """
    What describes the tracks is a tree of its own.
    """
    for payload in (data, element(0xAE, data), element(0xAE, VIDEO[2:] + data)):
        with contextlib.suppress(RemoteProtocolError):
            read_tracks(payload)
