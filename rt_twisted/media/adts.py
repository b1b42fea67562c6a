"""
One AAC frame with an ADTS header (ISO/IEC 14496-3, 1.A.2.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.media.aac import RATES

_HEADER = 7  # bytes; two more with a checksum


@dataclass(frozen=True, slots=True)
class AdtsFrame:
    """
    A frame without its header.

    Args:
        data: of the frame.
        described: the AudioSpecificConfig, samples per second and number of channels, as the
            header says.
    """

    data: bytes
    described: tuple[bytes, int, int]


def strip_adts(frame: bytes) -> AdtsFrame | None:
    """
    Return *frame* without its ADTS header; None if it has none.
    """
    if len(frame) <= _HEADER or frame[0] != 0xFF or frame[1] & 0xF6 != 0xF0:
        return None
    index = frame[2] >> 2 & 15
    channels = (frame[2] & 1) << 2 | frame[3] >> 6
    size = (frame[3] & 3) << 11 | frame[4] << 3 | frame[5] >> 5
    if index >= len(RATES) or size != len(frame) or not channels:
        return None
    kind = (frame[2] >> 6) + 1
    config = (kind << 11 | index << 7 | channels << 3).to_bytes(2)
    start = _HEADER if frame[1] & 1 else _HEADER + 2
    return AdtsFrame(frame[start:], (config, RATES[index], 8 if channels == 7 else channels))
