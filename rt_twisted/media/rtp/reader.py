"""
The packets of a publisher's tracks, read as tracks and units.
"""

from __future__ import annotations

from collections.abc import Iterable

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.media.reorder import DEFAULT_DURATION, DecodingTimes
from rt_twisted.media.rtp.clock import SessionClock, TrackClock
from rt_twisted.media.rtp.jitter_buffer import JitterBuffer
from rt_twisted.media.rtp.packet import parse_packet, parse_reports
from rt_twisted.media.rtp.payload_format import Depacketizer, MediaFrame
from rt_twisted.media.track_details import Part
from rt_twisted.media.unit import Kind, Track, Unit

MAX_INTERVAL = 1_000_000  # microseconds: a longer step is no duration of a frame


class RtpTrack:
    """
    One track of a publisher.

    Args:
        id: of the track.
        payload_type: of its packets; others are ignored.
        rate: of its RTP clock.
        depacketizer: of its codec.
        session: the clock of the publisher.

    Attributes:
        lost: gaps between its packets.
        malformed: packets that could not be read.
        problem: why the first of them could not.
    """

    def __init__(
        self,
        id: int,
        payload_type: int,
        rate: int,
        depacketizer: Depacketizer,
        session: SessionClock,
    ) -> None:
        self.id = id
        self.lost = 0
        self.malformed = 0
        self.problem = ""
        self._payload_type = payload_type
        self._rate = rate
        self._depacketizer = depacketizer
        self._session = session
        self._clock = TrackClock(rate, session)
        self._source: int | None = None
        self._buffer = JitterBuffer()
        self._decoding = DecodingTimes(0)
        self._reorder = 0
        self._last_dts: int | None = None
        self._duration = 0  # of the last frame (microseconds)

    def feed(self, data: bytes, now: int) -> list[tuple[Track, Unit]]:
        """
        Return the units that a packet completes, each with its track.

        Args:
            data: an RTP packet.
            now: microseconds.
        """
        try:
            packet = parse_packet(data)
        except RemoteProtocolError as error:
            self.malformed += 1
            self.problem = self.problem or error.reason
            return []
        if packet.payload_type != self._payload_type:
            return []
        if packet.source != self._source:
            if self._source is not None:  # the sender has begun again
                self._buffer = JitterBuffer()
                self._clock = TrackClock(self._rate, self._session)
                self._depacketizer.lost()
            self._source = packet.source
        found: list[tuple[Track, Unit]] = []
        for each in self._buffer.feed(packet, now):
            if each is None:
                self.lost += 1
                self._depacketizer.lost()
                continue
            frames: list[MediaFrame] = []
            try:
                self._depacketizer.feed(each, frames)
            except RemoteProtocolError as error:
                self.malformed += 1
                self.problem = self.problem or error.reason
                self._depacketizer.lost()
            for frame in frames:
                found.append((frame.track, self._unit(frame, now)))
        return found

    def report(self, data: bytes) -> None:
        """
        Read an RTCP packet.
        """
        for report in parse_reports(data):
            if self._source is None or report.source == self._source:
                self._clock.report(report.time, report.timestamp)

    def _unit(self, frame: MediaFrame, now: int) -> Unit:
        pts = self._clock.time_of(frame.timestamp, now)
        if frame.reorder != self._reorder:
            self._reorder = frame.reorder
            self._decoding = DecodingTimes(frame.reorder)
        dts = self._decoding.next(pts, self._duration)
        if frame.duration:
            duration = frame.duration * 1_000_000 // self._rate
        else:
            step = 0 if self._last_dts is None else dts - self._last_dts
            duration = step if 0 < step <= MAX_INTERVAL else self._duration or DEFAULT_DURATION
        self._last_dts = dts
        self._duration = duration
        return Unit(self.id, pts, dts, duration, frame.key, 0, 0, frame.data)


class RtpReader:
    """
    Reads the packets of all tracks of a publisher.

    Args:
        tracks: its tracks, with the number of the channel that each has: those of RTP are
            keys; the channel above has its RTCP, unless *reports* says otherwise.
        kinds: video or audio, of each track by its id.
        reports: the channels of RTCP, likewise.

    Attributes:
        problems: the id of each track with malformed packets, with the reason. The caller of
            `feed` clears the list.
    """

    def __init__(
        self,
        tracks: dict[int, RtpTrack],
        kinds: dict[int, Kind],
        reports: dict[int, RtpTrack],
    ) -> None:
        self._tracks = tracks
        self._reports = reports
        self.problems: list[tuple[int, str]] = []
        self._reported: set[int] = set()  # ids of tracks
        self._known: dict[int, Track] = {
            track.id: Track(track.id, kinds[track.id], "") for track in tracks.values()
        }

    @property
    def tracks(self) -> Iterable[RtpTrack]:
        """
        The tracks of the publisher.
        """
        return self._tracks.values()

    def feed(self, channel: int, data: bytes, now: int) -> list[Part]:
        """
        Return the tracks and units that a packet completes, in order.

        Tracks that have sent no frame yet are announced without what their codec needs.

        Args:
            channel: its number.
            data: an RTP or RTCP packet.
            now: microseconds.
        """
        track = self._tracks.get(channel)
        if track is None:
            reported = self._reports.get(channel)
            if reported is not None:
                reported.report(data)
            return []
        found: list[Part] = []
        for described, unit in track.feed(data, now):
            if self._known[described.id] is not described:
                if self._known[described.id] != described:
                    self._known[described.id] = described
                    found.append(tuple(self._known.values()))
                else:
                    self._known[described.id] = described
            found.append(unit)
        if track.malformed and track.id not in self._reported:
            self._reported.add(track.id)
            self.problems.append((track.id, track.problem))
        return found
