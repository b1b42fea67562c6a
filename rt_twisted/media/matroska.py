"""
Reads live WebM and Matroska (RFC 9559) as it arrives: tracks and frames.
"""

from __future__ import annotations

from collections.abc import Sequence

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import opus
from rt_twisted.media.ebml import ElementReader, children, read_number, text, unsigned
from rt_twisted.media.h264 import lengthened
from rt_twisted.media.matroska_tracks import TrackSource, read_tracks
from rt_twisted.media.reorder import JUMP, DecodingTimes
from rt_twisted.media.track_details import Part, TrackDetails
from rt_twisted.media.unit import MAX_HEAD, MAX_TIME, MAX_UNIT, MAX_UNITS, Kind, Unit

EBML = 0x1A45DFA3
SEGMENT = 0x18538067
INFO = 0x1549A966
TRACKS = 0x1654AE6B
CLUSTER = 0x1F43B675
TIMESTAMP = 0xE7
SIMPLE_BLOCK = 0xA3

_DOC_TYPE = 0x4282
_TIMESTAMP_SCALE = 0x2AD7B1
_BLOCK_GROUP = 0xA0
_BLOCK = 0xA1
_BLOCK_DURATION = 0x9B
_REFERENCE = 0xFB
_SEEK_HEAD = 0x114D9B74
_CUES = 0x1C53BB6B
_TAGS = 0x1254C367
_CHAPTERS = 0x1043A770
_ATTACHMENTS = 0x1941A469

_TOP = frozenset((EBML, SEGMENT))
_MASTERS = {
    SEGMENT: _TOP,
    CLUSTER: _TOP | {INFO, TRACKS, CLUSTER, _SEEK_HEAD, _CUES, _TAGS, _CHAPTERS, _ATTACHMENTS},
}
_BESIDE = 1024  # bytes of a block beside its frame: its header, and additions such as alpha
_WANTED = {
    EBML: 4096,
    INFO: MAX_HEAD,
    TRACKS: MAX_HEAD,
    TIMESTAMP: 8,
}
_DEFAULT_SCALE = 1_000_000  # nanoseconds
_MAX_SCALE = 1_000_000_000
_XIPH, _FIXED, _EBML_LACING = 2, 4, 6  # of a block's flags
_LACING = 6
_KEYFRAME = 0x80


class _Frames:
    """
    What is remembered of a track from block to block.
    """

    __slots__ = ("last", "source", "times")

    def __init__(self, source: TrackSource) -> None:
        self.source = source
        self.times = DecodingTimes(source.reorder)
        self.last: int | None = None  # pts of the last frame


class MatroskaReader:
    """
    Reads one stream, in time linear in its length, however it is split.

    A second EBML header begins another document in the same stream: its tracks are
    returned again, and its times begin anew.

    Args:
        sources: the tracks, if the stream begins with a cluster instead of a header.
        max_unit: bytes of a frame.
    """

    def __init__(self, sources: Sequence[TrackSource] = (), max_unit: int = MAX_UNIT) -> None:
        block = max_unit + _BESIDE
        wanted = {**_WANTED, SIMPLE_BLOCK: block, _BLOCK_GROUP: 2 * block}
        self._elements = ElementReader(_MASTERS, wanted)
        self._max_unit = max_unit
        self._details = TrackDetails()
        self._frames = {source.track.id: _Frames(source) for source in sources}
        self._began = bool(sources)
        self._scale = _DEFAULT_SCALE
        self._cluster: int | None = None  # its timestamp

    def feed(self, data: bytes) -> list[Part]:
        """
        Read the next bytes of the stream.

        Returns:
            In order: the tracks, each time that the stream describes them, and the frames.
            Frames of other tracks are left out; `packets` and `offset` are 0.

        Raises:
            RemoteProtocolError: the stream is malformed or exceeds a bound. The reader
                cannot be used again.
        """
        found: list[Part] = []
        for id, payload in self._elements.feed(data):
            if not self._began and id != EBML:
                raise RemoteProtocolError("WebM: the stream does not begin with an EBML header")
            if id == SIMPLE_BLOCK:
                self._read_block(payload, None, 0, found)
            elif id == _BLOCK_GROUP:
                self._read_group(payload, found)
            elif id == CLUSTER:
                self._cluster = None
            elif id == TIMESTAMP:
                self._cluster = unsigned(payload)
            elif id == TRACKS:
                sources = read_tracks(payload)
                self._frames = {source.track.id: _Frames(source) for source in sources}
                found.append(tuple(source.track for source in sources))
            elif id == INFO:
                self._scale = _scale(payload)
            elif id == EBML:
                _check_document(payload)
                self._began = True
                self._scale = _DEFAULT_SCALE
        return self._details.complete(found)

    def _read_group(self, group: bytes, found: list[Part]) -> None:
        values = dict(children(group))
        if _BLOCK not in values:
            return
        duration = unsigned(values.get(_BLOCK_DURATION, b"")) * self._scale
        self._read_block(values[_BLOCK], _REFERENCE not in values, duration, found)

    def _read_block(
        self,
        block: bytes,
        key: bool | None,
        duration: int,
        found: list[Part],
    ) -> None:
        """
        Read the frames of a block.

        Args:
            block: with its header.
            key: whether it is a keyframe; None if its flags say.
            duration: of all its frames, nanoseconds; 0 if unknown.
            found: is extended.
        """
        number = read_number(block, 0)
        if number is None or number[1] + 3 > len(block):
            raise RemoteProtocolError("WebM: a block is truncated")
        frames = self._frames.get(number[0])
        if frames is None:
            if not self._frames:
                raise RemoteProtocolError("WebM: a block before the tracks")
            return
        if self._cluster is None:
            raise RemoteProtocolError("WebM: a cluster without a timestamp")
        start = number[1] + 3
        relative = int.from_bytes(block[start - 3 : start - 1], signed=True)
        flags = block[start - 1]
        time = (self._cluster + relative) * self._scale  # nanoseconds
        if not -MAX_TIME < time // 1000 < MAX_TIME:
            raise RemoteProtocolError("WebM: a timestamp is out of range")
        if key is None:
            key = bool(flags & _KEYFRAME)
        parts = _split_lace(block[start:], flags & _LACING)
        if len(found) + len(parts) > MAX_UNITS:
            raise RemoteProtocolError(f"WebM: over {MAX_UNITS} frames arrive at once")
        for part in parts:
            unit = _frame(frames, part, time, key, duration // len(parts))
            if len(unit.data) > self._max_unit:
                raise RemoteProtocolError(f"WebM: a frame is larger than {self._max_unit} bytes")
            found.append(unit)
            time += 1000 * unit.duration
            key = False


def _frame(frames: _Frames, data: bytes, time: int, key: bool, duration: int) -> Unit:
    source = frames.source
    track = source.track
    if source.stripped:
        data = source.stripped + data
    if source.nal_length != 4:
        data = lengthened(data, source.nal_length)
    pts = (time + 500) // 1000
    length = ((duration or source.duration) + 500) // 1000
    if not length:
        length = _duration(source, data)
    if not length and frames.last is not None and 0 < pts - frames.last < JUMP:
        length = pts - frames.last  # as long as the frame before
    frames.last = pts
    dts = frames.times.next(pts, length)
    key = key or track.kind is Kind.AUDIO
    return Unit(track.id, pts, dts, min(length, JUMP), key, 0, 0, data)


def _duration(source: TrackSource, data: bytes) -> int:
    """
    Return the duration of an audio frame by its codec (microseconds), 0 if that is unknown.
    """
    track = source.track
    if track.codec == "opus":
        return opus.duration_of(data)
    if source.samples and track.rate:
        return (source.samples * 1_000_000 + track.rate // 2) // track.rate
    return 0


def _split_lace(data: bytes, lacing: int) -> list[bytes]:
    """
    Return the frames of a block (RFC 9559, 10.3).
    """
    if not lacing:
        return [data]
    if not data:
        raise RemoteProtocolError("WebM: a laced block is empty")
    count = data[0] + 1
    if lacing == _FIXED:
        size, rest = divmod(len(data) - 1, count)
        if rest:
            raise RemoteProtocolError("WebM: a block has frames of different sizes")
        return [data[1 + size * index : 1 + size * (index + 1)] for index in range(count)]
    sizes, position = (_xiph_sizes if lacing == _XIPH else _ebml_sizes)(data, count - 1)
    left = len(data) - position - sum(sizes)
    if left < 0:
        raise RemoteProtocolError("WebM: a laced block is truncated")
    parts: list[bytes] = []
    for size in [*sizes, left]:
        parts.append(data[position : position + size])
        position += size
    return parts


def _xiph_sizes(data: bytes, count: int) -> tuple[list[int], int]:
    sizes: list[int] = []
    position = 1
    for _ in range(count):
        size = 0
        while True:
            if position == len(data):
                raise RemoteProtocolError("WebM: a laced block is truncated")
            size += data[position]
            position += 1
            if data[position - 1] != 255:
                break
        sizes.append(size)
    return sizes, position


def _ebml_sizes(data: bytes, count: int) -> tuple[list[int], int]:
    sizes: list[int] = []
    position = 1
    for index in range(count):
        number = read_number(data, position)
        if number is None:
            raise RemoteProtocolError("WebM: a laced block is truncated")
        size, end = number
        if index:  # signed, in the same length: the difference to the size before
            size = sizes[-1] + _value(size, end - position) - ((1 << 7 * (end - position) - 1) - 1)
        elif size < 0:
            raise RemoteProtocolError("WebM: a frame of unknown size")
        if size < 0:
            raise RemoteProtocolError("WebM: a frame of negative size")
        sizes.append(size)
        position = end
    return sizes, position


def _value(size: int, length: int) -> int:
    """
    Return the value of a number of *length* bytes, all ones too.
    """
    return (1 << 7 * length) - 1 if size < 0 else size


def _scale(info: bytes) -> int:
    values = dict(children(info))
    if _TIMESTAMP_SCALE not in values:
        return _DEFAULT_SCALE
    scale = unsigned(values[_TIMESTAMP_SCALE])
    if not 0 < scale <= _MAX_SCALE:
        raise RemoteProtocolError("WebM: the timestamp scale is invalid")
    return scale


def _check_document(header: bytes) -> None:
    kind = text(dict(children(header)).get(_DOC_TYPE, b""))
    if kind not in ("webm", "matroska"):
        raise RemoteProtocolError("the stream is neither WebM nor Matroska")
