"""
Publishers whose keyframes are too far apart for viewers that join.
"""

from __future__ import annotations

from collections.abc import Iterable

from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind

LONG = 4_000_000  # microseconds: viewers wait so long for a picture, or are so far behind


class KeyframeInterval:
    """
    Looks for an interval between keyframes that is longer than LONG, once.
    """

    def __init__(self) -> None:
        self._videos: frozenset[int] = frozenset()
        self._last: int | None = None  # dts of the last keyframe
        self._found = False

    def is_long(self, parts: Iterable[Part]) -> bool:
        """
        Return True for the *parts* in which the first long interval is exceeded, False for all
        others.
        """
        if self._found:
            return False
        for part in parts:
            if isinstance(part, tuple):
                self._videos = frozenset([one.id for one in part if one.kind is Kind.VIDEO])
                self._last = None
            elif part.track in self._videos:
                if part.key:
                    self._last = part.dts
                elif self._last is not None and LONG < part.dts - self._last < 3 * LONG:
                    self._found = True
        return self._found
