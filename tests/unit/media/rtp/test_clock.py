"""
The times of RTP timestamps.
"""

from __future__ import annotations

from itertools import pairwise

from rt_twisted.media.rtp.clock import SessionClock, TrackClock

SECOND = 1_000_000


def test_the_first_packet_has_its_arrival_time() -> None:
    """
    Later ones follow by their timestamps, exactly.
    """
    clock = TrackClock(44100, SessionClock())

    times = [clock.time_of(7 + 1024 * index, 5 * SECOND) for index in range(44101)]

    assert times[0] == 5 * SECOND
    assert times[44100] == 5 * SECOND + 1024 * SECOND
    assert [times[1], times[2]] == [5 * SECOND + 23220, 5 * SECOND + 46440]


def test_timestamps_wrap() -> None:
    """
    Also backwards, as those of pictures that are shown earlier.
    """
    clock = TrackClock(90000, SessionClock())
    start = 2**32 - 45_000

    assert clock.time_of(start, 0) == 0
    assert clock.time_of(start + 90_000 & 0xFFFFFFFF, 0) == SECOND
    assert clock.time_of(start, 0) == 0
    assert clock.time_of(start + 90_000, 0) == SECOND


def test_reports_before_the_packets_align_the_tracks() -> None:
    """
    The second track starts half a second behind the first one, whenever its packets arrive.
    """
    session = SessionClock()
    video, audio = TrackClock(90000, session), TrackClock(48000, session)
    video.report(1000 * SECOND, 500)
    audio.report(1000 * SECOND, 900)

    assert video.time_of(500, 7 * SECOND) == 7 * SECOND
    assert audio.time_of(900 + 24000, 9 * SECOND) == 7 * SECOND + SECOND // 2


def test_later_reports_correct_slowly() -> None:
    """
    A difference of 100 ms is made up without a step.
    """
    session = SessionClock()
    video, audio = TrackClock(90000, session), TrackClock(48000, session)
    video.time_of(0, 0)
    audio.time_of(0, 0)
    video.report(1000 * SECOND, 0)
    audio.report(1000 * SECOND + SECOND // 10, 0)

    times = [audio.time_of(960 * index, 0) for index in range(1, 400)]

    assert times[0] == 21_000
    assert max(after - before for before, after in pairwise(times)) <= 21_000
    assert times[-1] == 399 * 20_000 + SECOND // 10


def test_small_differences_and_wrong_clocks_change_nothing() -> None:
    """
    Times keep their exact steps.
    """
    session = SessionClock()
    video, audio = TrackClock(90000, session), TrackClock(48000, session)
    video.time_of(0, 0)
    audio.time_of(0, 0)
    video.report(1000 * SECOND, 0)
    for wrong in (1000 * SECOND + 3000, 2000 * SECOND, 0):
        audio.report(wrong, 0)
        assert audio.time_of(0, 0) == 0
    assert audio.time_of(48000, 0) == SECOND


def test_a_wrong_report_before_the_packets() -> None:
    """
    A track that would be far from the others gets its arrival time.
    """
    session = SessionClock()
    video, audio = TrackClock(90000, session), TrackClock(48000, session)
    video.report(1000 * SECOND, 0)
    audio.report(5000 * SECOND, 0)

    assert video.time_of(0, 0) == 0
    assert audio.time_of(0, SECOND) == SECOND
