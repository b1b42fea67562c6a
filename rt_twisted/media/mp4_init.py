"""
Reads the init segment of fragmented MP4: what its tracks are (ISO/IEC 14496-12, 8.3 to 8.8).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import aac, h264, h265, vp9
from rt_twisted.media.mp4_boxes import boxes
from rt_twisted.media.mp4_tracks import AAC_OBJECT, MP3_OBJECT
from rt_twisted.media.unit import MAX_TRACK_ID, MAX_TRACKS, Kind, Track

_KINDS = {b"vide": Kind.VIDEO, b"soun": Kind.AUDIO}
_CODECS = {
    b"avc1": "h264",
    b"avc3": "h264",
    b"hvc1": "h265",
    b"hev1": "h265",
    b"vp08": "vp8",
    b"vp09": "vp9",
    b"av01": "av1",
    b"Opus": "opus",
    b".mp3": "mp3",
}
_CONFIGURATIONS = (b"avcC", b"hvcC", b"av1C")
_VISUAL, _AUDIO = 78, 28  # bytes of a sample entry before its boxes
_MPEG2_LAYER3 = 0x69


@dataclass(frozen=True, slots=True)
class Mp4Source:
    """
    A track, and how its samples are read from fragments.

    Args:
        track: as subscribers see it.
        timescale: ticks per second.
        skipped: ticks that an edit list cuts off at the start.
        nal_length: bytes of the length before each NAL unit; 4 for other codecs too.
        defaults: duration, size and flags of samples that do not say.
        frame: the duration of a frame of AAC in microseconds; 0 for other codecs.
    """

    track: Track
    timescale: int
    skipped: int
    nal_length: int
    defaults: tuple[int, int, int]
    frame: int


def read_init(movie: bytes) -> dict[int, Mp4Source]:
    """
    Read the video and audio tracks of a moov box; others are left out.

    Returns:
        The tracks by their ids, in order.

    Raises:
        RemoteProtocolError: it is malformed, or has more than MAX_TRACKS such tracks or none.
    """
    contents = boxes(movie)
    defaults: dict[int, tuple[int, int, int]] = {}
    for kind, payload in contents:
        if kind == b"mvex":
            for inner, extends in boxes(payload):
                if inner == b"trex":
                    id, _, *values = numbers(extends, 4, 4, 4, 4, 4, 4)[1:]
                    defaults[id] = (values[0], values[1], values[2])
    sources: dict[int, Mp4Source] = {}
    for kind, payload in contents:
        source = _read_track(payload, defaults) if kind == b"trak" else None
        if source is not None:
            sources[source.track.id] = source
    if not 0 < len(sources) <= MAX_TRACKS:
        raise RemoteProtocolError(f"MP4: there are no tracks, or more than {MAX_TRACKS}")
    return sources


def numbers(data: bytes, *sizes: int) -> list[int]:
    """
    Return the unsigned numbers of *sizes* bytes that *data* begins with.

    Raises:
        RemoteProtocolError: it is shorter.
    """
    if len(data) < sum(sizes):
        raise RemoteProtocolError("MP4: a box is truncated")
    found: list[int] = []
    position = 0
    for size in sizes:
        found.append(int.from_bytes(data[position : position + size]))
        position += size
    return found


def _read_track(payload: bytes, defaults: dict[int, tuple[int, int, int]]) -> Mp4Source | None:
    header, media = (_child(payload, kind) for kind in (b"tkhd", b"mdia"))
    times = 8 if header[:1] == b"\1" else 4
    id = numbers(header, 4, times, times, 4)[3]
    kind = _KINDS.get(_child(media, b"hdlr")[8:12])
    if kind is None:
        return None
    if not 0 < id <= MAX_TRACK_ID:
        raise RemoteProtocolError(f"MP4: a track has the number {id}")
    media_header = _child(media, b"mdhd")
    times = 8 if media_header[:1] == b"\1" else 4
    timescale = numbers(media_header, 4, times, times, 4)[3]
    if not timescale:
        raise RemoteProtocolError("MP4: the timescale is invalid")
    samples = _child(_child(_child(media, b"minf"), b"stbl"), b"stsd")
    entries = boxes(samples[8:])
    if not entries:
        raise RemoteProtocolError("MP4: a track has no sample entry")
    track, nal_length = _read_entry(id, kind, *entries[0])
    return Mp4Source(
        track, timescale, _skipped(payload), nal_length, defaults.get(id, (0, 0, 0)), _frame(track)
    )


def _frame(track: Track) -> int:
    if track.codec != "aac" or not track.private:
        return 0
    config = aac.parse_config(track.private)
    return config.samples * 1_000_000 // config.rate if config.rate else 0


def _child(payload: bytes, kind: bytes) -> bytes:
    for one, content in boxes(payload):
        if one == kind:
            return content
    raise RemoteProtocolError(f"MP4: there is no box {kind.decode()}")


def _skipped(track: bytes) -> int:
    """
    Return the media time at which the first edit begins (8.6.6).
    """
    for kind, payload in boxes(track):
        if kind != b"edts":
            continue
        edits = _child(payload, b"elst")
        size = 8 if edits[:1] == b"\1" else 4
        count = numbers(edits, 4, 4)[1]
        for index in range(min(count, 2)):  # one empty edit may precede it
            start = 8 + index * (2 * size + 4) + size
            time = int.from_bytes(edits[start : start + size], signed=True)
            if time >= 0:
                return time
    return 0


def _read_entry(id: int, kind: Kind, name: bytes, entry: bytes) -> tuple[Track, int]:
    codec = _CODECS.get(name, name.decode("latin-1"))
    private, nal_length = b"", 4
    if kind is Kind.VIDEO:
        _, width, height = numbers(entry, 24, 2, 2)
        for one, payload in boxes(entry[_VISUAL:]):
            if one in _CONFIGURATIONS:
                private = payload
            elif one == b"vpcC":
                _, profile, level, packed = numbers(payload, 4, 1, 1, 1)
                private = vp9.write_features(profile, level, packed >> 4)
        if codec in ("h264", "h265") and private:
            parse = h264.parse_avcc if codec == "h264" else h265.parse_hvcc
            nal_length = parse(private)[0]
        return Track(id, kind, codec, private, size=(width, height)), nal_length
    _, version, _, channels, _, rate = numbers(entry, 8, 2, 6, 2, 6, 4)
    for one, payload in boxes(entry[_AUDIO + (16 if version == 1 else 0) :]):
        if one == b"esds":
            codec, private = _read_descriptor(payload[4:], codec)
        elif one == b"dOps":
            private = _read_opus(payload)
    if codec == "opus":
        rate = 48000 << 16
    return Track(id, kind, codec, private, rate >> 16, min(channels, 255)), 4


def _read_opus(specific: bytes) -> bytes:
    """
    Return the OpusHead of a dOps box, whose numbers are in the other byte order.
    """
    numbers(specific, 11)
    pre_skip, rate, gain = specific[3:1:-1], specific[7:3:-1], specific[9:7:-1]
    return b"OpusHead\x01" + specific[1:2] + pre_skip + rate + gain + specific[10:]


def _read_descriptor(data: bytes, name: str) -> tuple[str, bytes]:
    """
    Return codec and private data of an elementary stream descriptor (ISO/IEC 14496-1, 7.2.6).
    """
    codec, private = name, b""
    position = 0
    while position + 2 <= len(data):
        tag = data[position]
        size = 0
        for _ in range(4):
            position += 1
            byte = data[position] if position < len(data) else 0
            size = size << 7 | byte & 127
            if byte < 128:
                break
        position += 1
        if tag == 3:
            position += 3  # its contents follow, after its id and flags
        elif tag == 4:
            kind = data[position] if position < len(data) else 0
            if kind == AAC_OBJECT:
                codec = "aac"
            elif kind in (MP3_OBJECT, _MPEG2_LAYER3):
                codec = "mp3"
            position += 13
        else:
            if tag == 5:
                private = data[position : position + size]
            position += size
    return codec, private
