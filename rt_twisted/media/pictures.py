"""
Motion JPEG from a publisher, as the track and the frames of a live stream.
"""

from __future__ import annotations

from collections.abc import Callable

from rt_twisted.media.jpeg import JpegReader, size_of
from rt_twisted.media.multipart import MultipartReader
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit


class PictureReader:
    """
    Reads pictures, each a keyframe at the time when it is complete.

    Args:
        reader: splits the stream.
        seconds: returns a time that never decreases.
    """

    def __init__(self, reader: JpegReader | MultipartReader, seconds: Callable[[], float]) -> None:
        self._reader = reader
        self._seconds = seconds
        self._size: tuple[int, int] | None = None  # of the last picture

    def feed(self, data: bytes) -> list[Part]:
        """
        Read the next bytes of the stream.

        Returns:
            The pictures that *data* completed, in order; the track comes before the first
            one, and again when the size changes.

        Raises:
            RemoteProtocolError: see `JpegReader.feed` and `MultipartReader.feed`. The reader
                cannot be used again.
        """
        found: list[Part] = []
        for picture in self._reader.feed(data):
            size = size_of(picture)
            if size != self._size:
                self._size = size
                found.append((Track(1, Kind.VIDEO, "jpeg", size=size),))
            time = round(self._seconds() * 1_000_000)
            found.append(Unit(1, time, time, 0, True, 0, 0, picture))
        return found
