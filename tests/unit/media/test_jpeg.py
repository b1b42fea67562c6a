"""
Streams of JPEG pictures.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg import MAX_JPEG, JpegReader, is_picture, size_of
from rt_twisted.media.pictures import PictureReader
from rt_twisted.media.unit import Kind, Track, Unit
from tests.unit.media.jpeg_bytes import EOI, SOI, jpeg, segment, with_thumbnail

PICTURES = [jpeg(b"1"), with_thumbnail(), jpeg(b"3", (64, 48))]
SPECIAL = {
    "thumbnail": with_thumbnail(),
    "marker bytes in a comment": jpeg(EOI + SOI),
    "fill bytes": SOI + b"\xff\xff" + jpeg()[2:-2] + b"\xff\xff" + EOI,
    "two scans": jpeg()[:-2] + segment(0xC4, b"x") + segment(0xDA, b"") + b"\1" + EOI,
    "a marker without length": SOI + b"\xff\x01" + jpeg()[2:],
}


def read(*pieces: bytes) -> list[bytes]:
    reader = JpegReader()
    return [picture for piece in pieces for picture in reader.feed(piece)]


def split(data: bytes, size: int) -> list[bytes]:
    return [data[first : first + size] for first in range(0, len(data), size)]


@pytest.mark.parametrize("name", SPECIAL)
def test_a_picture_ends_at_its_own_end(name: str) -> None:
    """
    What looks like an end within segments or scans is none.
    """
    assert read(SPECIAL[name] * 3) == [SPECIAL[name]] * 3


@given(st.lists(st.integers(1, 400)))
def test_a_stream_may_be_split_anywhere(sizes: list[int]) -> None:
    """
    The pictures are the same.
    """
    data, pieces = b"".join(PICTURES), []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]

    assert read(*pieces, data) == PICTURES


def test_byte_by_byte() -> None:
    """
    A picture is complete with its last byte.
    """
    reader = JpegReader()
    data = PICTURES[1]

    assert [reader.feed(piece) for piece in split(data, 1)][:-1] == [[]] * (len(data) - 1)
    assert reader.feed(PICTURES[0]) == [PICTURES[0]]


@pytest.mark.parametrize("padding", [b"\0\0", b"\r\n", b"\n", b"\xff\xff"])
def test_padding_between_pictures_is_left_out(padding: bytes) -> None:
    """
    Cameras write zeros, line ends or fill bytes there.
    """
    data = padding + padding.join(PICTURES) + padding

    assert read(data) == read(*split(data, 1)) == PICTURES


@pytest.mark.parametrize(
    "data",
    [
        b"GIF89a",
        jpeg() + b"text",
        SOI + b"no marker",
        SOI + segment(0xE0, b"x") + b"\x01",
        SOI + b"\xff\xe0\0\1",
        SOI + SOI,
        SOI + b"\xff\x00",
        b"\0" * 5 + b"\xd8\xff",
    ],
)
def test_other_streams_are_refused(data: bytes) -> None:
    """
    The error is the peer's.
    """
    with pytest.raises(RemoteProtocolError):
        read(data + bytes(16))


def test_a_picture_is_bounded() -> None:
    """
    Also one whose last byte arrives with others, and one that is in a scan.
    """
    start = jpeg()[:-2]
    fitting = start + bytes(MAX_JPEG - len(start) - 2) + EOI

    assert read(fitting) == [fitting]
    for pieces in ((start, bytes(MAX_JPEG)), (start + bytes(MAX_JPEG) + EOI,)):
        with pytest.raises(RemoteProtocolError, match="larger than 8388608 bytes"):
            read(*pieces)


@given(st.binary(max_size=200), st.booleans())
def test_any_input_gives_pictures_or_the_peers_error(data: bytes, begun: bool) -> None:
    """
    No other exception escapes.
    """
    try:
        found = read(*split(SOI + data if begun else data, 7))
    except RemoteProtocolError:
        return
    assert all(map(is_picture, found))


@given(st.binary(max_size=60))
def test_the_size_of_any_bytes(data: bytes) -> None:
    """
    Malformed pictures may have any size, which is no error.
    """
    assert len(size_of(SOI + data)) == 2
    assert size_of(jpeg(data)) == (320, 240)


def test_the_size_of_a_picture_is_not_that_of_its_thumbnail() -> None:
    """
    A picture without a frame header has none.
    """
    assert size_of(with_thumbnail()) == (320, 240)
    assert size_of(SPECIAL["fill bytes"]) == (320, 240)
    assert size_of(SOI + EOI) == (0, 0)


def test_pictures_become_a_track_and_keyframes() -> None:
    """
    The times are those of arrival; the track is announced again when the size changes.
    """
    times = iter((1.0, 1.5, 2.0))
    reader = PictureReader(JpegReader(), lambda: next(times))
    small = Track(1, Kind.VIDEO, "jpeg", size=(64, 48))

    assert reader.feed(b"".join(PICTURES)) == [
        (Track(1, Kind.VIDEO, "jpeg", size=(320, 240)),),
        Unit(1, 1_000_000, 1_000_000, 0, True, 0, 0, PICTURES[0]),
        Unit(1, 1_500_000, 1_500_000, 0, True, 0, 0, PICTURES[1]),
        (small,),
        Unit(1, 2_000_000, 2_000_000, 0, True, 0, 0, PICTURES[2]),
    ]
