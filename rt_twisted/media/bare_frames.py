"""
Frames without a container, as a program publishes them: what the codec's own header says.
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.media import av1, opus, vp8, vp9
from rt_twisted.media.adts import strip_adts
from rt_twisted.media.h264 import convert_annexb, parse_avcc, parse_sps
from rt_twisted.media.matroska_tracks import CODECS
from rt_twisted.media.unit import Kind, Track

VIDEO_CODECS = ("V_VP8", "V_VP9", "V_AV1", "V_MPEG4/ISO/AVC")
AUDIO_CODECS = ("A_OPUS", "A_AAC")
_AAC = b"\x12\x10"  # low complexity, 44.1 kHz, stereo


@dataclass(frozen=True, slots=True)
class BareFrame:
    """
    A frame whose codec is known.

    Args:
        key: whether it can be decoded without the frames before it.
        data: as containers store it.
        size: width and height of a video keyframe; otherwise (0, 0).
        private: what decoders need first; b"" if the frame does not have it.
        rate: samples per second of an audio frame; 0 if the frame does not say.
        channels: likewise.
    """

    key: bool
    data: bytes
    size: tuple[int, int] = (0, 0)
    private: bytes = b""
    rate: int = 0
    channels: int = 0


def read_frame(codec: str, frame: bytes) -> BareFrame:
    """
    Read a frame; one that is malformed is not a keyframe.

    Args:
        codec: the Matroska name, in VIDEO_CODECS or AUDIO_CODECS.
        frame: H264 with start codes (annex B); AAC with or without an ADTS header.

    Raises:
        RemoteProtocolError: what describes an H264 or AV1 frame is malformed.
    """
    if codec == "V_VP8":
        key = vp8.is_keyframe(frame)
        return BareFrame(key, frame, vp8.size_of(frame) if key else (0, 0))
    if codec == "V_VP9":
        header = vp9.parse_keyframe(frame)
        if header is None:
            return BareFrame(False, frame)
        features = vp9.write_features(header.profile, vp9.level_of(header.size), header.depth)
        return BareFrame(True, frame, header.size, features)
    if codec == "V_MPEG4/ISO/AVC":
        converted = convert_annexb(frame)
        record = converted.record
        size = parse_sps(parse_avcc(record)[1][0]).size if record else (0, 0)
        return BareFrame(converted.key and bool(record), converted.data, size, record)
    if codec == "V_AV1":
        unit = av1.read_unit(frame)
        return BareFrame(unit.key, unit.data, unit.size, unit.record)
    if codec == "A_AAC":
        stripped = strip_adts(frame)
        if stripped is not None:
            return BareFrame(True, stripped.data, (0, 0), *stripped.described)
    return BareFrame(True, frame)


def video_track(id: int, codec: str, frame: BareFrame) -> Track:
    """
    Return the track of bare video frames that begins with the keyframe *frame*.
    """
    return Track(id, Kind.VIDEO, CODECS[codec], frame.private, size=frame.size)


def audio_track(id: int, codec: str, frame: BareFrame | None = None) -> Track:
    """
    Return the track of bare audio frames: Opus in stereo, which decodes mono packets too; AAC
    as *frame* says, and without it 44.1 kHz in stereo.
    """
    if codec == "A_AAC":
        if frame is not None and frame.private:
            private, rate, channels = frame.private, frame.rate, frame.channels
        else:
            private, rate, channels = _AAC, 44100, 2
        return Track(id, Kind.AUDIO, CODECS[codec], private, rate, channels)
    return Track(id, Kind.AUDIO, CODECS[codec], opus.write_head(2), opus.RATE, 2)
