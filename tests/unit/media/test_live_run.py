"""
One publication of a live stream, and its timeline.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.live_run import MAX_HELD, LiveRun
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import End, Head, Kind, Track, Unit
from tests.live_streams import messages

FILES = Path(__file__).parent / "files"
WALL = 1_700_000_000.0
START = 1_700_000_000_000_000
VIDEO = Track(1, Kind.VIDEO, "vp8", size=(64, 48))
AUDIO = Track(2, Kind.AUDIO, "opus", rate=48000, channels=2)
BOTH = (VIDEO, AUDIO)
FRAME = 40_000
HOUR = 3_600_000_000


def picture(number: int, key: bool = False, at: int | None = None) -> Unit:
    time = number * FRAME if at is None else at
    return Unit(1, time, time, FRAME, key, 0, 0, b"p%d" % number)


def sound(number: int, at: int | None = None) -> Unit:
    time = number * 20_000 if at is None else at
    return Unit(2, time, time, 20_000, True, 0, 0, b"s%d" % number)


def new(*parts: Part, retained: Sequence[Head | Unit | End] = ()) -> list[Head | Unit]:
    return LiveRun("r", WALL, messages(retained)).feed(parts)


def times(found: Iterable[Head | Unit], track: int) -> list[int]:
    return [one.pts - START for one in found if isinstance(one, Unit) and one.track == track]


def heads(found: Iterable[Head | Unit]) -> list[tuple[list[int], int, bool]]:
    return [
        ([track.id for track in one.tracks], one.time - START, one.again)
        for one in found
        if isinstance(one, Head)
    ]


def test_a_stream_begins_at_a_keyframe_with_a_head() -> None:
    """
    What precedes the first keyframe is dropped; times begin with the wall clock.
    """
    found = new(BOTH, sound(0), picture(0), sound(1), picture(1, True), sound(2), picture(2))

    assert isinstance(found[0], Head)
    assert (found[0].run, found[0].wall, found[0].tracks) == ("r", WALL, BOTH)
    assert [type(one) for one in found[1:]] == [Unit] * 3
    assert heads(found) == [([1, 2], 0, False)]
    assert times(found, 1) == [0, FRAME]
    assert times(found, 2) == [0]


def test_a_head_precedes_each_keyframe() -> None:
    """
    Its time is that of the keyframe; heads of nothing but keyframes come twice a second.
    """
    found = new((VIDEO,), *[picture(number, number % 25 == 0) for number in range(60)])
    each = new((VIDEO,), *[picture(number, True) for number in range(26)])

    assert heads(found) == [([1], 0, False), ([1], 25 * FRAME, True), ([1], 50 * FRAME, True)]
    assert [time for _, time, _ in heads(each)] == [0, 13 * FRAME]


def test_audio_alone_has_a_head_each_second() -> None:
    """
    Listeners can join within a second.
    """
    found = new((AUDIO,), *map(sound, range(101)))

    assert [time for _, time, _ in heads(found)] == [0, 1_000_000, 2_000_000]


def test_an_announced_track_that_is_silent() -> None:
    """
    The stream begins without it after a second. Its frames are left out until a head has
    it: subscribers are never sent a frame of a track that they do not know.
    """
    run = LiveRun("r", WALL)
    first = run.feed([BOTH, *[picture(number, number % 50 == 0) for number in range(26)]])
    assert heads(first[:1]) == [([1], 0, False)]
    assert times(run.feed([picture(26), sound(0, 27 * FRAME)]), 2) == []
    later = run.feed([picture(49), picture(50, True), sound(1, 50 * FRAME + 5)])
    assert heads(later) == [([1, 2], 50 * FRAME, False)]
    assert times(later, 2) == [50 * FRAME + 5]


def test_announced_video_that_is_silent() -> None:
    """
    Audio begins after a second; video joins it at its first keyframe.
    """
    run = LiveRun("r", WALL)
    found = run.feed([BOTH, *map(sound, range(60))])
    assert heads(found)[0][0] == [2]
    assert heads(run.feed([picture(30)])) == []
    assert heads(run.feed([picture(31, True)])) == [([1, 2], 31 * FRAME - 1_000_000, False)]


@pytest.mark.parametrize("jump", [HOUR, -HOUR, 5_000_000, -400_000])
def test_the_times_of_all_tracks_jump(jump: int) -> None:
    """
    Each goes on one frame further, and they stay together.
    """
    parts: list[Part] = [BOTH]
    for number in range(20):
        base = HOUR + jump * (number >= 10)
        parts += [
            picture(number, number == 0, base + number * FRAME),
            sound(2 * number, base + number * FRAME + 1000),
            sound(2 * number + 1, base + number * FRAME + 21_000),
        ]
    found = new(*parts)

    assert times(found, 1) == [number * FRAME for number in range(20)]
    assert times(found, 2) == [1000 + number * 20_000 for number in range(40)]


def test_the_times_of_one_track_jump() -> None:
    """
    The other one is not moved.
    """
    parts: list[Part] = [BOTH]
    for number in range(20):
        jump = HOUR if 5 <= number < 12 else 0
        parts += [picture(number, number == 0, number * FRAME + jump), sound(2 * number)]
    found = new(*parts)

    assert times(found, 1) == [number * FRAME for number in range(20)]
    assert times(found, 2) == [number * 40_000 for number in range(20)]


def test_a_track_that_pauses_stays_in_time_with_the_others() -> None:
    """
    A microphone that is silent for ten seconds comes back beside the picture.
    """
    parts: list[Part] = [BOTH, picture(0, True), sound(0)]
    parts += [picture(number) for number in range(1, 251)]
    found = new(*parts, sound(500))

    assert times(found, 2) == [0, 10_000_000]


def test_two_frames_of_the_same_time() -> None:
    """
    The second one is decoded right behind the first, and the track is not moved.
    """
    found = new((AUDIO,), sound(0), sound(0, 20_000), sound(0, 20_000), sound(0, 40_000))

    assert times(found, 2) == [0, 20_000, 20_001, 40_000]


def test_all_tracks_pause() -> None:
    """
    A publisher that was suspended leaves no hole.
    """
    found = new((VIDEO,), picture(0, True), picture(1), picture(251), picture(252))

    assert times(found, 1) == [0, FRAME, 2 * FRAME, 3 * FRAME]


def test_packets_and_bytes_are_counted_by_track() -> None:
    """
    Every node can number RTP packets and count bytes alike.
    """
    units = [
        replace(picture(number, number == 0), data=bytes(size))
        for number, size in enumerate([1400, 1401, 0, 1])
    ]
    found = [one for one in new((VIDEO,), *units) if isinstance(one, Unit)]

    assert [(one.packets, one.offset) for one in found] == [(0, 0), (1, 1400), (3, 2801), (3, 2801)]


@pytest.mark.parametrize("seconds", [-10, 10])
def test_a_publisher_that_returns(seconds: int) -> None:
    """
    Times and counts go on, however long it was away, and viewers who have the tracks need no new
    head.
    """
    before = new(BOTH, picture(0, True), sound(0), picture(1), sound(1))
    again = LiveRun("s", WALL + seconds, messages(before)).feed(
        [BOTH, sound(0), picture(0, True), sound(1)]
    )

    assert heads(again) == [([1, 2], 2 * FRAME, True)]
    assert times(again, 1) == [2 * FRAME]
    assert times(again, 2) == [2 * FRAME + 20_000]
    unit = again[1]
    assert isinstance(unit, Unit)
    assert (unit.packets, unit.offset) == (2, 4)


def test_a_publisher_that_returns_with_other_tracks() -> None:
    """
    A change of size needs a new head; after an end nothing goes on.
    """
    before = new((VIDEO,), picture(0, True), picture(1))
    larger = replace(VIDEO, size=(640, 480))

    assert heads(new((larger,), picture(0, True), retained=before)) == [([1], 2 * FRAME, False)]
    ended = [*before, End("r")]
    assert heads(new((VIDEO,), picture(0, True), retained=ended)) == [([1], 0, False)]


def test_tracks_that_change_in_the_same_run() -> None:
    """
    A recorder that begins again with another size has a new head at its keyframe.
    """
    run = LiveRun("r", WALL)
    run.feed([(VIDEO,), picture(0, True), picture(1)])
    assert run.feed([(VIDEO,), picture(2)]) != []
    larger = replace(VIDEO, size=(640, 480))
    assert run.feed([(larger,), picture(3)]) == []
    assert heads(run.feed([picture(4, True)])) == [([1], 4 * FRAME, False)]


def test_a_track_that_is_described_by_its_first_frame() -> None:
    """
    What was sent before is not lost, and the stream begins as soon as all tracks have sent.
    """
    vague = replace(AUDIO, codec="")

    found = new((VIDEO, vague), picture(0, key=True), BOTH, sound(0), picture(1))

    assert heads(found) == [([1, 2], 0, False)]
    assert times(found, 1) == [0, FRAME]
    assert [head.tracks for head in found if isinstance(head, Head)] == [BOTH]


def test_a_track_that_is_described_late() -> None:
    """
    The track joins at the next keyframe; the others go on meanwhile.
    """
    vague = replace(AUDIO, codec="")
    pictures = [picture(number, key=number % 30 == 0) for number in range(65)]

    found = new((VIDEO, vague), *pictures[:40], BOTH, sound(80), *pictures[40:], sound(130))

    assert [tracks for tracks, _, _ in heads(found)] == [[1], [1], [1, 2]]
    assert times(found, 1) == [number * FRAME for number in range(65)]
    assert times(found, 2) == [130 * 20_000]


def test_a_publisher_that_never_sends_a_keyframe() -> None:
    """
    The sentence says what to set; and what is held is bounded.
    """
    with pytest.raises(RemoteProtocolError, match="no keyframe"):
        new((VIDEO,), *map(picture, range(1502)))
    large = replace(picture(0, True), data=bytes(MAX_HELD // 4))
    with pytest.raises(RemoteProtocolError, match=f"larger than {MAX_HELD}"):
        new(BOTH, *[large] * 5)


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("vp8_opus.webm", 100_000),
        ("mediarecorder.webm", 180_000),  # the times of a recorder are not even
        ("mediarecorder.mkv", 100_000),
    ],
)
def test_two_documents_of_a_real_program(name: str, frame: int) -> None:
    """
    The second one goes on where the first one ends, with the same tracks.
    """
    data = (FILES / name).read_bytes()
    once = new(*MatroskaReader().feed(data))
    twice = new(*MatroskaReader().feed(data + data))

    assert [again for _, _, again in heads(twice)] == [False] + [True] * (len(heads(twice)) - 1)
    for track in (1, 2):
        first, both = times(once, track), times(twice, track)
        assert both[: len(first)] == first
        steps = [after - before for before, after in itertools.pairwise(both)]
        assert min(steps) > 0
        assert max(steps) <= 2 * frame


@given(
    st.lists(
        st.tuples(st.integers(1, 2), st.integers(-(10**12), 10**12), st.booleans()), max_size=60
    )
)
def test_published_times_always_increase(frames: list[tuple[int, int, bool]]) -> None:
    """
    Whatever a publisher's times do, those of each track increase by up to three seconds.
    """
    units = [
        Unit(track, time, time, FRAME, key or track == 2, 0, 0, b"x") for track, time, key in frames
    ]
    try:
        found = new(BOTH, *units)
    except RemoteProtocolError:
        return
    for track in (1, 2):
        published = times(found, track)
        assert published == sorted(set(published))


def test_a_day_of_audio() -> None:
    """
    Times stay exact, and there is a head each second to the end.
    """
    run = LiveRun("r", WALL)
    run.feed([(AUDIO,)])
    found = [run.feed([sound(0, second * 1_000_000)]) for second in range(24 * 3600)]

    assert all(len(things) == 2 for things in found)
    assert times(found[-1], 2) == [(24 * 3600 - 1) * 1_000_000]
