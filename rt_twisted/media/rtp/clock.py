"""
The times of RTP timestamps: tracks run by clocks of their own, which sender reports relate.
"""

from __future__ import annotations

MAX_SLEW = 10_000_000  # microseconds between two tracks: a report that asks for more is wrong
MIN_SLEW = 5_000  # a smaller difference is left alone, so that times keep their exact steps
SLEW_RATE = 20  # one part of so many of the elapsed time is corrected


class SessionClock:
    """
    Relates the wall clock of one sender to the arrival times of its packets.

    Attributes:
        offset: is added to the sender's wall clock (microseconds); None until a report
            has said what it is.
    """

    __slots__ = ("offset",)

    def __init__(self) -> None:
        self.offset: int | None = None


class TrackClock:
    """
    Turns the RTP timestamps of one track into times.

    Timestamps are extended to 64 bits. The first packet gets its arrival time, or by sender
    reports its place beside other tracks. Later reports correct the times slowly, never by a
    step.

    Args:
        rate: ticks per second.
        session: of all tracks of the sender.
    """

    __slots__ = ("_last", "_offset", "_rate", "_report", "_session", "_slew", "_ticks")

    def __init__(self, rate: int, session: SessionClock) -> None:
        self._rate = rate
        self._session = session
        self._last = 0  # timestamp
        self._ticks = 0  # of the last timestamp, from the first one on
        self._offset: int | None = None  # the time of tick 0 (microseconds)
        self._slew = 0  # is still to be added to the offset
        self._report: tuple[int, int] | None = None  # wall clock and timestamp, before packets

    def time_of(self, timestamp: int, arrival: int) -> int:
        """
        Return the time of *timestamp* in microseconds.

        Args:
            timestamp: of 32 bits, or beyond that a number of ticks later.
            arrival: when its packet arrived (microseconds).
        """
        if self._offset is None:
            self._last = timestamp
            self._offset = self._first(timestamp, arrival)
            return self._offset
        step = self._step(timestamp)
        self._ticks += step
        self._last = timestamp & 0xFFFFFFFF
        if self._slew and step > 0:
            most = step * 1_000_000 // self._rate // SLEW_RATE
            change = max(-most, min(self._slew, most))
            self._offset += change
            self._slew -= change
        return self._offset + self._microseconds(self._ticks)

    def report(self, time: int, timestamp: int) -> None:
        """
        Take note that the sender's wall clock was *time* (microseconds) at *timestamp*.
        """
        if not time:
            return
        if self._offset is None:
            self._report = time, timestamp
            return
        at = self._offset + self._microseconds(self._ticks + self._step(timestamp))
        session = self._session
        if session.offset is None:
            session.offset = at - time
            return
        wanted = time + session.offset - at
        self._slew = wanted if MIN_SLEW <= abs(wanted) <= MAX_SLEW else 0

    def _first(self, timestamp: int, arrival: int) -> int:
        """
        Return the time of the first packet.
        """
        if self._report is None:
            return arrival
        time, reported = self._report
        wall = time + self._microseconds(_signed(timestamp - reported))
        session = self._session
        if session.offset is None:
            session.offset = arrival - wall
        found = wall + session.offset
        return found if abs(found - arrival) <= MAX_SLEW else arrival

    def _step(self, timestamp: int) -> int:
        return _signed(timestamp - self._last)

    def _microseconds(self, ticks: int) -> int:
        return (ticks * 1_000_000 + self._rate // 2) // self._rate


def _signed(difference: int) -> int:
    return (difference + 0x80000000 & 0xFFFFFFFF) - 0x80000000
