"""
Reads live fragmented MP4 as it arrives (ISO/IEC 14496-12, 8.8): tracks and frames.
"""

from __future__ import annotations

from collections.abc import Iterator

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import opus
from rt_twisted.media.h264 import lengthened
from rt_twisted.media.mp4_boxes import boxes, read_header
from rt_twisted.media.mp4_init import Mp4Source, numbers, read_init
from rt_twisted.media.reorder import JUMP
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_HEAD, MAX_TIME, MAX_UNIT, Kind, Unit

MAX_FRAGMENT = 16 * 1024 * 1024  # bytes of the samples of a fragment
MAX_SAMPLES = 10_000  # of a fragment
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
            units = list(self._units(*fragment, payload, offset + start))
            units.sort(key=lambda unit: unit.dts)
            found += units

    def _units(self, base: int, fragment: bytes, data: bytes, data_at: int) -> Iterator[Unit]:
        """
        Yield the frames of a fragment.

        Args:
            base: where the moof begins in the stream.
            fragment: its payload.
            data: of the mdat behind it.
            data_at: where *data* begins in the stream.
        """
        count = 0
        for kind, payload in boxes(fragment):
            if kind != b"traf":
                continue
            for source, sample, position in self._samples(payload, base, data_at):
                dts, duration, size, flags, composition = sample
                count += 1
                first = position - data_at
                if count > MAX_SAMPLES:
                    raise RemoteProtocolError(f"MP4: a fragment has over {MAX_SAMPLES} samples")
                if first < 0 or first + size > len(data):
                    raise RemoteProtocolError("MP4: a sample is outside of its fragment")
                if size > self._max_unit:
                    raise RemoteProtocolError(f"MP4: a frame is larger than {self._max_unit} bytes")
                unit = data[first : first + size]
                yield _unit(source, unit, dts, duration, composition, not flags & _NOT_SYNC)

    def _samples(
        self, traf: bytes, base: int, data_at: int
    ) -> Iterator[tuple[Mp4Source, tuple[int, int, int, int, int], int]]:
        """
        Yield the samples of a track fragment: decoding time, duration, size, flags and
        composition offset, and where each is in the stream.
        """
        contents = boxes(traf)
        header = next((payload for kind, payload in contents if kind == b"tfhd"), b"")
        flags, id = numbers(header, 4, 4)
        source = self._sources.get(id)
        if source is None:
            return
        position = data_at
        optional = _optional(header[8:], flags, (0x1, 8), (0x2, 4), (0x8, 4), (0x10, 4), (0x20, 4))
        if optional[0] is not None:
            base = optional[0]
        defaults = [
            default if value is None else value
            for value, default in zip(optional[2:], source.defaults, strict=True)
        ]
        time = self._next.get(id, 0)
        for kind, payload in contents:
            if kind == b"tfdt":
                time = numbers(payload, 4, 8 if payload[:1] == b"\1" else 4)[1]
            elif kind == b"trun":
                for relative, sample in _run(payload, defaults, time):
                    if relative is not None:
                        position = base + relative
                    yield source, sample, position
                    position += sample[2]
                    time = sample[0] + sample[1]
        self._next[id] = time


def _optional(data: bytes, flags: int, *fields: tuple[int, int]) -> list[int | None]:
    """
    Return the number of each field whose flag is set, None for the others.
    """
    found: list[int | None] = []
    position = 0
    for flag, size in fields:
        value = None
        if flags & flag:
            (value,) = numbers(data[position:], size)
            position += size
        found.append(value)
    return found


def _run(
    payload: bytes, defaults: list[int], time: int
) -> Iterator[tuple[int | None, tuple[int, int, int, int, int]]]:
    """
    Yield the samples of a track run, each with the offset of its data if the run says.
    """
    flags, count = numbers(payload, 4, 4)
    offset, first_flags = _optional(payload[8:], flags, (0x1, 4), (0x4, 4))
    if offset is not None and offset >= 2**31:
        offset -= 2**32
    position = 8 + 4 * ((offset is not None) + (first_flags is not None))
    width = 4 * (flags & 0xF00).bit_count()
    if count > MAX_SAMPLES or position + width * count > len(payload):
        raise RemoteProtocolError("MP4: a track run is truncated or too long")
    fields = ((0x100, 4), (0x200, 4), (0x400, 4), (0x800, 4))
    for index in range(count):
        values = _optional(payload[position : position + width], flags, *fields)
        position += width
        duration, size, sample_flags = (
            default if value is None else value
            for value, default in zip(values[:3], defaults, strict=True)
        )
        if index == 0 and first_flags is not None:
            sample_flags = first_flags
        composition = values[3] or 0
        if composition >= 2**31:  # signed in practice, whatever the version
            composition -= 2**32
        yield (
            offset if index == 0 else None,
            (time, duration, size, sample_flags, composition),
        )
        time += duration


def _unit(
    source: Mp4Source, data: bytes, dts: int, duration: int, composition: int, key: bool
) -> Unit:
    if source.nal_length != 4:
        data = lengthened(data, source.nal_length)
    dts -= source.skipped
    decoded, presented, length = (
        (ticks * 1_000_000 + source.timescale // 2) // source.timescale
        for ticks in (dts, dts + composition, duration)
    )
    if max(abs(decoded), abs(presented)) > MAX_TIME:
        raise RemoteProtocolError("MP4: a time is out of range")
    if source.track.codec == "opus":
        length = opus.duration_of(data) or length
    length = source.frame or length  # fragments of one frame each have wrong ones
    key = key or source.track.kind is Kind.AUDIO
    return Unit(source.track.id, presented, decoded, min(length, JUMP), key, 0, 0, data)
