"""
One timeline for a live stream, whatever the times of its publisher do.
"""

from __future__ import annotations

from rt_twisted.media.reorder import DEFAULT_DURATION
from rt_twisted.media.unit import Unit

MAX_STEP = 3_000_000  # microseconds from frame to frame of a track: more is a jump
MAX_OVERLAP = 100_000  # microseconds that a frame is late without being a jump
PACKET = 1400  # bytes of an RTP packet


class Timeline:
    """
    Moves the times of one run's frames, and counts packets and bytes.

    A track whose times jump goes on one frame further. Tracks that jump together, as when
    the publisher begins another document, keep their times relative to each other.

    Args:
        start: the time of the first frame (microseconds), unless there are earlier frames.
        last: the last frame of each track on the channel, whose counts and times go on.
    """

    def __init__(self, start: int, last: dict[int, Unit]) -> None:
        # Not the present time: browsers stall for ever where the times have a hole.
        self._start = max(map(_end, last.values()), default=start)
        self._last = dict(last)  # as published
        self._shifts: dict[int, int] = {}
        self._newest: int | None = None  # dts of the last frame of any track, as published

    def place(self, unit: Unit) -> Unit:
        """
        Return *unit* with the times and counts under which it is published.
        """
        track = unit.track
        last = self._last.get(track)
        shift = self._shifts.get(track)
        # Most frames follow the last one of their track.
        if (shift is None or last is None or not 0 < unit.dts + shift - last.dts <= MAX_STEP) and (
            shift is None or not self._follows(unit, shift)
        ):
            shift = self._find_shift(unit)
            self._shifts[track] = shift
        packets = offset = 0
        dts = unit.dts + shift
        if last is not None:
            size = len(last.data)
            packets = last.packets + (size + PACKET - 1) // PACKET
            offset = last.offset + size
            if dts <= last.dts:
                dts = last.dts + 1
        pts = unit.pts + shift
        if pts < dts and unit.pts >= unit.dts:
            pts = dts
        # dataclasses.replace takes three times as long, for each frame of each publisher.
        placed = Unit(
            track, pts, dts, unit.duration, unit.key, packets, offset, unit.data, unit.title
        )
        self._last[track] = placed
        self._newest = dts
        return placed

    def _find_shift(self, unit: Unit) -> int:
        for shift in self._shifts.values():  # tracks that jump together stay together
            if self._follows(unit, shift):
                return shift
        last = self._last.get(unit.track)
        if last is None or not self._shifts:
            return self._start - unit.dts
        return last.dts + (last.duration or DEFAULT_DURATION) - unit.dts

    def _follows(self, unit: Unit, shift: int) -> bool:
        """
        Return whether *unit* can be published with its times moved by *shift*.

        A track may be silent as long as it comes back beside the others. A frame that is a
        little late keeps the shift, and is decoded right behind the last one: ffmpeg gives
        two frames of audio the same time if each has its own fragment.
        """
        dts = unit.dts + shift
        last = self._last.get(unit.track)
        if last is not None and dts <= last.dts - MAX_OVERLAP:
            return False
        if last is not None and abs(dts - last.dts) <= MAX_STEP:
            return True
        return self._newest is not None and abs(dts - self._newest) <= MAX_STEP


def _end(unit: Unit) -> int:
    return max(unit.pts, unit.dts) + (unit.duration or DEFAULT_DURATION)
