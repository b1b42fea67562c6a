"""
Tracks without a container.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats import build_format
from rt_twisted.formats.elementary import ElementaryStream
from rt_twisted.media.elementary import (
    check_adts,
    write_adts,
    write_annexb,
    write_parameter_sets,
)
from rt_twisted.media.h264 import write_avcc
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.live_streams import messages, replay

SPS, PPS, SLICE = b"\x67\x42\x00\x1e", b"\x68\xce", b"\x65slice"
START = b"\0\0\0\1"
H264 = Track(1, Kind.VIDEO, "h264", write_avcc(SPS, PPS), size=(320, 240))
AAC = Track(2, Kind.AUDIO, "aac", b"\x11\x90", 48000, 2)
HEAD = Head("r", 0.5, (H264, AAC))
PICTURE = Unit(1, 0, 0, 0, True, 0, 0, len(SLICE).to_bytes(4) + SLICE)
SOUND = Unit(2, 0, 0, 0, True, 0, 0, b"sound")
VIDEO, AUDIO = ElementaryStream(1, "h264"), ElementaryStream(2, "aac", AAC.private)
HVCC = bytes(22) + b"\2" + b"\x20\0\1\0\3vps" + b"\x21\0\2\0\3sps\0\4more"


def test_the_contract_of_formats() -> None:
    """
    The formats are pure and compare by value; plain messages give nothing.
    """
    formats = [VIDEO, AUDIO, ElementaryStream()]
    FormatContract(formats, [replace(format) for format in formats], [b"", b"text"]).check()
    verifyObject(ISyncFormat, VIDEO)
    assert build_format("elementary", codec="h264") == VIDEO
    assert VIDEO.encode(messages([b"text"])[0]) == b""


def test_video_has_start_codes_and_parameter_sets() -> None:
    """
    They precede the first keyframe, and the keyframe behind each later head.
    """
    found = messages([HEAD, PICTURE, SOUND, replace(HEAD, again=True), PICTURE, End("r")])
    group = START + SPS + START + PPS + START + SLICE

    assert started(VIDEO, replay(found)) == group + group
    assert VIDEO.content_type == "video/h264"


def test_audio_has_headers() -> None:
    """
    The header names profile, rate, channels and size; of MP3 a frame has its own.
    """
    found = messages([HEAD, PICTURE, SOUND])

    frame = started(AUDIO, replay(found))

    assert frame == b"\xff\xf1\x4c\x80\x01\x9f\xfc" + b"sound"
    assert started(ElementaryStream(2, "mp3"), replay(found)) == b"sound"


def test_a_track_that_changes_ends_the_stream() -> None:
    """
    New parameter sets of video are sent in the stream; ADTS cannot announce a change.
    """
    changed = Head("r", 0.5, (replace(H264, private=write_avcc(SPS, SPS)), AAC))
    other = Head("r", 0.5, (replace(H264, codec="vp8"), replace(AAC, private=b"\x12\x10")))
    [first, second, third, unit] = messages([HEAD, changed, other, PICTURE])

    assert [VIDEO.must_restart(m) for m in (first, second, third, unit)] == [0, 0, 1, 0]
    assert [AUDIO.must_restart(m) for m in (first, second, third, unit)] == [0, 0, 1, 0]
    assert [VIDEO.is_resync_point(m) for m in (first, second, third, unit)] == [1, 1, 1, 0]
    assert VIDEO.resumed(None, first) is VIDEO


def test_h265_has_three_kinds_of_parameter_sets() -> None:
    """
    They stand in groups, each with a type.
    """
    track = Track(1, Kind.VIDEO, "h265", HVCC)

    assert write_parameter_sets(track) == b"".join(START + s for s in (b"vps", b"sps", b"more"))


@given(st.binary(max_size=60), st.sampled_from(["h264", "h265"]))
def test_damaged_configurations_and_frames(data: bytes, codec: str) -> None:
    """
    No exception but the peer's error escapes.
    """
    write_annexb(data)
    for private in (data, HVCC[: len(data)], H264.private[: len(data)]):
        try:
            write_parameter_sets(Track(1, Kind.VIDEO, codec, private))
            check_adts(private)
        except RemoteProtocolError:
            continue
        assert write_adts(private, b"x").endswith(b"x")


def test_a_truncated_nal_unit_is_left_out() -> None:
    """
    Those before it are sent.
    """
    assert write_annexb(PICTURE.data + b"\0\0\0\x09abc") == START + SLICE
    assert write_adts(AAC.private, bytes(8185)) == b""


def test_a_rate_that_adts_cannot_carry() -> None:
    """
    A rate that is written out has no index.
    """
    with pytest.raises(RemoteProtocolError, match="sample rate"):
        check_adts(b"\x17\x80\x00\x00\x00\x00\x00\x00")
