"""
VP9: keyframes, their size and profile (VP9 bitstream specification, 6.2); levels.
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader

_SYNC_CODE = 0x498342
_RGB = 7

# Luma picture size up to which each level goes (annex A), for usual frame rates.
_LEVELS = (
    (36_864, 10),
    (73_728, 11),
    (122_880, 20),
    (245_760, 21),
    (552_960, 30),
    (983_040, 31),
    (2_228_224, 40),
    (8_912_896, 50),
    (35_651_584, 60),
)


@dataclass(frozen=True, slots=True)
class Vp9Keyframe:
    """
    What the header of a keyframe says.

    Args:
        profile: 0 to 3.
        depth: bits of a sample: 8, 10 or 12.
        size: width and height.
    """

    profile: int
    depth: int
    size: tuple[int, int]


def parse_keyframe(frame: bytes) -> Vp9Keyframe | None:
    """
    Return what the header of *frame* says; None if it is not a keyframe.
    """
    try:
        return _parse(BitReader(frame[:16]))
    except RemoteProtocolError:
        return None


def _parse(reader: BitReader) -> Vp9Keyframe | None:
    if reader.bits(2) != 2:
        return None
    profile = reader.bits(1) + 2 * reader.bits(1)
    if profile == 3:
        reader.bits(1)
    if reader.flag() or reader.flag():  # shows an earlier frame; is not a keyframe
        return None
    reader.bits(2)
    if reader.bits(24) != _SYNC_CODE:
        return None
    depth = 8
    if profile >= 2:
        depth = 12 if reader.flag() else 10
    if reader.bits(3) != _RGB:
        reader.bits(4 if profile in (1, 3) else 1)
    elif profile in (1, 3):
        reader.bits(1)
    return Vp9Keyframe(profile, depth, (reader.bits(16) + 1, reader.bits(16) + 1))


def level_of(size: tuple[int, int]) -> int:
    """
    Return the level for pictures of *size*, ten times its number.
    """
    area = size[0] * size[1]
    return next((level for most, level in _LEVELS if area <= most), 62)


def write_features(profile: int, level: int, depth: int) -> bytes:
    """
    Return the CodecPrivate of WebM: features with ID, size and value.
    """
    return bytes((1, 1, profile, 2, 1, level, 3, 1, depth))


def read_features(private: bytes, size: tuple[int, int]) -> tuple[int, int, int]:
    """
    Return profile, level and bits of a sample.

    Args:
        private: the CodecPrivate of WebM, often b"".
        size: of the picture, for the level if *private* has none.
    """
    features = {}
    for start in range(0, len(private) - 2, 3):
        if private[start + 1] != 1:
            break
        features[private[start]] = private[start + 2]
    return features.get(1, 0), features.get(2, level_of(size)), features.get(3, 8)
