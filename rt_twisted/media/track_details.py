"""
What WebM leaves to the first keyframe: the profile of VP9, which codec strings name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from rt_twisted.media import vp9
from rt_twisted.media.unit import Track, Unit

MAX_HELD = 100  # frames; a second of audio, if the video is silent

Part = tuple[Track, ...] | Unit


class TrackDetails:
    """
    Completes the tracks of a stream before they are passed on.

    Tracks that lack nothing are passed on at once. Otherwise they and the frames behind
    them are held until a keyframe brings what is missing, or MAX_HELD frames are held.
    """

    def __init__(self) -> None:
        self._tracks: tuple[Track, ...] = ()  # that are held
        self._missing: set[int] = set()  # the ids of those that lack something
        self._held: list[Unit] = []

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
            elif self._missing:
                self._held.append(part)
                self._look_at(part)
            else:
                found.append(part)
                continue
            if not self._missing or len(self._held) >= MAX_HELD:
                self._release(found)
        return found

    def _look_at(self, unit: Unit) -> None:
        header = vp9.parse_keyframe(unit.data) if unit.track in self._missing else None
        if header is None:
            return
        features = vp9.write_features(header.profile, vp9.level_of(header.size), header.depth)
        self._missing.discard(unit.track)
        self._tracks = tuple(
            replace(track, private=features, size=header.size) if track.id == unit.track else track
            for track in self._tracks
        )

    def _release(self, found: list[Part]) -> None:
        if self._tracks:
            found.append(self._tracks)
        found += self._held
        self._tracks, self._missing, self._held = (), set(), []


def _lacks_details(track: Track) -> bool:
    return track.codec == "vp9" and not track.private
