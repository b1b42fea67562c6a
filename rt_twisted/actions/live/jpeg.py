"""
The action `jpeg`: the last picture of a channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar

from zope.interface import implementer

from rt_twisted.access.keys import Keys
from rt_twisted.actions.context import ActionContext
from rt_twisted.actions.granting import granted
from rt_twisted.actions.headers import LIVE_HEADERS
from rt_twisted.actions.interfaces import IAction, Match
from rt_twisted.actions.live.first_picture import WAIT, check_wait, first_picture
from rt_twisted.actions.live.viewing import viewer_keys
from rt_twisted.actions.route_channels import asked_channels, check_static_channels, expand_channel
from rt_twisted.actions.subscription import address_of
from rt_twisted.actions.template import Template
from rt_twisted.http.interfaces import IExchange
from rt_twisted.metrics.responses import SUBSCRIBERS


@implementer(IAction)
@dataclass(frozen=True, slots=True)
class JpegAction:
    """
    Send the last picture of a channel: `jpeg:CHANNEL`, or `jpeg:subscribe=CHANNEL,wait=1`.

    Args:
        context: the hub and the settings.
        subscribe: the channel.
        wait: seconds to wait for a picture, if there is none, before the request is refused.
        view_key: a secret that viewers need, also `file:PATH` or `env:NAME`; "" for none.
    """

    context: ActionContext
    subscribe: Template
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

    def act(self, exchange: IExchange, match: Match) -> object:
        context, act = self.context, partial(self._enter, exchange)
        asked = partial(asked_channels, context, (self.subscribe,), exchange, match, {})
        return granted(context, exchange, match, act, "jpeg", asked)

    async def _enter(self, exchange: IExchange, match: Match) -> None:
        context = self.context
        channel = expand_channel(context, self.subscribe, exchange, match)
        if self.keys is not None:
            self.keys.authorize_live(exchange)
        context.hub.admit(address_of(exchange, context))
        picture = await first_picture(context, exchange, channel, self.wait)
        exchange.answer(200, picture, "image/jpeg", LIVE_HEADERS)
