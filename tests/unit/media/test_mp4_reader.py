"""
Live fragmented MP4, of real programs and box by box.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.codec_strings import codec_string
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.mp4_boxes import box, full_box
from rt_twisted.media.mp4_reader import MAX_FRAGMENT, Mp4Reader
from rt_twisted.media.mp4_writer import write_fragment, write_init
from rt_twisted.media.unit import MAX_HEAD, MAX_TRACKS, MAX_UNITS, Kind, Track, Unit

FILES = Path(__file__).parent / "mp4_files"
NAMES = sorted(path.name for path in FILES.iterdir())
OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"
AUDIO = Track(2, Kind.AUDIO, "opus", OPUS_HEAD, 48000, 2)
INIT = write_init([AUDIO])
SOUND = Unit(2, 40_000, 40_000, 20_000, True, 0, 0, b"\xf8ound")


def units(data: bytes) -> list[Unit]:
    return [part for part in Mp4Reader().feed(data) if isinstance(part, Unit)]


def fragment(run: bytes, data: bytes, header: bytes = b"\0\2\0\0" + b"\0\0\0\2") -> bytes:
    """
    Return a fragment of track 2 at the decoding time 7.
    """
    time = full_box(b"tfdt", 0, 0, b"\0\0\0\7")
    traf = box(b"traf", box(b"tfhd", b"\0" + header[1:]), time, box(b"trun", run))
    return box(b"moof", traf) + box(b"mdat", data)


@pytest.mark.parametrize(
    ("name", "codecs", "counts", "keys"),
    [
        ("h264_aac.mp4", ["avc1.64000A", "mp4a.40.2"], [8, 39], 2),  # a fragment per frame
        ("negative.mp4", ["avc1.64000A"], [8], 2),  # explicit base offsets
        ("vp9_opus.mp4", ["vp09.01.10.08", "opus"], [5, 26], 1),
        ("h265_mp3.mp4", ["hvc1.1.6.L30.90", "mp3"], [5, 22], 1),
        ("mediarecorder.mp4", ["opus", "avc1.42C00A"], [21, 13], 3),  # of Chromium
    ],
)
def test_files_of_real_programs(name: str, codecs: list[str], counts: list[int], keys: int) -> None:
    """
    Tracks, number of frames and keyframes are those that ffprobe reports.
    """
    tracks, *found = Mp4Reader().feed((FILES / name).read_bytes())
    assert isinstance(tracks, tuple)
    frames = [unit for unit in found if isinstance(unit, Unit)]

    assert [codec_string(track) for track in tracks] == codecs
    assert [sum(unit.track == track.id for unit in frames) for track in tracks] == counts
    [video] = [track for track in tracks if track.kind is Kind.VIDEO]
    assert sum(unit.key for unit in frames if unit.track == video.id) == keys
    for track in tracks:
        assert (track.size == (64, 48)) == (track.kind is Kind.VIDEO)
        assert (track.rate == 48000) == (track.kind is Kind.AUDIO)
        times = [unit.dts for unit in frames if unit.track == track.id]
        assert times == sorted(times)
        placed = [
            unit.dts
            for unit in LiveRun("r", 0.0).feed([tracks, *frames])
            if isinstance(unit, Unit) and unit.track == track.id
        ]
        assert placed == sorted(set(placed))
        assert placed[-1] - placed[0] == pytest.approx(times[-1] - times[-len(placed)], abs=10)


def test_negative_composition_offsets() -> None:
    """
    Signed offsets are read as such: the first picture is presented when it is decoded.
    """
    found = units((FILES / "negative.mp4").read_bytes())

    assert [(unit.pts - unit.dts) // 100_000 for unit in found[:4]] == [0, 2, -1, -1]
    assert sorted(unit.pts for unit in found) == [100_000 * number for number in range(8)]


@pytest.mark.parametrize("name", NAMES)
def test_byte_by_byte(name: str) -> None:
    """
    A stream that arrives in single bytes gives the same frames.
    """
    data = (FILES / name).read_bytes()
    reader = Mp4Reader()

    assert [
        part for index in range(len(data)) for part in reader.feed(data[index : index + 1])
    ] == Mp4Reader().feed(data)


@pytest.mark.parametrize("name", NAMES)
def test_a_second_init_segment_in_the_same_stream(name: str) -> None:
    """
    A recorder that begins again describes its tracks again.
    """
    data = (FILES / name).read_bytes()
    if name == "negative.mp4":  # its offsets are those of its own file
        return
    once = Mp4Reader().feed(data)

    assert Mp4Reader().feed(data + data) == once + once


@pytest.mark.parametrize(
    ("track", "duration"),
    [(AUDIO, 20_000), (Track(2, Kind.AUDIO, "aac", b"\x11\x90", 48000, 2), 21_333)],
)
def test_what_is_written_is_read(track: Track, duration: int) -> None:
    """
    Init segment and fragments of subscribers read back the same. The codec says how long
    a frame of audio is: ffmpeg is wrong if each has its own fragment.
    """
    found = Mp4Reader().feed(write_init([track]) + write_fragment(SOUND, 0, 1))

    assert found == [(track,), replace(SOUND, duration=duration)]


def test_defaults_and_several_samples() -> None:
    """
    Durations come from the fragment's header, sizes from the run; a long size is read.
    """
    init = write_init([Track(2, Kind.AUDIO, "mp3", rate=48000, channels=2)])
    header = b"\0\2\0\x08" + b"\0\0\0\2" + (10).to_bytes(4)
    run = b"\0\0\2\1" + (2).to_bytes(4) + (0).to_bytes(4) + b"\0\0\0\3" + b"\0\0\0\2"
    data = fragment(run, b"abcde", header)
    place = data.index(run) + 8
    offset = data.index(b"mdat") + 4
    data = data[:place] + offset.to_bytes(4) + data[place + 4 :]
    assert [(unit.dts, unit.duration, unit.data) for unit in units(init + data)] == [
        (7, 10, b"abc"),
        (17, 10, b"de"),
    ]
    long = data.replace((13).to_bytes(4) + b"mdat", b"\0\0\0\1mdat" + (21).to_bytes(8))
    moved = long.replace(offset.to_bytes(4), (offset + 8).to_bytes(4))
    assert units(init + moved)[0].data == b"abc"


def test_many_frames_at_once() -> None:
    """
    One read, whose samples may have no bytes, completes a bounded number of frames; the stream
    may have any number.
    """
    reader = Mp4Reader()
    reader.feed(INIT)
    most = fragment(bytes(4) + MAX_UNITS.to_bytes(4), b"")
    for _ in range(3):
        assert len(reader.feed(most)) == MAX_UNITS
    few = fragment(bytes(4) + (MAX_UNITS // 2).to_bytes(4), b"")
    assert len(reader.feed(few * 2)) == 2 * (MAX_UNITS // 2)

    with pytest.raises(RemoteProtocolError, match=f"over {MAX_UNITS} frames arrive at once"):
        reader.feed(few + most)


SAMPLE = b"\0\0\2\0\0\0\0\1\0\0\0\5"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\0\0\0\x08moov", "does not begin with a file type"),
        (b"RIFF1234", "does not begin with a file type"),
        (b"\0\0\0\7ftyp", "the size of a box is invalid"),
        (b"\0\0\0\0ftyp", "the size of a box is invalid"),
        (b"\0\1\0\0ftyp", "a box is larger than 4096 bytes"),
        (INIT + (MAX_HEAD + 9).to_bytes(4) + b"moof", f"larger than {MAX_HEAD} bytes"),
        (INIT + (MAX_FRAGMENT + 9).to_bytes(4) + b"mdat", f"larger than {MAX_FRAGMENT} bytes"),
        (INIT + b"\0\0\0\1free" + b"\x01" * 8, "larger than 67108864 bytes"),
        (INIT + box(b"mdat", b"x"), "is not fragmented"),
        (INIT + fragment(SAMPLE, b"abcd"), "a sample is outside of its fragment"),
        (INIT + fragment(b"\0\0\2\0\0\0\0\2\0\0\0\5", b"abcde"), "a track run is truncated"),
        (INIT + fragment((0).to_bytes(4) + (MAX_UNITS + 1).to_bytes(4), b""), "too long"),
        (INIT + fragment(b"", b""), "a box is truncated"),
        (INIT[:28] + box(b"moov", b""), "there are no tracks"),
        (INIT[:28] + box(b"moov", box(b"trak", b"")), "there is no box tkhd"),
        (INIT[:28] + box(b"moov", b"\0\0\0\x20trak"), "a box is truncated"),
        (
            write_init([Track(id, Kind.AUDIO, "mp3") for id in range(1, MAX_TRACKS + 2)]),
            f"more than {MAX_TRACKS}",
        ),
    ],
)
def test_malformed_streams(data: bytes, reason: str) -> None:
    """
    Each bound and each rule has its own sentence.
    """
    with pytest.raises(RemoteProtocolError, match=reason):
        Mp4Reader().feed(data)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=4)), max_size=6),
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
    reader = Mp4Reader()
    with contextlib.suppress(RemoteProtocolError):
        for index in range(0, len(data), size):
            reader.feed(bytes(data[index : index + size]))
