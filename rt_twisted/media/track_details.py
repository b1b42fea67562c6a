"""
What WebM and Matroska leave to the first keyframe: the profile of VP9, which codec strings name;
and the parameter sets of H264, which Chromium's MediaRecorder leaves in frames with start codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rt_twisted.media import vp9
from rt_twisted.media.bare_frames import read_frame
from rt_twisted.media.unit import Track, Unit

MAX_HELD = 100  # frames; a second of audio, if the video is silent

_START_CODES = (b"\0\0\1", b"\0\0\0\1")

Part = tuple[Track, ...] | Unit


class TrackDetails:
    """
    Completes the tracks of a stream before they are passed on.

    Tracks that lack nothing are passed on at once. Otherwise they and the frames behind
    them are held until a keyframe brings what is missing, or MAX_HELD frames are held.
    Frames of H264 with start codes are converted; parameter sets that change are new tracks.
    """

    def __init__(self) -> None:
        self._tracks: tuple[Track, ...] = ()  # the last ones
        self._missing: set[int] = set()  # the ids of those that lack something
        self._annexb: set[int] = set()  # the ids of those whose frames have start codes
        self._held: list[Part] = []

    def complete(self, parts: Iterable[Part]) -> list[Part]:
        """
        Return *parts* in order, as far as they are complete.
        """
        found: list[Part] = []
        for part in parts:
            if isinstance(part, tuple):
                self._release(found)
                self._tracks = part
                self._missing = {track.id for track in part if _lacks_details(track)}
                self._annexb = {one.id for one in part if one.codec == "h264" and not one.private}
                self._held.append(part)
            elif self._missing or self._annexb:
                self._held += self._read(part)
            else:
                found.append(part)
                continue
            if not self._missing or len(self._held) > MAX_HELD:
                self._release(found)
        return found

    def _read(self, unit: Unit) -> list[Part]:
        """
        Return *unit*, behind the tracks if it changes them.
        """
        if unit.track in self._annexb and unit.data.startswith(_START_CODES):
            frame = read_frame("V_MPEG4/ISO/AVC", unit.data)
            return self._describe(replace(unit, data=frame.data), frame.private, frame.size)
        header = vp9.parse_keyframe(unit.data) if unit.track in self._missing else None
        if header is None:
            return [unit]
        features = vp9.write_features(header.profile, vp9.level_of(header.size), header.depth)
        return self._describe(unit, features, header.size)

    def _describe(self, unit: Unit, private: bytes, size: tuple[int, int]) -> list[Part]:
        [track] = [track for track in self._tracks if track.id == unit.track]
        if not private or private == track.private:
            return [unit]
        is_first = unit.track in self._missing
        self._missing.discard(unit.track)
        described = replace(track, private=private, size=size)
        self._tracks = tuple(described if one is track else one for one in self._tracks)
        if not is_first:
            return [self._tracks, unit]
        self._held[0] = self._tracks
        return [unit]

    def _release(self, found: list[Part]) -> None:
        found += self._held
        self._missing, self._held = set(), []


def _lacks_details(track: Track) -> bool:
    return track.codec in ("vp9", "h264") and not track.private
