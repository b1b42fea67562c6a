"""
What a connection has named: the tracks that are published or played, and how they are set up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from twisted.logger import Logger

from rt_twisted.codecs.errors import RemoteProtocolError
from rt_twisted.formats.rtp_interleaved import WireTrack, payload_for
from rt_twisted.media.rtp.clock import SessionClock
from rt_twisted.media.rtp.payload_format import Depacketizer
from rt_twisted.media.rtp.payload_registry import PAYLOADS, payload_of
from rt_twisted.media.rtp.reader import RtpReader, RtpTrack
from rt_twisted.media.sdp import MediaDescription, OfferedMedia, SessionDescription, write_sdp
from rt_twisted.media.unit import MAX_TRACKS, MAX_UNIT, Head, Kind, Track

_log = Logger()

_STATIC = {"mp3": 14, "jpeg": 26, "pcmu": 0, "pcma": 8}
_DYNAMIC = 96  # the first dynamic payload type (RFC 3551, 6)


@dataclass(frozen=True, slots=True)
class PublishedTrack:
    """
    A track that a publisher has announced.

    Args:
        id: of the track, from 1 on.
        media: its description.
        depacketizer: None if it cannot be used: its packets are ignored.
    """

    id: int
    media: MediaDescription
    depacketizer: Depacketizer | None


@dataclass(slots=True)
class Announcement:
    """
    What a publisher has announced.

    Args:
        path: of the presentation.
        tracks: at least one can be used.
        channels: those of RTP and RTCP, by the index of each track that is set up.
    """

    path: str
    tracks: tuple[PublishedTrack, ...]
    channels: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def controls(self) -> list[str]:
        """
        Return the `a=control` value of each track.
        """
        return [track.media.control for track in self.tracks]

    def reader(self) -> RtpReader:
        """
        Return the reader of the tracks that are set up.
        """
        session = SessionClock()
        tracks: dict[int, RtpTrack] = {}
        reports: dict[int, RtpTrack] = {}
        kinds: dict[int, Kind] = {}
        for index, (first, second) in self.channels.items():
            one = self.tracks[index]
            if one.depacketizer is None:
                continue
            track = RtpTrack(
                one.id, one.media.payload_type, one.media.rate, one.depacketizer, session
            )
            tracks[first] = reports[second] = track
            kinds[one.id] = _kind(one.media)
        return RtpReader(tracks, kinds, reports)


def no_encoding(kind: str) -> str:
    """
    Return no encoding name for tracks whose description has none.
    """
    return ""


def announce(
    path: str,
    description: SessionDescription,
    any_codec: bool = False,
    encoding_of: Callable[[str], str] = no_encoding,
    max_unit: int = MAX_UNIT,
) -> Announcement:
    """
    Return what *description* announces. Tracks that cannot be used are logged.

    Args:
        path: of the presentation.
        description: of the publisher.
        any_codec: whether tracks of unknown codecs can be recorded.
        encoding_of: returns the encoding name of video or audio whose own is not known.
        max_unit: bytes of a frame.

    Raises:
        RemoteProtocolError: 415, no track can be used; 400, there are too many.
    """
    if len(description.media) > MAX_TRACKS:
        raise RemoteProtocolError(f"more than {MAX_TRACKS} tracks are announced")
    tracks: list[PublishedTrack] = []
    refusal: RemoteProtocolError | None = None
    for id, media in enumerate(description.media, 1):
        depacketizer = None
        if media.encoding not in PAYLOADS and encoding_of(media.kind):
            rate = media.rate or (90000 if media.kind == "video" else 44100)
            media = replace(media, encoding=encoding_of(media.kind), rate=rate)
        try:
            if media.kind not in ("video", "audio"):
                raise RemoteProtocolError(f"{media.kind!r} is neither video nor audio", 415)
            if not media.rate:
                raise RemoteProtocolError("the clock rate is missing")
            depacketizer = payload_of(media.encoding).depacketizer(media, id, max_unit)
        except RemoteProtocolError as error:
            refusal = error
            _log.info(
                "track {id} of {path!r} is left out: {reason}",
                id=id,
                path=path,
                reason=error.reason,
            )
        tracks.append(PublishedTrack(id, media, depacketizer))
    if (
        refusal is not None
        and not any_codec
        and all(track.depacketizer is None for track in tracks)
    ):
        raise refusal
    return Announcement(path, tuple(tracks))


@dataclass(slots=True)
class Offer:
    """
    What a player is offered.

    Args:
        path: of the presentation.
        channel: of the stream.
        tracks: that it may set up.
        channels: see `Announcement`.
    """

    path: str
    channel: str
    tracks: tuple[Track, ...]
    channels: dict[int, tuple[int, int]] = field(default_factory=dict)

    @property
    def controls(self) -> list[str]:
        """
        Return the `a=control` value of each track.
        """
        return [f"trackID={track.id}" for track in self.tracks]

    def describe(self, address: str, session: str) -> bytes:
        """
        Return the description of the tracks.
        """
        media = []
        for index, track in enumerate(self.tracks):
            payload = payload_for(track)
            assert payload is not None
            media.append(
                OfferedMedia(
                    track.kind.value,
                    self.payload_type(index),
                    payload.mapping(track),
                    payload.parameters(track),
                    self.controls[index],
                )
            )
        return write_sdp(address, session, media)

    def payload_type(self, index: int) -> int:
        """
        Return the payload type of a track.
        """
        return _STATIC.get(self.tracks[index].codec, _DYNAMIC + index)

    def wire_tracks(self) -> tuple[WireTrack, ...]:
        """
        Return the tracks that are set up.
        """
        return tuple(
            [
                WireTrack(self.tracks[index], self.payload_type(index), *self.channels[index])
                for index in sorted(self.channels)
            ]
        )


def offer(path: str, channel: str, head: Head) -> Offer:
    """
    Return what a player of a stream that begins with *head* is offered.

    Raises:
        RemoteProtocolError: 415, RTSP can carry none of its tracks.
    """
    tracks: Sequence[Track] = [track for track in head.tracks if payload_for(track) is not None]
    if not tracks:
        codecs = ", ".join([track.codec for track in head.tracks])
        raise RemoteProtocolError(f"RTSP cannot carry {codecs}", 415)
    return Offer(path, channel, tuple(tracks))


def _kind(media: MediaDescription) -> Kind:
    return Kind.VIDEO if media.kind == "video" else Kind.AUDIO
