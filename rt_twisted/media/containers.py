"""
What live publishers send, recognized by its first bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rt_twisted.media.jpeg import START, JpegReader
from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mp4_reader import Mp4Reader
from rt_twisted.media.multipart import MultipartReader
from rt_twisted.media.pictures import PictureReader
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import MAX_UNIT

START_BYTES = 8  # that are needed to recognize a container
_EBML = b"\x1a\x45\xdf\xa3"
_FTYP = b"ftyp"  # behind the length of the first box
_DASHES = b"--"
_MULTIPART = "multipart/x-mixed-replace"
_LINE_END = b"\r\n"


class ContainerReader(Protocol):
    """
    Reads one stream of a container, however it is split.
    """

    def feed(self, data: bytes) -> list[Part]:
        """
        Read the next bytes, and return the tracks and frames that they complete, in order.

        Raises:
            RemoteProtocolError: the stream is malformed or exceeds a bound.
        """


def find_reader(
    start: bytes, content_type: str, seconds: Callable[[], float], max_unit: int = MAX_UNIT
) -> ContainerReader | None:
    """
    Return a reader of a stream.

    Args:
        start: its first START_BYTES, or all there are.
        content_type: that the publisher announces; "" for none.
        seconds: returns the time for pictures, which have none.
        max_unit: bytes of a frame; pictures have a bound of their own.

    Returns:
        None for a stream that is neither WebM, nor Matroska, nor MP4, nor Motion JPEG.
    """
    if start.startswith(_EBML):
        return MatroskaReader(max_unit=max_unit)
    if start[4:8] == _FTYP:
        return Mp4Reader(max_unit)
    if start.startswith(START):
        return PictureReader(JpegReader(), seconds)
    if content_type.lower().startswith(_MULTIPART) or _is_multipart(start):
        return PictureReader(MultipartReader(), seconds)
    return None


def _is_multipart(start: bytes) -> bool:
    return start.removeprefix(_LINE_END).startswith(_DASHES)


def may_be_container(start: bytes) -> bool:
    """
    Return whether a stream that begins with the few bytes of *start* may be one that
    `find_reader` recognizes with more of them.
    """
    if len(start) >= START_BYTES:
        return find_reader(start, "", float) is not None
    # The first box is short: its length begins with zeros.
    is_box = b"\0\0".startswith(start[:2]) and _FTYP.startswith(start[4:8])
    if is_box or _EBML.startswith(start[:4]) or START.startswith(start[:3]):
        return True
    return _is_multipart(start) or (_LINE_END + _DASHES).startswith(start) or start == b"-"
