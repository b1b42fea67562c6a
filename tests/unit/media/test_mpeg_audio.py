"""
Streams of MPEG audio and ADTS, cut into units of whole frames.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.mpeg_audio import (
    ADTS,
    HEADER,
    MAX_GARBAGE,
    MPEG,
    PACKED_BYTES,
    FrameHeader,
    MpegAudioReader,
    parse_header,
)
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit

MP3 = bytes.fromhex("fffb9064").ljust(417, b"\x55")  # 128 kbit/s, 44.1 kHz, joint stereo
AAC = bytes.fromhex("fff150800c7ffc").ljust(99, b"\x55")  # 44.1 kHz, stereo, 99 bytes


@pytest.mark.parametrize(
    ("data", "header"),
    [
        ("fffb9064", FrameHeader(417, 1152, 44100, 2, MPEG, 3)),
        ("fffb9264", FrameHeader(418, 1152, 44100, 2, MPEG, 3)),
        ("fffb94c4", FrameHeader(384, 1152, 48000, 1, MPEG, 3)),
        ("fff364c4", FrameHeader(144, 576, 24000, 1, MPEG, 3)),
        ("ffe318c4", FrameHeader(72, 576, 8000, 1, MPEG, 3)),
        ("fffda404", FrameHeader(576, 1152, 48000, 2, MPEG, 2)),
        ("ffff4004", FrameHeader(136, 384, 44100, 2, MPEG, 1)),
        ("fff150800c7ffc", FrameHeader(99, 1024, 44100, 2, ADTS, 0)),
        ("fffb0064", None),  # the free format
        ("fffbf064", None),
        ("fffb9c64", None),
        ("ffeb9064", None),
        ("fff17c800c7ffc", None),  # no such rate
        ("fff15080007ffc", None),  # shorter than its header
        ("fefb9064", None),
    ],
)
def test_headers(data: str, header: FrameHeader | None) -> None:
    """
    A header gives size, duration and kind of its frame.
    """
    assert parse_header(bytes.fromhex(data).ljust(HEADER, b"\0"), 0) == header


def read(data: bytes, size: int = 1 << 20) -> list[Part]:
    reader = MpegAudioReader()
    found: list[Part] = []
    for at in range(0, len(data), size):
        found += reader.feed(data[at : at + size])
    return found


def audio(parts: list[Part]) -> bytes:
    return b"".join([part.data for part in parts if isinstance(part, Unit)])


@pytest.mark.parametrize("size", [1, 100, 417, 1 << 20])
def test_frames_are_packed_however_the_stream_is_split(size: int) -> None:
    """
    Units have whole frames, times and durations without drift.
    """
    parts = read(MP3 * 40, size)

    assert parts[0] == (Track(1, Kind.AUDIO, MPEG, rate=44100, channels=2),)
    units = [part for part in parts if isinstance(part, Unit)]
    assert {len(unit.data) for unit in units} == {10 * 417}
    assert PACKED_BYTES <= 10 * 417
    assert [unit.pts for unit in units[:3]] == [0, 261224, 522448]
    assert units[0].duration == 261224
    assert all(unit.key for unit in units)


def test_frames_of_adts() -> None:
    """
    Low rates are sent a few times a second, although the units are small.
    """
    parts = read(AAC * 40)

    assert parts[0] == (Track(1, Kind.AUDIO, ADTS, rate=44100, channels=2),)
    assert isinstance(parts[1], Unit)
    assert len(parts[1].data) == 11 * 99


@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_tags_and_damage_are_left_out(size: int) -> None:
    """
    A stream goes on where two frames follow each other.
    """
    tag = b"ID3\x04\0\0\0\0\x01\x00" + b"\xff\xfb\x90\x64" * 32
    data = tag + MP3 * 20 + MP3[:50] + b"TAG" + b"\xff" * 300 + MP3 * 21

    found = audio(read(data, size))

    assert found.startswith(MP3 * 20)
    assert found.endswith(MP3 * 16)
    assert len(found) == 40 * 417  # one of them is the damaged one


def test_a_stream_that_changes_begins_anew() -> None:
    """
    Another sample rate is another track.
    """
    other = bytes.fromhex("fffb94c4").ljust(384, b"\x55")

    tracks = [part for part in read(MP3 * 8 + other * 8) if isinstance(part, tuple)]

    assert [track.rate for (track,) in tracks] == [44100, 48000]


def test_a_stream_of_something_else_is_refused() -> None:
    """
    A bounded number of bytes is searched for frames.
    """
    with pytest.raises(RemoteProtocolError, match="neither MP3"):
        read(b"\xff\xfb\x90\x00" * (MAX_GARBAGE // 2), 4096)


@given(st.binary(max_size=3000), st.integers(1, 500))
def test_any_bytes(data: bytes, size: int) -> None:
    """
    Nothing but the codec's error escapes, and no byte is invented.
    """
    assert len(audio(read(data + MP3 * 3 + data, size))) <= 2 * len(data) + 3 * 417
