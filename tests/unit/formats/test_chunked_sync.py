"""
Formats with resync points, in the chunked transfer coding.
"""

from __future__ import annotations

from rt_twisted.formats.chunked import Chunked
from rt_twisted.formats.sse import EventStream
from rt_twisted.formats.webm import WebM
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from tests.live_streams import messages

VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
OTHER = Track(1, Kind.VIDEO, "vp8", size=(640, 480))


def test_a_chunked_format_has_the_resync_points_of_its_inner_one() -> None:
    """
    Viewers by HTTP/1.1 begin, skip and end where those by HTTP/2 do.
    """
    head, unit, other, end = messages(
        [
            Head("r", 1.0, (VIDEO,), 0),
            Unit(1, 0, 0, 40_000, True, 0, 0, b"picture"),
            Head("r", 1.0, (OTHER,), 40_000),
            End("r"),
        ]
    )
    inner, format = WebM(), ISyncFormat(Chunked(WebM()))

    assert [format.is_resync_point(each) for each in (head, unit, other, end)] == [
        True,
        False,
        True,
        False,
    ]
    assert format.must_restart(other) == inner.must_restart(other)
    assert not format.must_restart(unit)
    assert format.resumed(unit, other) == Chunked(inner.resumed(unit, other))
    assert format.resumed(unit, other) != format
    assert hash(format.resumed(unit, other)) == hash(format.resumed(unit, other))


def test_a_chunked_text_format_has_no_resync_points() -> None:
    """
    Sync cannot be used with it.
    """
    assert ISyncFormat(Chunked(EventStream()), None) is None
