"""
Live fragmented MP4: an init segment, then one fragment for each frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zope.interface import implementer

from rt_twisted.formats.live import (
    changes_tracks,
    content_type_of,
    read_live,
    shift_after_skip,
    time_of,
)
from rt_twisted.media.mp4_tracks import CODECS, is_complete
from rt_twisted.media.mp4_writer import write_fragment, write_init
from rt_twisted.media.unit import Head, Unit
from rt_twisted.model.errors import HttpError
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class FragmentedMP4:
    """
    Encodes live streams as fragmented MP4. Plain messages are left out.

    Args:
        new_headers: send a new init segment when the tracks change, for pages that read
            the stream by a script; without it such a stream must begin again.
        shift: is added to all times (microseconds).
    """

    new_headers: bool = False
    shift: int = 0

    content_type = "video/mp4"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        messages = replay.messages
        for index, message in enumerate(messages):
            head = read_live(message)
            if isinstance(head, Head):
                return [_init(head), *messages[index + 1 :]]
        return []

    def encode(self, message: Message) -> bytes:
        thing = read_live(message)
        if isinstance(thing, Unit):
            return write_fragment(thing, self.shift, message.position.offset)
        if isinstance(thing, Head) and self.new_headers and not thing.again:
            return _init(thing)
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        return message.mark is Mark.HEAD

    def must_restart(self, message: Message) -> bool:
        return not self.new_headers and changes_tracks(message)

    def resumed(self, last: Message | None, first: Message) -> FragmentedMP4:
        before = None if last is None else time_of(last)
        return replace(self, shift=shift_after_skip(self.shift, before, time_of(first)))

    def content_type_of(self, head: Head) -> str:
        """
        Return the Content-Type of a stream that begins with *head*, with its codec strings.

        Raises:
            HttpError: 415, MP4 cannot carry one of the codecs, or its decoder configuration
                is missing.
        """
        kind = content_type_of(head, "mp4", "MP4", CODECS)
        for track in head.tracks:
            if not is_complete(track):
                raise HttpError(
                    415, f"the publisher sent no decoder configuration for {track.codec}"
                )
        return kind


def _init(head: Head) -> bytes:
    tracks = [track for track in head.tracks if is_complete(track)]
    return write_init(tracks) if tracks else b""
