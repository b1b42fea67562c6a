"""
Live audio as its publisher sent it, with the titles that listeners of Icecast expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from zope.interface import implementer

from rt_twisted.formats.live import read_live
from rt_twisted.media.icy import METAINT, title_block
from rt_twisted.media.mpeg_audio import ADTS, MPEG
from rt_twisted.media.ogg import OGG
from rt_twisted.media.unit import Head, Unit
from rt_twisted.model.interfaces import ISyncFormat
from rt_twisted.model.message import Mark, Message, Position, Replay

CODECS = frozenset((MPEG, ADTS, OGG))  # of tracks that can be sent as they are


@implementer(ISyncFormat)
@dataclass(frozen=True, slots=True)
class IcecastAudio:
    """
    Encodes the bytes of MPEG audio and Ogg unchanged.

    With titles a block follows each METAINT bytes of the channel, counted from *phase* on. All
    listeners begin at such a place, and so share their frames. Ogg has its titles itself:
    listeners begin with its header pages, and get those of each new link.

    Args:
        titles: put blocks with the title between the bytes.
        charset: of the titles.
        phase: 0, or where the blocks are after a gap: (offset - phase) % METAINT.
    """

    titles: bool = False
    charset: str = "utf-8"
    phase: int = 0

    content_type = "application/octet-stream"
    heartbeat = b""

    def start(self, replay: Replay) -> Sequence[bytes | Message]:
        messages = replay.messages
        for index, message in enumerate(messages):
            thing = read_live(message)
            if isinstance(thing, Head) and not self.titles:
                return [thing.tracks[0].private, *messages[index + 1 :]]
            if isinstance(thing, Unit) and self.titles:
                first = self._next_block(thing)
                if first < len(thing.data):
                    return [self._with_blocks(thing, first), *messages[index + 1 :]]
        return []

    def encode(self, message: Message) -> bytes:
        thing = read_live(message)
        if isinstance(thing, Unit):
            return self._with_blocks(thing, None) if self.titles else thing.data
        if isinstance(thing, Head) and not thing.again:
            return thing.tracks[0].private
        return b""

    def cursor(self, position: Position) -> bytes:
        return b""

    def gap(self, position: Position) -> bytes:
        return b""

    def end(self, retry: int) -> bytes:
        return b""

    def is_resync_point(self, message: Message) -> bool:
        if not self.titles:
            return message.mark is Mark.HEAD
        if message.mark is not Mark.UNIT:
            return False
        unit = read_live(message)
        return isinstance(unit, Unit) and self._next_block(unit) < len(unit.data)

    def must_restart(self, message: Message) -> bool:
        return False

    def resumed(self, last: Message | None, first: Message) -> IcecastAudio:
        before = read_live(last) if last is not None else None
        unit = read_live(first)
        if not self.titles or not isinstance(unit, Unit) or not isinstance(before, Unit):
            return self
        # The listener goes on to count where it was: the next block comes so much later.
        missing = unit.offset - before.offset - len(before.data)
        return replace(self, phase=(self.phase + missing) % METAINT)

    def _next_block(self, unit: Unit) -> int:
        """
        Return the index in *unit* before which the next block is put; it may be behind it.
        """
        return (self.phase - unit.offset) % METAINT

    def _with_blocks(self, unit: Unit, begin: int | None) -> bytes:
        """
        Return *unit* with its blocks.

        Args:
            unit: one of MPEG audio.
            begin: the place of a block with which a listener begins, and which is left out;
                None for a listener that goes on.
        """
        data = unit.data
        at = self._next_block(unit)
        if at >= len(data):
            return data
        pieces = [data[:at]] if begin is None else []
        if begin is not None:
            pieces.append(data[at : at + METAINT])
            at += METAINT
        while at < len(data):
            pieces += (title_block(unit.title, self.charset), data[at : at + METAINT])
            at += METAINT
        return b"".join(pieces)
