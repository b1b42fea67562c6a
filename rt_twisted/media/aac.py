"""
AAC: the AudioSpecificConfig (ISO/IEC 14496-3, 1.6.2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.bits import BitReader

RATES = (
    96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350,
)  # fmt: skip
_CHANNELS = (0, 1, 2, 3, 4, 5, 6, 8)
_EXPLICIT_RATE = 15
_EXTENDED_TYPE = 31
_BASIC = frozenset((1, 2, 3, 4, 6, 7, 17, 19, 20, 21, 22, 23))  # with a GASpecificConfig
_LOW_COMPLEXITY = 2


@dataclass(frozen=True, slots=True)
class AacConfig:
    """
    What an AudioSpecificConfig says.

    Args:
        object_type: 2 for low complexity, 5 for HE-AAC.
        rate: samples per second of the core.
        channels: 0 if the stream itself has them.
        samples: of one frame: 1024 or 960.
    """

    object_type: int
    rate: int
    channels: int
    samples: int


def parse_config(config: bytes) -> AacConfig:
    """
    Parse an AudioSpecificConfig.

    Raises:
        RemoteProtocolError: it is truncated, or its sample rate is invalid.
    """
    reader = BitReader(config[:16])
    kind = _object_type(reader)
    rate = _rate(reader)
    channels = reader.bits(4)
    core = kind
    if kind in (5, 29):
        _rate(reader)
        core = _object_type(reader)
    samples = 960 if core in _BASIC and reader.flag() else 1024
    return AacConfig(kind, rate, _CHANNELS[channels] if channels < 8 else 0, samples)


def object_type(config: bytes) -> int:
    """
    Return the object type of an AudioSpecificConfig; low complexity if it is malformed.
    """
    try:
        return parse_config(config).object_type
    except RemoteProtocolError:
        return _LOW_COMPLEXITY


def _object_type(reader: BitReader) -> int:
    kind = reader.bits(5)
    return 32 + reader.bits(6) if kind == _EXTENDED_TYPE else kind


def _rate(reader: BitReader) -> int:
    index = reader.bits(4)
    if index == _EXPLICIT_RATE:
        return reader.bits(24)
    if index >= len(RATES):
        raise RemoteProtocolError("AAC: the sample rate is invalid")
    return RATES[index]
