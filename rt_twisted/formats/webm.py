"""
Live WebM: the publisher's tracks, then one cluster for each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.arrival import by_position
from rt_twisted.media.bare_frames import AUDIO_CODECS, VIDEO_CODECS
from rt_twisted.media.codec_strings import codec_string
from rt_twisted.media.matroska_writer import write_cluster, write_header
from rt_twisted.media.plain_frames import PlainFrames
from rt_twisted.media.unit import Head, Kind, Track, Unit, read
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

STEP = 1000  # microseconds after a skip: less than a frame, so that no track has a hole

_CODECS = frozenset(("vp8", "vp9", "av1", "opus", "vorbis"))
_ELSEWHERE = {"h264": "mp4", "h265": "mp4", "aac": "mp4", "mp3": "mp4", "jpeg": "mjpeg"}


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class WebM:
    """
    Encodes live streams, and messages that are WebM or bare frames, as one WebM stream.

    A message that begins with an EBML header or a cluster is read as WebM. Any other one
    is a frame of *video_codec*, or without it of *audio_codec*.

    Args:
        video_codec: of bare frames, by its Matroska name; "" for none.
        audio_codec: likewise.
        track_prefix: the first byte of a bare frame is its track: 1 video, 2 audio.
        new_headers: send a new header when the tracks change, for pages that read the
            stream by a script; without it such a stream must begin again.
        shift: is added to all times (microseconds).
        time_of: the time of a message that is a bare frame (microseconds).

    Raises:
        ValueError: bare frames of such a codec cannot be read.
    """

    video_codec: str = "V_VP8"
    audio_codec: str = ""
    track_prefix: bool = False
    new_headers: bool = False
    shift: int = 0
    time_of: Callable[[Message], int] = field(default=by_position, compare=False)

    content_type = "video/webm"
    heartbeat = b""

    def __post_init__(self) -> None:
        for name, codec, known in (
            ("video_codec", self.video_codec, VIDEO_CODECS),
            ("audio_codec", self.audio_codec, AUDIO_CODECS),
        ):
            if codec and codec not in known:
                raise ValueError(f"{name}={codec} is not one of {', '.join(known)}")
        if not (self.video_codec or self.audio_codec):
            raise ValueError("video_codec and audio_codec are both empty")

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        messages = replay.messages
        for index, message in enumerate(messages):
            tracks = self._begin(message)
            if tracks:
                first = index + 1 if message.mark is Mark.HEAD else index
                return [write_header(tracks), *messages[first:]]
        return []

    def encode(self, message: Message) -> bytes:
        try:
            thing = read(message)
            if isinstance(thing, Unit):
                return self._cluster(thing)
            if isinstance(thing, Head):
                is_needed = self.new_headers and not thing.again
                return write_header(thing.tracks) if is_needed else b""
            if thing is not None:
                return b""
            units = self._plain().units(message.data, self.time_of(message))
        except RemoteProtocolError:
            return b""
        return b"".join(map(self._cluster, units))

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        mark = message.mark
        return mark is Mark.HEAD or (mark is Mark.NONE and bool(self._begin(message)))

    def must_restart(self, message: Message) -> bool:
        if self.new_headers or message.mark is not Mark.HEAD:
            return False
        try:
            head = read(message)
        except RemoteProtocolError:
            return False
        return isinstance(head, Head) and not head.again

    def resumed(self, last: Message | None, first: Message) -> WebM:
        before = None if last is None else self._time(last, -1)
        after = self._time(first, 0)
        if before is None or after is None:
            return self
        return replace(self, shift=before + self.shift + STEP - after)

    def content_type_of(self, head: Head) -> str:
        """
        Return the Content-Type of a stream that begins with *head*, with its codec strings.

        Raises:
            HttpError: 415, WebM cannot carry one of the codecs.
        """
        for track in head.tracks:
            if track.codec not in _CODECS:
                word = _ELSEWHERE.get(track.codec)
                hint = f"; the route word {word} can" if word else ""
                name = track.codec if word else "one of the codecs"
                raise HttpError(415, f"WebM cannot carry {name}{hint}")
        kinds = {track.kind for track in head.tracks}
        codecs = ",".join(map(codec_string, head.tracks))
        return f'{"video" if Kind.VIDEO in kinds else "audio"}/webm; codecs="{codecs}"'

    def _cluster(self, unit: Unit) -> bytes:
        return write_cluster(unit.track, unit.pts + self.shift, unit.key, unit.data)

    def _plain(self) -> PlainFrames:
        return PlainFrames(self.video_codec, self.audio_codec, self.track_prefix)

    def _begin(self, message: Message) -> tuple[Track, ...]:
        """
        Return the tracks of a stream that begins with *message*; none if it cannot.
        """
        try:
            thing = read(message)
            if thing is None:
                return self._plain().begin(message.data)
            return thing.tracks if isinstance(thing, Head) else ()
        except RemoteProtocolError:
            return ()

    def _time(self, message: Message, index: int) -> int | None:
        """
        Return the time of the frame *index* of *message*, or of the frame behind a head.
        """
        try:
            thing = read(message)
            if thing is None:
                units = self._plain().units(message.data, self.time_of(message))
                return units[index].pts if units else None
        except RemoteProtocolError:
            return None
        if isinstance(thing, Unit):
            return thing.pts
        return thing.time if isinstance(thing, Head) else None
