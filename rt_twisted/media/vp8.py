"""
VP8: keyframes and their size (RFC 6386, 9.1).
"""

from __future__ import annotations

_START_CODE = b"\x9d\x01\x2a"


def is_keyframe(frame: bytes) -> bool:
    """
    Return whether *frame* is a keyframe.
    """
    return len(frame) >= 10 and not frame[0] & 1 and frame[3:6] == _START_CODE


def size_of(frame: bytes) -> tuple[int, int]:
    """
    Return width and height of a keyframe.
    """
    width = int.from_bytes(frame[6:8], "little") & 0x3FFF
    height = int.from_bytes(frame[8:10], "little") & 0x3FFF
    return width, height
