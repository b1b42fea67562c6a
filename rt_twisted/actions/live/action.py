"""
The actions `webm` and `mp4`: a live stream over HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import LIVE_HEADERS
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.viewing import BURST, WAIT, Container, Viewing
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, expand_channel
from rt_twisted.actions.subscription import (
    address_of,
    end_with_grant,
    when_admitted,
    while_connected,
)
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.metrics.responses import SUBSCRIBERS


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class LiveAction:
    """
    Show a live stream: `webm:CHANNEL`, `mp4:CHANNEL`, or `webm:subscribe=CHANNEL,burst=2`.

    A viewer begins at a keyframe. One that is too slow skips to a later keyframe.

    Args:
        word: the container: `webm`, or `mp4` for fragmented MP4.
        context: the hub and the settings.
        subscribe: the channel.
        burst: seconds of the stream that a viewer is sent at once, if they are retained.
        wait: seconds to wait for a publisher before the request is refused.
        behind: bytes that may wait for a viewer before it skips; None for the daemon's
            `backlog-bytes`.
        view_key: a secret that viewers need, also `file:PATH` or `env:NAME`; "" for none.
        video_codec: of messages that are bare frames, by its Matroska name; `webm` only.
        audio_codec: likewise.
        track_prefix: the first byte of a bare frame is its track: 1 video, 2 audio; `webm` only.
    """

    word: str
    context: ActionContext
    subscribe: Template
    burst: float = BURST
    wait: float = WAIT
    behind: int | None = None
    view_key: str = ""
    video_codec: str | None = None
    audio_codec: str | None = None
    track_prefix: bool | None = None
    viewing: Viewing = field(init=False, compare=False)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_static_channels((self.subscribe,), self.context)
        options = tuple(
            [(name, getattr(self, name)) for name in ("video_codec", "audio_codec", "track_prefix")]
        )
        viewing = Viewing(
            self.context,
            Container(self.word),
            self.burst,
            self.wait,
            self.behind,
            self.view_key,
            options,
        )
        object.__setattr__(self, "viewing", viewing)

    def act(self, exchange: IExchange, match: Match) -> object:
        context, act = self.context, partial(self._enter, exchange)
        asked = partial(asked_channels, context, (self.subscribe,), exchange, match, {})
        return granted(context, exchange, match, act, self.word, asked)

    async def _enter(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        channel = expand_channel(context, self.subscribe, exchange, match)
        self.viewing.authorize(exchange)
        context.hub.admit(address_of(exchange, context))
        content_type = await while_connected(exchange, self.viewing.content_type(channel))
        if exchange.method == "HEAD":
            exchange.answer(200, content_type=content_type, headers=LIVE_HEADERS)
            return
        joined: Any = when_admitted(
            context, exchange, partial(self._join, exchange, channel, content_type, match.grant)
        )
        if joined is not None:
            await joined

    def _join(
        self, exchange: IExchange, channel: str, content_type: str, grant: Grant, address: str
    ) -> None:
        hub, viewing = self.context.hub, self.viewing
        opened = exchange.open(content_type, LIVE_HEADERS, log_end=True)
        subscriber = Subscriber(
            opened.transport,
            viewing.build(exchange.framed),
            hub,
            viewing.backlog_limits,
            address,
        )
        hub.join(subscriber, [channel], viewing.start, opened.head, entry=opened.entry)
        end_with_grant(self.context, subscriber, grant)
