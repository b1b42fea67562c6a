"""
What a client records as plain messages, for programs of the user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publication import LivePublication
from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.hub.publishers import LivePublisher
from rt_twisted.media.elementary import write_adts, write_annexb, write_parameter_sets
from rt_twisted.media.live_run import LiveRun
from rt_twisted.media.rtp.reader import RtpReader
from rt_twisted.media.unit import Track, Unit
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Draft
from rt_twisted.rtsp.interfaces import ConnectionInput


class PlainRecording:
    """
    Publishes each packet, unchanged, or each frame behind its channel and time.

    A packet has the event type `rtp/CHANNEL`. A frame has uwsgi-realtime's layout: one byte
    for the channel, eight for the presentation time in milliseconds (big-endian), then the
    frame: H264 and H265 with start codes, AAC with an ADTS header.

    Args:
        context: the hub and the settings.
        publisher: the right to publish.
        run: is not used, as nothing is numbered.
        reader: of frames; None to publish packets.
        channels: the channel of each track by its id.
        input: is paused while the broker is slow.
        end: ends the connection, with the reason.
    """

    def __init__(
        self,
        context: ActionContext,
        publisher: LivePublisher,
        run: LiveRun,
        reader: RtpReader | None,
        channels: Mapping[int, int],
        input: ConnectionInput,
        end: Callable[[str], object],
    ) -> None:
        self._seconds = context.hub.seconds
        self._reader = reader
        self._channels = channels
        self._tracks: dict[int, Track] = {}
        self._input = input
        self._end = end
        self._publication = LivePublication(context, self, publisher, run)

    def touch(self) -> None:
        """
        Note that something was received.
        """
        self._publication.touch()

    def packet(self, channel: int, data: bytes) -> None:
        """
        Receive a packet.
        """
        name = self._publication.channel
        if self._reader is None:
            self._publication.publish([Draft(name, data, f"rtp/{channel}")])
            return
        drafts = []
        for part in self._reader.feed(channel, data, round(self._seconds() * 1_000_000)):
            if isinstance(part, tuple):
                self._tracks = {track.id: track for track in part}
            else:
                drafts.append(Draft(name, self._frame(part)))
        if drafts:
            self._publication.publish(drafts)

    def close(self, reason: str) -> None:
        """
        End the publication.
        """
        self._publication.close(reason)
        # Break the reference cycle, else memory is held until the garbage collector runs.
        del self._publication

    def _frame(self, unit: Unit) -> bytes:
        track = self._tracks[unit.track]
        time = max(0, unit.pts // 1000).to_bytes(8)
        return bytes((self._channels[unit.track],)) + time + elementary(track, unit)

    # The owner of the publication.

    def pause(self) -> None:
        self._input.pause_input()

    def resume(self) -> None:
        self._input.resume_input()

    def acknowledged(self) -> None:
        pass

    def refuse(self, error: HttpError) -> None:
        self._end(error.reason)


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
