"""
How MP4 describes codecs: sample entries and descriptors (ISO/IEC 14496-12, 8.5.2; 14496-14;
14496-15; the bindings of VP9, AV1 and Opus).
"""

from __future__ import annotations

from rt_twisted.media import vp9
from rt_twisted.media.mp4_boxes import box, full_box
from rt_twisted.media.unit import Kind, Track

AAC_OBJECT = 0x40
MP3_OBJECT = 0x6B

_VIDEO = {"h264": b"avc1", "h265": b"hvc1", "vp9": b"vp09", "av1": b"av01"}
_CONFIGURATIONS = {"h264": b"avcC", "h265": b"hvcC", "av1": b"av1C"}
CODECS = frozenset((*_VIDEO, "opus", "aac", "mp3"))


def sample_entry(track: Track) -> bytes:
    """
    Return the sample entry of a track whose codec is in CODECS.
    """
    if track.kind is Kind.VIDEO:
        return _visual(track)
    if track.codec == "opus":
        return _audio(b"Opus", track.channels, 48000, _opus(track))
    kind = MP3_OBJECT if track.codec == "mp3" else AAC_OBJECT
    return _audio(b"mp4a", track.channels, track.rate, _descriptor(kind, track.private))


def is_complete(track: Track) -> bool:
    """
    Return whether *track* has what its sample entry needs.
    """
    if track.codec in _CONFIGURATIONS or track.codec == "aac":
        return bool(track.private)
    return track.codec in CODECS


def _visual(track: Track) -> bytes:
    width, height = track.size
    if track.codec == "vp9":
        configuration = _vp9(track)
    else:
        configuration = box(_CONFIGURATIONS[track.codec], track.private)
    return box(
        _VIDEO[track.codec],
        bytes(6) + b"\0\1" + bytes(16),
        width.to_bytes(2) + height.to_bytes(2),
        b"\0\x48\0\0\0\x48\0\0" + bytes(4) + b"\0\1",
        bytes(32) + b"\0\x18\xff\xff",
        configuration,
    )


def _vp9(track: Track) -> bytes:
    profile, level, depth = vp9.read_features(track.private, track.size)
    subsampling = 3 if profile in (1, 3) else 1  # 4:4:4, 4:2:0
    unspecified = b"\2\2\2"  # colors
    packed = depth << 4 | subsampling << 1
    return full_box(b"vpcC", 1, 0, bytes((profile, level, packed)), unspecified, b"\0\0")


def _audio(kind: bytes, channels: int, rate: int, configuration: bytes) -> bytes:
    return box(
        kind,
        bytes(6) + b"\0\1" + bytes(8),
        max(1, channels).to_bytes(2) + b"\0\x10" + bytes(4),
        (min(rate, 65535) << 16).to_bytes(4),
        configuration,
    )


def _opus(track: Track) -> bytes:
    head = track.private
    if len(head) < 19:
        return box(b"dOps", bytes((0, max(1, track.channels), 1, 56)), b"\0\0\xbb\x80\0\0\0")
    # The fields of an OpusHead, most significant byte first.
    pre_skip, rate, gain = head[11:9:-1], head[15:11:-1], head[17:15:-1]
    return box(b"dOps", b"\0", head[9:10], pre_skip, rate, gain, head[18:])


def _descriptor(kind: int, private: bytes) -> bytes:
    """
    Return the elementary stream descriptor (ISO/IEC 14496-1, 7.2.6.5).
    """
    specific = _sized(5, private) if private else b""
    # An audio stream, without buffer size and bit rates.
    configuration = _sized(4, bytes((kind, 0x15)) + bytes(11) + specific)
    return full_box(b"esds", 0, 0, _sized(3, b"\0\1\0" + configuration + _sized(6, b"\2")))


def _sized(tag: int, payload: bytes) -> bytes:
    """
    Return a descriptor with its size in four bytes of seven bits.
    """
    size = len(payload)
    coded = bytes((size >> shift & 127 | (128 if shift else 0)) for shift in (21, 14, 7, 0))
    return bytes((tag,)) + coded + payload
