"""
Live audio as listeners of Icecast receive it.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from rt_twisted.formats.icecast import IcecastAudio
from rt_twisted.media.icy import METAINT, title_block
from rt_twisted.media.mpeg_audio import MPEG
from rt_twisted.media.ogg import OGG
from rt_twisted.media.unit import Head, Kind, Track, Unit
from rt_twisted.model.message import Message
from tests.live_streams import messages, replay

TRACK = Track(1, Kind.AUDIO, MPEG, rate=44100, channels=2)
HEAD = Head("r", 0.5, (TRACK,))
SIZE = 1700
TITLES = IcecastAudio(titles=True)


def unit(number: int) -> Unit:
    """
    Return a unit whose bytes are a part of one long stream.
    """
    data = b"".join([(number * SIZE + at).to_bytes(4) for at in range(0, SIZE, 4)])
    return Unit(1, number, number, 1, True, 0, number * SIZE, data, f"title {number // 20}")


STREAM = messages([HEAD, *map(unit, range(60))])


def received_by(format: IcecastAudio, received: Sequence[Message]) -> bytes:
    items = format.start(replay(received))
    return b"".join([item if isinstance(item, bytes) else format.encode(item) for item in items])


def parsed(stream: bytes) -> tuple[bytes, list[bytes]]:
    """
    Return the audio and the titles in a stream, as a player does.
    """
    audio, titles = b"", []
    while len(stream) > METAINT:
        audio += stream[:METAINT]
        size = stream[METAINT] * 16
        text = stream[METAINT + 1 : METAINT + 1 + size].rstrip(b"\0")
        titles.append(text.removeprefix(b"StreamTitle='").removesuffix(b"';"))
        stream = stream[METAINT + 1 + size :]
    return audio + stream, titles


def test_without_titles_the_bytes_are_unchanged() -> None:
    """
    A listener begins with the first frame behind a head.
    """
    assert received_by(IcecastAudio(), STREAM) == b"".join([unit(n).data for n in range(60)])


@pytest.mark.parametrize("first", [0, 1, 5, 17])
def test_a_block_follows_each_interval(first: int) -> None:
    """
    Wherever a listener joins, it begins at a place of a block, and receives all that follows.
    """
    whole = b"".join([unit(n).data for n in range(60)])
    begin = -(-max(0, first - 1) * SIZE // METAINT) * METAINT

    audio, titles = parsed(received_by(TITLES, STREAM[first:]))

    assert audio == whole[begin:]
    assert titles[-1] == b"title 2"


def test_titles_are_those_of_the_audio_beside_them() -> None:
    """
    The title changes with the unit that carries another one.
    """
    assert (
        parsed(received_by(TITLES, STREAM))[1]
        == [b"title 0", b"title 0"] + [b"title 1"] * 2 + [b"title 2"] * 2
    )


@pytest.mark.parametrize("missing", [1, 3, 9, 10])
def test_the_interval_goes_on_after_a_gap(missing: int) -> None:
    """
    A listener that skipped frames finds blocks where it expects them; equal gaps share frames.
    """
    last, rest = STREAM[25], STREAM[26 + missing :]
    index = next(n for n, message in enumerate(rest) if TITLES.is_resync_point(message))
    format = TITLES.resumed(last, rest[index])
    assert format == TITLES.resumed(last, rest[index])
    assert isinstance(format, IcecastAudio)

    stream = received_by(TITLES, STREAM[:26]) + b"".join(map(format.encode, rest[index:]))

    audio, titles = parsed(stream)
    sent = [n for n in range(60) if n < 25 or n >= 25 + missing + index]
    assert audio == b"".join([unit(n).data for n in sent])
    assert titles[-1] == b"title 2"


def test_several_blocks_in_one_unit() -> None:
    """
    A unit may be larger than the interval.
    """
    large = Unit(1, 0, 0, 1, True, 0, 0, bytes(50_000), "x")

    audio, titles = parsed(received_by(TITLES, messages([HEAD, large])))

    assert audio == bytes(50_000)
    assert titles == [b"x"] * 3


def test_ogg_listeners_begin_with_the_headers() -> None:
    """
    A new link of a chain has headers of its own, a repeated head has none.
    """

    def head(private: bytes, again: bool) -> Head:
        return Head("r", 0.5, (Track(1, Kind.AUDIO, OGG, private, 48000, 2),), 0, again)

    page = Unit(1, 0, 0, 1, True, 0, 0, b"<page>")
    stream = messages([head(b"<A>", False), page, head(b"<A>", True), page, head(b"<B>", False)])

    assert received_by(IcecastAudio(), stream) == b"<A><page><page><B>"
    assert received_by(IcecastAudio(), stream[2:]) == b"<A><page><B>"


def test_blocks_are_shared() -> None:
    """
    The same block is built once.
    """
    assert title_block("a") is title_block("a")
