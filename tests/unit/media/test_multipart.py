"""
Pictures in multipart bodies.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg import MAX_JPEG, is_picture
from rt_twisted.media.multipart import MAX_LINE, MultipartReader
from tests.unit.media.jpeg_bytes import jpeg, with_thumbnail

PICTURES = [jpeg(b"1"), with_thumbnail(), jpeg(b"3")]


def sized(picture: bytes) -> bytes:
    """
    Return a part as ffmpeg writes it.
    """
    return b"Content-type: image/jpeg\r\nContent-length: %d\r\n\r\n" % len(picture) + picture


def unsized(picture: bytes) -> bytes:
    return b"Content-Type: image/jpeg\r\n\r\n" + picture


def body(*parts: bytes, line: bytes = b"--ffmpeg", end: bytes = b"\r\n") -> bytes:
    return line + b"".join([end + part + end + line for part in parts]) + end


BODIES = {
    "ffmpeg": body(*map(sized, PICTURES)),
    "no lengths": body(*map(unsized, PICTURES)),
    "line feeds": body(*[unsized(p).replace(b"\r\n", b"\n") for p in PICTURES], end=b"\n"),
    "no dashes": body(*map(sized, PICTURES), line=b"myboundary"),
    "four dashes": body(*map(unsized, PICTURES), line=b"----x"),
    "empty line first": b"\r\n" + body(*map(sized, PICTURES)),
    "blanks": body(*map(sized, PICTURES), line=b"--x  "),
    "no header": body(*[b"\r\n" + picture for picture in PICTURES]),
    "no line end behind pictures": body(*map(sized, PICTURES)).replace(b"\r\n--ff", b"--ff"),
    "other parts": body(
        b"Content-Type: text/plain\r\n\r\nhello",
        *map(sized, PICTURES[:1]),
        b"Content-Length: 5\r\n\r\nhello",
        *map(unsized, PICTURES[1:]),
        b"CONTENT-LENGTH : 0\r\n\r\n",
    ),
    "end": body(*map(sized, PICTURES))[:-2] + b"--\r\nepilogue" + b"--ffmpeg\r\n\r\n" + jpeg(),
}


def read(*pieces: bytes) -> list[bytes]:
    reader = MultipartReader()
    return [picture for piece in pieces for picture in reader.feed(piece)]


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("size", [1, 2, 3, 50, 10_000])
def test_the_pictures_of_a_body(name: str, size: int) -> None:
    """
    They are found whatever the boundary is, with and without lengths, however it is split.
    """
    data = BODIES[name]

    assert read(*[data[at : at + size] for at in range(0, len(data), size)]) == PICTURES


@pytest.mark.parametrize("part", [sized, unsized])
def test_a_picture_does_not_wait_for_what_follows(part: object) -> None:
    """
    A picture is complete with its last byte: a slow camera would be a picture late.
    """
    assert callable(part)
    assert read(b"--x\r\n" + part(PICTURES[1])) == PICTURES[1:2]


def test_a_wrong_length_costs_one_picture() -> None:
    """
    Reading goes on at the next delimiter.
    """
    short, long = sized(PICTURES[0]), sized(PICTURES[1])
    short = short.replace(b"length: ", b"length: 3")[:-20]
    wrong = long.replace(b"length: %d" % len(PICTURES[1]), b"length: 9")

    assert read(body(wrong, sized(PICTURES[2]))) == PICTURES[2:]
    assert read(body(short, *map(sized, PICTURES * 9)))[-1] == PICTURES[2]


@pytest.mark.parametrize(
    "data",
    [
        b"-" * (MAX_LINE + 2),
        b"--x\r\n" + b"A: b\r\n" * 65,
        b"--x\r\n" + b"A" * (MAX_LINE + 2),
        b"--x\r\nContent-Length: %d\r\n\r\n" % (MAX_JPEG + 1),
        b"--x\r\n\r\ntext" + bytes(MAX_JPEG + 1),
        b"--x\r\n\r\n" + jpeg()[:-2] + bytes(MAX_JPEG),
        b"--x\r\n\r\n\xff\xd8\xff\x00",
    ],
)
def test_bounds(data: bytes) -> None:
    """
    A body that exceeds one, or has a broken picture without length, is the peer's error.
    """
    with pytest.raises(RemoteProtocolError):
        read(data)


@given(
    st.lists(st.sampled_from([b"--x", b"\r\n", b"\n", b"Content-Length: 5", jpeg(), b"\xff\xd8"]))
)
def test_any_input_gives_pictures_or_the_peers_error(pieces: list[bytes]) -> None:
    """
    No other exception escapes, and only whole pictures are returned.
    """
    try:
        found = read(b"--x\r\n", *pieces)
    except RemoteProtocolError:
        return
    assert all(map(is_picture, found))
