"""
Live WebM: the publisher's tracks, then one cluster for each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.live import (
    changes_tracks,
    content_type_of,
    read_live,
    shift_after_skip,
    time_of,
)
from rt_twisted.media.arrival import by_position
from rt_twisted.media.bare_frames import AUDIO_CODECS, VIDEO_CODECS
from rt_twisted.media.matroska_writer import write_cluster, write_header
from rt_twisted.media.plain_frames import PlainFrames
from rt_twisted.media.unit import Head, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

_CODECS = frozenset(("vp8", "vp9", "av1", "opus", "vorbis"))


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
        if message.mark is Mark.NONE:
            return b"".join(map(self._cluster, self._plain_units(message)))
        thing = read_live(message)
        if isinstance(thing, Unit):
            return self._cluster(thing)
        if isinstance(thing, Head) and self.new_headers and not thing.again:
            return write_header(thing.tracks)
        return b""

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
        return not self.new_headers and changes_tracks(message)

    def resumed(self, last: Message | None, first: Message) -> WebM:
        before = None if last is None else self._time(last, -1)
        return replace(self, shift=shift_after_skip(self.shift, before, self._time(first, 0)))

    def content_type_of(self, head: Head) -> str:
        """
        Return the Content-Type of a stream that begins with *head*, with its codec strings.

        Raises:
            HttpError: 415, WebM cannot carry one of the codecs.
        """
        return content_type_of(head, "webm", "WebM", _CODECS)

    def _cluster(self, unit: Unit) -> bytes:
        return write_cluster(unit.track, unit.pts + self.shift, unit.key, unit.data)

    def _plain(self) -> PlainFrames:
        return PlainFrames(self.video_codec, self.audio_codec, self.track_prefix)

    def _plain_units(self, message: Message) -> Sequence[Unit]:
        """
        Return the frames of a plain message; none of one that is malformed.
        """
        try:
            return self._plain().units(message.data, self.time_of(message))
        except RemoteProtocolError:
            return ()

    def _begin(self, message: Message) -> tuple[Track, ...]:
        """
        Return the tracks of a stream that begins with *message*; none if it cannot.
        """
        if message.mark is not Mark.NONE:
            head = read_live(message)
            return head.tracks if isinstance(head, Head) else ()
        try:
            return self._plain().begin(message.data)
        except RemoteProtocolError:
            return ()

    def _time(self, message: Message, index: int) -> int | None:
        """
        Return the time of the frame *index* of *message*, or of the frame behind a head.
        """
        if message.mark is not Mark.NONE:
            return time_of(message)
        units = self._plain_units(message)
        return units[index].pts if units else None
