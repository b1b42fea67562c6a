"""
Live Ogg: an Opus or Vorbis track behind header pages, or the pages that a publisher sends.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from zope.interface import implementer

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.live import read_live, shift_after_skip, time_of
from rt_twisted.media import opus
from rt_twisted.media.ogg import OGG
from rt_twisted.media.ogg_writer import write_headers, write_packet
from rt_twisted.media.unit import Head, Track, Unit
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

CODECS = ("opus", "vorbis", OGG)
FIRST_PAGE = 8  # behind the headers


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class OggStream:
    """
    Encodes the frames of one audio track, each as a page.

    Args:
        track: its id.
        codec: one of CODECS. A track of the last one consists of pages.
        rate: samples per second that pages are counted in.
        shift: is added to all times (microseconds).
    """

    track: int = 1
    codec: str = "opus"
    rate: int = opus.RATE
    shift: int = 0

    content_type = "audio/ogg"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        messages = replay.messages
        for index, message in enumerate(messages):
            thing = read_live(message)
            if isinstance(thing, Head):
                return [self._headers(thing), *messages[index + 1 :]]
        return []

    def encode(self, message: Message) -> bytes:
        if message.mark is Mark.NONE:
            return b""
        thing = read_live(message)
        if isinstance(thing, Head) and self.codec == OGG and not thing.again:
            return self._headers(thing)  # the next link of a chain
        if not isinstance(thing, Unit) or thing.track != self.track:
            return b""
        if self.codec == OGG:
            return thing.data
        end = max(0, thing.pts + thing.duration + self.shift)
        granule = min((end * self.rate + 500_000) // 1_000_000, 2**62)
        # An Opus packet is one RTP packet, which `packets` counts.
        return write_packet(self._serial(), FIRST_PAGE + thing.packets, granule, thing.data)

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
        if not isinstance(head, Head):
            return False
        own = self._own(head)
        return own is None or (self.codec != OGG and not head.again)

    def resumed(self, last: Message | None, first: Message) -> OggStream:
        if self.codec == OGG:
            return self
        before = None if last is None else time_of(last)
        return replace(self, shift=shift_after_skip(self.shift, before, time_of(first)))

    def _serial(self) -> int:
        return zlib.crc32(f"{self.track} {self.codec}".encode())

    def _own(self, head: Head) -> Track | None:
        for track in head.tracks:
            if track.id == self.track and track.codec == self.codec:
                return track
        return None

    def _headers(self, head: Head) -> bytes:
        track = self._own(head)
        if track is None or track.codec == OGG:
            return track.private if track is not None else b""
        try:
            return write_headers(track, self._serial())
        except RemoteProtocolError:
            return b""
