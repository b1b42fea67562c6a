"""
Decoding times for containers that have presentation times alone.
"""

from __future__ import annotations

from heapq import heappop, heappush

JUMP = 10_000_000  # microseconds: a larger step begins another timeline
DEFAULT_DURATION = 33_333  # microseconds of a frame, if nothing says


class DecodingTimes:
    """
    Computes decoding times of frames in decoding order, without waiting for later frames.

    The nth frame is decoded at the (n - depth)th presentation time, which is known by
    then. So no frame is decoded after it is presented, and the times increase.

    Args:
        depth: by how many frames decoding order and presentation order differ at most.
    """

    __slots__ = ("_depth", "_last", "_newest", "_times")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._times: list[int] = []  # a heap of *depth* presentation times
        self._newest = 0  # presentation time of the last frame
        self._last = 0  # decoding time of the last frame

    def next(self, pts: int, duration: int) -> int:
        """
        Return the decoding time of the next frame (microseconds).

        Args:
            pts: its presentation time.
            duration: of a frame; 0 if unknown.
        """
        if not self._depth:
            return pts
        times = self._times
        if not times or abs(pts - self._newest) > JUMP:
            step = duration or DEFAULT_DURATION
            times[:] = [pts - step * (self._depth - index) for index in range(self._depth)]
            self._last = times[0] - 1
        self._newest = pts
        heappush(times, pts)
        self._last = min(max(heappop(times), self._last + 1), max(pts, self._last + 1))
        return self._last
