"""
Heads and units as messages.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg import MAX_JPEG
from rt_twisted.media.unit import (
    MAX_HEAD,
    MAX_TIME,
    MAX_TRACK_ID,
    MAX_TRACKS,
    End,
    Head,
    Kind,
    Title,
    Track,
    Unit,
    read,
    write,
)
from rt_twisted.model.message import Mark, Message, Position

VIDEO = Track(1, Kind.VIDEO, "vp8", size=(320, 240), extra=b"\xd7\x81\x01")
AUDIO = Track(2, Kind.AUDIO, "opus", b"OpusHead\x01", 48000, 2)
HEAD = Head("r1", 1700000000.25, (VIDEO, AUDIO), 123400)
UNIT = Unit(1, 123400, 123000, 33367, True, 4711, 99, b"\x00frame")

times = st.integers(-MAX_TIME, MAX_TIME)
counts = st.integers(0, MAX_TIME)
units = st.builds(
    Unit,
    st.integers(1, MAX_TRACK_ID),
    times,
    times,
    counts,
    st.booleans(),
    counts,
    counts,
    st.binary(max_size=20),
    st.sampled_from(["", "Artist - Tïtle"]),
)


def message(event: str | None, data: bytes = b"") -> Message:
    return Message("cam", data, Position("e", 1), event)


@pytest.mark.parametrize(
    ("thing", "event", "mark"),
    [
        (HEAD, "unit/head 123400", Mark.HEAD),
        (Head("r1", 0.5, (VIDEO,), 7, True), "unit/head 7 again", Mark.HEAD),
        (UNIT, "unit/k 1 123400 123000 33367 4711 99", Mark.UNIT),
        (replace(UNIT, title="ï"), "unit/k 1 123400 123000 33367 4711 99 2", Mark.UNIT),
        (Title("ï"), "unit/title", Mark.UNIT),
        (Head("r1", 0.5, (AUDIO,), 7, about=(("name", "ï"),)), "unit/head 7", Mark.HEAD),
        (Unit(2, -5, -5, 0, False, 0, 0, b""), "unit/d 2 -5 -5 0 0 0", Mark.UNIT),
        (End("r1"), "unit/end", Mark.END),
    ],
)
def test_each_kind_of_message_reads_as_it_was_written(
    thing: Head | Unit | End, event: str, mark: Mark
) -> None:
    """
    Another node reads exactly what the publisher's node wrote.
    """
    written, data = write(thing)

    assert written == event
    assert message(written, data).mark is mark
    assert read(message(written, data)) == thing


@given(units)
def test_any_unit_reads_as_it_was_written(unit: Unit) -> None:
    """
    Times may be negative, and a payload may be empty.
    """
    event, data = write(unit)

    assert len(event) <= 200  # what publishers are limited to fits all transports
    assert read(message(event, data)) == unit


def test_other_messages_are_not_part_of_a_live_stream() -> None:
    """
    Bare frames and texts have no event type, or another.
    """
    assert read(message(None, b"\xff\xd8")) is None
    assert read(message("unit", b"x")) is None


def test_a_repeated_head_is_parsed_once() -> None:
    """
    The tracks of a repeated head are the same object.
    """
    event, data = write(HEAD)
    first, second = (read(message(event, bytes(bytearray(data)))) for _ in range(2))
    moved = read(message("unit/head 999 again", data))

    assert first is second
    assert isinstance(first, Head)
    assert isinstance(moved, Head)
    assert moved.tracks is first.tracks
    assert (moved.time, moved.again) == (999, True)


@pytest.mark.parametrize(
    "event",
    [
        "unit/",
        "unit/x",
        "unit/k",
        "unit/k 1 2 3 4 5",
        "unit/k 1 2 3 4 5 6 7 8",
        "unit/k 0 2 3 4 5 6",
        "unit/k 16383 2 3 4 5 6",
        "unit/k 1 2.5 3 4 5 6",
        "unit/k 1 9007199254740993 3 4 5 6",
        "unit/k 1 2 -9007199254740993 4 5 6",
        "unit/k 1 2 3 -4 5 6",
        "unit/k 1 2 3 4 -5 6",
        "unit/k 1 2 3 4 5 -6",
        "unit/k 1 " + "9" * 5000 + " 3 4 5 6",
        "unit/head",
        "unit/head x",
        "unit/head 1 2",
        "unit/head 1 again again",
        "unit/head 9007199254740993",
    ],
)
def test_malformed_event_types_raise_the_codecs_error(event: str) -> None:
    """
    A foreign program that publishes through redis can write anything.
    """
    with pytest.raises(RemoteProtocolError):
        read(message(event, write(HEAD)[1]))


def head_data(**changes: object) -> bytes:
    fields = json.loads(write(HEAD)[1])
    track = {key: changes.pop(key) for key in list(changes) if key in fields["tracks"][0]}
    fields["tracks"][0].update(track)
    return json.dumps({**fields, **changes}).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        head_data(run=1),
        head_data(run="r" * 201),
        head_data(wall="now"),
        head_data(wall=float("nan")),
        head_data(wall=10**400),
        head_data(tracks={}),
        head_data(tracks=[]),
        head_data(tracks=[1]),
        head_data(id=0),
        head_data(id=True),
        head_data(id=2),
        head_data(id=MAX_TRACK_ID + 1),
        head_data(kind="smell"),
        head_data(kind=[]),
        head_data(codec=None),
        head_data(private="!"),
        head_data(private="\u00fc"),
        head_data(extra=1),
        head_data(size=[1]),
        head_data(size=[1, 2, 3]),
        head_data(size=[1, -2]),
        head_data(channels=256),
        b" " * (MAX_HEAD + 1),
    ],
)
def test_malformed_heads_raise_the_codecs_error(data: bytes) -> None:
    """
    Types, ranges and sizes are checked.
    """
    with pytest.raises(RemoteProtocolError):
        read(message("unit/head 0", data))


def test_the_bounds_of_a_head_and_a_unit() -> None:
    """
    Eight tracks and a picture of 8 MiB are accepted, one more is not.
    """
    tracks = tuple(Track(id, Kind.AUDIO, "opus") for id in range(1, MAX_TRACKS + 2))
    most = Head("r", 0.0, tracks[:-1])
    assert read(message(*write(most))) == most
    with pytest.raises(RemoteProtocolError):
        read(message(*write(Head("r", 0.0, tracks))))
    event = write(UNIT)[0]
    assert read(message(event, bytes(MAX_JPEG))) is not None
    with pytest.raises(RemoteProtocolError):
        read(message(event, bytes(MAX_JPEG + 1)))


@given(st.text(max_size=40), st.binary(max_size=60))
def test_no_input_raises_another_error(event: str, data: bytes) -> None:
    """
    Whatever redis delivers, only the codecs' error is raised.
    """
    for prefix in ("unit/", "unit/k ", "unit/head "):
        with contextlib.suppress(RemoteProtocolError):
            read(message(prefix + event, data))
