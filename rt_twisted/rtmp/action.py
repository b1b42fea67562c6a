"""
The action `rtmp`: publishers by RTMP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NoReturn

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.ingest.publishing import Publishing
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.route_channels import check_static_channels
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange, IPortProtocol
from rt_twisted.http.stream_handle import PeerInfo, StreamHandle
from rt_twisted.metrics.responses import PUBLISHES
from rt_twisted.model.errors import HttpError
from rt_twisted.rtmp.connection import RtmpConnection
from rt_twisted.rtmp.publishing import METHOD, PublishTarget, RtmpRoutes
from rt_twisted.rtmp.request import RtmpClient, RtmpRequest
from rt_twisted.rtmp.start import is_rtmp
from rt_twisted.rtmp.waiting import WaitingConnections


@implementer(IAction, IPortProtocol)
@dataclass(frozen=True, slots=True)
class RtmpAction:
    """
    Publish live streams by RTMP: `rtmp:CHANNEL`, or `rtmp:publish=CHANNEL,takeover=yes`.

    The pattern of the route is searched in the application and the stream name, joined by a
    slash. Connections are recognized by their first byte.

    Args:
        word: `rtmp`.
        context: the hub and the settings.
        publish: the channel.
        takeover: a new publisher replaces the one that is connected; without it, the new one
            is refused.
        timeout: seconds without bytes after which a publisher is lost; None for the
            daemon's.
        grace: seconds that viewers wait for a publisher to return; None for the daemon's.
        events: the channel of the messages that applications get when the publisher starts,
            is lost, returns, and when the stream ends.
    """

    word: str
    context: ActionContext
    publish: Template
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    events: Template | None = None
    publishing: Publishing = field(init=False, compare=False)

    bare: ClassVar[str] = "publish"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = PUBLISHES
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ()
    port_methods: ClassVar[Sequence[str]] = (METHOD,)

    def __post_init__(self) -> None:
        given = (self.takeover, self.timeout, self.grace, self.events)
        object.__setattr__(self, "publishing", Publishing(self.context, *given))
        channels = (self.publish,) if self.events is None else (self.publish, self.events)
        check_static_channels(channels, self.context)

    def act(self, exchange: IExchange, match: Match) -> NoReturn:
        raise HttpError(400, "publish by RTMP: the address begins with rtmp://")

    def matches(self, start: bytes) -> bool | None:
        return is_rtmp(start)

    def accept(self, connection: StreamHandle, peer: PeerInfo) -> None:
        assert connection.find is not None
        routes = RtmpRoutes(connection.find, getattr(connection.transport, "http_port", None))
        client = RtmpClient.of(peer)
        waiting = self.context.shared.get(WaitingConnections, WaitingConnections)
        connection.start(RtmpConnection(self.context.reactor, routes, waiting, client))

    async def target(self, request: RtmpRequest, match: Match) -> PublishTarget:
        """
        Return where a client may publish.

        Args:
            request: of the client.
            match: of the route's pattern.

        Raises:
            HttpError: see `RtmpRoutes.find`.
        """
        exchange: Any = request  # has what is read of it
        permit = await self.publishing.authorize(exchange, match, self.word, self.publish)
        return PublishTarget(self.publishing, permit)
