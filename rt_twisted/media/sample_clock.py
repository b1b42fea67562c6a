"""
Times of audio frames, exact to the sample, from times that were rounded to milliseconds.
"""

from __future__ import annotations

TOLERANCE = 2000  # microseconds by which a rounded time may differ from the exact one


class SampleClock:
    """
    Counts the samples of an audio track.

    Frames that follow each other get times without holes: browsers stall at holes, and
    players click.

    Args:
        rate: samples per second.
    """

    __slots__ = ("_rate", "_samples", "_start")

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._start: int | None = None  # the time of the first of the counted samples
        self._samples = 0

    def place(self, time: int, samples: int) -> tuple[int, int]:
        """
        Return time and duration of a frame (microseconds).

        Args:
            time: rounded. If it is further than TOLERANCE from the end of the frame before,
                the count begins anew there.
            samples: of the frame.
        """
        exact = self._at(self._samples)
        if self._start is None or abs(exact - time) > TOLERANCE:
            self._start, self._samples, exact = time, 0, time
        self._samples += samples
        return exact, self._at(self._samples) - exact

    def _at(self, samples: int) -> int:
        return (self._start or 0) + samples * 1_000_000 // self._rate
