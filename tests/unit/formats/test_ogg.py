"""
Ogg for subscribers.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zope.interface.verify import verifyObject

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats import build_format
from rt_twisted.formats.live import STEP
from rt_twisted.formats.ogg import FIRST_PAGE, OggStream
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.ogg import OGG, OggReader
from rt_twisted.media.ogg_writer import write_headers, write_packet
from rt_twisted.media.opus import write_head
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from tests.contracts.formats import FormatContract
from tests.fakes import started
from tests.live_streams import live, messages, replay

FILES = Path(__file__).parents[1] / "media" / "files"
OPUS = Track(2, Kind.AUDIO, "opus", write_head(2), 48000, 2)
VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240))
HEAD = Head("r", 0.5, (VIDEO, OPUS))
PICTURE = Unit(1, 0, 0, 40_000, True, 0, 0, b"picture")
SOUNDS = [Unit(2, n * 20_000, n * 20_000, 20_000, True, n, 6 * n, b"\xfcsound") for n in range(3)]
FORMAT = OggStream(2)


def crc(page: bytes) -> int:
    """
    Return the checksum of a page, bit by bit (RFC 3533, 6).
    """
    value = 0
    for byte in page[:22] + bytes(4) + page[26:]:
        value ^= byte << 24
        for _ in range(8):
            value = (value << 1 ^ (0x104C11DB7 if value & 0x80000000 else 0)) & 0xFFFFFFFF
    return value


def pages(stream: bytes) -> list[bytes]:
    """
    Split a stream into its pages, and check their checksums.
    """
    found = [b"OggS" + page for page in stream.split(b"OggS")[1:]]
    assert b"".join(found) == stream
    assert [int.from_bytes(page[22:26], "little") for page in found] == [*map(crc, found)]
    return found


def granule(page: bytes) -> int:
    return int.from_bytes(page[6:14], "little")


def number(page: bytes) -> int:
    return int.from_bytes(page[18:22], "little")


def test_the_contract_of_formats() -> None:
    """
    The formats are pure and compare by value; plain messages give nothing.
    """
    formats = [FORMAT, OggStream(2, shift=5), OggStream(1, OGG)]
    FormatContract(formats, [replace(format) for format in formats], [b"", b"text"]).check()
    verifyObject(ISyncFormat, FORMAT)
    assert build_format("ogg", track=2) == FORMAT


def test_each_packet_is_a_page() -> None:
    """
    Two header pages precede them; each page says how many samples end with it. Repeated heads
    and the frames of other tracks are left out.
    """
    found: list[Head | Unit | End | bytes] = [
        HEAD,
        PICTURE,
        *SOUNDS[:2],
        replace(HEAD, again=True),
        SOUNDS[2],
        End("r"),
    ]
    stream = started(FORMAT, replay(messages(found)))
    first, comments, *rest = pages(stream)

    assert first[5] == 2  # the beginning of a stream
    assert first[28:] == write_head(2)
    assert comments[28:36] == b"OpusTags"
    assert [(number(page), granule(page), page[28:]) for page in rest] == [
        (FIRST_PAGE, 960, b"\xfcsound"),
        (FIRST_PAGE + 1, 1920, b"\xfcsound"),
        (FIRST_PAGE + 2, 2880, b"\xfcsound"),
    ]
    tracks, *_ = OggReader().feed(stream)
    assert isinstance(tracks, tuple)
    assert (tracks[0].rate, tracks[0].channels) == (48000, 2)


def test_vorbis_of_a_real_program() -> None:
    """
    The three headers come out of the CodecPrivate, in three pages.
    """
    found = live(MatroskaReader().feed((FILES / "vp9_vorbis.webm").read_bytes()))
    stream = started(OggStream(2, "vorbis", 44100), replay(found))
    names = [page[page[26] + 27 :][:7] for page in pages(stream)[:3]]

    assert names == [b"\x01vorbis", b"\x03vorbis", b"\x05vorbis"]


def test_a_skip_has_no_hole() -> None:
    """
    Pages behind it go on right behind the last one.
    """
    last, first = messages([SOUNDS[0], replace(HEAD, time=9_000_000)])

    assert FORMAT.resumed(last, first).shift == STEP - 9_000_000


def test_pages_of_a_publisher_are_sent_as_they_are() -> None:
    """
    Each link of a chain begins with its own header pages.
    """
    track = Track(1, Kind.AUDIO, OGG, b"headers", 48000, 2)
    head = Head("r", 0.5, (track,))
    link = replace(head, tracks=(replace(track, private=b"next"),))
    page = Unit(1, 0, 0, 0, True, 0, 0, b"page")
    found = messages([head, page, replace(head, again=True), page, link, page])
    format = OggStream(1, OGG)

    assert started(format, replay(found)) == b"headerspagepagenextpage"
    assert format.resumed(found[1], found[4]) is format


@pytest.mark.parametrize(
    "tracks", [(VIDEO,), (VIDEO, replace(OPUS, codec="vorbis")), (VIDEO, OPUS)]
)
def test_a_track_that_changes_ends_the_stream(tracks: tuple[Track, ...]) -> None:
    """
    A decoder cannot be given another header; a head that is repeated changes nothing.
    """
    [changed, again] = messages([Head("r", 0.5, tracks), Head("r", 0.5, tracks, again=True)])

    assert FORMAT.must_restart(changed)
    assert FORMAT.must_restart(again) is (OPUS not in tracks)
    assert FORMAT.is_resync_point(again)


@pytest.mark.parametrize("size", [0, 1, 254, 255, 256, 255 * 255 - 1, 255 * 255, 70_000])
def test_packets_of_any_size(size: int) -> None:
    """
    A packet over 64 KiB takes several pages.
    """
    data = bytes(size)
    found = pages(write_packet(7, 1, 99, data))

    assert b"".join([page[27 + page[26] :] for page in found]) == data
    assert [number(page) for page in found] == list(range(1, 1 + len(found)))
    assert granule(found[-1]) == 99
    assert [page[5] for page in found] == [0, 1][: len(found)]
    assert found[-1][26 + found[-1][26]] != 255 or size == 0


@given(st.binary(max_size=50))
def test_malformed_headers_of_vorbis(private: bytes) -> None:
    """
    They are the publisher's mistake, and give no header to a subscriber.
    """
    track = Track(1, Kind.AUDIO, "vorbis", private, 44100, 2)
    try:
        write_headers(track, 1)
    except RemoteProtocolError:
        assert started(OggStream(1, "vorbis"), replay(messages([Head("r", 0.5, (track,))]))) == b""
