"""
Ogg streams, cut into header pages and units of whole pages.
"""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.ogg import MAX_GARBAGE, MAX_HEADERS, OGG, OggReader
from rt_twisted.media.opus import write_head
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit

RATE = 48000


def page(packet: bytes, granule: int, flags: int = 0, serial: int = 7) -> bytes:
    sizes = [255] * (len(packet) // 255) + [len(packet) % 255]
    head = struct.pack("<4sBBqIIIB", b"OggS", 0, flags, granule, serial, 0, 0, len(sizes))
    return head + bytes(sizes) + packet


def tags(*comments: str) -> bytes:
    texts = [comment.encode() for comment in comments]
    body = b"".join([struct.pack("<I", len(text)) + text for text in texts])
    return b"OpusTags" + struct.pack("<I3sI", 3, b"enc", len(texts)) + body


def headers(*comments: str, serial: int = 7) -> bytes:
    first = page(write_head(2), 0, 2, serial)
    return first + page(tags(*comments), 0, serial=serial)


def audio(count: int, serial: int = 7) -> list[bytes]:
    return [page(bytes(100), (n + 1) * RATE // 5, serial=serial) for n in range(count)]


def read(data: bytes, size: int = 1 << 20) -> list[Part]:
    reader = OggReader()
    found: list[Part] = []
    for at in range(0, len(data), size):
        found += reader.feed(data[at : at + size])
    return found


@pytest.mark.parametrize("size", [1, 50, 1 << 20])
def test_pages_are_published_as_they_are(size: int) -> None:
    """
    The header pages are the track's, and units end at pages.
    """
    pages = audio(4)

    parts = read(headers() + b"".join(pages), size)

    assert parts[0] == (Track(1, Kind.AUDIO, OGG, headers(), RATE, 2),)
    assert [part.data for part in parts[1:] if isinstance(part, Unit)] == [
        pages[0] + pages[1],
        pages[2] + pages[3],
    ]
    assert [part.pts for part in parts[1:] if isinstance(part, Unit)] == [400_000, 400_000]


@pytest.mark.parametrize("size", [1, 50, 1 << 20])
def test_the_stream_of_mpd(size: int) -> None:
    """
    The first link ends before any audio, and the second has the last header and the first audio
    on one page: listeners who join later need all of it.
    """
    first = b"\x01vorbis" + struct.pack("<IBIiiiBB", 0, 2, RATE, 0, 128000, 0, 0xB8, 1)
    packets = (b"\x03vorbis" + bytes(20), b"\x05vorbis" + bytes(300), bytes(40))
    empty = page(first, 0, 2, 8) + page(b"\x03vorbis", 0, serial=8) + page(b"\0", 0, 4, 8)
    sizes = bytes([27, 255, 52, 40])
    mixed = page(b"".join(packets), 576)
    mixed = mixed[:26] + bytes([len(sizes)]) + sizes + b"".join(packets)
    sound = audio(4)

    parts = read(empty + page(first, 0, 2) + mixed + b"".join(sound), size)

    assert parts[0] == (Track(1, Kind.AUDIO, OGG, page(first, 0, 2) + mixed, RATE, 2),)
    assert b"".join([part.data for part in parts if isinstance(part, Unit)]) == b"".join(sound)


def test_a_link_of_a_chain_is_another_head() -> None:
    """
    Its pages begin with headers of their own, and its comments have another title.
    """
    reader = OggReader()
    reader.feed(headers("ARTIST=A", "title=B") + b"".join(audio(3)))
    assert reader.title == "A - B"

    parts = reader.feed(headers("TITLE=C", serial=8) + b"".join(audio(3, 8)))

    tracks = [part for part in parts if isinstance(part, tuple)]
    assert [track.private for (track,) in tracks] == [headers("TITLE=C", serial=8)]
    assert reader.title == "C"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (page(b"\x80theora" + bytes(40), 0, 2), "codec"),
        (page(write_head(2), 0, 2) * 2, "several tracks"),
        (page(write_head(2), 0, 2) + page(bytes(60000), 0) * 4, str(MAX_HEADERS)),
        (bytes(2 * MAX_GARBAGE), "not Ogg"),
    ],
)
def test_what_cannot_be_published_is_refused(data: bytes, reason: str) -> None:
    """
    The sentence says what is wrong.
    """
    with pytest.raises(RemoteProtocolError, match=reason):
        read(data, 4096)


def test_damage_is_left_out() -> None:
    """
    The stream goes on at the next page.
    """
    pages = audio(4)
    data = headers() + pages[0] + pages[1] + pages[2][9:] + pages[3]

    found = b"".join([part.data for part in read(data) if isinstance(part, Unit)])

    assert found == pages[0] + pages[1] + pages[3]


@given(st.binary(max_size=300), st.integers(-(2**63), 2**63 - 1), st.integers(1, 99))
def test_any_bytes(data: bytes, granule: int, size: int) -> None:
    """
    Nothing but the codec's error escapes.
    """
    with contextlib.suppress(RemoteProtocolError):
        read(headers() + data + page(data, granule, 0) + headers() + page(data, granule), size)
