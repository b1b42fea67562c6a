"""
The bodies of FLV tags, which RTMP sends as messages (Adobe Flash Video File Format 10.1, E.4.2
and E.4.3; Enhanced RTMP v2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rt_twisted.codecs.errors import RemoteProtocolError

AUDIO, VIDEO, AGGREGATE = 8, 9, 22  # types of messages
TAG_HEADER = 11  # bytes of a tag in an aggregate message
MAX_TAGS = 1024  # of an aggregate message: some seconds of a stream

_KEY, _INFO = 1, 5  # frame types
_SEQUENCE_START, _CODED_FRAMES, _CODED_FRAMES_X, _MULTITRACK, _MODIFIED = 0, 1, 3, 6, 7
_MANY_CODECS = 2
_MAX_MODIFIERS = 8
_ENHANCED_AUDIO = 9

_VIDEO_CODECS = {7: "h264", 12: "h265"}
_OTHER_VIDEO = {2: "Sorenson H.263", 3: "screen video", 4: "VP6", 5: "VP6", 6: "screen video"}
_AUDIO_CODECS = {10: "aac", 2: "mp3", 14: "mp3"}
_OTHER_AUDIO = {
    0: "PCM", 1: "ADPCM", 3: "PCM", 4: "Nellymoser", 5: "Nellymoser", 6: "Nellymoser",
    7: "G.711", 8: "G.711", 11: "Speex",
}  # fmt: skip
_VIDEO_FOURCCS = {
    b"avc1": "h264",
    b"hvc1": "h265",
    b"av01": "av1",
    b"vp08": "vp8",
    b"vp09": "vp9",
}
_AUDIO_FOURCCS = {b"Opus": "opus", b"mp4a": "aac", b".mp3": "mp3"}
FOURCCS = tuple([code.decode() for code in (*_VIDEO_FOURCCS, *_AUDIO_FOURCCS)])
_WITH_COMPOSITION = frozenset((b"avc1", b"hvc1"))


@dataclass(slots=True, unsafe_hash=True)
class FlvTag:
    """
    What a tag carries.

    Args:
        codec: as `Track` names it.
        is_configuration: the data are what decoders need first, not a frame.
        key: a keyframe; True for audio.
        composition: milliseconds from decoding to presentation.
        data: the configuration, or the frame.
    """

    codec: Final[str]
    is_configuration: Final[bool]
    key: Final[bool]
    composition: Final[int]
    data: Final[bytes]


def parse_video(body: bytes) -> FlvTag | None:
    """
    Parse the body of a video tag.

    Returns:
        None if it has neither a frame nor a configuration, or is of another track than the first.

    Raises:
        RemoteProtocolError: it is truncated, or its codec cannot be shown.
    """
    if len(body) < 2:
        return None
    first = body[0]
    if first & 0x80:
        is_info = first >> 4 & 7 == _INFO
        is_key = first >> 4 & 7 == _KEY
        return None if is_info else _parse_enhanced(body, is_key, _VIDEO_FOURCCS)
    if first >> 4 == _INFO:
        return None
    codec = _VIDEO_CODECS.get(first & 15)
    if codec is None:
        name = _OTHER_VIDEO.get(first & 15, f"codec {first & 15}")
        raise RemoteProtocolError(f"RTMP: {name} cannot be shown: encode video as H264")
    if len(body) < 5:
        raise _truncated()
    if body[1] > _CODED_FRAMES:
        return None
    return FlvTag(
        codec,
        body[1] == _SEQUENCE_START,
        first >> 4 == _KEY,
        int.from_bytes(body[2:5], signed=True),
        body[5:],
    )


def parse_audio(body: bytes) -> FlvTag | None:
    """
    Parse the body of an audio tag.

    Returns:
        None if it has neither a frame nor a configuration, or is of another track than the first.

    Raises:
        RemoteProtocolError: it is truncated, or its codec cannot be shown.
    """
    if len(body) < 2:
        return None
    number = body[0] >> 4
    if number == _ENHANCED_AUDIO:
        return _parse_enhanced(body, True, _AUDIO_FOURCCS)
    codec = _AUDIO_CODECS.get(number)
    if codec is None:
        name = _OTHER_AUDIO.get(number, f"codec {number}")
        raise RemoteProtocolError(f"RTMP: {name} cannot be shown: encode audio as AAC")
    if codec == "mp3":
        return FlvTag(codec, False, True, 0, body[1:])
    if body[1] > _CODED_FRAMES:
        return None
    return FlvTag(codec, body[1] == _SEQUENCE_START, True, 0, body[2:])


def split_aggregate(timestamp: int, payload: bytes) -> list[tuple[int, int, bytes]]:
    """
    Split an aggregate message (RTMP 1.0, 7.1.6).

    Args:
        timestamp: of the message; the first tag has it, the others keep their distance.
        payload: tags, each with its header and followed by its size.

    Returns:
        The types, the timestamps modulo 2**32 and the bodies.

    Raises:
        RemoteProtocolError: a tag is truncated, or there are over MAX_TAGS.
    """
    found: list[tuple[int, int, bytes]] = []
    position = 0
    shift: int | None = None
    while position < len(payload):
        if len(found) == MAX_TAGS:
            raise RemoteProtocolError(f"RTMP: a message has over {MAX_TAGS} tags")
        start = position + TAG_HEADER
        end = start + int.from_bytes(payload[position + 1 : position + 4])
        if end > len(payload):
            raise _truncated()
        time = payload[position + 7] << 24 | int.from_bytes(payload[position + 4 : position + 7])
        if shift is None:
            shift = timestamp - time
        found.append((payload[position], (time + shift) % 2**32, payload[start:end]))
        position = end + 4
    return found


def _parse_enhanced(body: bytes, key: bool, codecs: Mapping[bytes, str]) -> FlvTag | None:
    packet, position = body[0] & 15, 1
    for _ in range(_MAX_MODIFIERS):
        if packet != _MODIFIED:
            break
        size = _at(body, position) + 1
        position += 1
        if size == 256:
            size = int.from_bytes(body[position : position + 2]) + 1
            position += 2
        position += size
        packet = _at(body, position) & 15
        position += 1
    if packet == _MULTITRACK:
        several, packet = _at(body, position) >> 4, _at(body, position) & 15
        fourcc, data = _first_track(body, position + 1, several)
        if not fourcc:
            return None
    else:
        fourcc, data = body[position : position + 4], body[position + 4 :]
    if packet not in (_SEQUENCE_START, _CODED_FRAMES, _CODED_FRAMES_X):
        return None
    codec = codecs.get(fourcc)
    if codec is None:
        name = fourcc.decode("latin-1")
        raise RemoteProtocolError(
            f"RTMP: the codec {name!r} cannot be shown: encode video as H264 and audio as AAC"
        )
    composition = 0
    if packet == _CODED_FRAMES and fourcc in _WITH_COMPOSITION:
        if len(data) < 3:
            raise _truncated()
        composition = int.from_bytes(data[:3], signed=True)
        data = data[3:]
    return FlvTag(codec, packet == _SEQUENCE_START, key, composition, data)


def _first_track(body: bytes, position: int, several: int) -> tuple[bytes, bytes]:
    """
    Return codec and data of the track with the number 0.

    Args:
        body: of the tag.
        position: where the first codec or track begins.
        several: 0 for one track without a size, 1 for tracks of one codec, 2 for tracks with a
            codec each.

    Returns:
        Two empty strings if there is no such track.
    """
    fourcc = b""
    if several != _MANY_CODECS:
        fourcc = body[position : position + 4]
        position += 4
    while position < len(body):
        if several == _MANY_CODECS:
            fourcc = body[position : position + 4]
            position += 4
        number = _at(body, position)
        position += 1
        size = len(body) - position
        if several:
            size = int.from_bytes(body[position : position + 3])
            position += 3
        if number == 0:
            return fourcc, body[position : position + size]
        position += size
    return b"", b""


def _at(body: bytes, position: int) -> int:
    if position >= len(body):
        raise _truncated()
    return body[position]


def _truncated() -> RemoteProtocolError:
    return RemoteProtocolError("RTMP: the header of a frame is truncated")
