"""
Frames that are spread over packets with marks at their first and last one (VP8, VP9).
"""

from __future__ import annotations

from dataclasses import dataclass

from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.rtp.payload_format import too_large
from rt_twisted.media.unit import MAX_UNIT


@dataclass(frozen=True, slots=True)
class EndedFrame:
    """
    A frame whose last part has arrived.

    Args:
        timestamp: RTP timestamp.
        data: None in place of a frame with a gap.
    """

    timestamp: int
    data: bytes | None


class FrameBuffer:
    """
    Collects the parts of a frame. Its end is the marker, or another timestamp.

    Args:
        max_unit: bytes of a frame.
    """

    __slots__ = ("_data", "_max_unit", "_timestamp", "_whole")

    def __init__(self, max_unit: int = MAX_UNIT) -> None:
        self._max_unit = max_unit
        self._data = bytearray()
        self._timestamp: int | None = None
        self._whole = False  # all parts so far have arrived

    def begin(self, timestamp: int) -> EndedFrame | None:
        """
        Return the frame before a packet with *timestamp*, if that ends now.
        """
        return None if timestamp == self._timestamp else self._finish()

    def add(self, packet: RtpPacket, part: bytes, is_first: bool) -> EndedFrame | None:
        """
        Add a part of a frame, behind `begin`. Return its frame, if it is the last part.

        Args:
            packet: has the timestamp and the marker.
            part: of the frame.
            is_first: whether it is the first one.

        Raises:
            RemoteProtocolError: the frame is too large.
        """
        if self._timestamp is None:
            self._timestamp = packet.timestamp
            self._whole = is_first
        self._data += part
        if len(self._data) > self._max_unit:
            self._whole = False
            self._data.clear()
            raise too_large(self._max_unit)
        return self._finish() if packet.marker else None

    def lost(self) -> None:
        """
        Take note that packets are missing.
        """
        self._whole = False

    def _finish(self) -> EndedFrame | None:
        found = None
        if self._timestamp is not None and self._data:
            found = EndedFrame(self._timestamp, bytes(self._data) if self._whole else None)
        self._data.clear()
        self._timestamp = None
        self._whole = False
        return found
