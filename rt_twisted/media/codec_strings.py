"""
Codec strings for `Content-Type` and `MediaSource.isTypeSupported` (RFC 6381).
"""

from __future__ import annotations

from rt_twisted.media import vp9
from rt_twisted.media.aac import object_type
from rt_twisted.media.unit import Track

_PLAIN = frozenset(("vp8", "opus", "vorbis", "mp3"))
_DEFAULT_AV1 = b"\x81\x05\x0c\x00"  # profile 0, level 3.1, 8 bits


def codec_string(track: Track) -> str:
    """
    Return the codec string of *track*, such as `avc1.64001F`; "" if its codec has none.
    """
    private = track.private
    match track.codec:
        case codec if codec in _PLAIN:
            return codec
        case "vp9":
            return "vp09.{:02}.{:02}.{:02}".format(*vp9.read_features(private, track.size))
        case "av1":
            return _av1(private if len(private) >= 4 else _DEFAULT_AV1)
        case "h264" if len(private) >= 4:
            return f"avc1.{private[1:4].hex().upper()}"
        case "h265" if len(private) >= 13:
            return _h265(private)
        case "aac":
            return f"mp4a.40.{object_type(private)}"
    return ""


def _av1(record: bytes) -> str:
    """
    Return the string of an AV1CodecConfigurationRecord (AV1 in ISO-BMFF, 2.3 and 5).
    """
    tier = "H" if record[2] & 0x80 else "M"
    depth = 8
    if record[2] & 0x40:
        depth = 12 if record[2] & 0x20 else 10
    return f"av01.{record[1] >> 5}.{record[1] & 31:02}{tier}.{depth:02}"


def _h265(record: bytes) -> str:
    """
    Return the string of an HEVCDecoderConfigurationRecord (ISO/IEC 14496-15, E.3).
    """
    space = ("", "A", "B", "C")[record[1] >> 6]
    tier = "H" if record[1] & 0x20 else "L"
    compatible = int(f"{int.from_bytes(record[2:6]):032b}"[::-1], 2)
    constraints = record[6:12].rstrip(b"\0")
    return ".".join(
        [
            f"hvc1.{space}{record[1] & 31}",
            f"{compatible:X}",
            f"{tier}{record[12]}",
            *(f"{byte:X}" for byte in constraints),
        ]
    )
