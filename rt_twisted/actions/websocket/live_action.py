"""
The route word `websocket` for live streams: `as=webm` or `as=mp4` to view one, `as=auto` to
publish one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.ingest.publishing import Publishing
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import BURST, WAIT, Container, Viewing
from rt_twisted.actions.route_channels import (
    asked_channels,
    check_static_channels,
    expand_channel,
)
from rt_twisted.actions.subscription import when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.actions.websocket.endpoint import WebSocketEndpoint
from rt_twisted.actions.websocket.live_app import LiveApp
from rt_twisted.actions.websocket.publisher_app import open_publisher
from rt_twisted.actions.websocket.try_later import close_if_unanswered
from rt_twisted.codecs.websocket import WebSocketHandshake
from rt_twisted.formats.binary_frames import BinaryFrames
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import SUBSCRIBERS

WORD = "websocket"


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class LiveViewerAction:
    """
    Sends a live stream: `websocket:subscribe=CHANNEL,as=webm`.

    Clients that add `?codecs=yes` get the content type in a text message first.

    Args:
        context: the daemon.
        subscribe: the channel of the stream.
        as_: the container in which it is sent.
        burst: see `LiveAction`.
        wait: seconds to wait for a publisher before the websocket is closed.
        behind: bytes that may wait for a viewer before it skips.
        view_key: a secret that viewers need.
    """

    context: ActionContext
    subscribe: Template
    as_: Container
    burst: float = BURST
    wait: float = WAIT
    behind: int | None = None
    view_key: str = ""
    viewing: Viewing = field(init=False, compare=False)
    endpoint: WebSocketEndpoint = field(init=False, compare=False)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_static_channels((self.subscribe,), self.context)
        given = (self.burst, self.wait, self.behind, self.view_key)
        object.__setattr__(self, "viewing", Viewing(self.context, self.as_, *given))
        object.__setattr__(self, "endpoint", WebSocketEndpoint(self.context))

    def act(self, exchange: IExchange, match: Match) -> object:
        handshake = self.endpoint.check(exchange)
        act = partial(self._enter, exchange, handshake)
        asked = partial(asked_channels, self.context, (self.subscribe,), exchange, match, {})
        result = granted(self.context, exchange, match, act, WORD, asked)
        return close_if_unanswered(result, self.endpoint, exchange, handshake)

    def _enter(self, exchange: IExchange, handshake: WebSocketHandshake, match: Match) -> object:
        viewing = self.viewing
        channel = expand_channel(self.context, self.subscribe, exchange, match)
        viewing.authorize(exchange)
        app = LiveApp(viewing, channel, exchange.query().get("codecs") == ["yes"])
        format = BinaryFrames(viewing.build())
        limits = viewing.backlog_limits

        def enter(address: str) -> None:
            self.endpoint.open(
                exchange, handshake, app, format, backlog_limits=limits, grant=match.grant
            )

        return when_admitted(self.context, exchange, enter)


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class LivePublisherAction:
    """
    Receives a live stream: `websocket:publish=CHANNEL,as=auto`, in any container that
    `istream` takes.

    Args:
        context: the daemon.
        publish: the channel of the stream.
        takeover: see `IstreamAction`.
        timeout: seconds without a message after which a publisher is lost.
        grace: seconds that viewers wait for a publisher to return.
        events: the channel of the messages about the publisher.
    """

    context: ActionContext
    publish: Template
    as_: str = "auto"
    takeover: bool = False
    timeout: float | None = None
    grace: float | None = None
    events: Template | None = None
    publishing: Publishing = field(init=False, compare=False)
    endpoint: WebSocketEndpoint = field(init=False, compare=False)

    bare: ClassVar[str] = "publish"
    publishes: ClassVar[bool] = True
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        given = (self.takeover, self.timeout, self.grace, self.events)
        object.__setattr__(self, "publishing", Publishing(self.context, *given))
        object.__setattr__(self, "endpoint", WebSocketEndpoint(self.context))
        channels = (self.publish,) if self.events is None else (self.publish, self.events)
        check_static_channels(channels, self.context)

    def act(self, exchange: IExchange, match: Match) -> object:
        # Browsers would compress what is video already.
        handshake = self.endpoint.check(exchange, compress=False)
        return open_publisher(
            self.endpoint, self.publishing, exchange, handshake, match, self.publish
        )
