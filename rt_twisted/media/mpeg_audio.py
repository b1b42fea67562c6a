"""
Streams of MPEG audio: MP3 and other layers (ISO/IEC 11172-3, 2.4.2.3; 13818-3), and AAC in
ADTS (ISO/IEC 14496-3, 1.A.2).

Whole frames are packed into units, as they come many times a second and each unit is sent to
each listener by itself.
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.aac import RATES
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit

MAX_GARBAGE = 256 * 1024  # bytes without a frame after which a stream is not MPEG audio
PACKED_BYTES = 4096  # a unit has at least so many: each is a system call per listener
PACKED_TIME = 250_000  # or lasts at least so long (microseconds)
HEADER = 9  # bytes: an ADTS header with CRC; MPEG needs 4
MPEG = "audio/mpeg"
ADTS = "audio/aac"

_RATES = (44100, 48000, 32000)
_V1 = {
    1: (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    2: (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    3: (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
}
_V2_LAYER1 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
_V2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_ID3 = b"ID3"
_ID3_HEADER = 10


@dataclass(frozen=True, slots=True)
class FrameHeader:
    """
    The header of a frame.

    Args:
        size: bytes of the whole frame.
        samples: of each channel.
        rate: samples per second.
        channels: 1 or 2; of AAC up to 8, 0 if the frame itself has them.
        codec: MPEG or ADTS.
        layer: 1 to 3; 0 for AAC.
    """

    size: int
    samples: int
    rate: int
    channels: int
    codec: str
    layer: int

    def continues(self, before: FrameHeader) -> bool:
        """
        Return whether a frame can follow *before* in one stream.
        """
        same = self.layer == before.layer and self.rate == before.rate
        return same and self.codec == before.codec and self.samples == before.samples


def parse_header(data: bytes | bytearray, at: int) -> FrameHeader | None:
    """
    Return the header of a frame at index *at*, with HEADER bytes behind it; None if there is
    no frame. Frames of the free format, which have no length, are not recognized.
    """
    second = data[at + 1]
    if data[at] != 0xFF or second & 0xE0 != 0xE0:
        return None
    layer = 4 - (second >> 1 & 3)
    if layer == 4:
        return _parse_adts(data, at) if second & 0xF0 == 0xF0 else None
    version = second >> 3 & 3  # 3: MPEG-1, 2: MPEG-2, 0: MPEG-2.5
    third = data[at + 2]
    index, rate_index = third >> 4, third >> 2 & 3
    if version == 1 or rate_index == 3 or index in (0, 15):
        return None
    rate = _RATES[rate_index] >> (0 if version == 3 else 1 if version == 2 else 2)
    padding = third >> 1 & 1
    if version == 3:
        bits = _V1[layer][index - 1] * 1000
    else:
        bits = (_V2_LAYER1 if layer == 1 else _V2)[index - 1] * 1000
    if layer == 1:
        samples = 384
        size = (12 * bits // rate + padding) * 4
    else:
        samples = 576 if layer == 3 and version != 3 else 1152
        size = samples // 8 * bits // rate + padding
    channels = 1 if data[at + 3] >> 6 == 3 else 2
    return FrameHeader(size, samples, rate, channels, MPEG, layer)


def _parse_adts(data: bytes | bytearray, at: int) -> FrameHeader | None:
    third, fourth = data[at + 2], data[at + 3]
    rate_index = third >> 2 & 15
    size = (fourth & 3) << 11 | data[at + 4] << 3 | data[at + 5] >> 5
    if rate_index >= len(RATES) or size < (7 if data[at + 1] & 1 else HEADER):
        return None
    channels = (third & 1) << 2 | fourth >> 6
    samples = 1024 * ((data[at + 6] & 3) + 1)
    return FrameHeader(size, samples, RATES[rate_index], channels, ADTS, 0)


class MpegAudioReader:
    """
    Cuts a stream of MPEG audio, as it arrives, into tracks and units of whole frames.

    A stream begins, and goes on after damage, where two frames follow each other. What is
    not a frame is left out: tags, and pieces of frames.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0  # bytes of a tag that have not arrived
        self._garbage = 0  # bytes without a frame
        self._last: FrameHeader | None = None  # None: not synchronized
        self._track: Track | None = None
        self._ticks = 0  # samples before the packed frames
        self._packed = bytearray()
        self._samples = 0  # of the packed frames

    def feed(self, data: bytes) -> list[Part]:
        """
        Return the tracks and units that *data* completes, in order.

        Raises:
            RemoteProtocolError: MAX_GARBAGE bytes have no frame.
        """
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer = self._buffer
        buffer += data
        found: list[Part] = []
        at = 0
        while at + _ID3_HEADER <= len(buffer):
            header = parse_header(buffer, at)
            last = self._last
            if header is None or (last is not None and not header.continues(last)):
                self._last = None
                if last is None:
                    at = self._search(at)
                continue
            end = at + header.size
            if last is None:
                if end + HEADER > len(buffer):
                    break
                following = parse_header(buffer, end)
                if following is None or not following.continues(header):
                    self._reject(1)
                    at += 1
                    continue
                self._begin(header, found)
            elif end > len(buffer):
                break
            self._last = header
            self._garbage = 0
            self._pack(header, buffer[at:end], found)
            at = end
        del buffer[:at]
        return found

    def _search(self, at: int) -> int:
        """
        Return where a frame may begin at or behind *at*, where none does.
        """
        buffer = self._buffer
        if buffer.startswith(_ID3, at):
            size = 0
            for byte in buffer[at + 6 : at + _ID3_HEADER]:
                size = size << 7 | byte & 127
            end = at + _ID3_HEADER + size
            self._skip = max(0, end - len(buffer))
            return min(end, len(buffer))
        places = (buffer.find(b"\xff", at + 1), buffer.find(_ID3, at + 1))
        # The beginning of a tag may be at the end.
        place = min([place for place in places if place >= 0], default=len(buffer) - 2)
        self._reject(place - at)
        return place

    def _reject(self, size: int) -> None:
        self._garbage += size
        if self._garbage > MAX_GARBAGE:
            raise RemoteProtocolError("the stream is neither MP3 nor AAC in ADTS")

    def _begin(self, header: FrameHeader, found: list[Part]) -> None:
        track = Track(1, Kind.AUDIO, header.codec, rate=header.rate, channels=header.channels)
        if track != self._track:
            self._flush(found)
            self._ticks = 0
            self._track = track
            found.append((track,))

    def _pack(self, header: FrameHeader, frame: bytearray, found: list[Part]) -> None:
        self._packed += frame
        self._samples += header.samples
        time = self._samples * 1_000_000 // header.rate
        if len(self._packed) >= PACKED_BYTES or time >= PACKED_TIME:
            self._flush(found)

    def _flush(self, found: list[Part]) -> None:
        if not self._packed or self._track is None:
            return
        rate = self._track.rate
        time = self._ticks * 1_000_000 // rate
        self._ticks += self._samples
        duration = self._ticks * 1_000_000 // rate - time
        found.append(Unit(1, time, time, duration, True, 0, 0, bytes(self._packed)))
        self._packed.clear()
        self._samples = 0
