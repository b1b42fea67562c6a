"""
The action `rtsp`: cameras and encoders publish, players watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.access.keys import Keys
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import end_publisher
from rt_twisted.actions.ingest.begin_run import begin_run
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import WAIT, viewer_keys
from rt_twisted.actions.route_channels import check_static_channels
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import TUNNEL, IExchange, IPortProtocol
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.hub.publisher_events import Announce, announce_nothing, announce_to
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.camera_url import CameraUrl, parse_camera_url
from rt_twisted.rtsp.fetching import Fetcher
from rt_twisted.rtsp.interfaces import DialogueConnection, RecordingSink
from rt_twisted.rtsp.plain import PrefixedFrames, RawPackets
from rt_twisted.rtsp.port import accept_rtsp, server_of
from rt_twisted.rtsp.presentation import Announcement
from rt_twisted.rtsp.recording import LivePackets, PacketPublisher, Recording
from rt_twisted.rtsp.requests import RtspExchange
from rt_twisted.rtsp.start import is_rtsp
from rt_twisted.rtsp.tunnel import open_tunnel


class RecordedAs(Enum):
    """
    What becomes of the packets of a publisher.
    """

    AUTO = "auto"  # a live stream
    RAW = "raw"  # a message each


class Demuxer(Enum):
    """
    What uwsgi-realtime calls the payload formats.
    """

    H264 = "h264"
    VP8 = "vp8"
    AAC = "aac"


_ENCODINGS = {Demuxer.H264: "h264", Demuxer.VP8: "vp8", Demuxer.AAC: "mpeg4-generic"}


@implementer(IAction, IPortProtocol)
@dataclass(eq=False)
class RtspAction(Service):
    """
    Publish and play a live stream by RTSP: `rtsp:CHANNEL`, or `rtsp:publish=CHANNEL,burst=0`.

    Args:
        context: the hub and the settings.
        publish: the channel.
        view_key: a secret that players need, also `file:PATH` or `env:NAME`; "" for none.
        burst: seconds of the stream that a player is sent at once, if they are retained.
        wait: seconds to wait for a publisher before a player gets 404.
        behind: bytes that may wait for a player before it skips; None for the daemon's
            `backlog-bytes`.
        takeover: a new publisher replaces the one that is connected; without it, the new one
            is refused.
        timeout: seconds without bytes after which a publisher is lost; None for the
            daemon's.
        grace: seconds that viewers wait for a publisher to return; None for the daemon's.
        events: the channel of the messages that applications get when the publisher starts,
            is lost, returns, and when the stream ends.
        source: the URL of a camera from which the stream is fetched, also `file:PATH` or
            `env:NAME`; "" to wait for a publisher.
        demand: fetch only while there are viewers.
        as_: `auto` for a live stream; `raw` for each packet as a plain message, with
            `rtp/CHANNEL` as its event type.
        track_prefix: publish frames as plain messages, behind their channel and time.
        video_demuxer: of video whose description names no encoding that is known.
        audio_demuxer: likewise, of audio.
        video_channel: accepted for uwsgi-realtime's lines; the client's SETUP has it.
        audio_channel: likewise.
    """

    context: ActionContext
    publish: Template
    view_key: str = ""
    burst: float = 0.0
    wait: float = WAIT
    behind: int | None = None
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    events: Template | None = None
    source: str = field(default="", repr=False)
    demand: bool = False
    as_: RecordedAs = RecordedAs.AUTO
    track_prefix: bool = False
    video_demuxer: Demuxer | None = None
    audio_demuxer: Demuxer | None = None
    video_channel: int | None = None
    audio_channel: int | None = None
    view_keys: Keys | None = field(init=False, compare=False)

    bare: ClassVar[str] = "publish"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ()
    spare_methods: ClassVar[Sequence[str]] = ("GET",)
    port_methods: ClassVar[Sequence[str]] = ("ANNOUNCE", "DESCRIBE", TUNNEL)

    def __post_init__(self) -> None:
        for name in ("burst", "wait", "behind", "grace"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}= cannot be negative")
        if self.timeout is not None and not self.timeout > 0:
            raise ValueError("timeout= must be more than 0")
        channels = (self.publish,) if self.events is None else (self.publish, self.events)
        check_static_channels(channels, self.context)
        self.view_keys = viewer_keys(self.view_key)
        self._fetcher: Fetcher | None = None
        self._camera = self._parse_source()

    def _parse_source(self) -> CameraUrl | None:
        if not self.source:
            if self.demand:
                raise ValueError("demand= needs source=")
            return None
        if any(not isinstance(part, str) for part in self.publish.parts):
            raise ValueError("source= needs a channel without variables")
        try:
            return parse_camera_url(secret(self.source))
        except ValueError as error:
            raise ValueError(f"source= must be {error}") from None

    def startService(self) -> None:
        super().startService()  # type: ignore[no-untyped-call]  # Twisted's
        if self._camera is not None:
            self._fetcher = Fetcher(
                self.context,
                self.publish.source,
                self._camera,
                self.demand,
                self.timeout,
                self.grace,
            )
            self._fetcher.start()

    def stopService(self) -> Deferred[None] | None:
        super().stopService()  # type: ignore[no-untyped-call]  # Twisted's
        fetcher, self._fetcher = self._fetcher, None
        return fetcher.stop() if fetcher is not None else None

    async def act(self, exchange: IExchange, match: Match) -> None:
        cookie = exchange.header("x-sessioncookie")
        if cookie is not None:
            handoff = self.context.handoff
            number = handoff.choose(cookie) if handoff is not None else None
            if handoff is None or number is None:
                open_tunnel(server_of(self.context), exchange)
            elif not await handoff.hand_off(exchange, number):
                raise HttpError(503, "the tunnel cannot be opened now", retry=2)
            return
        host = exchange.header("host") or "HOST"
        scheme = "rtsps" if exchange.secure else "rtsp"
        raise HttpError(404, f"this path is for RTSP: {scheme}://{host}{exchange.path}")

    def matches(self, start: bytes) -> bool | None:
        return is_rtsp(start)

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        accept_rtsp(self.context, connection, peer)

    @property
    def any_codec(self) -> bool:
        """
        Whether tracks of unknown codecs can be recorded.
        """
        return self.as_ is RecordedAs.RAW

    def encoding_of(self, kind: str) -> str:
        """
        Return the encoding name of tracks of a kind whose description has none; "" for none.
        """
        demuxer = self.video_demuxer if kind == "video" else self.audio_demuxer
        return _ENCODINGS[demuxer] if demuxer is not None else ""

    async def record(
        self,
        exchange: RtspExchange,
        match: Match,
        channel: str,
        tracks: Announcement,
        connection: DialogueConnection,
    ) -> RecordingSink:
        """
        Claim the channel and begin to publish.

        Raises:
            HttpError: see `begin_run`.
        """
        context = self.context
        limits = context.hub.live.limits()
        publisher, run = await begin_run(
            context.hub,
            exchange,
            channel,
            self.takeover,
            limits.live_timeout if self.timeout is None else self.timeout,
            limits.live_grace if self.grace is None else self.grace,
            self.announce_of(exchange, match),
        )
        end_publisher(context, publisher, match.grant)
        packets = self._packets(tracks)
        input, abort = connection.input, connection.abort
        return Recording(context, publisher, run, packets, connection, abort, exchange, input)

    def _packets(self, tracks: Announcement) -> PacketPublisher:
        if self.as_ is RecordedAs.RAW:
            return RawPackets()
        if self.track_prefix:
            channels = {tracks.tracks[index].id: pair[0] for index, pair in tracks.channels.items()}
            return PrefixedFrames(tracks.reader(), channels)
        return LivePackets(tracks.reader())

    def announce_of(self, exchange: RtspExchange, match: Match) -> Announce:
        """
        Return what is called with what happens to a publisher.
        """
        if self.events is None:
            return announce_nothing
        events = self.context.names.check(self.events.expand(exchange.as_exchange(), match))
        return announce_to(events, self.context.publish)
