"""
Live fragmented MP4 for subscribers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.formats.fmp4 import FragmentedMP4
from rt_twisted.formats.live import STEP
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mp4_boxes import boxes
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Message, Position
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.live_streams import live, messages, replay

FILES = Path(__file__).parents[1] / "media" / "files"
PARTS = MatroskaReader().feed((FILES / "h264_aac.mkv").read_bytes())
TRACKS = next(part for part in PARTS if isinstance(part, tuple))
UNITS = [part for part in PARTS if isinstance(part, Unit)]
FIRST = Head("r", 0.5, TRACKS, UNITS[0].pts)


def inside(data: bytes, *path: bytes) -> bytes:
    """
    Return the payload of the first box at *path*.
    """
    for kind in path:
        data = next(payload for one, payload in boxes(data) if one == kind)
    return data


def test_the_contract_of_formats() -> None:
    """
    The format is pure and compares by value; plain messages give nothing.
    """
    formats = [FragmentedMP4(), FragmentedMP4(shift=5), FragmentedMP4(new_headers=True)]
    FormatContract(formats, [replace(format) for format in formats], [b"x", b""]).check()
    verifyObject(ISyncFormat, FragmentedMP4())


def test_a_subscriber_that_joins_late() -> None:
    """
    The init segment is followed by whole fragments, the first of which is a keyframe.
    """
    stream = started(FragmentedMP4(), replay(live(PARTS)[3:]))
    kinds = [kind for kind, _ in boxes(stream)]

    assert kinds[:2] == [b"ftyp", b"moov"]
    assert kinds[2:] == [b"moof", b"mdat"] * (len(kinds[2:]) // 2)
    assert inside(stream, b"moof", b"traf", b"trun")[20:24] == b"\x02\0\0\0"
    assert [kind for kind, _ in boxes(inside(stream, b"moov"))].count(b"trak") == 2
    assert TRACKS[0].private in stream
    assert TRACKS[1].private in stream


def test_nothing_to_begin_with() -> None:
    """
    Without a head there is nothing to send.
    """
    assert started(FragmentedMP4(), replay([])) == b""
    assert started(FragmentedMP4(), replay(messages(UNITS[:3]))) == b""


def test_the_times_of_a_fragment() -> None:
    """
    Decoding time and signed composition offset are in microseconds, as those of the unit.
    """
    unit = Unit(1, 40_000, 50_000, 33_367, False, 0, 0, b"frame")
    (message,) = messages([unit])
    fragment = FragmentedMP4(shift=2**40).encode(message)

    assert inside(fragment, b"mdat") == b"frame"
    assert inside(fragment, b"moof", b"mfhd")[4:] == (1).to_bytes(4)
    assert inside(fragment, b"moof", b"traf", b"tfhd") == b"\0\x02\0\0\0\0\0\x01"
    assert inside(fragment, b"moof", b"traf", b"tfdt")[4:] == (2**40 + 50_000).to_bytes(8)
    assert inside(fragment, b"moof", b"traf", b"trun") == b"".join(
        (
            b"\x01\0\x0f\x01\0\0\0\x01",
            (len(fragment) - len(b"frame")).to_bytes(4),
            (33_367).to_bytes(4),
            (5).to_bytes(4),
            b"\x01\x01\0\0",
            (-10_000).to_bytes(4, signed=True),
        )
    )


def test_times_before_the_start_and_far_away() -> None:
    """
    Times are clipped to what a fragment can hold; the presentation time stays.
    """
    early, far = messages(
        [
            Unit(1, 30_000, -10_000, 0, True, 0, 0, b""),
            Unit(1, 2**53, -(2**53), 0, True, 0, 0, b""),
        ]
    )
    fragment = FragmentedMP4().encode(early)
    assert inside(fragment, b"moof", b"traf", b"tfdt")[4:] == bytes(8)
    assert inside(fragment, b"moof", b"traf", b"trun")[-4:] == (30_000).to_bytes(4)
    assert (
        inside(FragmentedMP4().encode(far), b"moof", b"traf", b"trun")[-4:] == b"\x7f\xff\xff\xff"
    )


def test_a_change_of_tracks() -> None:
    """
    A stream must begin again, unless its reader takes a new init segment.
    """
    again, changed, unit, end = messages([replace(FIRST, again=True), FIRST, UNITS[0], End("r")])
    script = FragmentedMP4(new_headers=True)

    assert [FragmentedMP4().must_restart(one) for one in (again, changed, unit, end)] == [
        False, True, False, False,
    ]  # fmt: skip
    assert [FragmentedMP4().encode(one) for one in (again, changed, end)] == [b"", b"", b""]
    assert not script.must_restart(changed)
    assert script.encode(again) == b""
    assert boxes(script.encode(changed))[0][0] == b"ftyp"
    assert FragmentedMP4().is_resync_point(again)
    assert not FragmentedMP4().is_resync_point(unit)


def test_a_skip_leaves_no_hole() -> None:
    """
    The frame after a skip follows the last one that was sent.
    """
    last, first = messages([UNITS[3], replace(FIRST, time=UNITS[3].pts + 9_000_000)])
    format = FragmentedMP4(shift=5).resumed(last, first)

    assert format == FragmentedMP4(shift=5 + STEP - 9_000_000)
    assert format.resumed(None, first) == format
    assert format.resumed(first, messages([b"plain"])[0]) == format


@pytest.mark.parametrize(
    ("tracks", "expected"),
    [
        (TRACKS, 'video/mp4; codecs="avc1.64000A,mp4a.40.2"'),
        (TRACKS[1:], 'audio/mp4; codecs="mp4a.40.2"'),
        ((Track(1, Kind.AUDIO, "opus"),), 'audio/mp4; codecs="opus"'),
    ],
)
def test_the_content_type(tracks: tuple[Track, ...], expected: str) -> None:
    """
    The exact codec strings are those that pages need for `isTypeSupported`.
    """
    assert FragmentedMP4().content_type_of(Head("r", 0.0, tracks)) == expected


@pytest.mark.parametrize(
    ("codec", "reason"),
    [
        ("vp8", "MP4 cannot carry vp8; the route word webm can"),
        ("vorbis", "MP4 cannot carry vorbis; the route word webm can"),
        ("jpeg", "MP4 cannot carry jpeg; the route word mjpeg can"),
        ("A_FLAC", "MP4 cannot carry one of the codecs"),
        ("h264", "the publisher sent no decoder configuration for h264"),
    ],
)
def test_codecs_that_mp4_cannot_carry(codec: str, reason: str) -> None:
    """
    One sentence says what is missing, or which route word would work.
    """
    with pytest.raises(HttpError) as error:
        FragmentedMP4().content_type_of(Head("r", 0.0, (Track(1, Kind.VIDEO, codec),)))
    assert (error.value.status, str(error.value)) == (415, reason)


OPUS_HEAD = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"


@pytest.mark.parametrize(
    ("track", "part"),
    [
        (Track(1, Kind.VIDEO, "h265", bytes(23), size=(64, 48)), b"hvcC" + bytes(23)),
        (
            Track(1, Kind.VIDEO, "vp9", b"\1\1\1", size=(64, 48)),
            b"vpcC\1\0\0\0\x01\x0a\x86\2\2\2\0\0",
        ),
        (Track(1, Kind.VIDEO, "av1", b"\x81\5\x0c\0", size=(64, 48)), b"av1C\x81\5\x0c\0"),
        (
            Track(1, Kind.AUDIO, "opus", OPUS_HEAD, 48000, 2),
            b"dOps\0\x02\x01\x38\0\0\xbb\x80\0\0\0",
        ),
        (Track(1, Kind.AUDIO, "opus", b"", 48000, 1), b"dOps\0\x01\x01\x38\0\0\xbb\x80\0\0\0"),
        (Track(1, Kind.AUDIO, "aac", b"\x11\x90", 48000, 2), b"\x05\x80\x80\x80\x02\x11\x90\x06"),
        (Track(1, Kind.AUDIO, "mp3", b"", 44100, 2), b"\x04\x80\x80\x80\x0d\x6b\x15"),
    ],
)
def test_what_decoders_need(track: Track, part: bytes) -> None:
    """
    Each codec has its own configuration box.
    """
    found = messages([Head("r", 0.0, (track,))])

    assert part in started(FragmentedMP4(), replay(found))


@given(st.binary(max_size=60), st.sampled_from(["unit/k 1 0 0 0 0 0", "unit/head 0", None]))
def test_no_message_raises_an_error(data: bytes, event: str | None) -> None:
    """
    Whatever is published, a subscriber is sent whole boxes or nothing.
    """
    message = Message("cam", data, Position("e", 1), event)
    format = FragmentedMP4()
    boxes(format.encode(message))
    format.is_resync_point(message)
    format.must_restart(message)
    format.resumed(message, message)
    boxes(started(format, replay([message])))


def test_tracks_whose_configuration_is_missing() -> None:
    """
    Only complete tracks are in an init segment; without any there is none.
    """
    incomplete = Head("r", 0.0, (Track(1, Kind.VIDEO, "h264"),))
    partly = Head("r", 0.0, (Track(1, Kind.VIDEO, "h264"), Track(2, Kind.AUDIO, "mp3")))

    assert started(FragmentedMP4(), replay(messages([incomplete]))) == b""
    assert started(FragmentedMP4(), replay(messages([partly]))).count(b"trak") == 1
