"""
Live streams as messages: heads describe the tracks, units carry one frame each.

All are ordinary messages. The payload is the data, everything else is in the event type:

    unit/head TIME [again]                               the data are JSON
    unit/k TRACK PTS DTS DURATION PACKETS OFFSET [SIZE]  a keyframe; all audio. Behind the frame,
                                                         the data have a title of SIZE bytes
    unit/d TRACK PTS DTS DURATION PACKETS OFFSET         another picture
    unit/title                                           the data are a new title
    unit/end                                             the data are the run

A head precedes each keyframe, so that subscribers can begin at any retained group.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.jpeg import MAX_JPEG
from rt_twisted.model.message import UNIT, Message

MAX_HEAD = 256 * 1024  # bytes of a head, and of what describes the tracks in a container
MAX_UNIT = 4 * 1024 * 1024  # bytes of a frame, unless configured: 4K keyframes exceed 1 MiB
# Frames that one read of a publisher's bytes completes: they may have no bytes of their own. Even
# Opus of silence, 3 bytes behind 4 in a fragment, has fewer in 64 KiB.
MAX_UNITS = 10_000
MAX_TRACKS = 8
MAX_TRACK_ID = 2**14 - 2  # two bytes in Matroska
MAX_TIME = 2**53  # microseconds, 285 years: exact in JSON and in JavaScript
MAX_TEXT = 200  # characters of a run or a codec name
MAX_ABOUT = 4096  # characters of one thing that is known about a stream

_HEAD = "unit/head"
_END = "unit/end"
_TITLE = "unit/title"
_KEY = "unit/k"
_DELTA = "unit/d"
_AGAIN = "again"


class Kind(Enum):
    """
    What a track carries.
    """

    VIDEO = "video"
    AUDIO = "audio"


@dataclass(frozen=True, slots=True)
class Track:
    """
    One video or audio track of a live stream.

    Args:
        id: 1 to MAX_TRACK_ID, unique in its head.
        kind: video or audio.
        codec: `vp8`, `vp9`, `av1`, `h264`, `h265`, `opus`, `vorbis`, `aac`, `mp3`, `jpeg`, or
            the name that the publisher's container has for another codec.
        private: what decoders need first, as MP4 and Matroska store it: an
            AVCDecoderConfigurationRecord, an AudioSpecificConfig, an OpusHead.
        rate: audio samples per second; 0 for video.
        channels: of audio; 0 for video.
        size: width and height of video in pixels; (0, 0) for audio.
        extra: the Matroska TrackEntry of the publisher, without its ID and size; b"" if
            the stream came in another way.
    """

    id: int
    kind: Kind
    codec: str
    private: bytes = b""
    rate: int = 0
    channels: int = 0
    size: tuple[int, int] = (0, 0)
    extra: bytes = b""


@dataclass(frozen=True, slots=True)
class Head:
    """
    What subscribers need to begin a stream.

    Args:
        run: names one publication, from its first unit to its end.
        wall: when the run began, in seconds since 1970 by the publisher's node.
        tracks: 1 to MAX_TRACKS.
        time: the presentation time of the unit behind this head (microseconds).
        again: the channel's head before this one has the same tracks, so that a
            subscriber which has begun needs nothing of this one.
        about: what else is known about the stream, as names and values.
    """

    run: str
    wall: float
    tracks: tuple[Track, ...]
    time: int = 0
    again: bool = False
    about: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True, unsafe_hash=True)
class Unit:
    """
    One frame of one track. H264 and H265 have lengths of four bytes before each NAL unit.

    Args:
        track: the id of its track.
        pts: presentation time, microseconds.
        dts: decoding time, microseconds; never decreases within a track.
        duration: microseconds; 0 if unknown.
        key: it can be decoded without the frames before it; always for audio.
        packets: how many RTP packets of 1,400 bytes precede it on its track.
        offset: how many payload bytes precede it on its track.
        data: the frame.
        title: of what is played now; "" if it is not known.
    """

    track: Final[int]
    pts: Final[int]
    dts: Final[int]
    duration: Final[int]
    key: Final[bool]
    packets: Final[int]
    offset: Final[int]
    data: Final[bytes]
    title: Final[str] = ""


@dataclass(frozen=True, slots=True)
class Title:
    """
    Requests another title of the publisher's units from now on.
    """

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """
    The end of a live stream: no unit of *run* follows.
    """

    run: str


def write(thing: Head | Unit | Title | End) -> tuple[str, bytes]:
    """
    Return the event type and the data of a message.
    """
    if isinstance(thing, Unit):
        kind = _KEY if thing.key else _DELTA
        event = (
            f"{kind} {thing.track} {thing.pts} {thing.dts} {thing.duration}"
            f" {thing.packets} {thing.offset}"
        )
        if thing.title:
            title = thing.title.encode()
            return f"{event} {len(title)}", thing.data + title
        return event, thing.data
    if isinstance(thing, Title):
        return _TITLE, thing.text.encode()
    if isinstance(thing, End):
        return _END, thing.run.encode()
    tracks = [
        {
            "id": track.id,
            "kind": track.kind.value,
            "codec": track.codec,
            "private": b64encode(track.private).decode(),
            "rate": track.rate,
            "channels": track.channels,
            "size": track.size,
            "extra": b64encode(track.extra).decode(),
        }
        for track in thing.tracks
    ]
    fields: dict[str, Any] = {"run": thing.run, "wall": thing.wall, "tracks": tracks}
    if thing.about:
        fields["about"] = dict(thing.about)
    event = f"{_HEAD} {thing.time} {_AGAIN}" if thing.again else f"{_HEAD} {thing.time}"
    return event, json.dumps(fields, separators=(",", ":")).encode()


def read(message: Message) -> Head | Unit | Title | End | None:
    """
    Return what *message* carries; None for a message that is not part of a live stream.

    Raises:
        RemoteProtocolError: it claims to be part of one and is malformed or too large.
    """
    event = message.event
    if event is None or not event.startswith(UNIT):
        return None
    word, *fields = event.split(" ", 8)
    data = message.data
    if word in (_KEY, _DELTA):
        return _unit(word == _KEY, fields, data)
    if word == _HEAD and (len(fields) == 1 or fields[1:] == [_AGAIN]):
        if len(data) > MAX_HEAD:
            raise RemoteProtocolError(f"a head of a live stream is larger than {MAX_HEAD} bytes")
        return _head(data, *_numbers(fields[:1]), len(fields) == 2)
    if word == _TITLE and len(data) <= MAX_ABOUT:
        return Title(data.decode(errors="replace"))
    if word == _END and len(data) <= MAX_TEXT:
        return End(data.decode(errors="replace"))
    raise RemoteProtocolError("an unknown message of a live stream")


def _unit(key: bool, fields: list[str], data: bytes) -> Unit:
    if len(data) > MAX_JPEG:  # the largest of any codec
        raise RemoteProtocolError(f"a frame is larger than {MAX_JPEG} bytes")
    title = ""
    try:
        track, pts, dts, duration, packets, offset, *sizes = map(int, fields)
        if sizes:
            [size] = sizes
            if not 0 < size <= min(MAX_ABOUT, len(data)):
                raise _malformed_event()
            title = data[-size:].decode(errors="replace")
            data = data[:-size]
    except ValueError:
        raise _malformed_event() from None
    if not (
        0 < track <= MAX_TRACK_ID
        and -MAX_TIME <= pts <= MAX_TIME
        and -MAX_TIME <= dts <= MAX_TIME
        and 0 <= duration <= MAX_TIME
        and packets >= 0
        and offset >= 0
    ):
        raise _malformed_event()
    return Unit(track, pts, dts, duration, key, packets, offset, data, title)


def _numbers(fields: list[str]) -> list[int]:
    try:
        numbers = [*map(int, fields)]
    except ValueError:
        raise _malformed_event() from None
    if any(abs(number) > MAX_TIME for number in numbers):
        raise _malformed_event()
    return numbers


def _malformed_event() -> RemoteProtocolError:
    return RemoteProtocolError("a message of a live stream has a malformed event type")


@lru_cache(maxsize=64)  # heads repeat; at most 16 MiB
def _head(data: bytes, time: int, again: bool) -> Head:
    run, wall, tracks, about = _described(data)
    return Head(run, wall, tracks, time, again, about)


@lru_cache(maxsize=64)
def _described(
    data: bytes,
) -> tuple[str, float, tuple[Track, ...], tuple[tuple[str, str], ...]]:
    try:
        fields = json.loads(data)
        run, wall, tracks = fields["run"], fields["wall"], fields["tracks"]
        if type(run) is not str or len(run) > MAX_TEXT or type(wall) not in (int, float):
            raise ValueError("run and wall")
        if not math.isfinite(wall) or type(tracks) is not list:
            raise ValueError("wall and tracks")
        if not 0 < len(tracks) <= MAX_TRACKS:
            raise ValueError("number of tracks")
        parsed = tuple(map(_track, tracks))
        if len({track.id for track in parsed}) != len(parsed):
            raise ValueError("track ids")
        about = tuple(fields.get("about", {}).items())
        if any(type(value) is not str or len(value) > MAX_ABOUT for _, value in about):
            raise ValueError("about")
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise RemoteProtocolError("a head of a live stream is malformed") from None
    return run, float(wall), parsed, about


def _track(fields: dict[str, Any]) -> Track:
    id, rate, channels = fields["id"], fields["rate"], fields["channels"]
    width, height = fields["size"]
    for number, least, most in (
        (id, 1, MAX_TRACK_ID),
        (rate, 0, 2**32),
        (channels, 0, 255),
        (width, 0, 2**16),
        (height, 0, 2**16),
    ):
        if type(number) is not int or not least <= number <= most:
            raise ValueError("a number of a track")
    codec = fields["codec"]
    if type(codec) is not str or len(codec) > MAX_TEXT:
        raise ValueError("codec")
    return Track(
        id,
        Kind(fields["kind"]),
        codec,
        b64decode(fields["private"], validate=True),
        rate,
        channels,
        (width, height),
        b64decode(fields["extra"], validate=True),
    )
