"""
Opus: the duration of a packet and the identification header (RFC 6716, 3.1; RFC 7845, 5.1).
"""

from __future__ import annotations

RATE = 48000  # samples per second, whatever was encoded
PRE_SKIP = 312  # samples that decoders discard at the start, as libopus needs it

_SILK = (10_000, 20_000, 40_000, 60_000)
_HYBRID = (10_000, 20_000)
_CELT = (2_500, 5_000, 10_000, 20_000)
_MAX_DURATION = 120_000  # microseconds


def duration_of(packet: bytes) -> int:
    """
    Return the duration of a packet in microseconds; 0 if it is malformed.
    """
    if not packet:
        return 0
    config = packet[0] >> 3
    if config < 12:
        frame = _SILK[config % 4]
    elif config < 16:
        frame = _HYBRID[config % 2]
    else:
        frame = _CELT[config % 4]
    code = packet[0] & 3
    if code < 3:
        return frame * (1 if code == 0 else 2)
    if len(packet) < 2:
        return 0
    duration = frame * (packet[1] & 63)
    return duration if duration <= _MAX_DURATION else 0


def is_stereo(packet: bytes) -> bool:
    """
    Return whether a packet has two channels.
    """
    return bool(packet and packet[0] & 4)


def write_head(channels: int) -> bytes:
    """
    Return an OpusHead of one or two channels.
    """
    return (
        b"OpusHead\x01"
        + channels.to_bytes(1)
        + PRE_SKIP.to_bytes(2, "little")
        + RATE.to_bytes(4, "little")
        + b"\0\0\0"
    )
