"""
The tracks of Matroska and WebM (RFC 9559, 5.1.4): read from a publisher, written for
subscribers.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from enum import IntEnum

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media import aac, h264, h265
from rt_twisted.media.ebml import children, element, text, unsigned, unsigned_element
from rt_twisted.media.unit import MAX_TRACK_ID, MAX_TRACKS, Kind, Track

CODECS = {
    "V_VP8": "vp8",
    "V_VP9": "vp9",
    "V_AV1": "av1",
    "V_MPEG4/ISO/AVC": "h264",
    "V_MPEGH/ISO/HEVC": "h265",
    "V_MJPEG": "jpeg",
    "A_OPUS": "opus",
    "A_VORBIS": "vorbis",
    "A_AAC": "aac",
    "A_MPEG/L3": "mp3",
}
_IDS = {codec: id for id, codec in CODECS.items()}
_KINDS = {1: Kind.VIDEO, 2: Kind.AUDIO}
_MAX_RATE = 768_000  # samples per second
_MAX_SIZE = 16384  # pixels


class Id(IntEnum):
    """
    Elements that describe tracks.
    """

    TRACK_ENTRY = 0xAE
    NUMBER = 0xD7
    UID = 0x73C5
    TYPE = 0x83
    ENABLED = 0xB9
    DEFAULT = 0x88
    LACING = 0x9C
    LANGUAGE = 0x22B59C
    CODEC = 0x86
    PRIVATE = 0x63A2
    DEFAULT_DURATION = 0x23E383
    CODEC_DELAY = 0x56AA
    SEEK_PRE_ROLL = 0x56BB
    VIDEO = 0xE0
    WIDTH = 0xB0
    HEIGHT = 0xBA
    AUDIO = 0xE1
    RATE = 0xB5
    CHANNELS = 0x9F
    ENCODINGS = 0x6D80
    ENCODING = 0x6240
    COMPRESSION = 0x5034
    ALGORITHM = 0x4254
    SETTINGS = 0x4255


# What subscribers are sent of a publisher's track: no names, and nothing about encodings
# that are undone here.
_KEPT = frozenset(
    (
        Id.NUMBER,
        Id.TYPE,
        Id.ENABLED,
        Id.DEFAULT,
        Id.LACING,
        Id.LANGUAGE,
        Id.CODEC,
        Id.PRIVATE,
        Id.DEFAULT_DURATION,
        Id.CODEC_DELAY,
        Id.SEEK_PRE_ROLL,
        Id.VIDEO,
        Id.AUDIO,
    )
)
_TEXTS = frozenset((Id.CODEC, Id.LANGUAGE))
_HEADER_STRIPPING = 3


@dataclass(frozen=True, slots=True)
class TrackSource:
    """
    A track, and how its frames are read from blocks.

    Args:
        track: as subscribers see it.
        duration: of a frame in nanoseconds; 0 if the track does not say.
        stripped: bytes that were removed from the start of each frame.
        nal_length: bytes of the length before each NAL unit; 4 for other codecs too.
        reorder: by how many frames decoding order and presentation order differ.
        samples: of an audio frame; 0 if its packets say.
    """

    track: Track
    duration: int
    stripped: bytes
    nal_length: int
    reorder: int
    samples: int


def read_tracks(data: bytes) -> list[TrackSource]:
    """
    Read the video and audio tracks of a Tracks element; others are left out.

    Raises:
        RemoteProtocolError: it is malformed, has more than MAX_TRACKS such tracks or none,
            or one of them is encrypted or compressed.
    """
    sources: list[TrackSource] = []
    for id, entry in children(data):
        source = _read_entry(entry) if id == Id.TRACK_ENTRY else None
        if source is not None:
            sources.append(source)
    if not sources:
        raise RemoteProtocolError("WebM: there is no video or audio track")
    if len(sources) > MAX_TRACKS:
        raise RemoteProtocolError(f"WebM: there are more than {MAX_TRACKS} tracks")
    if len({source.track.id for source in sources}) != len(sources):
        raise RemoteProtocolError("WebM: two tracks have the same number")
    return sources


def _read_entry(entry: bytes) -> TrackSource | None:
    fields = children(entry)
    values = dict(fields)
    kind = _KINDS.get(unsigned(values.get(Id.TYPE, b"")))
    if kind is None:
        return None
    number = unsigned(values.get(Id.NUMBER, b""))
    if not 0 < number <= MAX_TRACK_ID:
        raise RemoteProtocolError(f"WebM: a track has the number {number}")
    stripped = _stripped(values.get(Id.ENCODINGS, b""))
    id = text(values.get(Id.CODEC, b""))[:100]
    codec = "aac" if id.startswith("A_AAC") else CODECS.get(id, id)
    private = values.get(Id.PRIVATE, b"")
    nal_length, reorder, size = 4, 0, (0, 0)
    rate = channels = samples = 0
    if kind is Kind.VIDEO:
        size = _size(values.get(Id.VIDEO, b""))
        if codec == "h264" and private:
            nal_length, sets = h264.parse_avcc(private)
            reorder = h264.parse_sps(sets[0]).reorder if sets else 0
        elif codec == "h265" and private:
            nal_length, sets = h265.parse_hvcc(private)
            reorder = h265.parse_sps(sets[0]).reorder if sets else 0
    else:
        rate, channels = _audio(values.get(Id.AUDIO, b""))
        if codec == "aac":
            samples = aac.parse_config(private).samples if private else 1024
        elif codec == "mp3":
            samples = 1152 if rate >= 32000 else 576
    extra = _uid(number, codec) + b"".join(
        element(id, text(value).encode() if id in _TEXTS else value)
        for id, value in fields
        if id in _KEPT
    )
    return TrackSource(
        Track(number, kind, codec, private, rate, channels, size, extra),
        unsigned(values.get(Id.DEFAULT_DURATION, b"")),
        stripped,
        nal_length,
        reorder,
        samples,
    )


def _size(video: bytes) -> tuple[int, int]:
    values = dict(children(video))
    width, height = (unsigned(values.get(id, b"")) for id in (Id.WIDTH, Id.HEIGHT))
    if width > _MAX_SIZE or height > _MAX_SIZE:
        raise RemoteProtocolError(f"WebM: a picture is larger than {_MAX_SIZE} pixels")
    return width, height


def _audio(audio: bytes) -> tuple[int, int]:
    values = dict(children(audio))
    coded = values.get(Id.RATE, b"")
    rate = 8000.0
    if len(coded) in (4, 8):
        (rate,) = struct.unpack(">f" if len(coded) == 4 else ">d", coded)
    channels = unsigned(values[Id.CHANNELS]) if Id.CHANNELS in values else 1
    if not (math.isfinite(rate) and 0 < rate <= _MAX_RATE and channels <= 255):
        raise RemoteProtocolError("WebM: the sample rate or number of channels is invalid")
    return round(rate), channels


def _stripped(encodings: bytes) -> bytes:
    """
    Return what header stripping removed from each frame (RFC 9559, 5.1.4.1.31.7).
    """
    stripped = b""
    for id, encoding in children(encodings):
        if id != Id.ENCODING:
            continue
        compression = dict(children(encoding)).get(Id.COMPRESSION)
        values = dict(children(compression)) if compression is not None else {}
        if unsigned(values.get(Id.ALGORITHM, b"")) != _HEADER_STRIPPING:
            raise RemoteProtocolError("WebM: encrypted or compressed tracks are not supported")
        stripped = values.get(Id.SETTINGS, b"") + stripped
    return stripped


def _uid(number: int, codec: str) -> bytes:
    """
    Return a TrackUID that two nodes, and two runs of one publisher, write alike. Publishers
    choose another one each time, and their tracks would seem to have changed.
    """
    return unsigned_element(Id.UID, zlib.crc32(f"{number} {codec}".encode()) or 1)


def write_track(track: Track) -> bytes:
    """
    Return the TrackEntry of *track*: the publisher's own, or one made of its fields.
    """
    if track.extra:
        return element(Id.TRACK_ENTRY, track.extra)
    fields = [
        _uid(track.id, track.codec),
        unsigned_element(Id.NUMBER, track.id),
        unsigned_element(Id.TYPE, 1 if track.kind is Kind.VIDEO else 2),
        unsigned_element(Id.LACING, 0),
        element(Id.CODEC, _IDS.get(track.codec, track.codec).encode()),
    ]
    if track.private:
        fields.append(element(Id.PRIVATE, track.private))
    if track.kind is Kind.VIDEO:
        width, height = track.size
        size = unsigned_element(Id.WIDTH, width) + unsigned_element(Id.HEIGHT, height)
        fields.append(element(Id.VIDEO, size))
    else:
        rate = element(Id.RATE, struct.pack(">d", float(track.rate)))
        fields.append(
            element(Id.AUDIO, rate + unsigned_element(Id.CHANNELS, max(1, track.channels)))
        )
        if track.codec == "opus" and len(track.private) >= 12:
            skipped = int.from_bytes(track.private[10:12], "little")
            fields.append(unsigned_element(Id.CODEC_DELAY, skipped * 62500 // 3))
            fields.append(unsigned_element(Id.SEEK_PRE_ROLL, 80_000_000))
    return element(Id.TRACK_ENTRY, b"".join(fields))
