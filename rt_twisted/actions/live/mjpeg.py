"""
The actions `mjpeg` and `mjpg`: the pictures of a channel, each replacing the one before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

from zope.interface import implementer

from rt_twisted.access.grants import Grant
from rt_twisted.access.keys import Keys
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import LIVE_HEADERS
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.first_picture import WAIT, check_wait, first_picture
from rt_twisted.actions.live.viewing import viewer_keys
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, expand_channel
from rt_twisted.actions.subscription import address_of, end_with_grant, when_admitted
from rt_twisted.actions.template import Template
from rt_twisted.formats import build_format
from rt_twisted.formats.mjpeg import BOUNDARY
from rt_twisted.http.interfaces import IExchange
from rt_twisted.hub.limits import SlowConsumerPolicy
from rt_twisted.hub.subscriber import Subscriber
from rt_twisted.metrics.responses import SUBSCRIBERS
from rt_twisted.model.message import Sync


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class MjpegAction:
    """
    Show pictures in an `<img>`: `mjpeg:CHANNEL`, or `mjpeg:subscribe=CHANNEL,boundary=x`.

    A viewer begins with the last picture. One that is too slow gets the newest each time.

    Args:
        context: the hub and the settings.
        subscribe: the channel.
        boundary: between the parts of the body.
        wait: seconds to wait for a first picture before the request is refused.
        view_key: a secret that viewers need, also `file:PATH` or `env:NAME`; "" for none.
    """

    context: ActionContext
    subscribe: Template
    boundary: str = BOUNDARY
    wait: float = WAIT
    view_key: str = ""
    keys: Keys | None = field(init=False, compare=False)

    bare: ClassVar[str] = "subscribe"
    counts_as: ClassVar[str] = SUBSCRIBERS
    checks_grants: ClassVar[bool] = True
    methods: ClassVar[Sequence[str]] = ("GET",)

    def __post_init__(self) -> None:
        check_wait(self.wait)
        object.__setattr__(self, "keys", viewer_keys(self.view_key))
        check_static_channels((self.subscribe,), self.context)
        self._format(False)

    def _format(self, framed: bool) -> Any:
        return build_format("mjpeg", framed, boundary=self.boundary)

    def act(self, exchange: IExchange, match: Match) -> object:
        context, act = self.context, partial(self._enter, exchange)
        asked = partial(asked_channels, context, (self.subscribe,), exchange, match, {})
        return granted(context, exchange, match, act, "mjpeg", asked)

    async def _enter(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        channel = expand_channel(context, self.subscribe, exchange, match)
        if self.keys is not None:
            self.keys.authorize_live(exchange)
        context.hub.admit(address_of(exchange, context))
        await first_picture(context, exchange, channel, self.wait)
        if exchange.method == "HEAD":
            content_type = self._format(False).content_type
            exchange.answer(200, content_type=content_type, headers=LIVE_HEADERS)
            return
        joined: Any = when_admitted(
            context, exchange, partial(self._join, exchange, channel, match.grant)
        )
        if joined is not None:
            await joined

    def _join(self, exchange: IExchange, channel: str, grant: Grant, address: str) -> None:
        context = self.context
        format = self._format(exchange.framed)
        opened = exchange.open(format.content_type, LIVE_HEADERS, log_end=True)
        # Behind the picture that is being sent only the newest one waits.
        limits = replace(context.backlog_limits, bytes=0, policy=SlowConsumerPolicy.NEWEST)
        subscriber = Subscriber(opened.transport, format, context.hub, limits, address)
        context.hub.join(subscriber, [channel], Sync(), opened.head, entry=opened.entry)
        end_with_grant(context, subscriber, grant)
