"""
The action `rtsp`: cameras and encoders publish, players watch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from zope.interface import implementer

from rt_twisted.access.keys import Keys
from rt_twisted.access.secrets import secret
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import WAIT, viewer_keys
from rt_twisted.actions.subscription import check_static_channels
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import TUNNEL, IExchange, IPortProtocol, PeerInfo, StreamHandle
from rt_twisted.hub.publisher_events import Announce, announce_nothing, announce_to
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.rtsp.camera_url import CameraUrl, parse_camera_url
from rt_twisted.rtsp.connection import RtspConnection
from rt_twisted.rtsp.fetching import Fetcher
from rt_twisted.rtsp.messages import METHODS
from rt_twisted.rtsp.requests import RtspExchange
from rt_twisted.rtsp.server import RtspServer
from rt_twisted.rtsp.tunnel import open_tunnel

_STARTS = tuple([f"{method} ".encode() for method in METHODS])


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
                open_tunnel(self._server(), exchange)
            elif not await handoff.hand_off(exchange, number):
                raise HttpError(503, "the tunnel cannot be opened now", retry=2)
            return
        host = exchange.header("host") or "HOST"
        scheme = "rtsps" if exchange.secure else "rtsp"
        raise HttpError(404, f"this path is for RTSP: {scheme}://{host}{exchange.path}")

    def matches(self, start: bytes) -> bool | None:
        if not start.startswith(_STARTS):
            return None if any(each.startswith(start) for each in _STARTS) else False
        line, newline, _ = start.partition(b"\n")
        return b" RTSP/" in line if newline else None

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        connection.start(RtspConnection(self._server(), connection.find, peer))

    def _server(self) -> RtspServer:
        context = self.context
        return context.shared.get(RtspServer, lambda: RtspServer(context.reactor))

    def announce_of(self, exchange: RtspExchange, match: Match) -> Announce:
        """
        Return what is called with what happens to a publisher.
        """
        if self.events is None:
            return announce_nothing
        events = self.context.names.check(self.events.expand(exchange.as_exchange(), match))
        return announce_to(events, self.context.publish)
