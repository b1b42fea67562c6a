"""
Ogg as it arrives (RFC 3533): pages with one audio track, also in chains.

The pages are published as they are. Those in front of the audio are the head, with which
each listener begins; a chain has a new one at each link.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.mpeg_audio import PACKED_BYTES, PACKED_TIME
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_UNIT, Kind, Track, Unit

OGG = "application/ogg"
START = b"OggS"
MAX_HEADERS = 128 * 1024  # bytes of the pages in front of the audio: comments may have pictures
MAX_GARBAGE = 256 * 1024  # bytes without a page

_HEADER = struct.Struct("<4sBBqIIIB")
_FIRST = 2  # flag of the first page of a link
_NO_GRANULE = -1


@dataclass(frozen=True, slots=True)
class _Codec:
    rate: int
    channels: int
    headers: int  # packets behind the first one that precede the audio; 0 if that is not fixed


class OggReader:
    """
    Cuts an Ogg stream into tracks, whose `private` has the header pages, and units of whole pages.

    Damaged places are left out: the stream goes on at the next page.

    Args:
        max_unit: bytes of the pages with one packet.

    Attributes:
        title: of the present link, by its comments: artist and title; "" if it has none.
    """

    def __init__(self, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self.title = ""
        self._buffer = bytearray()
        self._garbage = 0
        self._codec: _Codec | None = None
        self._serial = 0
        self._headers = bytearray()  # while they are not complete
        self._in_headers = False
        self._missing = 0  # packets of the headers that have not been received
        self._only_first = False  # nothing behind the first page of the link was received
        self._packed = bytearray()
        self._granule: int | None = None  # the end of what was published

    def feed(self, data: bytes) -> list[Part]:
        """
        Return the tracks and units that *data* completes, in order.

        Raises:
            RemoteProtocolError: the stream is not Ogg, its codec is not supported, or it
                has several tracks at once.
        """
        buffer = self._buffer
        buffer += data
        found: list[Part] = []
        at = 0
        while at + _HEADER.size <= len(buffer):
            if not buffer.startswith(START, at):
                at = self._search(at)
                continue
            fields = _HEADER.unpack_from(buffer, at)
            _, version, flags, granule, serial, _, _, segments = fields
            body = at + _HEADER.size + segments
            if body > len(buffer):
                break
            end = body + sum(buffer[at + _HEADER.size : body])
            if version != 0:
                at += 1
                continue
            if end > len(buffer):
                break
            self._garbage = 0
            page = bytes(buffer[at:end])
            self._page(page, body - at, flags, granule, serial, found)
            at = end
        del buffer[:at]
        return found

    def _search(self, at: int) -> int:
        place = self._buffer.find(START, at)
        if place < 0:
            place = len(self._buffer) - len(START) + 1
        self._garbage += place - at
        if self._garbage > MAX_GARBAGE:
            raise RemoteProtocolError("the stream is not Ogg")
        return place

    def _page(
        self, page: bytes, body: int, flags: int, granule: int, serial: int, found: list[Part]
    ) -> None:
        if flags & _FIRST:
            if self._only_first:
                raise RemoteProtocolError("Ogg with several tracks is not supported: send audio")
            self._flush(found, self._granule)
            self._codec = _codec_of(page[body:])
            self._serial = serial
            self._headers = bytearray(page)
            self._in_headers = self._only_first = True
            self._missing = self._codec.headers
            self._granule = None
            return
        if self._codec is None or serial != self._serial:
            return  # before the first link, or of another track
        self._only_first = False
        # mpd puts the last header and the first audio on one page.
        if self._in_headers and (granule in (0, _NO_GRANULE) or self._missing > 0):
            self._headers += page
            self._missing -= sum([size < 255 for size in page[_HEADER.size : body]])
            if len(self._headers) > MAX_HEADERS:
                raise RemoteProtocolError(f"the Ogg headers are larger than {MAX_HEADERS} bytes")
            return
        if self._in_headers:
            self._in_headers = False
            self.title = _title_of(self._headers)
            rate, channels = self._codec.rate, self._codec.channels
            private = bytes(self._headers)
            found.append((Track(1, Kind.AUDIO, OGG, private, rate, channels),))
        self._packed += page
        if len(self._packed) > self._max_unit:
            raise RemoteProtocolError(f"an Ogg packet is larger than {self._max_unit} bytes")
        if granule != _NO_GRANULE:
            time = self._time(granule) - self._time(self._granule or 0)
            if len(self._packed) >= PACKED_BYTES or time >= PACKED_TIME:
                self._flush(found, granule)

    def _flush(self, found: list[Part], granule: int | None) -> None:
        if not self._packed or granule is None:
            self._packed.clear()
            return
        begin = self._granule if self._granule is not None else granule
        time, end = self._time(begin), self._time(granule)
        duration = max(0, end - time)
        found.append(Unit(1, time, time, duration, True, 0, 0, bytes(self._packed)))
        self._packed.clear()
        self._granule = granule

    def _time(self, granule: int) -> int:
        assert self._codec is not None
        # Bounded as times are: a hostile page may have any granule position.
        return min(max(granule, 0) * 1_000_000 // self._codec.rate, 2**52)


def _codec_of(packet: bytes) -> _Codec:
    """
    Return what the first packet of a track says.

    Raises:
        RemoteProtocolError: the codec is not one of those supported.
    """
    rate = channels = headers = 0
    if packet.startswith(b"OpusHead") and len(packet) >= 19:
        rate, channels, headers = 48000, packet[9], 1
    elif packet.startswith(b"\x01vorbis") and len(packet) >= 30:
        rate, channels = int.from_bytes(packet[12:16], "little"), packet[11]
        headers = 2
    elif packet.startswith(b"\x7fFLAC") and len(packet) >= 51:
        rate = int.from_bytes(packet[27:30]) >> 4
        channels = (packet[29] >> 1 & 7) + 1
    elif packet.startswith(b"Speex   ") and len(packet) >= 80:
        rate = int.from_bytes(packet[36:40], "little")
        channels, headers = packet[48], 1
    if not 0 < rate < 2**20:
        raise RemoteProtocolError("Ogg: the codec is not Opus, Vorbis, FLAC or Speex")
    return _Codec(rate, channels, headers)


def _title_of(pages: bytes | bytearray) -> str:
    """
    Return artist and title in the comments of the header pages, as far as one page has them
    (Vorbis comments: RFC 7845, 5.2); "" if there are none.
    """
    comments: dict[str, str] = {}
    for mark in (b"OpusTags", b"\x03vorbis"):
        at = pages.find(mark)
        if at < 0:
            continue
        at += len(mark)
        at += 4 + int.from_bytes(pages[at : at + 4], "little")  # the vendor
        count = int.from_bytes(pages[at : at + 4], "little")
        at += 4
        for _ in range(min(count, 100)):
            size = int.from_bytes(pages[at : at + 4], "little")
            comment = pages[at + 4 : at + 4 + size]
            if len(comment) < size:
                break
            name, _, value = comment.decode(errors="replace").partition("=")
            comments.setdefault(name.upper(), value)
            at += 4 + size
    return " - ".join([comments[name] for name in ("ARTIST", "TITLE") if comments.get(name)])
