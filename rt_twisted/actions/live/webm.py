"""
The action `webm`: a live stream as WebM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from twisted.internet.defer import CancelledError
from zope.interface import implementer

from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.headers import NO_STORE
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.subscription import address_of, check_static_channels, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.formats import build_format
from rt_twisted.formats.webm import WebM
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.first_message import first_message
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.media.unit import Head, read
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.errors import HttpError
from rt_twisted.model.message import Message, Sync

_HEADERS = (*NO_STORE, ("X-Accel-Buffering", "no"))  # nginx would hold pictures back


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class WebmAction:
    """
    Show a live stream as WebM: `webm:CHANNEL`, or `webm:subscribe=CHANNEL,burst=2`.

    A viewer begins at a keyframe. One that is too slow skips to a later keyframe.

    Args:
        context: the hub and the settings.
        subscribe: the channel.
        burst: seconds of the stream that a viewer is sent at once, if they are retained.
        wait: seconds to wait for a publisher before the request is refused.
        behind: bytes that may wait for a viewer before it skips; None for the daemon's
            `backlog-bytes`.
        video_codec: of messages that are bare frames, by its Matroska name.
        audio_codec: likewise.
        track_prefix: the first byte of a bare frame is its track: 1 video, 2 audio.
    """

    context: ActionContext
    subscribe: Template
    burst: float = 1.0
    wait: float = 10.0
    behind: int | None = None
    video_codec: str = "V_VP8"
    audio_codec: str = ""
    track_prefix: bool = False

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        for name in ("burst", "wait", "behind"):
            value = getattr(self, name)
            if value is not None and not value >= 0:
                raise ValueError(f"{name}= cannot be negative")
        check_static_channels((self.subscribe,), self.context)
        self._format()

    def _format(self) -> WebM:
        return WebM(self.video_codec, self.audio_codec, self.track_prefix)

    async def act(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        channel = context.names.check(self.subscribe.expand(exchange, match))
        context.hub.admit(address_of(exchange, context))
        format = self._format()
        found = first_message(context.hub, context.reactor, channel, format, self.wait)
        exchange.watch(found.cancel)
        try:
            first = await found
        except CancelledError:  # the client has disconnected
            return
        if first is None:
            raise HttpError(503, f"channel {channel!r} has no publisher", retry=2)
        content_type = _content_type(format, first)
        if exchange.method == "HEAD":
            exchange.answer(200, content_type=content_type, headers=_HEADERS)
            return
        joined: Any = when_admitted(
            context, exchange, lambda address: self._join(exchange, channel, content_type, address)
        )
        if joined is not None:
            await joined

    def _join(self, exchange: IExchange, channel: str, content_type: str, address: str) -> None:
        context = self.context
        opened = exchange.open(content_type, _HEADERS)
        limits = replace(context.backlog_limits, policy=SlowConsumerPolicy.SYNC)
        if self.behind is not None:
            limits = replace(limits, bytes=self.behind)
        format = build_format(
            "webm",
            exchange.framed,
            video_codec=self.video_codec,
            audio_codec=self.audio_codec,
            track_prefix=self.track_prefix,
        )
        subscriber = Subscriber(opened.transport, format, context.hub, limits, address)
        context.hub.join(subscriber, [channel], Sync(self.burst), opened.head)


def _content_type(format: WebM, first: Message) -> str:
    """
    Return the content type of a stream that begins with *first*.

    Raises:
        HttpError: 415, see `WebM.content_type_of`.
    """
    head = read(first)
    return format.content_type_of(head) if isinstance(head, Head) else format.content_type
