"""
What a client records as plain messages, for programs of the user.
"""

from __future__ import annotations

from collections.abc import Mapping

from rt_twisted.actions.ingest.publication import LivePublication
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.elementary import write_adts, write_annexb, write_parameter_sets
from rt_twisted.media.rtp.reader import RtpReader
from rt_twisted.media.unit import Track, Unit
from rt_twisted.model.message import Draft


class RawPackets:
    """
    Publishes each packet, unchanged, with the event type `rtp/CHANNEL`.
    """

    def publish(self, publication: LivePublication, channel: int, data: bytes, time: int) -> None:
        publication.publish([Draft(publication.channel, data, f"rtp/{channel}")])


class PrefixedFrames:
    """
    Publishes each frame behind its channel and time, in uwsgi-realtime's layout.

    It is one byte for the channel, eight for the presentation time in milliseconds (big-endian),
    then the frame: H264 and H265 with start codes, AAC with an ADTS header.

    Args:
        reader: of the packets.
        channels: the channel of each track by its id.
    """

    def __init__(self, reader: RtpReader, channels: Mapping[int, int]) -> None:
        self._reader = reader
        self._channels = channels
        self._tracks: dict[int, Track] = {}

    def publish(self, publication: LivePublication, channel: int, data: bytes, time: int) -> None:
        drafts = []
        for part in self._reader.feed(channel, data, time):
            if isinstance(part, tuple):
                self._tracks = {track.id: track for track in part}
            else:
                drafts.append(Draft(publication.channel, self._frame(part)))
        if drafts:
            publication.publish(drafts)

    def _frame(self, unit: Unit) -> bytes:
        track = self._tracks[unit.track]
        time = max(0, unit.pts // 1000).to_bytes(8)
        return bytes((self._channels[unit.track],)) + time + elementary(track, unit)


def elementary(track: Track, unit: Unit) -> bytes:
    """
    Return a frame as decoders without a container read it.
    """
    try:
        if track.codec in ("h264", "h265"):
            sets = write_parameter_sets(track) if unit.key else b""
            return sets + write_annexb(unit.data)
        if track.codec == "aac":
            return write_adts(track.private, unit.data)
    except RemoteProtocolError:
        pass
    return unit.data
