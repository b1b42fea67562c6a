"""
The containers of live publishers, recognized by their first bytes.
"""

from __future__ import annotations

from typing import Protocol

from rt_twisted.media.matroska import MatroskaReader
from rt_twisted.media.mp4_reader import Mp4Reader
from rt_twisted.media.track_details import Part

START_BYTES = 8  # that are needed to recognize a container
_EBML = b"\x1a\x45\xdf\xa3"
_FTYP = b"ftyp"  # behind the length of the first box


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


def find_reader(start: bytes) -> ContainerReader | None:
    """
    Return a reader of the stream that begins with *start*, START_BYTES or all there are.

    Returns:
        None for a stream that is neither WebM, nor Matroska, nor MP4.
    """
    if start.startswith(_EBML):
        return MatroskaReader()
    return Mp4Reader() if start[4:8] == _FTYP else None


def may_be_container(start: bytes) -> bool:
    """
    Return whether a stream that begins with the few bytes of *start* may be one that
    `find_reader` recognizes with more of them.
    """
    if len(start) >= START_BYTES:
        return find_reader(start) is not None
    # The first box is short: its length begins with zeros.
    is_box = b"\0\0".startswith(start[:2]) and _FTYP.startswith(start[4:8])
    return is_box or _EBML.startswith(start[:4])
