"""
What a source sends: its audio, numbered, and its titles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from rt_twisted.media.containers import ContainerReader
from rt_twisted.media.icy import clean_title
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mpeg_audio import ADTS, MPEG, MpegAudioReader
from rt_twisted.media.ogg import OGG, START, OggReader
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Head, Unit

_EBML_START = b"\x1a\x45\xdf\xa3"
_OGG_TYPES = ("application/ogg", "audio/ogg", "video/ogg", "audio/opus")


class SourceReader:
    """
    Reads MPEG audio, Ogg, WebM or Matroska, whichever it is.

    Args:
        max_unit: bytes of a frame.

    Attributes:
        title: in the stream itself; "" for none.
    """

    def __init__(self, max_unit: int) -> None:
        self._max_unit = max_unit
        self._start = b""
        self._reader: ContainerReader | None = None

    @property
    def title(self) -> str:
        """
        Return the title of the present link of an Ogg stream; "" for other streams.
        """
        return self._reader.title if isinstance(self._reader, OggReader) else ""

    def feed(self, data: bytes) -> list[Part]:
        """
        Return the tracks and frames that *data* completes, in order.

        Raises:
            RemoteProtocolError: the stream is malformed, or none of those.
        """
        if self._reader is None:
            data = self._start = self._start + data
            if len(data) < len(START):
                return []
            self._start = b""
            if data.startswith(START):
                self._reader = OggReader(self._max_unit)
            elif data.startswith(_EBML_START):
                self._reader = MatroskaReader(max_unit=self._max_unit)
            else:
                self._reader = MpegAudioReader()
        return self._reader.feed(data)


class SourceRun:
    """
    One publication of a source: what `LiveRun` makes of it, with titles.

    Args:
        run: numbers the frames.
        reader: has the titles that are in the stream.
        about: what the source says about itself.
        on_title: called with each new title; None for nothing.
    """

    def __init__(
        self,
        run: LiveRun,
        reader: SourceReader,
        about: dict[str, str],
        on_title: Callable[[str], object] | None = None,
    ) -> None:
        self._on_title = on_title
        self._run = run
        self._reader = reader
        self._about = about
        self._set = ""  # the title that was requested last
        self._shown: str | None = None  # the title in the last head
        self._head: Head | None = None

    @property
    def head(self) -> Head | None:
        """
        Return the newest head; None before the first frame.
        """
        return self._head

    def set_title(self, title: str) -> None:
        """
        Use *title*, from `clean_title`, from now on.
        """
        self._set = title

    def feed(self, parts: Iterable[Part]) -> list[Head | Unit]:
        """
        Return what is published for *parts*; see `LiveRun.feed`.
        """
        title = self._set or clean_title(self._reader.title.encode())
        found: list[Head | Unit] = []
        for thing in self._run.feed(parts):
            if isinstance(thing, Head):
                self._head = self._describe(thing, title)
                found.append(self._head)
                continue
            if self._head is not None and title != self._shown:
                again = replace(self._head, time=thing.pts, again=True)
                self._head = self._describe(again, title)
                found.append(self._head)
            is_mpeg = self._head is not None and self._head.tracks[0].codec in (MPEG, ADTS)
            found.append(replace(thing, title=title) if title and is_mpeg else thing)
        return found

    def _describe(self, head: Head, title: str) -> Head:
        if self._on_title is not None and title and title != self._shown:
            self._on_title(title)
        self._shown = title
        about = {**self._about, "content_type": self._content_type(head), "title": title}
        return replace(head, about=tuple([(name, text) for name, text in about.items() if text]))

    def _content_type(self, head: Head) -> str:
        """
        Return the type that the source names, unless it names another kind of stream: ffmpeg
        names audio/mpeg for everything.
        """
        named, codec = self._about.get("content_type", ""), head.tracks[0].codec
        if codec == OGG:
            return named if named.startswith(_OGG_TYPES) else OGG
        if codec == MPEG:
            return named if named.startswith("audio/") else MPEG
        if codec == ADTS:
            return named if named.startswith("audio/aac") else ADTS
        return ""
