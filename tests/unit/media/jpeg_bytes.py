"""
JPEG pictures, built segment by segment.
"""

from __future__ import annotations

SOI, EOI = b"\xff\xd8", b"\xff\xd9"


def segment(code: int, data: bytes) -> bytes:
    return bytes((0xFF, code)) + (len(data) + 2).to_bytes(2) + data


def jpeg(
    text: bytes = b"picture", size: tuple[int, int] = (320, 240), inside: bytes = b""
) -> bytes:
    """
    Return a picture whose structure is valid.

    Args:
        text: of its comment.
        size: width and height.
        inside: further segments, before the frame header.
    """
    width, height = size
    frame = b"\x08" + height.to_bytes(2) + width.to_bytes(2) + b"\x01\x01\x11\x00"
    scan = b"\x12\xff\x00\x34\xff\xd0\x56\xff\xd7"
    parts = (
        segment(0xFE, text),
        inside,
        segment(0xC0, frame),
        segment(0xDA, b"\x01\x01\0\0\x3f\0"),
    )
    return SOI + b"".join(parts) + scan + EOI


def with_thumbnail(text: bytes = b"thumbnail") -> bytes:
    """
    Return a picture with another one, with its own EOI, in an EXIF segment.
    """
    return jpeg(inside=segment(0xE1, b"Exif\0\0" + jpeg(text)))
