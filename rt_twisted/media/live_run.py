"""
One publication of a live stream: what a publisher sends, as heads and units.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.timeline import Timeline
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import End, Head, Kind, Track, Unit, read
from rt_twisted.model.message import Message

SILENCE = 1_000_000  # microseconds after which a stream begins without a silent track
HEAD_INTERVAL = 1_000_000  # microseconds between the heads of audio alone
MIN_INTERVAL = 500_000  # between repeated heads, if every frame is a keyframe
MAX_WAIT = 60_000_000  # microseconds without a first keyframe
MAX_HELD = 16 * 1024 * 1024  # bytes that are held until a stream begins


class LiveRun:
    """
    Turns the tracks and frames of one publisher into what is published.

    A stream begins at a keyframe of video, when all tracks have sent a frame, or after
    SILENCE without those that have not. A head precedes each keyframe; of audio alone, it
    comes each second.

    Args:
        run: its name, letters and digits.
        wall: the time when it begins, in seconds since 1970.
        retained: the channel's newest messages in order, if another run may have ended
            there just now: its times and counts go on, and tracks that are the same need
            no new head for those who have one.
    """

    def __init__(self, run: str, wall: float, retained: Sequence[Message] = ()) -> None:
        self._run = run
        self._wall = wall
        self._announced: tuple[Track, ...] = ()
        self._seen: set[int] = set()  # ids of tracks that have sent a frame
        self._sent: dict[int, Track] = {}  # the tracks that have, once the stream has begun
        self._sent_videos: set[int] = set()  # the ids of those that are video
        self._held: list[Unit] = []  # until the stream begins
        self._held_bytes = 0
        self._first: int | None = None  # dts of the first frame behind the tracks
        self._begun = False
        self._described: set[int] = set()  # ids of the tracks in this run's last head
        self._tracks, last = _newest(retained)  # of the channel's last head
        self._head_at: int | None = None  # when this run's last head was
        self._timeline = Timeline(round(wall * 1_000_000), last)

    def feed(self, parts: Iterable[Part]) -> list[Head | Unit]:
        """
        Return what is published for the tracks and frames that a reader found, in order.

        Raises:
            RemoteProtocolError: there is no keyframe in MAX_WAIT, or too much before it.
        """
        found: list[Head | Unit] = []
        for part in parts:
            if isinstance(part, tuple):
                self._announce(part)
            elif not self._announced:
                continue
            elif self._begun:
                self._publish(part, found)
            elif self._hold(part):
                held, self._held, self._held_bytes = self._held, [], 0
                self._begun = True
                for unit in held:
                    self._publish(unit, found)
        return found

    def _announce(self, tracks: tuple[Track, ...]) -> None:
        if tracks == self._announced:
            return
        before, self._announced = self._announced, tracks
        if self._seen and self._keeps_seen(before):
            return  # only a track that has sent no frame is described in another way
        self._seen = set()
        self._sent, self._sent_videos = {}, set()
        self._described = set()
        self._held, self._held_bytes, self._first, self._begun = [], 0, None, False

    def _keeps_seen(self, before: tuple[Track, ...]) -> bool:
        if [track.id for track in before] != [track.id for track in self._announced]:
            return False
        pairs = zip(before, self._announced, strict=True)
        return all(old == new for old, new in pairs if old.id in self._seen)

    def _hold(self, unit: Unit) -> bool:
        """
        Hold *unit*, and return whether the stream can begin with the held ones.
        """
        if self._first is None:
            self._first = unit.dts
        waited = abs(unit.dts - self._first)
        videos = self._videos(self._announced)
        self._seen.add(unit.track)
        is_silent = waited >= SILENCE and not videos & self._seen
        if not self._held and videos and not is_silent and not _begins(unit, videos):
            if waited > MAX_WAIT:
                raise RemoteProtocolError("the publisher sends no keyframe: set its interval")
            return False
        self._held.append(unit)
        self._held_bytes += len(unit.data)
        if self._held_bytes > MAX_HELD:
            raise RemoteProtocolError(f"the first second is larger than {MAX_HELD} bytes")
        is_complete = len(self._seen) == len(self._announced)
        return is_complete or is_silent or abs(unit.dts - self._held[0].dts) >= SILENCE

    def _publish(self, unit: Unit, found: list[Head | Unit]) -> None:
        if unit.track not in self._sent:
            self._seen.add(unit.track)
            self._sent = {track.id: track for track in self._announced if track.id in self._seen}
            self._sent_videos = self._videos(self._sent.values())
        videos = self._sent_videos
        may_begin = not videos or _begins(unit, videos)
        if not may_begin and unit.track not in self._described:
            return
        placed = self._timeline.place(unit)
        interval = MIN_INTERVAL if videos else HEAD_INTERVAL
        tracks = tuple(self._sent.values()) if may_begin else ()
        if may_begin and (
            self._head_at is None
            or placed.dts - self._head_at >= interval
            or tracks != self._tracks
        ):
            again = tracks == self._tracks
            found.append(Head(self._run, self._wall, tracks, placed.pts, again))
            self._tracks, self._head_at = tracks, placed.dts
            self._described = {track.id for track in tracks}
        found.append(placed)

    def _videos(self, tracks: Iterable[Track]) -> set[int]:
        return {track.id for track in tracks if track.kind is Kind.VIDEO}


def _begins(unit: Unit, videos: set[int]) -> bool:
    return unit.key and unit.track in videos


def _newest(retained: Sequence[Message]) -> tuple[tuple[Track, ...], dict[int, Unit]]:
    """
    Return the tracks of the last head and the last unit of each track; none of a stream
    that has ended.
    """
    tracks: tuple[Track, ...] = ()
    last: dict[int, Unit] = {}
    for message in retained:
        try:
            thing = read(message)
        except RemoteProtocolError:
            continue
        if isinstance(thing, End):
            tracks, last = (), {}
        elif isinstance(thing, Head):
            tracks = thing.tracks
        elif isinstance(thing, Unit):
            last[thing.track] = thing
    return tracks, last
