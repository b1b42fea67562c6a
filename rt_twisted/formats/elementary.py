"""
One track of a live stream without a container: H264 and H265 with start codes, ADTS, MP3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.live import read_live
from rt_twisted.media.elementary import write_adts, write_annexb, write_parameter_sets
from rt_twisted.media.unit import Head, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

TYPES = {"h264": "video/h264", "h265": "video/h265", "aac": "audio/aac", "mp3": "audio/mpeg"}


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class ElementaryStream:
    """
    Encodes the frames of one track.

    H264 and H265 have their parameter sets before each keyframe that follows a head.

    Args:
        track: its id.
        codec: a key of TYPES.
        config: of AAC, the AudioSpecificConfig.
    """

    track: int = 1
    codec: str = "mp3"
    config: bytes = b""

    heartbeat = b""

    @property
    def content_type(self) -> str:
        return TYPES[self.codec]

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        return replay.messages

    def encode(self, message: Message) -> bytes:
        if message.mark is Mark.NONE:
            return b""
        thing = read_live(message)
        if isinstance(thing, Head):
            return self._parameter_sets(thing)
        if not isinstance(thing, Unit) or thing.track != self.track:
            return b""
        if self.codec == "aac":
            return write_adts(self.config, thing.data)
        return thing.data if self.codec == "mp3" else write_annexb(thing.data)

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        return message.mark is Mark.HEAD

    def must_restart(self, message: Message) -> bool:
        head = read_live(message) if message.mark is Mark.HEAD else None
        return isinstance(head, Head) and self._own(head) is None

    def resumed(self, last: Message | None, first: Message) -> ElementaryStream:
        return self

    def _own(self, head: Head) -> Track | None:
        for track in head.tracks:
            if track.id == self.track and track.codec == self.codec:
                return track if self.config in (b"", track.private) else None
        return None

    def _parameter_sets(self, head: Head) -> bytes:
        track = self._own(head)
        if track is None or self.codec not in ("h264", "h265"):
            return b""
        try:
            return write_parameter_sets(track)
        except RemoteProtocolError:
            return b""
