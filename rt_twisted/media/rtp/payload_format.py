"""
What the payload formats of all codecs have in common.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.rtp.packet import RtpPacket
from rt_twisted.media.sdp import MediaDescription
from rt_twisted.media.unit import MAX_UNIT, Track


@dataclass(slots=True, unsafe_hash=True)
class MediaFrame:
    """
    One frame, as units have it.

    Args:
        track: what is known about its track by then.
        timestamp: RTP timestamp of its presentation; may be above 2^32 - 1, if the packet
            has several frames.
        data: the payload of its unit.
        key: it can be decoded without the frames before it.
        duration: in ticks of the RTP clock; 0 if unknown.
        reorder: by how many frames decoding order and presentation order differ at most.
    """

    track: Final[Track]
    timestamp: Final[int]
    data: Final[bytes]
    key: Final[bool] = True
    duration: Final[int] = 0
    reorder: Final[int] = 0


class Depacketizer(Protocol):
    """
    Makes frames of the packets of one track.
    """

    def feed(self, packet: RtpPacket, found: list[MediaFrame]) -> None:
        """
        Append the frames that *packet* completes to *found*, in decoding order.

        Args:
            packet: the next one by its sequence number.
            found: gets the frames, also those before what is malformed.

        Raises:
            RemoteProtocolError: its payload is malformed. The next packets can be fed, after
                `lost`.
        """

    def lost(self) -> None:
        """
        Take note that packets are missing before the next one.

        The frame in progress is dropped. Video goes on at the next keyframe.
        """


class PayloadFormat(Protocol):
    """
    The payload format of one codec, in both directions.
    """

    @property
    def codec(self) -> str:
        """
        The name that tracks have for the codec.
        """

    def depacketizer(
        self, media: MediaDescription, id: int, max_unit: int = MAX_UNIT
    ) -> Depacketizer:
        """
        Return a depacketizer.

        Args:
            media: describes the track.
            id: of the track.
            max_unit: bytes of a frame, if one can have several packets.

        Raises:
            RemoteProtocolError: the description lacks what is needed, or it is malformed.
        """

    def mapping(self, track: Track) -> str:
        """
        Return the value of `a=rtpmap` for *track*, such as `H264/90000`.
        """

    def parameters(self, track: Track) -> str:
        """
        Return the value of `a=fmtp` for *track*; "" for none.
        """

    def packetize(self, track: Track, data: bytes, count: int) -> Sequence[bytes]:
        """
        Return the payloads of the packets of one frame; the last one has the marker.

        Args:
            track: of the frame.
            data: the frame.
            count: how many packets there should be: one for each 1,400 bytes or part of them.

        Returns:
            at most *count* payloads; none if the frame cannot be sent.
        """


def too_large(max_unit: int) -> RemoteProtocolError:
    """
    Return the error of a frame that is larger than *max_unit* bytes.
    """
    return RemoteProtocolError(f"a frame is larger than {max_unit} bytes (max-unit)")


def split(data: bytes, count: int) -> list[bytes]:
    """
    Return *data* in *count* pieces whose sizes differ by one at most, and none is empty.
    """
    if count < 2:
        return [data] if data else []
    found = []
    start = 0
    for size in split_sizes(len(data), count):
        found.append(data[start : start + size])
        start += size
    return found


def split_sizes(total: int, count: int) -> list[int]:
    """
    Return *count* sizes that make *total*; fewer if one would be 0.
    """
    count = min(count, total)
    if not count:
        return []
    size, larger = divmod(total, count)
    return [size + 1] * larger + [size] * (count - larger)
