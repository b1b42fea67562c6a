"""
Messages that are WebM or bare frames: how they are read, and where a stream can begin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rt_twisted.media.bare_frames import audio_track, read_frame, video_track
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.matroska_tracks import CODECS, TrackSource
from rt_twisted.media.unit import Kind, Track, Unit

_EBML = b"\x1a\x45\xdf\xa3"
_CLUSTER = b"\x1f\x43\xb6\x75"


@dataclass(frozen=True, slots=True)
class PlainFrames:
    """
    Reads messages. One that begins with an EBML header or a cluster is WebM; any other is a
    frame of *video*, or without it of *audio*.

    Args:
        video: the codec of track 1, by its Matroska name; "" for none.
        audio: the codec of track 2; without video, of track 1.
        prefixed: the first byte of a bare frame is the number of its track.
    """

    video: str
    audio: str
    prefixed: bool

    def units(self, data: bytes, time: int) -> list[Unit]:
        """
        Return the frames of a message; none of another track.

        Args:
            data: of the message.
            time: of a bare frame, microseconds.

        Raises:
            RemoteProtocolError: it is malformed.
        """
        return [part for part in self._read(data, time) if isinstance(part, Unit)]

    def begin(self, data: bytes) -> tuple[Track, ...]:
        """
        Return the tracks of a stream that begins with a message; none if it cannot.

        Raises:
            RemoteProtocolError: the message is malformed.
        """
        start = data[:4]
        parts = self._read(data, 0)
        own = next((part for part in parts if isinstance(part, tuple)), ())
        videos = {track.id for track in own if track.kind is Kind.VIDEO}
        if not own and self.video:
            videos = {1}
        units = [part for part in parts if isinstance(part, Unit)]
        first = next((unit for unit in units if unit.track in videos), None)
        if own:
            return own if first is None or first.key else ()
        if not self.video:
            if not units:
                return ()
            bare = units[0].data if start == _CLUSTER else self._without_prefix(data)
            return (audio_track(1, self.audio, read_frame(self.audio, bare)),)
        if first is None or not first.key:
            return ()
        frame = first.data if start == _CLUSTER else self._without_prefix(data)
        video = video_track(1, self.video, read_frame(self.video, frame))
        return (video, audio_track(2, self.audio)) if self.audio else (video,)

    def _read(self, data: bytes, time: int) -> Sequence[Unit | tuple[Track, ...]]:
        start = data[:4]
        if start == _EBML:
            return MatroskaReader().feed(data)
        codecs = self._codecs()
        if start == _CLUSTER:
            return MatroskaReader(
                [
                    TrackSource(Track(id, kind, CODECS[codec]), 0, b"", 4, 0, 0)
                    for id, (kind, codec) in codecs.items()
                ]
            ).feed(data)
        track = data[0] if self.prefixed and data else 1
        bare = self._without_prefix(data)
        if track not in codecs or not bare:
            return ()
        frame = read_frame(codecs[track][1], bare)
        return (Unit(track, time, time, 0, frame.key, 0, 0, frame.data),)

    def _without_prefix(self, data: bytes) -> bytes:
        return data[1:] if self.prefixed else data

    def _codecs(self) -> dict[int, tuple[Kind, str]]:
        if not self.video:
            return {1: (Kind.AUDIO, self.audio)}
        video = (Kind.VIDEO, self.video)
        return {1: video, 2: (Kind.AUDIO, self.audio)} if self.audio else {1: video}
