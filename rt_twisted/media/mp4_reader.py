"""
Reads live fragmented MP4 as it arrives (ISO/IEC 14496-12, 8.8): tracks and frames.
"""

from __future__ import annotations

from struct import error, unpack_from

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import opus
from rt_twisted.media.h264 import lengthened
from rt_twisted.media.mp4_boxes import boxes, read_header
from rt_twisted.media.mp4_init import Mp4Source, read_init
from rt_twisted.media.reorder import JUMP
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_HEAD, MAX_TIME, MAX_UNIT, MAX_UNITS, Kind, Unit

MAX_FRAGMENT = 16 * 1024 * 1024  # bytes of the samples of a fragment
MAX_SKIPPED = 64 * 1024 * 1024  # bytes of a box that is not read

_WANTED = {b"ftyp": 4096, b"moov": MAX_HEAD, b"moof": MAX_HEAD, b"mdat": MAX_FRAGMENT}
_NOT_SYNC = 0x10000


class Mp4Reader:
    """
    Reads one stream, in time linear in its length, however it is split.

    The frames of a fragment are returned when it is complete, in order of decoding time.
    A second init segment describes the tracks again.

    Args:
        max_unit: bytes of a frame.
    """

    def __init__(self, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self._buffer = bytearray()
        self._offset = 0  # of the buffer's first byte in the stream
        self._skip = 0  # bytes to discard before the next box
        self._began = False
        self._sources: dict[int, Mp4Source] = {}
        self._next: dict[int, int] = {}  # ticks at which each track goes on
        self._fragment: tuple[int, bytes] | None = None  # offset and payload of the last moof

    def feed(self, data: bytes) -> list[Part]:
        """
        Read the next bytes of the stream.

        Returns:
            In order: the tracks, each time that the stream describes them, and the frames.
            Frames of other tracks are left out; `packets` and `offset` are 0.

        Raises:
            RemoteProtocolError: the stream is malformed, is not fragmented, or exceeds a
                bound. The reader cannot be used again.
        """
        buffer = self._buffer
        buffer += data
        found: list[Part] = []
        position = 0
        while True:
            if self._skip:
                step = min(self._skip, len(buffer) - position)
                position += step
                self._skip -= step
                if self._skip:
                    break
            header = read_header(buffer, position)
            if header is None:
                break
            kind, size, start = header
            if not self._began and kind != b"ftyp":
                raise RemoteProtocolError("MP4: the stream does not begin with a file type")
            most = _WANTED.get(kind, MAX_SKIPPED)
            if size > most + start:
                raise RemoteProtocolError(f"MP4: a box is larger than {most} bytes")
            if kind not in _WANTED:
                self._skip = size
                continue
            end = position + size
            if end > len(buffer):
                break
            payload = bytes(buffer[position + start : end])
            self._read(kind, payload, self._offset + position, start, found)
            position = end
        del buffer[:position]
        self._offset += position
        return found

    def _read(
        self, kind: bytes, payload: bytes, offset: int, start: int, found: list[Part]
    ) -> None:
        if kind == b"ftyp":
            self._began = True
        elif kind == b"moov":
            self._sources = read_init(payload)
            self._next = {}
            found.append(tuple(source.track for source in self._sources.values()))
        elif kind == b"moof":
            self._fragment = offset, payload
        elif self._fragment is None:
            raise RemoteProtocolError("MP4: the stream is not fragmented: set frag_keyframe")
        else:
            fragment, self._fragment = self._fragment, None
            units = self._units(*fragment, payload, offset + start, MAX_UNITS - len(found))
            units.sort(key=_dts_of)
            found += units

    def _units(
        self, base: int, fragment: bytes, data: bytes, data_at: int, most: int
    ) -> list[Unit]:
        """
        Return the frames of a fragment.

        Args:
            base: where the moof begins in the stream.
            fragment: its payload.
            data: of the mdat behind it.
            data_at: where *data* begins in the stream.
            most: how many frames there may be.
        """
        units: list[Unit] = []
        for kind, payload in boxes(fragment):
            if kind == b"traf":
                self._read_track(payload, base, data, data_at, units, most)
        return units

    def _read_track(
        self, traf: bytes, base: int, data: bytes, data_at: int, units: list[Unit], most: int
    ) -> None:
        """
        Add the frames of one track of a fragment to *units*; see `_units`.
        """
        contents = boxes(traf)
        header = next((payload for kind, payload in contents if kind == b"tfhd"), b"")
        _, id = _words(header, 0, 2)
        source = self._sources.get(id)
        if source is None:
            return
        own_base, defaults = _read_defaults(header, source.defaults)
        if own_base is not None:
            base = own_base
        first = 0  # of a sample in *data*
        time = self._next.get(id, 0)
        for kind, payload in contents:
            if kind == b"tfdt":
                is_long = payload[:1] == b"\1"
                words = _words(payload, 4, 2 if is_long else 1)
                time = words[0] << 32 | words[1] if is_long else words[0]
            elif kind == b"trun":
                offset, samples = _read_run(payload, defaults)
                if offset is not None:
                    first = base + offset - data_at
                for duration, size, flags, composition in samples:
                    if len(units) >= most:
                        raise RemoteProtocolError(
                            f"MP4: over {MAX_UNITS} frames arrive at once: send shorter fragments"
                        )
                    if first < 0 or first + size > len(data):
                        raise RemoteProtocolError("MP4: a sample is outside of its fragment")
                    if size > self._max_unit:
                        raise RemoteProtocolError(
                            f"MP4: a frame is larger than {self._max_unit} bytes"
                        )
                    unit = data[first : first + size]
                    key = not flags & _NOT_SYNC
                    units.append(_unit(source, unit, time, duration, composition, key))
                    first += size
                    time += duration
        self._next[id] = time


def _dts_of(unit: Unit) -> int:
    return unit.dts


def _words(data: bytes, position: int, count: int) -> tuple[int, ...]:
    """
    Return *count* numbers of four bytes.

    Raises:
        RemoteProtocolError: there are fewer.
    """
    try:
        return unpack_from(f">{count}I", data, position)
    except error:
        raise RemoteProtocolError("MP4: a box is truncated") from None


def _read_defaults(
    header: bytes, defaults: tuple[int, int, int]
) -> tuple[int | None, tuple[int, int, int]]:
    """
    Return what the header of a track fragment (tfhd) says: where its data offsets begin, None
    if it does not say, and duration, size and flags of samples.
    """
    flags, _ = _words(header, 0, 2)
    position, base = 8, None
    if flags & 0x1:
        high, low = _words(header, position, 2)
        base = high << 32 | low
        position += 8
    if flags & 0x2:
        position += 4
    duration, size, sample_flags = defaults
    if flags & 0x8:
        (duration,) = _words(header, position, 1)
        position += 4
    if flags & 0x10:
        (size,) = _words(header, position, 1)
        position += 4
    if flags & 0x20:
        (sample_flags,) = _words(header, position, 1)
    return base, (duration, size, sample_flags)


def _read_run(
    payload: bytes, defaults: tuple[int, int, int]
) -> tuple[int | None, list[tuple[int, int, int, int]]]:
    """
    Return the offset of a track run's data, None if it does not say, and duration, size, flags
    and composition offset of each of its samples.
    """
    flags, count = _words(payload, 0, 2)
    position, offset, first_flags = 8, None, None
    if flags & 0x1:
        (offset,) = _words(payload, position, 1)
        offset = _signed(offset)
        position += 4
    if flags & 0x4:
        (first_flags,) = _words(payload, position, 1)
        position += 4
    width = (flags & 0xF00).bit_count()
    if count > MAX_UNITS or position + 4 * width * count > len(payload):
        raise RemoteProtocolError("MP4: a track run is truncated or too long")
    values = iter(_words(payload, position, width * count))
    samples: list[tuple[int, int, int, int]] = []
    for _ in range(count):
        duration, size, sample_flags = defaults
        composition = 0
        if flags & 0x100:
            duration = next(values)
        if flags & 0x200:
            size = next(values)
        if flags & 0x400:
            sample_flags = next(values)
        if flags & 0x800:
            composition = _signed(next(values))  # signed in practice, whatever the version
        samples.append((duration, size, sample_flags, composition))
    if first_flags is not None and samples:
        duration, size, _, composition = samples[0]
        samples[0] = duration, size, first_flags, composition
    return offset, samples


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number


def _unit(
    source: Mp4Source, data: bytes, dts: int, duration: int, composition: int, key: bool
) -> Unit:
    if source.nal_length != 4:
        data = lengthened(data, source.nal_length)
    dts -= source.skipped
    timescale = source.timescale
    half = timescale // 2
    decoded = (dts * 1_000_000 + half) // timescale
    presented = ((dts + composition) * 1_000_000 + half) // timescale
    length = (duration * 1_000_000 + half) // timescale
    if max(abs(decoded), abs(presented)) > MAX_TIME:
        raise RemoteProtocolError("MP4: a time is out of range")
    if source.track.codec == "opus":
        length = opus.duration_of(data) or length
    length = source.frame or length  # fragments of one frame each have wrong ones
    key = key or source.track.kind is Kind.AUDIO
    return Unit(source.track.id, presented, decoded, min(length, JUMP), key, 0, 0, data)
