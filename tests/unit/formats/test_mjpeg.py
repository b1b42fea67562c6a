"""
Motion JPEG for browsers.
"""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyObject

from rt_twisted.formats import build_format
from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.mjpeg import MotionJpeg, check_pictures
from rt_twisted.media.multipart import MultipartReader
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.live_streams import messages, replay
from tests.unit.media.jpeg_bytes import jpeg, with_thumbnail

CAMERA = Head("r", 0.5, (Track(1, Kind.VIDEO, "jpeg", size=(320, 240)),))
FILM = Head("r", 0.5, (Track(1, Kind.VIDEO, "vp9"), Track(2, Kind.AUDIO, "opus")))
HEADER = b"--frame\r\nContent-Type: image/jpeg\r\n\r\n"


def unit(data: bytes) -> Unit:
    return Unit(1, 0, 0, 0, True, 0, 0, data)


def test_the_contract_of_formats() -> None:
    """
    The format is pure and compares by value; messages without pictures give nothing.
    """
    formats = [MotionJpeg(), MotionJpeg("x")]
    FormatContract(formats, [MotionJpeg(), MotionJpeg("x")], [jpeg(), b"text", b""]).check()
    verifyObject(ISyncFormat, MotionJpeg())
    assert build_format("mjpeg", True) == Chunked(MotionJpeg())


def test_the_header_of_the_next_part_follows_each_picture() -> None:
    """
    The body begins with a boundary; browsers show a picture when they receive what follows.
    """
    first, second = messages([jpeg(b"1"), jpeg(b"2")])

    start = started(MotionJpeg(), replay([first]))

    assert start == HEADER + first.data + b"\r\n" + HEADER
    assert MotionJpeg().encode(second) == second.data + b"\r\n" + HEADER
    assert MultipartReader().feed(start + MotionJpeg().encode(second)) == [first.data, second.data]


def test_live_streams_and_plain_messages_give_the_same() -> None:
    """
    Heads, ends, and frames that are no pictures are left out.
    """
    found = messages([CAMERA, unit(jpeg()), jpeg(), unit(b"opus"), b"text", End("r")])

    assert [bool(MotionJpeg().encode(message)) for message in found] == [
        False, True, True, False, False, False,
    ]  # fmt: skip
    assert MotionJpeg().encode(found[1]) == MotionJpeg().encode(found[2])
    assert [MotionJpeg().is_resync_point(message) for message in found] == [
        False, True, True, False, False, False,
    ]  # fmt: skip


def test_a_stream_without_pictures_is_refused() -> None:
    """
    The sentence names the route word that can carry it. A stream of pictures that becomes one
    ends.
    """
    [film, camera] = messages([FILM, CAMERA])
    format = MotionJpeg()

    assert format.is_resync_point(film)
    assert format.must_restart(film)
    assert not format.must_restart(camera)
    check_pictures(camera)
    with pytest.raises(HttpError) as refused:
        check_pictures(film)
    assert (refused.value.status, refused.value.reason) == (
        415,
        "MJPEG cannot carry vp9; the route word webm can",
    )


def test_a_picture_cannot_add_parts() -> None:
    """
    A publisher could otherwise send pages in the name of this host.
    """
    [evil] = messages([jpeg(b"\r\n--frame\r\nContent-Type: text/html\r\n\r\n<script>")])

    assert MotionJpeg().encode(evil) == b""
    assert MotionJpeg("other").encode(evil) != b""


@pytest.mark.parametrize("boundary", ["", "a b", "a\r\nb", 'a"', "x" * 71, "ü"])
def test_boundaries_are_checked(boundary: str) -> None:
    """
    One that could break a header is the mistake of the route line.
    """
    with pytest.raises(ValueError, match="boundary= has up to 70 letters"):
        MotionJpeg(boundary)


def test_a_boundary_with_separators_is_quoted() -> None:
    """
    RFC 2046 requires it (5.1.1).
    """
    prefix = "multipart/x-mixed-replace; boundary="
    assert MotionJpeg().content_type == prefix + "frame"
    assert MotionJpeg("a:b=c").content_type == prefix + '"a:b=c"'
    [message] = messages([with_thumbnail()])
    assert b"--a:b=c\r\n" in MotionJpeg("a:b=c").encode(message)
